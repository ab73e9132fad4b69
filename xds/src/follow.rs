//! Following a controller: our own Delta client, which never takes anything older than it holds.
//!
//! What arrives is compared with what is held, written to disk, put in force and only then acked;
//! so a follower that restarts with no controller in reach goes on with what it had, and what it
//! acked is what it has.
//!
//! | part | does | pure |
//! |---|---|---|
//! | [`session`] | judges a response against what is held; words requests | yes |
//! | [`slots`] | two slots on disk, written in turn | no |
//! | [`dial`] | which address to try, when, over TLS or not | the order is |
//! | [`run`](Follower::run) | the pump between them and a [`Sink`] | no |

pub mod dial;
mod pump;
pub mod session;
pub mod slots;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use plan::Token;
use prost::Message as _;
use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use proto::google::protobuf::{Any, Struct, Value, value};
use tokio::sync::watch;
use tonic::transport::Channel;

use self::dial::Dial;
use self::slots::{Damage, SlotError, Slots};
use crate::name::{Name, TypeUrl};
use crate::version::Version;

/// What is held of one type.
#[derive(Clone, Debug)]
pub struct Held {
    /// The type.
    pub type_url: TypeUrl,
    /// The newest tables that anything was taken of: what is older is not taken any more.
    /// [`Token::NEVER`] where nothing was.
    pub through: Token,
    /// The resources.
    pub resources: BTreeMap<Name, Item>,
}

/// One resource that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its version, as it stood on the wire.
    pub version: Version,
    /// The message in protobuf's binary form.
    pub body: Bytes,
}

impl Held {
    /// Nothing.
    pub fn nothing(type_url: TypeUrl) -> Self {
        Self { type_url, through: Token::NEVER, resources: BTreeMap::new() }
    }

    /// The newest record that any resource is of, or that anything was taken of.
    pub fn newest(&self) -> Token {
        let sinces = self.resources.values().filter_map(|item| item.version.since());
        sinces.fold(self.through, Token::max)
    }

    /// What a follower keeps of a type in `directory`, whether it runs or not.
    ///
    /// # Errors
    /// The files are there and cannot be read.
    pub fn read(directory: &Path, type_url: &TypeUrl) -> Result<Self, SlotError> {
        let opened = Slots::open(directory, &slot_name(type_url), Follower::BYTES_MAX)?;
        let held = opened.payload.and_then(|bytes| Self::decode(type_url, bytes.into()));
        Ok(held.unwrap_or_else(|| Self::nothing(type_url.clone())))
    }

    /// For a slot: the response that would say all of it.
    fn encode(&self) -> Vec<u8> {
        let resource = |(name, item): (&Name, &Item)| Resource {
            name: name.as_str().to_owned(),
            version: item.version.to_string(),
            resource: Some(Any {
                type_url: self.type_url.as_str().to_owned(),
                value: item.body.clone(),
            }),
            ..Resource::default()
        };
        let response = DeltaDiscoveryResponse {
            system_version_info: self.through.to_string(),
            type_url: self.type_url.as_str().to_owned(),
            resources: self.resources.iter().map(resource).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        response.encode_to_vec()
    }

    /// What a slot has; `None` where it is of another type, or none of ours.
    fn decode(type_url: &TypeUrl, bytes: Bytes) -> Option<Self> {
        let response = DeltaDiscoveryResponse::decode(bytes).ok()?;
        if response.type_url != type_url.as_str() {
            return None;
        }
        let item = |resource: Resource| {
            let item =
                Item { version: Version::parse(&resource.version), body: resource.resource?.value };
            Some((Name::new(&resource.name), item))
        };
        Some(Self {
            type_url: type_url.clone(),
            through: response.system_version_info.parse().ok()?,
            resources: response.resources.into_iter().map(item).collect::<Option<_>>()?,
        })
    }
}

/// Something that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The resource; `None`: the response as a whole.
    pub name: Option<Name>,
    /// Why, in words for the operator.
    pub why: String,
}

/// What a [`Sink`] says after it has put in force what is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What it holds but cannot put in force, or does not follow.
    pub refused: Vec<Refusal>,
    /// What must come before it can say that all is in force; `None`: all is.
    pub waits: Option<String>,
}

/// Who puts in force what is followed.
pub trait Sink: Send {
    /// Judges one resource that is newer than what is held under its name.
    ///
    /// # Errors
    /// Why it is not taken; what is held stays.
    fn check(
        &mut self,
        type_url: &TypeUrl,
        name: &str,
        body: &Bytes,
        held: Option<&Item>,
    ) -> Result<(), String>;

