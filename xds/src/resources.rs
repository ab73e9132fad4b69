//! A server for any set of named resources: the face for programs that have their own.
//!
//! ```
//! # use std::collections::BTreeMap;
//! # use xds::server::{Clock, Limits, Server, Settings};
//! # use xds::{Resources, TypeUrl};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clusters = TypeUrl::new(TypeUrl::CLUSTER);
//! let server = Server::bind(Settings {
//!     listen: vec!["127.0.0.1:0".parse()?],
//!     tls: None,
//!     doorman: None,
//!     rules: Resources::rules([clusters.clone()]),
//!     limits: Limits::default(),
//!     clock: Clock::start(),
//! })?;
//! let resources = Resources::new(server.publisher());
//! let body = Vec::new(); // an encoded envoy.config.cluster.v3.Cluster
//! let named = BTreeMap::from([("orders".to_owned(), ("v1".to_owned(), body))]);
//! let mark = resources.replace(&clusters, "2026-07-01", named);
//! // server.serve(..).await answers clients; server.registry().standings() says who acked `mark`.
//! # let _ = mark;
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use plan::Token;

use crate::client::{Client, View, Viewer};
use crate::name::{Name, Scope, TypeUrl};
use crate::registry::Publisher;
use crate::session::{Close, Limits, Rules};
use crate::table::{Change, Edit, Encoded, Urgency};
use crate::version::Version;

/// The scope that everybody sees.
const EVERYBODY: &str = "everybody";

/// Named resources by type, with versions of the caller's own, served to every client alike.
///
/// Versions are compared for equality and nothing else: a name with the version it had is not sent
/// again, whatever its body.
pub struct Resources {
    publisher: Publisher,
    /// One change after the other.
    turn: Mutex<()>,
}

impl Resources {
    /// Into this server, whose rules are [`Resources::rules`].
    pub const fn new(publisher: Publisher) -> Self {
        Self { publisher, turn: Mutex::new(()) }
    }

    /// Rules of a server that shows everything to everybody, of these types.
    pub fn rules(types: impl IntoIterator<Item = TypeUrl>) -> Arc<Rules> {
        Arc::new(Rules {
            viewer: Arc::new(Everybody),
            types: types.into_iter().collect(),
            limits: Limits::default(),
        })
    }

    /// Makes these all there is of a type: name to version and encoded message. `version` is what
    /// state-of-the-world clients are told.
    ///
    /// Returns what a sink's `progress.acked` reaches once its client has taken it; a refusal is in
    /// its `progress.refused`, with the client's words.
    pub fn replace(
        &self,
        type_url: &TypeUrl,
        version: &str,
        resources: BTreeMap<String, (String, Vec<u8>)>,
    ) -> Token {
        self.edit(type_url, version, |held| {
            let gone = held.iter().filter(|name| !resources.contains_key(name.as_str()));
            let gone: Vec<Change> = gone.cloned().map(Change::Remove).collect();
            let puts = resources
                .into_iter()
                .map(|(name, (version, body))| put(type_url, &name, version, &body));
            gone.into_iter().chain(puts).collect()
        })
    }

    /// Changes some resources of a type, and removes some; the others stay. As
    /// [`Resources::replace`].
    pub fn change(
        &self,
        type_url: &TypeUrl,
        version: &str,
        put_these: BTreeMap<String, (String, Vec<u8>)>,
        remove: &[&str],
    ) -> Token {
        self.edit(type_url, version, |_| {
            let gone = remove.iter().map(|name| Change::Remove(Name::new(name)));
            let puts = put_these
                .into_iter()
                .map(|(name, (version, body))| put(type_url, &name, version, &body));
            gone.chain(puts).collect()
        })
    }

    fn edit(
        &self,
        type_url: &TypeUrl,
        version: &str,
        changes: impl FnOnce(&[Name]) -> Vec<Change>,
    ) -> Token {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = self.publisher.tables();
        let scope = Scope::new(EVERYBODY);
        let held: Vec<Name> = tables
            .table(&scope, type_url)
            .into_iter()
            .flat_map(|table| table.iter())
            .map(|resource| resource.name().clone())
            .collect();
        let edits = changes(&held).into_iter().map(|change| Edit {
            scope: scope.clone(),
            type_url: type_url.clone(),
            change,
        });
        let token = tables.token().max(Token::START).next();
        let next = tables.next(token, Urgency::Ordinary, edits.collect());
        self.publisher.publish(Arc::new(next.labelled(scope, type_url.clone(), version)));
        token
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resources").finish_non_exhaustive()
    }
}

fn put(type_url: &TypeUrl, name: &str, version: String, body: &[u8]) -> Change {
    // What looks like a version of ours is the caller's all the same: not ordered.
    let version = Version::Foreign(version.into());
    let encoded = Arc::new(Encoded::new(type_url, Name::new(name), version, body));
    Change::Put { encoded, plans: Arc::new([]), needs: Arc::new([]) }
}

/// Shows everything to everybody.
#[derive(Debug)]
struct Everybody;

impl Viewer for Everybody {
    fn view(&self, _: &Client) -> Result<View, Close> {
        Ok(View::all(Scope::new(EVERYBODY)))
    }
}
