//! What can be asked of a plan, and by whom.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::name::{GateName, PlanName, ServiceId, ServiceName, ZoneName};
use crate::spec::{Plan, ZoneSource};
use crate::split::{Side, Split};
use crate::token::Digest;

/// Why a record is asked for.
#[derive(Clone, Debug)]
pub enum Cause {
    /// Somebody asks.
    Operator(Ask),
    /// A plan takes a step by itself.
    Automation(Automation),
    /// Endpoints or health changed.
    Observed(Vec<Observation>),
}

/// What an operator asks.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What.
    pub command: Command,
    /// Only if the plan's revision is still this one.
    pub if_revision: Option<u64>,
    /// Makes a repeated ask take effect once.
    pub key: Option<Key>,
    /// Who.
    pub actor: Actor,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

impl Ask {
    /// What tells this ask from others: the same key with another digest is another ask.
    pub(crate) fn digest(&self) -> Digest {
        let Self { command, if_revision, key: _, actor, reason } = self;
        let mut text = format!("{actor}\n{command}\n{if_revision:?}\n{reason:?}\n");
        match command {
            // Serialising a plan cannot fail: no map has a key that is not text.
            Command::Apply(spec) => text += &serde_json::to_string(spec).unwrap_or_default(),
            Command::Reload(changes) => text += &format!("{changes:?}"),
            Command::Start(_)
            | Command::Step { .. }
            | Command::Shift { .. }
            | Command::Pause(_)
            | Command::Resume(_)
            | Command::Rollback(_)
            | Command::Approve { .. }
            | Command::Retire(_)
            | Command::Delete(_) => {}
        }
        Digest::of(text.as_bytes())
    }
}

/// The verbs; [`crate::decide`] has their rules.
#[derive(Clone, Debug)]
pub enum Command {
    /// Take this plan, new or changed. Its zones are `Own` or `Blob`.
    Apply(Arc<Plan>),
    /// From now on the plan takes its steps by itself.
    Start(PlanName),
    /// End the bake of this step.
    Step {
        /// Which plan.
        plan: PlanName,
        /// Limits that the operator overrides.
        overrides: BTreeSet<Override>,
    },
    /// Move a service, or all of a plan, to a split now.
    Shift {
        /// Which plan.
        plan: PlanName,
        /// Which service; `None`: all.
        service: Option<ServiceName>,
        /// Where to.
        split: Split,
        /// Limits that the operator overrides.
        overrides: BTreeSet<Override>,
    },
    /// Nothing moves until an operator acts.
    Pause(PlanName),
    /// Go on.
    Resume(PlanName),
    /// Every client to legacy, now.
    Rollback(Scope),
    /// Approve a manual gate.
    Approve {
        /// Which plan.
        plan: PlanName,
        /// Which gate.
        gate: GateName,
    },
    /// End the plan after legacy was measured silent.
    Retire(PlanName),
    /// Forget the plan.
    Delete(PlanName),
    /// Zone texts changed on disk. One record, however many plans.
    Reload(Vec<ZoneChange>),
}

impl Command {
    /// The plan that it is about; `None`: several, or none.
    pub fn plan(&self) -> Option<&PlanName> {
        match self {
            Self::Apply(spec) => Some(&spec.name),
            Self::Start(plan)
            | Self::Step { plan, .. }
            | Self::Shift { plan, .. }
            | Self::Pause(plan)
            | Self::Resume(plan)
            | Self::Rollback(Scope::Plan(plan) | Scope::Service(ServiceId { plan, .. }))
            | Self::Approve { plan, .. }
            | Self::Retire(plan)
            | Self::Delete(plan) => Some(plan),
            Self::Rollback(Scope::All) | Self::Reload(_) => None,
        }
    }
}

impl fmt::Display for Command {
    /// As a command line without its program: `shift shop/orders 25%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply(spec) => write!(f, "apply {}", spec.name),
            Self::Start(plan) => write!(f, "start {plan}"),
            Self::Step { plan, overrides } => {
                write!(f, "step {plan}")?;
                overridden(f, overrides)
            }
            Self::Shift { plan, service, split, overrides } => {
                match service {
                    Some(service) => write!(f, "shift {plan}/{service} {split}")?,
                    None => write!(f, "shift {plan} {split}")?,
                }
                overridden(f, overrides)
            }
            Self::Pause(plan) => write!(f, "pause {plan}"),
            Self::Resume(plan) => write!(f, "resume {plan}"),
            Self::Rollback(Scope::All) => f.write_str("rollback --all"),
            Self::Rollback(Scope::Plan(plan)) => write!(f, "rollback {plan}"),
            Self::Rollback(Scope::Service(service)) => write!(f, "rollback {service}"),
            Self::Approve { plan, gate } => write!(f, "approve {plan} {gate}"),
            Self::Retire(plan) => write!(f, "retire {plan}"),
            Self::Delete(plan) => write!(f, "delete {plan}"),
            Self::Reload(_) => f.write_str("reload"),
        }
    }
}

