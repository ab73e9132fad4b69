//! Why a plan does not move: typed reasons, each with the command that clears it.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gate::Verdict;
use crate::ledger::SinkId;
use crate::name::{PlanName, ServiceName};
use crate::spec::Plane;
use crate::split::{Side, Split};
use crate::time::Timestamp;
use crate::token::Token;

/// A hold as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldView {
    /// Why.
    pub reason: Reason,
    /// What exactly, in words.
    pub detail: String,
    /// The command that clears it; `null` where only time or a repair does.
    pub clear: Option<String>,
}

/// Why a plan does not move.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Restored from a backup; no operator has acted yet.
    Restored,
    /// Everyone was taken back.
    RolledBack,
    /// It went back a step by itself.
    Expired,
    /// An operator paused it.
    Paused,
    /// An operator moved it by hand.
    Manual,
    /// Not started.
    Ready,
    /// A plane that the plan uses has no sink.
    NoSink,
    /// A sink refused what it was sent.
    Nacked,
    /// A sink is not connected.
    Away,
    /// A sink has not applied everything yet.
    Lagging,
    /// Every endpoint of a side fails.
    Degraded,
    /// The controller started a moment ago; sinks are still coming back.
    Settling,
    /// Answers with the steady TTL are still out.
    TtlDraining,
    /// The step must stay converged and healthy for longer.
    Baking,
    /// A gate has not passed.
    Gate,
    /// A window in which nothing rises.
    Frozen,
    /// The next step is further than one revision may raise.
    MaxStep,
    /// A service would overtake one that it comes after.
    After,
}

/// One reason why a plan does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The plan.
    pub plan: PlanName,
    /// Why.
    pub why: Why,
}

/// What keeps a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Restored from a backup; no operator has acted yet.
    Restored,
    /// Everyone was taken back, at this revision.
    RolledBack {
        /// What `resume` must name.
        revision: u64,
    },
    /// Nobody moved on in time.
    Expired {
        /// When it went back.
        at: Timestamp,
    },
    /// An operator paused it.
    Paused {
        /// When.
        at: Timestamp,
    },
    /// An operator moved it by hand.
    Manual {
        /// When.
        at: Timestamp,
    },
    /// Not started.
    Ready,
    /// A plane that the plan uses has no sink.
    NoSink {
        /// Which.
        plane: Plane,
    },
    /// A sink refused what it was sent.
    Nacked {
        /// Which sink.
        sink: SinkId,
        /// What.
        token: Token,
        /// Its own words.
        detail: String,
        /// When.
        at: Timestamp,
    },
    /// A sink is not connected.
    Away {
        /// Which.
        sink: SinkId,
        /// Since when, where known.
        left: Option<Timestamp>,
    },
    /// Sinks have not applied everything yet.
    Lagging {
        /// What was committed.
        token: Token,
        /// When.
        at: Timestamp,
        /// Planes that have not taken it up.
        planes: Vec<Plane>,
        /// Sinks that have not applied it, with what they have.
        sinks: Vec<(SinkId, Token)>,
    },
    /// Every endpoint of a side fails; the last good set is kept.
    Degraded {
        /// Of which service.
        service: ServiceName,
        /// Which side.
        side: Side,
    },
    /// The controller started a moment ago.
    Settling {
        /// How long it still waits.
        left: Duration,
    },
    /// Answers with the steady TTL are still out.
    TtlDraining {
        /// How long they still are.
        left: Duration,
        /// Where the plan goes after.
        to: Split,
    },
    /// The step must stay converged and healthy for longer.
    Baking {
        /// How long.
        left: Duration,
    },
    /// A gate has not passed.
    Gate(Verdict),
    /// A window in which nothing rises.
    Frozen {
        /// When it ends.
        until: Timestamp,
    },
    /// The next step is further than one revision may raise.
    MaxStep {
        /// Which service.
        service: ServiceName,
        /// Where it is.
        from: Split,
        /// Where the step would take it.
        to: Split,
        /// The most that one revision may raise.
        most: Split,
    },
    /// A service would overtake one that it comes after.
    After {
        /// Which service.
        service: ServiceName,
        /// The one it comes after.
        first: ServiceName,
        /// The split of that one.
        split: Split,
    },
}

impl Hold {
    /// Why, in a word.
    pub const fn reason(&self) -> Reason {
        match &self.why {
            Why::Restored => Reason::Restored,
            Why::RolledBack { .. } => Reason::RolledBack,
            Why::Expired { .. } => Reason::Expired,
            Why::Paused { .. } => Reason::Paused,
            Why::Manual { .. } => Reason::Manual,
            Why::Ready => Reason::Ready,
            Why::NoSink { .. } => Reason::NoSink,
            Why::Nacked { .. } => Reason::Nacked,
            Why::Away { .. } => Reason::Away,
            Why::Lagging { .. } => Reason::Lagging,
            Why::Degraded { .. } => Reason::Degraded,
            Why::Settling { .. } => Reason::Settling,
            Why::TtlDraining { .. } => Reason::TtlDraining,
            Why::Baking { .. } => Reason::Baking,
            Why::Gate(_) => Reason::Gate,
            Why::Frozen { .. } => Reason::Frozen,
            Why::MaxStep { .. } => Reason::MaxStep,
            Why::After { .. } => Reason::After,
        }
    }
}

impl Reason {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::RolledBack => "rolled-back",
            Self::Expired => "expired",
            Self::Paused => "paused",
            Self::Manual => "manual",
            Self::Ready => "ready",
            Self::NoSink => "no-sink",
            Self::Nacked => "nacked",
            Self::Away => "away",
            Self::Lagging => "lagging",
            Self::Degraded => "degraded",
            Self::Settling => "settling",
            Self::TtlDraining => "ttl-draining",
            Self::Baking => "baking",
            Self::Gate => "gate",
            Self::Frozen => "frozen",
            Self::MaxStep => "max-step",
            Self::After => "after",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
