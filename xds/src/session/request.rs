//! Requests in: who asks, for what, and what it says of what it was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use proto::google::rpc::Status;

use crate::client::Client;
use crate::name::{Name, Scope, TypeUrl};
use crate::session::ack::Verdict;
use crate::session::kind::{self, Kind};
use crate::session::stream::{SETTLING, Session};
use crate::session::watch::{Start, Watch, Wildcard};
use crate::session::{Close, Code, Request, Variant, standing};
use crate::table::{Table, Tables};

/// The name that stands for everything.
const ALL: &str = "*";

impl Session {
    /// Takes a request. Nothing is answered here: [`Session::poll`] does.
    ///
    /// # Errors
    /// The stream must be closed, with this code and these words.
    pub fn request(
        &mut self,
        request: Request,
        tables: &Tables,
        now: Duration,
    ) -> Result<(), Close> {
        self.idle = None;
        if self.lost {
            return Err(Close {
                code: Code::Unavailable,
                message: "too much was removed since this stream was last read; connect again and \
                          say which versions you have"
                    .to_owned(),
            });
        }
        match (request, self.opened.variant) {
            (Request::Delta(request), Variant::Delta) => self.delta(*request, tables, now),
            (Request::Sotw(request), Variant::Sotw) => self.sotw(*request, tables, now),
            (Request::Delta(_), Variant::Sotw) | (Request::Sotw(_), Variant::Delta) => {
                Err(Close::invalid("a request of the other variant of the protocol"))
            }
        }
    }

    fn delta(
        &mut self,
        request: DeltaDiscoveryRequest,
        tables: &Tables,
        now: Duration,
    ) -> Result<(), Close> {
        self.meet(request.node.as_ref(), now)?;
        let (type_url, scope) = self.type_of(&request.type_url)?;
        let given = request
            .resource_names_subscribe
            .iter()
            .chain(&request.resource_names_unsubscribe)
            .chain(request.initial_resource_versions.keys());
        self.measure(given)?;
        let Some(at) = self.watches.iter().position(|watch| watch.type_url == type_url) else {
            // Whatever its nonce: a client that comes again may still have one.
            let mut watch = Watch::new(type_url, scope, Start::Delta(BTreeMap::new()));
            let bare = request.resource_names_subscribe.is_empty();
            if bare && kind::is_wildcard_at_first(&watch.type_url) {
                watch.wildcard = Wildcard::Legacy;
            }
            let table = tables.table(&watch.scope, &watch.type_url);
            watch.subscribe_delta(&request.resource_names_subscribe, table);
            // From now on asking for a name overrides what is said of it here.
            watch.start = Some(Box::new(Start::Delta(request.initial_resource_versions)));
            self.watch(watch, now);
            return self.weigh(tables);
        };
        self.settle(at, &request.response_nonce, request.error_detail.as_ref(), tables, now);
        if let Some(watch) = self.watches.get_mut(at) {
            // "The server must honor changes to the subscription state even if the nonce is stale"
            // (xds_protocol.rst, "ACK and NACK semantics summary").
            let table = tables.table(&watch.scope, &watch.type_url);
            watch.unsubscribe_delta(&request.resource_names_unsubscribe, table);
            watch.subscribe_delta(&request.resource_names_subscribe, table);
        }
        self.cool(at);
        self.weigh(tables)
    }

    fn sotw(
        &mut self,
        request: DiscoveryRequest,
        tables: &Tables,
        now: Duration,
    ) -> Result<(), Close> {
        self.meet(request.node.as_ref(), now)?;
        let (type_url, scope) = self.type_of(&request.type_url)?;
        self.measure(request.resource_names.iter())?;
        let Some(at) = self.watches.iter().position(|watch| watch.type_url == type_url) else {
            let mut watch = Watch::new(type_url, scope, Start::Sotw(request.version_info));
            if request.resource_names.is_empty() && kind::is_wildcard_at_first(&watch.type_url) {
                watch.wildcard = Wildcard::Legacy;
            }
            let table = tables.table(&watch.scope, &watch.type_url);
            watch.subscribe_sotw(&request.resource_names, table);
            watch.world.renewed = false;
            self.watch(watch, now);
            return self.weigh(tables);
        };
        let newest = self.watches.get(at).map_or(0, |watch| watch.nonce);
        let nonce = self.nonces.read(&request.response_nonce);
        self.settle(at, &request.response_nonce, request.error_detail.as_ref(), tables, now);
        // Another request is on its way, in answer to what this client has not read yet, and has
        // all the names again: older names must not come after newer ones.
        if nonce != Some(newest) && !(newest == 0 && request.response_nonce.is_empty()) {
            if let Some(watch) = self.watches.get_mut(at) {
                watch.lapse(&request.resource_names);
            }
            return Ok(());
        }
        if let Some(watch) = self.watches.get_mut(at) {
            let table = tables.table(&watch.scope, &watch.type_url);
            watch.subscribe_sotw(&request.resource_names, table);
        }
        self.cool(at);
        self.weigh(tables)
    }

