//! The ledger: what each plane says of itself, and what it adds up to.

mod trail;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::trail::Trail;
use crate::name::{PlanName, ServiceId};
use crate::snapshot::Snapshot;
use crate::spec::{Plan, Plane};
use crate::split::Split;
use crate::time::Timestamp;
use crate::token::Token;

/// The sum of standings.
///
/// Cheap to clone: everything large in it is shared.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(crate) planes: BTreeMap<Plane, Standing>,
    trail: Trail,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// The plans that expect it: those of which it ever acked anything. `None`: every plan that
    /// uses its plane, as for the DNS server in the controller's own process.
    pub plans: Option<BTreeSet<PlanName>>,
    /// Since when it is connected; `None` while it is away.
    pub since: Option<Timestamp>,
    /// Since when it is away, where known.
    pub left: Option<Timestamp>,
    /// The newest token up to which it has applied everything.
    pub acked: Token,
    /// The plans of which it has not yet applied everything up to the standing's `through`.
    pub owes: BTreeSet<PlanName>,
    /// Its last refusal, until it acks something newer.
    pub nack: Option<Nack>,
}

/// A sink's refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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

impl Ledger {
    /// Takes what a plane says of itself, in place of what it said before.
    ///
    /// A plane counts from when it is set; set one without sinks where nothing receives.
    pub fn set(&mut self, plane: Plane, standing: Standing) {
        self.planes.insert(plane, standing);
    }

    /// Notes the splits of a snapshot, so that [`Ledger::acked`] knows what a sink holds that is
    /// behind. Called with every snapshot that is published, in order; O(changed leaves) beside one
    /// comparison of pointers for each service.
    pub fn committed(&mut self, snapshot: &Arc<Snapshot>) {
        self.trail.committed(snapshot);
    }

    /// What this plane last said.
    pub fn standing(&self, plane: Plane) -> Option<&Standing> {
        self.planes.get(&plane)
    }

    /// All expected sinks of all planes.
    pub fn sinks(&self) -> impl Iterator<Item = &Arc<Sink>> {
        self.planes.values().flat_map(|standing| standing.sinks.iter())
    }

    /// The sinks of this plane that `plan` expects.
    pub fn expected(&self, plane: Plane, plan: &PlanName) -> impl Iterator<Item = &Arc<Sink>> {
        let sinks = self.standing(plane).map(|standing| standing.sinks.iter());
        sinks.into_iter().flatten().filter(move |sink| sink.expected_by(plan))
    }

    /// Whether everything of this plan up to `t` has arrived: in every plane that the plan uses,
    /// the standing is through `t`, and there is a sink, and each that the plan expects is there,
    /// owes the plan nothing and has refused nothing of it.
    pub fn converged(&self, plan: &Plan, t: Token) -> bool {
        let used = Plane::ALL.into_iter().filter(|plane| plan.uses(*plane));
        used.into_iter().all(|plane| self.plane_converged(plane, &plan.name, t))
    }

    fn plane_converged(&self, plane: Plane, plan: &PlanName, t: Token) -> bool {
        if self.standing(plane).is_none_or(|standing| standing.through < t) {
            return false;
        }
        let mut sinks = self.expected(plane, plan).peekable();
        sinks.peek().is_some() && sinks.all(|sink| sink.holds_all(plan))
    }

    /// The split of this service at the expected sink that is farthest from `snapshot`'s.
    ///
    /// `None` where the plane has no sink, or where a sink is so far behind that what it holds is
    /// not known any more.
    pub fn acked(&self, plane: Plane, service: &ServiceId, snapshot: &Snapshot) -> Option<Split> {
        let leaf = snapshot.service(service)?;
        let intended = leaf.serving.split();
        let through = self.standing(plane)?.through;
        let mut farthest: Option<Split> = None;
        for sink in self.expected(plane, &service.plan) {
            let held = if sink.owes(&service.plan) {
                self.trail.split_at(service, sink.acked.min(through))?
            } else if through >= leaf.since {
                intended
            } else {
                self.trail.split_at(service, through)?
            };
            let so_far = farthest.map_or(0, |split| split.distance(intended));
            if farthest.is_none() || held.distance(intended) > so_far {
                farthest = Some(held);
            }
        }
        farthest
    }
}

impl Sink {
    /// Whether `plan` waits for this sink.
    pub fn expected_by(&self, plan: &PlanName) -> bool {
        self.plans.as_ref().is_none_or(|plans| plans.contains(plan))
    }

    /// Whether it has not yet applied everything of `plan` up to the standing's `through`.
    pub fn owes(&self, plan: &PlanName) -> bool {
        self.owes.contains(plan)
    }

    /// Whether it is not connected.
    pub const fn is_away(&self) -> bool {
        self.since.is_none()
    }

    /// Its last refusal, if that was of something of `plan`.
    pub fn refused(&self, plan: &PlanName) -> Option<&Nack> {
        self.nack.as_ref().filter(|nack| nack.plans.contains(plan))
    }

    fn holds_all(&self, plan: &PlanName) -> bool {
        !self.owes(plan) && !self.is_away() && self.refused(plan).is_none()
    }
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

#[cfg(test)]
mod tests;
