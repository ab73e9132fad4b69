//! The rules. All of them, and nowhere else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::measure::Measured;
use crate::name::HostName;
use crate::time::Timestamp;

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
