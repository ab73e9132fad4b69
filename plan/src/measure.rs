//! What traffic really did.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// A measured share with its 95 % interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// What was counted.
    pub basis: Basis,
    /// The share on target.
    pub bp: u16,
    /// The lower end of the interval.
    pub low_bp: u16,
    /// The upper end of the interval.
    pub high_bp: u16,
    /// How many were counted: distinct client keys for `answers`.
    pub samples: u64,
    /// Distinct client keys seen.
    pub keys: u64,
    /// Answers, requests or connections in all.
    pub events: u64,
    /// The busiest key's share of all events.
    pub largest_key_bp: u16,
    /// How many equally busy keys would make shares as coarse as these: events² / Σ (a key's events)².
    pub effective_keys: u64,
    /// The standard deviation, at the intended split, of the share of events on target that comes of
    /// whole keys being on one side.
    pub expected_deviation_bp: u16,
}

/// What a share was counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// DNS answers, by distinct client keys.
    Answers,
    /// Requests.
    Requests,
    /// Connections.
    Connections,
}
