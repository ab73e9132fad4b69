//! The rules. All of them, and nowhere else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::Cause;
use crate::ledger::Ledger;
use crate::measure::Measured;
use crate::name::{HostName, PlanName};
use crate::record::Record;
use crate::state::State;
use crate::time::Timestamp;
use crate::token::Token;

mod clear;
mod done;
mod refused;

pub use crate::decide::refused::{Change, Phase, Refused, RefusedKind, Verb};

/// What is known at the moment of a decision, beside the state.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The wall clock. Orders nothing; freezes and `expires` read it.
    pub now: Timestamp,
    /// How long this controller has run, on a clock that never jumps. Bakes count it.
    pub uptime: Duration,
    /// What sinks have applied.
    pub ledger: Ledger,
    /// What traffic did.
    pub measured: Measured,
    /// The addresses that zone texts hold at host names of plans, without the plan.
    pub zone_answers: BTreeMap<HostName, Vec<IpAddr>>,
}

/// What the rules say to a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// This record would make it so.
    Commit(Box<Record>),
    /// Nothing would change, or the idempotency key was used for the same ask before.
    Already(Done),
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// The record that did it; where nothing changed, the newest.
    pub token: Token,
    /// The plans it touched, with their revisions.
    pub plans: Vec<(PlanName, u64)>,
    /// Whether it made a record.
    pub changed: bool,
    /// Whether the same ask with the same idempotency key had done it before.
    pub repeated: bool,
    /// What else it did: services taken along, limits overridden.
    pub notes: Vec<String>,
}

impl State {
    /// The rules: the record that would make it so, or why not.
    ///
    /// # Errors
    /// The rules forbid it; nothing changes.
    pub fn decide(&self, _cause: &Cause, _facts: &Facts) -> Result<Decided, Refused> {
        Ok(Decided::Already(Done {
            token: self.token,
            plans: Vec::new(),
            changed: false,
            repeated: false,
            notes: Vec::new(),
        }))
    }
}