    /// Puts in force what is held of a type; it is on disk already. Called after every response,
    /// also where nothing changed, and returns when nothing older is in force anywhere. `named` is
    /// what the response had or removed.
    fn apply(&mut self, held: &Arc<Held>, named: &[Name]) -> impl Future<Output = Applied> + Send;

    /// Whether what the last [`Sink::apply`] of this type waited for has come.
    fn applied(&mut self, type_url: &TypeUrl) -> impl Future<Output = Applied> + Send;
}

/// A controller that is followed.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its address.
    pub address: Arc<str>,
    /// For what else is said to it.
    pub channel: Channel,
}

/// What is to be asked for again although it is held. A change of `round` begins the stream anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// Raised to be asked now.
    pub round: u64,
    /// By type.
    pub names: Vec<(TypeUrl, Name)>,
}

/// Settings of a follower.
#[derive(Debug)]
pub struct Settings {
    /// Who follows.
    pub node: Node,
    /// What it follows, all resources of each.
    pub types: Vec<TypeUrl>,
    /// The same for what an older controller does not know: that is followed without.
    pub extra: Vec<TypeUrl>,
    /// Whom.
    pub dial: Dial,
    /// Where what is held is kept; must exist.
    pub directory: PathBuf,
}

/// A follower with what it held when it last ran.
#[derive(Debug)]
pub struct Follower {
    node: Node,
    dial: Dial,
    types: Vec<Kept>,
    /// How many of `types`, the last, a controller may not know.
    extra: usize,
    /// Who is followed now does not know those.
    without: bool,
    away: watch::Sender<Option<Arc<str>>>,
}

#[derive(Debug)]
struct Kept {
    held: Arc<Held>,
    slots: Arc<std::sync::Mutex<Slots>>,
    /// The last response was not taken because it could not be kept.
    unkept: Option<pump::Unkept>,
}

impl Follower {
    /// The most that is kept on disk of one type, in bytes: the longest zone text and as much
    /// again.
    pub const BYTES_MAX: u64 = 512 << 20;

    /// How long a response may go unanswered because something else must come first.
    const WAIT_MAX: Duration = Duration::from_secs(5);

    /// Reads what was held. Damaged slots are told; the other one counts, and where both are
    /// damaged nothing is held.
    ///
    /// # Errors
    /// The files cannot be read or made.
    pub fn open(settings: Settings) -> Result<(Self, Vec<Damage>), SlotError> {
        let mut types = Vec::new();
        let mut damaged = Vec::new();
        let Settings { node, types: known, extra, dial, directory } = settings;
        let count = extra.len();
        for type_url in known.into_iter().chain(extra) {
            let name = slot_name(&type_url);
            let opened = Slots::open(&directory, &name, Self::BYTES_MAX)?;
            damaged.extend(opened.damaged);
            let held = opened.payload.map(|bytes| Held::decode(&type_url, bytes.into()));
            if held.as_ref().is_some_and(Option::is_none) {
                let path = directory.join(&name);
                damaged.push(Damage { path, why: "it is whole, but says nothing we know" });
            }
            let held = held.flatten().unwrap_or_else(|| Held::nothing(type_url));
            let slots = Arc::new(std::sync::Mutex::new(opened.slots));
            types.push(Kept { held: Arc::new(held), slots, unkept: None });
        }
        let away = watch::Sender::new(None);
        Ok((Self { node, dial, types, extra: count, without: false, away }, damaged))
    }

    /// Why nobody is followed, in the words of the last attempt; `None`: somebody is, or nobody was
    /// tried yet.
    pub fn away(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.away.subscribe()
    }

    /// What is held of each type.
    pub fn held(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.types.iter().map(|kept| &kept.held)
    }

    /// What is asked for of whoever is followed now.
    fn asked(&self) -> impl Iterator<Item = &Arc<Held>> {
        let extra = if self.without { self.extra } else { 0 };
        self.held().take(self.types.len().saturating_sub(extra))
    }
}

/// What the slots of a type are called.
fn slot_name(type_url: &TypeUrl) -> String {
    type_url.short().to_lowercase()
}

/// A node of ours, with what it says of itself under `crossfade.`.
pub fn node(id: &str, version: &str, says: &[(&str, &str)]) -> Node {
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    let fields = says.iter().map(|(key, value)| (format!("crossfade.{key}"), text(value)));
    let kind = proto::envoy::config::core::v3::node::UserAgentVersionType::UserAgentVersion;
    Node {
        id: id.to_owned(),
        metadata: Some(Struct { fields: fields.collect() }),
        user_agent_name: "crossfade".to_owned(),
        user_agent_version_type: Some(kind(version.to_owned())),
        ..Node::default()
    }
}
