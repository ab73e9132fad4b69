//! Gates: whether a condition passed, and what says so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Actor;
use crate::name::GateName;

/// What a gate says now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Which gate.
    pub gate: GateName,
    /// What it says.
    pub outcome: Outcome,
    /// Who has approved, sorted.
    pub approved: Vec<Actor>,
    /// How many more must approve.
    pub missing: u32,
}

/// What a gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The plan may move on.
    Pass,
    /// Not yet.
    Hold,
    /// It must not.
    Fail,
}
