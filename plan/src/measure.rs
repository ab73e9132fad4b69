//! What traffic really did.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::name::ServiceId;
use crate::spec::Plane;
use crate::time::Timestamp;

/// What every plane counted.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Each plane's counts.
    pub planes: BTreeMap<Plane, Counts>,
}

/// What one plane counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Each service that anyone asked for.
    pub services: Arc<BTreeMap<ServiceId, Count>>,
}

/// What one plane counted for one service since its split last changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Distinct client keys that were sent to legacy (for dns), or requests, or connections.
    pub legacy: u64,
    /// The same for target.
    pub target: u64,
    /// Answers, requests or connections in all.
    pub events: u64,
    /// Distinct client keys seen.
    pub keys: u64,
    /// Events of the busiest key.
    pub largest: u64,
    /// Sum over keys of (events of the key)²; with `events` it gives the effective number of keys.
    pub squares: u128,
    /// When the last answer given under another split expires at the latest, if that is to come.
    pub old_until: Option<Timestamp>,
}