    /// A type that was not asked for before.
    fn watch(&mut self, watch: Watch, now: Duration) {
        self.watches.push(watch);
        self.watches.sort_by(|a, b| (a.kind, &a.type_url).cmp(&(b.kind, &b.type_url)));
        self.settles = Some(now.saturating_add(SETTLING));
    }

    /// The first request says who asks; later nodes are not read.
    fn meet(&mut self, node: Option<&Node>, now: Duration) -> Result<(), Close> {
        if self.client.is_some() {
            return Ok(());
        }
        self.nonces.begin(now);
        let node =
            node.ok_or_else(|| Close::invalid("the first request of a stream must have a node"))?;
        let client = Client::read_as(node, self.identity.as_ref())?;
        let view = self.rules.viewer.view(&client)?;
        self.client = Some((Arc::new(client), view));
        Ok(())
    }

    /// The type that is asked for, if this client may.
    fn type_of(&self, text: &str) -> Result<(TypeUrl, Scope), Close> {
        let type_url = match &self.opened.only {
            Some(only) if text.is_empty() || text == only.as_str() => only.clone(),
            Some(only) => {
                return Err(Close::invalid(format!(
                    "this service serves `{only}` alone; ask for other types by the aggregated \
                     service"
                )));
            }
            None if text.is_empty() => {
                return Err(Close::invalid("a request of the aggregated service must have a type"));
            }
            None => TypeUrl::new(text),
        };
        let Some(known) = self.rules.types.get(&type_url) else {
            return Err(Close {
                code: Code::Unimplemented,
                message: format!("`{}` is not served here", shown(text)),
            });
        };
        let scope = self.client.as_ref().and_then(|(_, view)| view.scope(known));
        let scope = scope.cloned().ok_or_else(|| Close {
            code: Code::PermissionDenied,
            message: format!("this client may not ask for `{known}`"),
        })?;
        Ok((known.clone(), scope))
    }

    fn measure<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<(), Close> {
        let most = self.rules.limits.name_bytes;
        for name in names {
            if name.len() > most {
                return Err(Close::exhausted(format!(
                    "a name has {} bytes, and {most} is the most: `{}`…",
                    name.len(),
                    shown(name)
                )));
            }
        }
        Ok(())
    }

    /// Whether the stream asks for no more than it may.
    fn weigh(&self, tables: &Tables) -> Result<(), Close> {
        let most = self.rules.limits.names;
        let names: usize = self.watches.iter().map(Watch::weight).sum();
        let over = names > most
            || self.watches.iter().any(|watch| {
                let table = tables.table(&watch.scope, &watch.type_url);
                watch.due.len() > most.saturating_add(table.map_or(0, |table| table.len()))
            });
        if !over {
            return Ok(());
        }
        Err(Close::exhausted(format!(
            "this stream asks for more than {most} names; subscribe to fewer, or to `{ALL}`"
        )))
    }

    fn settle(
        &mut self,
        at: usize,
        nonce: &str,
        error: Option<&Status>,
        tables: &Tables,
        now: Duration,
    ) {
        let Some(nonce) = self.nonces.read(nonce) else { return };
        let Some(watch) = self.watches.get_mut(at) else { return };
        let words = self.rules.limits.nack_bytes;
        let variant = self.opened.variant;
        let kind = watch.kind;
        let taken = watch.settle(Verdict { variant, nonce, error, words, now });
        for plans in &taken.plans {
            standing::add_plans(&mut self.progress, plans.iter());
        }
        if kind == Kind::Clusters {
            self.warm(taken.new, tables, now);
        }
    }

