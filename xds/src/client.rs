//! Who is at the other end of a stream, and what it sees.

mod identity;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use proto::envoy::config::core::v3::Node;
use proto::envoy::config::core::v3::node::UserAgentVersionType;
use proto::google::protobuf::value::Kind;
use proto::google::protobuf::{Struct, Value};

use crate::name::{Scope, TypeUrl};
use crate::session::Close;
use crate::table::Tables;

pub use self::identity::Identity;

/// A client as it named itself with the first request of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its node id: what a sink is called.
    pub id: Arc<str>,
    /// The group it says it belongs to.
    pub cluster: Arc<str>,
    /// What it says of itself under `crossfade.`, by the rest of the key.
    pub says: BTreeMap<String, String>,
    /// The program: `envoy`, `gRPC Go`; empty where it does not say.
    pub agent: Arc<str>,
    /// The program's version.
    pub version: Option<String>,
    /// Who it was proved to be: what else it says of itself agrees with that. `None` where nobody
    /// asks for proofs.
    pub identity: Option<Arc<Identity>>,
}

impl Client {
    /// The longest node id, in bytes: room for a pod, a namespace and a cluster.
    pub const ID_MAX: usize = 512;
    /// The most that is kept of any other text, in bytes.
    const TEXT_MAX: usize = 256;
    /// The most metadata that is read.
    const SAYS_MAX: usize = 32;
    /// What our metadata begins with.
    const PREFIX: &'static str = "crossfade.";

    /// Reads a node.
    ///
    /// # Errors
    /// It has no id, or one that is too long.
    pub fn read(node: &Node) -> Result<Self, Close> {
        if node.id.is_empty() {
            return Err(Close::invalid("the node has no id; give the client one (node.id)"));
        }
        if node.id.len() > Self::ID_MAX || node.id.chars().any(char::is_control) {
            return Err(Close::invalid(
                "the node's id is over 512 bytes or has control characters",
            ));
        }
        let version = node.user_agent_version_type.as_ref().and_then(|version| match version {
            UserAgentVersionType::UserAgentVersion(text) => Some(cut(text)),
            UserAgentVersionType::UserAgentBuildVersion(build) => {
                let version = build.version.as_ref()?;
                Some(format!("{}.{}.{}", version.major_number, version.minor_number, version.patch))
            }
        });
        Ok(Self {
            id: node.id.as_str().into(),
            cluster: cut(&node.cluster).into(),
            says: node.metadata.as_ref().map(says).unwrap_or_default(),
            agent: cut(&node.user_agent_name).into(),
            version,
            identity: None,
        })
    }

    /// Reads the node of somebody who was proved to be this.
    ///
    /// # Errors
    /// As [`Client::read`], or it says a name or a role that it has not.
    pub fn read_as(node: &Node, identity: Option<&Arc<Identity>>) -> Result<Self, Close> {
        let client = Self::read(node)?;
        if let Some(identity) = identity {
            identity.bind(&client)?;
        }
        Ok(Self { identity: identity.cloned(), ..client })
    }

    /// Who reports on a stream: said with its first message, and known from then on.
    ///
    /// # Errors
    /// The first message has no node, or as [`Client::read_as`].
    pub fn of_reports(
        known: &mut Option<Arc<Self>>,
        node: Option<&Node>,
        identity: Option<&Arc<Identity>>,
    ) -> Result<Arc<Self>, Close> {
        if let Some(client) = known {
            return Ok(Arc::clone(client));
        }
        let node = node.ok_or_else(|| Close::invalid("the first report must have a node"))?;
        Ok(Arc::clone(known.insert(Arc::new(Self::read_as(node, identity)?))))
    }

    /// What it says under `crossfade.KEY`.
    pub fn says(&self, key: &str) -> Option<&str> {
        self.says.get(key).map(String::as_str)
    }
}

/// Both ways in which metadata is written: `crossfade.role: x` and `crossfade: { role: x }`.
fn says(metadata: &Struct) -> BTreeMap<String, String> {
    let flat = metadata
        .fields
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(Client::PREFIX)?, value)));
    let nested = metadata.fields.get("crossfade").and_then(|value| {
        let Some(Kind::StructValue(inner)) = &value.kind else { return None };
        Some(inner)
    });
    let nested = nested
        .into_iter()
        .flat_map(|inner| inner.fields.iter().map(|(key, value)| (key.as_str(), value)));
    let text = |value: &Value| {
        let Some(Kind::StringValue(text)) = &value.kind else { return None };
        Some(cut(text))
    };
    nested
        .chain(flat)
        .filter_map(|(key, value)| Some((cut(key), text(value)?)))
        .take(Client::SAYS_MAX)
        .collect()
}

/// As much of a text as is kept.
fn cut(text: &str) -> String {
    let end = (0..=text.len().min(Client::TEXT_MAX)).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

/// Which tables a client sees: one scope for each type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Where types are looked for that are not listed.
    pub default: Scope,
    /// Types that are elsewhere. `None`: this client may not ask for them.
    pub types: Arc<[(TypeUrl, Option<Scope>)]>,
    /// Nothing is served before the table of this type is there: that comes last, or together with
    /// all else of the view. Where views share tables, one may be there that has only what others
    /// see; of what it has not, this client would be told that it is gone. `None`: each table
    /// speaks for itself.
    pub after: Option<TypeUrl>,
}

impl View {
    /// Everything from one scope.
    pub fn all(scope: impl Into<Scope>) -> Self {
        Self { default: scope.into(), types: Arc::new([]), after: None }
    }

    /// Whether the tables have all of it.
    pub fn is_there(&self, tables: &Tables) -> bool {
        let Some(type_url) = &self.after else { return true };
        self.scope(type_url).is_none_or(|scope| tables.table(scope, type_url).is_some())
    }

    /// Where this type is; `None` where the client may not ask for it.
    pub fn scope(&self, type_url: &TypeUrl) -> Option<&Scope> {
        match self.types.iter().find(|(listed, _)| listed == type_url) {
            Some((_, scope)) => scope.as_ref(),
            None => Some(&self.default),
        }
    }
}

/// Decides what a client sees, once for each stream. Who may see less than before must have its
/// streams ended ([`crate::server::Doorman::revoked`]).
pub trait Viewer: Send + Sync + fmt::Debug {
    /// The view of this client.
    ///
    /// # Errors
    /// It is nobody whom we serve; the stream is closed with these words.
    fn view(&self, client: &Client) -> Result<View, Close>;
}
