//! The phase shown: the stored mode and the facts of the moment.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a plan does, in a word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not started; everyone on legacy.
    Ready,
    /// What is committed is on its way to the sinks, or the next move is due at once.
    Shifting,
    /// The step has arrived and must stay so for a while.
    Baking,
    /// Nothing moves until an operator acts.
    Paused,
    /// The plan would move, and something that time alone does not clear keeps it.
    Held,
    /// Everyone was taken back.
    RolledBack,
    /// The last step's bake is over.
    Complete,
    /// Ended by an operator.
    Retired,
}

impl Phase {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Shifting => "shifting",
            Self::Baking => "baking",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::RolledBack => "rolled-back",
            Self::Complete => "complete",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the facts say of a plan, in a word: all of them that the phase depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Progress {
    /// Something that is not mere lag keeps it: no sink, one that is away or refused, a side without a
    /// healthy endpoint, the reconnect window, old TTLs.
    Stuck,
    /// Sinks have not applied everything yet.
    Lagging,
    /// Everything has arrived; the bake runs.
    Baking,
    /// The bake is over; a gate or a limit keeps the plan.
    Limited,
    /// Nothing keeps it.
    Free,
}