fn overridden(f: &mut fmt::Formatter<'_>, overrides: &BTreeSet<Override>) -> fmt::Result {
    overrides.iter().try_for_each(|limit| write!(f, " --override {limit}"))
}

/// A zone of a plan with its new source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneChange {
    /// The plan that owns the zone.
    pub plan: PlanName,
    /// The zone.
    pub zone: ZoneName,
    /// `Own` or `Blob`.
    pub source: ZoneSource,
}

/// Whom a rollback takes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every plan.
    All,
    /// One plan.
    Plan(PlanName),
    /// One service, and those that come after it.
    Service(ServiceId),
}

/// A limit that an operator may override by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Override {
    /// `acks`: sinks that have not applied what is committed.
    Acks,
    /// `freeze`: windows in which nothing rises.
    Freeze,
    /// `max-step`: the most that one revision may raise.
    MaxStep,
    /// `sticky`: proxies that cannot keep a client on its side.
    Sticky,
    /// `measured`: traffic that is not where the plan says.
    Measured,
    /// A gate, by its name.
    Gate(GateName),
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acks => f.write_str("acks"),
            Self::Freeze => f.write_str("freeze"),
            Self::MaxStep => f.write_str("max-step"),
            Self::Sticky => f.write_str("sticky"),
            Self::Measured => f.write_str("measured"),
            Self::Gate(gate) => gate.fmt(f),
        }
    }
}

impl std::str::FromStr for Override {
    type Err = crate::name::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "acks" => Ok(Self::Acks),
            "freeze" => Ok(Self::Freeze),
            "max-step" => Ok(Self::MaxStep),
            // As the plan file writes it.
            "maxStep" => Ok(Self::MaxStep),
            "sticky" => Ok(Self::Sticky),
            "measured" => Ok(Self::Measured),
            gate => gate.parse().map(Self::Gate),
        }
    }
}

/// What a plan does by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Automation {
    /// On to the next step.
    Advance {
        /// Which plan.
        plan: PlanName,
        /// The plan's revision that this was decided on; a changed plan drops it.
        seen: u64,
    },
    /// The last bake is over.
    Complete {
        /// Which plan.
        plan: PlanName,
        /// As above.
        seen: u64,
    },
    /// Nobody moved on in time: back one step.
    Expire {
        /// Which plan.
        plan: PlanName,
        /// As above.
        seen: u64,
    },
}

impl Automation {
    /// The plan's revision that it was decided on.
    pub const fn seen(&self) -> u64 {
        match self {
            Self::Advance { seen, .. }
            | Self::Complete { seen, .. }
            | Self::Expire { seen, .. } => *seen,
        }
    }

    /// The plan that acts.
    pub const fn plan(&self) -> &PlanName {
        match self {
            Self::Advance { plan, .. }
            | Self::Complete { plan, .. }
            | Self::Expire { plan, .. } => plan,
        }
    }
}

/// Something seen, not wanted. Committed, numbered and rendered like a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The endpoints of one side that fail now; the whole set, not a change of it.
    Health {
        /// Which service.
        service: ServiceId,
        /// Which side.
        side: Side,
        /// Those that fail; unknown ones are ignored.
        failing: BTreeSet<Endpoint>,
    },
}

/// Who asks: `uid:1000 (alice)` on the unix socket, `tcp:127.0.0.1` on loopback.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Actor(Arc<str>);

impl Actor {
    /// The most bytes of an actor's name; the rest is cut. Room for any certificate name.
    pub const BYTES_MAX: usize = 256;

    /// An actor by name; control characters are dropped and the name is cut to its limit.
    pub fn new(name: &str) -> Self {
        let clean = name.chars().filter(|c| !c.is_control());
        let mut text = String::new();
        for c in clean {
            if text.len() + c.len_utf8() > Self::BYTES_MAX {
                break;
            }
            text.push(c);
        }
        Self(text.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An idempotency key: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

impl Key {
    /// The most bytes of a key: room for any UUID or digest.
    pub const BYTES_MAX: usize = 128;

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        let fine = (1..=Self::BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic());
        if fine { Ok(Self(text.into())) } else { Err(KeyError) }
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0.as_ref().to_owned()
    }
}

/// The text is no idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 128 visible ASCII characters")]
pub struct KeyError;
