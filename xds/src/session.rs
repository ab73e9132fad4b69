//! One stream, without input or output of its own: requests and tables in, responses out.

mod ack;
mod due;
mod encode;
mod fold;
mod gate;
mod kind;
mod names;
mod nonce;
mod pick;
mod request;
mod standing;
mod stream;
mod watch;
mod words;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use plan::{PlanName, Token};
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use crate::client::Viewer;
use crate::name::TypeUrl;
use crate::table::Generation;

pub use self::stream::Session;

/// What was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Which variant of the protocol.
    pub variant: Variant,
    /// The one type of a per-type service; `None`: the aggregated service.
    pub only: Option<TypeUrl>,
}

/// The two variants of xDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// A request of either variant.
#[derive(Clone, Debug)]
pub enum Request {
    /// State of the world.
    Sotw(Box<DiscoveryRequest>),
    /// Incremental.
    Delta(Box<DeltaDiscoveryRequest>),
}

/// What a stream does next.
#[derive(Debug)]
pub enum Next {
    /// Send this; then ask again.
    Send(Response),
    /// Nothing before a request, other tables, or (where given) this moment.
    Wait(Option<Duration>),
}

/// A response: one protobuf message in parts, most of them shared by many streams.
#[derive(Clone, Debug)]
pub struct Response {
    /// The type of its resources.
    pub type_url: TypeUrl,
    /// Its nonce.
    pub nonce: Arc<str>,
    /// The message, to be sent one part after the other.
    pub parts: Vec<Bytes>,
    /// How many resources it carries.
    pub resources: usize,
}

impl Response {
    /// The length of the message, in bytes.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing in it, which cannot be: it has a type and a nonce.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a stream is closed by us: a code of gRPC and words for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Close {
    /// The code.
    pub code: Code,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Codes of gRPC that we close streams with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 3: the request can never be right.
    InvalidArgument = 3,
    /// 7: this client may not ask for that.
    PermissionDenied = 7,
    /// 8: over a limit.
    ResourceExhausted = 8,
    /// 12: a type or service that is not here.
    Unimplemented = 12,
    /// 14: come again later.
    Unavailable = 14,
    /// 16: who is not known.
    Unauthenticated = 16,
}

impl Close {
    /// The request can never be right.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, message: message.into() }
    }

    /// Over a limit.
    pub fn exhausted(message: impl Into<String>) -> Self {
        Self { code: Code::ResourceExhausted, message: message.into() }
    }
}

/// What every stream of a server goes by.
#[derive(Debug)]
pub struct Rules {
    /// Who sees what.
    pub viewer: Arc<dyn Viewer>,
    /// The types that are served; asking for another one closes the stream.
    pub types: BTreeSet<TypeUrl>,
    /// The most.
    pub limits: Limits,
}

/// Limits on one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Names subscribed to on one stream, over all types: 20 000 services have five each at most.
    pub names: usize,
    /// The longest name, in bytes.
    pub name_bytes: usize,
    /// The longest Delta response, in bytes: what gRPC clients take by default is 4 MiB. More goes
    /// into the next one, after an ack.
    pub response_bytes: usize,
    /// The most kept of a client's words when it refuses, in bytes.
    pub nack_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { names: 100_000, name_bytes: 1_024, response_bytes: 1 << 20, nack_bytes: 2_000 }
    }
}

/// How far a stream is. Cheap to compare with the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The newest tables that the stream has looked at: what they changed and it subscribes to is
    /// in `owes` until acked. None as long as it may be about to ask for further types: a client
    /// that comes again asks for one after the other.
    pub seen: Generation,
    /// The newest token up to which everything it subscribes to is acked.
    pub acked: Token,
    /// The plans of which something is unsent, unacked or refused.
    pub owes: Arc<BTreeSet<PlanName>>,
    /// The plans of which anything was ever acked on this stream, or was there already when it
    /// began: those that expect it from now on.
    pub plans: Arc<BTreeSet<PlanName>>,
    /// The newest refusal that still stands.
    pub refused: Option<Arc<Refused>>,
}

/// A refusal by a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The type it refused.
    pub type_url: TypeUrl,
    /// The newest token among what it refused.
    pub token: Token,
    /// The plans it touches.
    pub plans: BTreeSet<PlanName>,
    /// The client's own words, cut to a limit.
    pub detail: String,
    /// The server's uptime at that moment.
    pub at: Duration,
}
