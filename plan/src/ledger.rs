//! The ledger: what each plane says of itself, and what it adds up to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::PlanName;
use crate::spec::Plane;
use crate::time::Timestamp;
use crate::token::Token;

/// The sum of standings.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(crate) planes: BTreeMap<Plane, Standing>,
}

/// What a plane says of itself: "processed through this token; these sinks still owe these plans".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Every snapshot up to this one was taken up: what the sinks owe is complete up to here.
    pub through: Token,
    /// All expected sinks, sorted by id.
    pub sinks: Arc<[Arc<Sink>]>,
}

/// One receiver in a plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sink {
    /// Who it is, unique over all planes: `dns/local`.
    pub id: SinkId,
    /// The plane it is in.
    pub plane: Plane,
    /// What it is: `dns`, `envoy`, `agent`.
    pub kind: String,
    /// What it says of its version.
    pub version: Option<String>,
    /// Since when it is connected; `None` while it is away.
    pub since: Option<Timestamp>,
    /// The newest token it has applied.
    pub acked: Token,
    /// The plans of which it has not yet applied everything up to the standing's `through`.
    pub owes: BTreeSet<PlanName>,
    /// Its last refusal, until it acks something newer.
    pub nack: Option<Nack>,
}

/// A sink's refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nack {
    /// What it refused.
    pub token: Token,
    /// The plans whose resources it refused.
    pub plans: BTreeSet<PlanName>,
    /// Its own words.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// The name of a sink.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct SinkId(Arc<str>);

impl SinkId {
    /// A sink by name.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