    /// Clusters whose endpoint sets were asked for are waited for by their names.
    fn cool(&mut self, at: usize) {
        if let Some(watch) = self.watches.get(at)
            && watch.kind == Kind::Endpoints
        {
            self.warming.retain(|(name, _)| !watch.covers(name));
        }
    }
}

/// As much of a client's text as is repeated to it.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

impl Watch {
    fn subscribe_delta(&mut self, names: &[String], table: Option<&Arc<Table>>) {
        let all = names.iter().any(|name| name == ALL);
        let names: BTreeSet<Name> = names
            .iter()
            .filter(|name| *name != ALL)
            .map(|name| self.names.share(name, table.map(|table| &**table)))
            .collect();
        let before = self.wildcard;
        // A client that had everything and now says so has it still.
        if all && before != Wildcard::Legacy {
            let resources: Vec<Name> = table
                .filter(|_| self.start.is_none())
                .map(|table| table.iter().map(|resource| resource.name().clone()).collect())
                .unwrap_or_default();
            for name in resources {
                self.ask(&name, table, self.covers(&name));
            }
        }
        // Also what was subscribed to: the client may have forgotten it.
        for name in &names {
            self.ask(name, table, self.covers(name));
        }
        if all {
            self.wildcard = Wildcard::Explicit;
        }
        self.subscribe(&names);
    }

    fn unsubscribe_delta(&mut self, names: &[String], table: Option<&Arc<Table>>) {
        if names.is_empty() {
            return;
        }
        if names.iter().any(|name| name == ALL) {
            self.wildcard = Wildcard::No;
        }
        let names: BTreeSet<Name> = names
            .iter()
            .filter(|name| *name != ALL)
            .map(|name| self.names.share(name, table.map(|table| &**table)))
            .collect();
        self.names.remove(&names);
        if self.wildcard == Wildcard::No {
            self.forget_uncovered();
            return;
        }
        // The client cannot know whether everything has them: it is told.
        for name in &names {
            self.ask(name, table, true);
        }
    }

    /// "Once a stream has entered explicit subscription, no names means none" (xds_protocol.rst,
    /// "How the client specifies what resources to return").
    fn subscribe_sotw(&mut self, names: &[String], table: Option<&Arc<Table>>) {
        if names.is_empty() && !self.named {
            return;
        }
        self.named = true;
        let all = names.iter().any(|name| name == ALL);
        let names: BTreeSet<Name> = names
            .iter()
            .filter(|name| *name != ALL)
            .map(|name| self.names.share(name, table.map(|table| &**table)))
            .collect();
        let before = self.wildcard;
        let lapsed = std::mem::take(&mut self.lapsed);
        if self.start.is_none() {
            let new = |name: &&Name| !self.names.contains(name) || lapsed.contains(*name);
            let new: Vec<Name> = names.iter().filter(new).cloned().collect();
            for name in new {
                self.ask_existing(&name, table);
            }
            let rest = table.filter(|_| all && before == Wildcard::No);
            for resource in rest.iter().flat_map(|table| table.iter()) {
                if !self.names.contains(resource.name()) {
                    self.ask_existing(resource.name(), table);
                }
            }
        }
        self.wildcard = if all { Wildcard::Explicit } else { Wildcard::No };
        self.world.renewed |= (self.start.is_some() || self.world.behind.is_some())
            && names.iter().any(|name| !self.names.contains(name) || lapsed.contains(name));
        let fewer = names.len() < self.names.len()
            || self.names.iter().any(|name| !names.contains(name))
            || (before != Wildcard::No && !all);
        if fewer || names.len() != self.names.len() {
            self.names.replace(names);
        }
        if fewer {
            self.forget_uncovered();
        }
    }

    /// State of the world: a stale request, of which only what it does not have is remembered.
    fn lapse(&mut self, names: &[String]) {
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let gone = self.names.iter().filter(|name| !names.contains(name.as_str()));
        self.lapsed = std::mem::take(&mut self.lapsed).into_iter().chain(gone.cloned()).collect();
    }

    /// State of the world does not say of a name that there is nothing: it comes when it is there.
    fn ask_existing(&mut self, name: &Name, table: Option<&Arc<Table>>) {
        if table.is_some_and(|table| table.of(name).is_some()) {
            self.ask(name, table, self.covers(name));
        }
    }
}
