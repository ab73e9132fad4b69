//! The client's side of a Delta stream, without input or output of its own.
//!
//! Versions of ours are ordered by the record that they are of. What is held is replaced only by
//! what is not older, and removed only by a server that is not behind what is held. A server that
//! is behind is refused as a whole: it knows less than we do.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use plan::Token;
use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use proto::google::rpc::Status;

use crate::follow::{Again, Held, Item, Refusal};
use crate::name::{Name, TypeUrl};
use crate::version::Version;

/// The code of a nack: INVALID_ARGUMENT of gRPC.
const INVALID: i32 = 3;

/// The most words of a nack, in bytes.
const WORDS_MAX: usize = 4_000;

/// What a response comes to.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What is to be held from now on; `None`: as before.
    pub held: Option<Held>,
    /// What the response had or removed, taken or not.
    pub named: Vec<Name>,
    /// What is not taken.
    pub refused: Vec<Refusal>,
}

/// The first requests of a stream, a type each: everything, and what is held already. The first
/// one says who asks.
pub fn open<'a>(
    node: &Node,
    held: impl Iterator<Item = &'a Arc<Held>>,
    again: &Again,
) -> Vec<DeltaDiscoveryRequest> {
    let mut node = Some(node.clone());
    let requests = held.map(|held| DeltaDiscoveryRequest {
        node: node.take(),
        type_url: held.type_url.as_str().to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        initial_resource_versions: versions(held, again),
        ..DeltaDiscoveryRequest::default()
    });
    requests.collect()
}

/// Asks for everything of a type once more, on the same stream: what is subscribed to again is sent
/// again (xds_protocol.rst, "Incremental xDS").
pub fn all(type_url: &TypeUrl) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.as_str().to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        ..DeltaDiscoveryRequest::default()
    }
}

/// What is held, by name. What is to come again is said to be held with another content: so it is
/// sent, and so its removal would be said.
fn versions(held: &Held, again: &Again) -> BTreeMap<String, String> {
    let version = |(name, item): (&Name, &Item)| {
        let asked = again.names.iter().any(|(kind, asked)| *kind == held.type_url && asked == name);
        let version = match (&item.version, asked) {
            (Version::Ours { since, hash }, true) => {
                Version::Ours { since: *since, hash: !hash }.to_string()
            }
            (Version::Foreign(_), true) => String::new(),
            (version, false) => version.to_string(),
        };
        (name.as_str().to_owned(), version)
    };
    held.resources.iter().map(version).collect()
}

/// The answer to a response: an ack, or a nack with everything that was refused.
pub fn answer(response: &Answered, refused: &[Refusal]) -> DeltaDiscoveryRequest {
    let status = (!refused.is_empty()).then(|| Status { code: INVALID, message: words(refused) });
    DeltaDiscoveryRequest {
        type_url: response.type_url.as_str().to_owned(),
        response_nonce: response.nonce.clone(),
        error_detail: status,
        ..DeltaDiscoveryRequest::default()
    }
}

/// What is kept of a response until it is answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its type.
    pub type_url: TypeUrl,
    /// Its nonce.
    pub nonce: String,
}

fn words(refused: &[Refusal]) -> String {
    let mut words = String::new();
    for Refusal { name, why } in refused {
        if !words.is_empty() {
            words.push_str("; ");
        }
        if let Some(name) = name {
            words.push_str(name.as_str());
            words.push_str(": ");
        }
        words.push_str(why);
    }
    let end = (0..=words.len().min(WORDS_MAX)).rev().find(|at| words.is_char_boundary(*at));
    words.truncate(end.unwrap_or(0));
    words
}

/// Compares a response with what is held. `check` judges what would be taken.
pub fn judge(
    held: &Held,
    response: DeltaDiscoveryResponse,
    check: &mut impl FnMut(&str, &Bytes, Option<&Item>) -> Result<(), String>,
) -> Judged {
    let server: Option<Token> = response.system_version_info.parse().ok();
    let resources = response.resources.iter().map(|resource| &resource.name);
    let named = resources.chain(&response.removed_resources).map(|name| Name::new(name)).collect();
    if let Some(server) = server.filter(|server| *server < held.through) {
        let through = held.through;
        let why = format!("this server is at {server}, and what is held here is of {through}");
        return Judged { held: None, named, refused: vec![Refusal { name: None, why }] };
    }
    let mut next = Next { held: held.clone(), server, changed: false, refused: Vec::new() };
    for name in &response.removed_resources {
        next.remove(Name::new(name));
    }
    for resource in response.resources {
        let name = Name::new(&resource.name);
        // Without a body it says only that the resource still holds.
        let Some(any) = resource.resource else { continue };
        if any.type_url != held.type_url.as_str() {
            let why = format!("it is of type {}, not {}", any.type_url, held.type_url);
            next.refuse(name, why);
            continue;
        }
        let item = Item { version: Version::parse(&resource.version), body: any.value };
        next.put(name, item, check);
    }
    let through = server.unwrap_or(held.through).max(held.through);
    if through != held.through {
        next.held.through = through;
        next.changed = true;
    }
    let Next { held, changed, refused, .. } = next;
    Judged { held: changed.then_some(held), named, refused }
}

/// What is to be held, while it is found out.
struct Next {
    held: Held,
    server: Option<Token>,
    changed: bool,
    refused: Vec<Refusal>,
}

impl Next {
    fn put(
        &mut self,
        name: Name,
        item: Item,
        check: &mut impl FnMut(&str, &Bytes, Option<&Item>) -> Result<(), String>,
    ) {
        let old = self.held.resources.get(&name);
        if let Some(old) = old {
            if old.version == item.version {
                return;
            }
            if is_older(&item.version, &old.version, self.server) {
                let why = format!("{} is older than {}, held here", item.version, old.version);
                return self.refuse(name, why);
            }
        }
        match check(name.as_str(), &item.body, old) {
            Ok(()) => {
                self.held.resources.insert(name, item);
                self.changed = true;
            }
            Err(why) => self.refuse(name, why),
        }
    }

    /// A removal has no version: what counts is whether the server knows what is held.
    fn remove(&mut self, name: Name) {
        let Some(old) = self.held.resources.get(&name) else { return };
        let knows = match (old.version.since(), self.server) {
            (Some(since), Some(server)) => since <= server,
            (Some(_), None) => false,
            (None, _) => true,
        };
        if knows {
            self.held.resources.remove(&name);
            self.changed = true;
        } else {
            let why = format!("{} is newer than the server that removes it", old.version);
            self.refuse(name, why);
        }
    }

    fn refuse(&mut self, name: Name, why: String) {
        self.refused.push(Refusal { name: Some(name), why });
    }
}

/// Whether `new` must not take the place of `old`. Of two contents of one record the server's
/// counts: another version of the controller may render the same record in another way. A server of
/// a later incarnation came up from a backup and has the right to be older.
fn is_older(new: &Version, old: &Version, server: Option<Token>) -> bool {
    match (new.since(), old.since()) {
        (Some(new), Some(old)) => {
            let later = server.is_some_and(|server| server.incarnation > old.incarnation);
            new < old && !later
        }
        // What is not ordered never takes the place of what is.
        (None, Some(_)) => true,
        (_, None) => false,
    }
}
