//! The state: a fold over the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::Actor;
use crate::endpoint::{Endpoint, Pool};
use crate::name::{GateName, PlanName, ServiceName};
use crate::snapshot::Snapshot;
use crate::spec::Plan;
use crate::split::Split;
use crate::state::keys::Keys;
use crate::time::Timestamp;
use crate::token::{Digest, Token};

mod apply;
mod broken;
mod checkpoint;
pub(crate) mod keys;
mod render;
mod restore;

pub(crate) use crate::state::apply::{follows, pool};
pub use crate::state::broken::Broken;
pub use crate::state::keys::KEYS_MAX;

/// Everything that the log says, at one token.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) token: Token,
    pub(crate) digest: Digest,
    pub(crate) plans: BTreeMap<PlanName, Arc<PlanState>>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) snapshot: Arc<Snapshot>,
}

impl State {
    /// The state of an empty log.
    pub fn empty() -> Self {
        Self {
            token: Token::START,
            digest: Digest::ZERO,
            plans: BTreeMap::new(),
            keys: Arc::default(),
            snapshot: Arc::new(Snapshot::empty()),
        }
    }

    /// The token of the newest record.
    pub const fn token(&self) -> Token {
        self.token
    }

    /// The digest of the newest record: the parent of the next.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What planes render.
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The plan of this name.
    pub fn plan(&self, name: &PlanName) -> Option<&Arc<PlanState>> {
        self.plans.get(name)
    }

    /// All plans, sorted by name.
    pub fn plans(&self) -> impl Iterator<Item = (&PlanName, &Arc<PlanState>)> {
        self.plans.iter()
    }
}

/// Where one plan is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanState {
    /// What the operator wants.
    pub spec: Arc<Plan>,
    /// Where the plan is.
    pub mode: Mode,
    /// The revision of the last command or automation on it.
    pub revision: u64,
    /// When that was.
    pub changed: Timestamp,
    /// The token of the record that last changed what planes render of it: the plan is converged
    /// when every sink has applied everything up to here.
    pub rendered: Token,
    /// When the log last changed whether names of this plan have the shifting TTL.
    pub moving_since: Timestamp,
    /// Restored from a backup: nothing moves until an operator acts.
    pub restored: bool,
    /// The names have left (a retired plan).
    pub released: bool,
    /// Who approved which gate.
    pub approvals: BTreeMap<GateName, BTreeSet<Actor>>,
    /// Each service of the spec.
    pub services: BTreeMap<ServiceName, Arc<ServiceState>>,
}

impl PlanState {
    /// The highest split of its services.
    pub fn highest(&self) -> Split {
        self.services.values().map(|service| service.split).max().unwrap_or_default()
    }

    /// Whether every service is at this split.
    pub fn all_at(&self, split: Split) -> bool {
        self.services.values().all(|service| service.split == split)
    }

    /// Whether its names have the shifting TTL: from `start` or the first shift until complete.
    pub const fn is_shifting(&self) -> bool {
        self.mode.is_shifting()
    }
}

/// Where one service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// The share of clients on target.
    pub split: Split,
    /// The VMs.
    pub legacy: SideState,
    /// The cluster.
    pub target: SideState,
}

/// One side of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideState {
    /// Those of its endpoints that fail.
    pub failing: BTreeSet<Endpoint>,
    /// Those that count.
    pub pool: Pool,
}

/// Where a plan is. Only what a record can say: phases that depend on acks are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Not started; every service at 0.
    Ready,
    /// It takes its steps by itself.
    Running(Run),
    /// An operator moved it by hand. Shown as `paused`.
    Manual,
    /// Its timers stand still; `resume` goes on with the run.
    Paused(Run),
    /// It went back a step by itself and waits. Shown as `held`, reason `expired`.
    Expired(Run),
    /// Everyone was taken back.
    RolledBack,
    /// The last step's bake is over.
    Complete,
    /// Ended by an operator.
    Retired,
}

impl Mode {
    /// Whether names of a plan in this mode have the shifting TTL.
    pub const fn is_shifting(&self) -> bool {
        match self {
            Self::Ready | Self::Complete | Self::Retired => false,
            Self::Running(_)
            | Self::Manual
            | Self::Paused(_)
            | Self::Expired(_)
            | Self::RolledBack => true,
        }
    }

    /// The word for it in messages.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running(_) => "running",
            Self::Manual | Self::Paused(_) => "paused",
            Self::Expired(_) => "held (expired)",
            Self::RolledBack => "rolled-back",
            Self::Complete => "complete",
            Self::Retired => "retired",
        }
    }
}

/// How far a running plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// How many steps are taken; 0 is before the first. `spec.steps[step - 1]` is the present one.
    pub step: u16,
    /// What comes next.
    pub stage: Stage,
    /// When this stage began: `expires` counts from here.
    pub entered: Timestamp,
}

/// What a running plan waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// On to the next step as soon as the limits allow: after `start`, and after `resume` from
    /// manual.
    Onward,
    /// The present step's bake, then on.
    Bake,
}
