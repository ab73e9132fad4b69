//! The log as an audit trail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Actor;
use crate::name::PlanName;
use crate::time::Timestamp;

/// One record of the log: who, what, when, why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The incarnation of the log.
    pub incarnation: u32,
    /// The record's number.
    pub revision: u64,
    /// When, by the controller's wall clock.
    pub at: Timestamp,
    /// Who caused it.
    pub kind: EntryKind,
    /// Who asked; `null` for what nobody asked.
    pub actor: Option<Actor>,
    /// What: a command line without its program, or what was seen.
    pub what: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// What else it did: services taken along, limits overridden.
    pub notes: Vec<String>,
    /// The plans that it changed.
    pub plans: Vec<PlanName>,
    /// What it changed, a line each.
    pub changes: Vec<String>,
    /// The digest of the record, 64 hexadecimal digits.
    pub digest: String,
    /// The digest of the record before.
    pub parent: String,
}

/// What caused a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Somebody asked.
    Operator,
    /// A plan acted by itself.
    Automation,
    /// Endpoints or health changed.
    Observed,
    /// The log was restored from a backup.
    Restored,
}
