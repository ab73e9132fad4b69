//! The ledger: what each plane says of itself, and what it adds up to.

mod index;
mod trail;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::index::Index;
pub use self::trail::Trail;
use crate::name::{PlanName, ServiceId};
use crate::snapshot::Snapshot;
use crate::spec::{Plan, Plane};
use crate::split::Split;
use crate::time::Timestamp;
use crate::token::Token;

/// The sum of standings.
///
/// Cheap to clone: everything large in it is shared. What it says of a plan costs as much as there
/// are sinks that keep the plan, however many others there are.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    planes: BTreeMap<Plane, BTreeMap<Source, Arc<Held>>>,
    trail: Trail,
}

/// Who speaks for receivers of a plane. One plane may have several: dns answers in the controller's
/// own process, and at replicas that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The plane itself.
    Plane,
    /// Those that follow snapshots over the network, in a plane that has receivers in the
    /// controller's own process too.
    Followers,
}

/// What a plane says of itself: "processed through this token; these sinks still owe these plans".
///
/// A sink that owes no plan anything has applied everything up to `through`, whatever its `acked`
/// says: a revision that is nothing to it needs no word from it, nor a new [`Sink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Every snapshot up to this one was taken up: what the sinks owe is complete up to here.
    pub through: Token,
    /// All expected sinks, sorted by id, none twice. Those that did not change are the same `Arc`
    /// as in the standing before.
    pub sinks: Arc<[Arc<Sink>]>,
}

/// A standing with its index.
#[derive(Clone, Debug)]
struct Held {
    standing: Standing,
    index: Index,
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
    /// The newest token up to which it said that it has applied everything. Where it owes nothing
    /// it has more: what its standing is through, see [`Sink::has`].
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
        self.set_from(plane, Source::Plane, standing);
    }

    /// Takes what one of several says of a plane, in place of what it said before. The plane is
    /// through what all of them are through, and has the sinks of all of them; no sink is in two.
    ///
    /// Compares a pointer for each sink; what else it costs depends on those that changed.
    pub fn set_from(&mut self, plane: Plane, source: Source, standing: Standing) {
        let nothing = || Standing { through: Token::NEVER, sinks: Arc::new([]) };
        let held = self.planes.entry(plane).or_default().entry(source);
        let held =
            held.or_insert_with(|| Arc::new(Held { standing: nothing(), index: Index::default() }));
        let held = Arc::make_mut(held);
        held.index.replace(&held.standing.sinks, &standing.sinks);
        held.standing = standing;
    }

    /// Notes the splits of a snapshot, so that [`Ledger::acked`] knows what a sink holds that is
    /// behind. Called with every snapshot that is published, in order; O(changed leaves) beside one
    /// comparison of pointers for each service.
    pub fn committed(&mut self, snapshot: &Arc<Snapshot>) {
        self.trail.committed(snapshot);
    }

    fn held(&self, plane: Plane) -> impl Iterator<Item = &Held> {
        self.planes.get(&plane).into_iter().flat_map(BTreeMap::values).map(|held| &**held)
    }

    /// Up to which token this plane has taken everything up; `None`: nobody speaks for it.
    pub fn through(&self, plane: Plane) -> Option<Token> {
        self.held(plane).map(|held| held.standing.through).min()
    }

    /// All expected sinks of all planes, each with the token up to which it has applied everything:
    /// its own, or that of its standing where it owes nothing.
    pub fn sinks(&self) -> impl Iterator<Item = (&Arc<Sink>, Token)> {
        let held = self.planes.values().flat_map(BTreeMap::values);
        held.flat_map(|held| {
            let through = held.standing.through;
            held.standing.sinks.iter().map(move |sink| (sink, sink.has(through)))
        })
    }

    /// The sinks of this plane that `plan` expects. Asks every sink; for lists.
    pub fn expected(&self, plane: Plane, plan: &PlanName) -> impl Iterator<Item = &Arc<Sink>> {
        let sinks = self.held(plane).flat_map(|held| held.standing.sinks.iter());
        sinks.filter(move |sink| sink.expected_by(plan))
    }

    /// How many sinks of this plane `plan` expects.
    pub fn expected_count(&self, plane: Plane, plan: &PlanName) -> usize {
        self.held(plane).map(|held| held.index.expected(plan)).sum()
    }

    /// The sinks of this plane that keep `plan`, sorted by id: they are away, owe it something, or
    /// refused something of it.
    pub fn late(&self, plane: Plane, plan: &PlanName) -> Vec<&Arc<Sink>> {
        let mut late: Vec<_> = self.held(plane).flat_map(|held| held.index.late(plan)).collect();
        late.sort_by(|a, b| a.id.cmp(&b.id));
        late
    }

    /// The sinks that `plan` expects and that cannot keep a client on its side, sorted by id: they
    /// draw one for every request.
    pub fn unsticky(&self, plan: &PlanName) -> Vec<&Arc<Sink>> {
        let held = Plane::ALL.into_iter().flat_map(|plane| self.held(plane));
        let mut found: Vec<_> = held.flat_map(|held| held.index.unsticky(plan)).collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }

    /// Whether everything of this plan up to `t` has arrived: in every plane that the plan uses,
    /// the standing is through `t`, and there is a sink, and each that the plan expects is there,
    /// owes the plan nothing and has refused nothing of it.
    pub fn converged(&self, plan: &Plan, t: Token) -> bool {
        let used = Plane::ALL.into_iter().filter(|plane| plan.uses(*plane));
        used.into_iter().all(|plane| self.converged_in(plane, &plan.name, t))
    }

    /// Whether everything of this plan up to `t` has arrived in one plane.
    pub fn converged_in(&self, plane: Plane, plan: &PlanName, t: Token) -> bool {
        self.through(plane).is_some_and(|through| through >= t)
            && self.held(plane).any(|held| held.index.expected(plan) > 0)
            && !self.held(plane).any(|held| held.index.is_kept(plan))
    }

    /// The split of this service at the expected sink that is farthest from `snapshot`'s.
    ///
    /// `None` where the plane has no sink, or where a sink is so far behind that what it holds is
    /// not known any more.
    pub fn acked(&self, plane: Plane, service: &ServiceId, snapshot: &Snapshot) -> Option<Split> {
        let leaf = snapshot.service(service)?;
        let intended = leaf.serving.split();
        let mut farthest: Option<Split> = None;
        let mut take = |split: Split| {
            let so_far = farthest.map_or(0, |farthest| farthest.distance(intended));
            if farthest.is_none() || split.distance(intended) > so_far {
                farthest = Some(split);
            }
        };
        for held in self.held(plane) {
            let through = held.standing.through;
            let (tokens, some_owe_nothing) = held.index.have(&service.plan);
            for token in tokens {
                take(self.trail.split_at(service, token.min(through))?);
            }
            if some_owe_nothing && through >= leaf.since {
                take(intended);
            } else if some_owe_nothing {
                take(self.trail.split_at(service, through)?);
            }
        }
        farthest
    }
}

impl Sink {
    /// Whether `plan` waits for this sink. One that refuses something of it is meant to have it,
    /// though it may never have acked anything of it.
    pub fn expected_by(&self, plan: &PlanName) -> bool {
        self.plans.as_ref().is_none_or(|plans| plans.contains(plan)) || self.refused(plan).is_some()
    }

    /// The plans that expect it by name, each once.
    fn named(&self) -> impl Iterator<Item = &PlanName> {
        let refused = self.nack.iter().flat_map(|nack| &nack.plans);
        let plans = self.plans.iter().flatten();
        plans.chain(
            refused.filter(|plan| self.plans.as_ref().is_some_and(|its| !its.contains(*plan))),
        )
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

    /// The token up to which it has applied everything, in a plane that is through `through`.
    pub fn has(&self, through: Token) -> Token {
        if self.owes.is_empty() && self.nack.is_none() {
            return self.acked.max(through);
        }
        self.acked
    }

    /// Whether it draws a side for every request where the plan says that clients keep theirs: an
    /// Envoy before 1.36, which ignores `use_hash_policy` of weighted clusters. One whose version
    /// is not known is taken for one that can.
    pub fn draws_anew(&self) -> bool {
        let version = || version(self.version.as_deref()?);
        self.plane == Plane::Mesh
            && self.kind == "envoy"
            && version().is_some_and(|version| version < STICKY_FROM)
    }

    /// The plans that it owes something or refused something of; some may come twice.
    fn concerns(&self) -> impl Iterator<Item = &PlanName> {
        let refused = self.nack.iter().flat_map(|nack| &nack.plans);
        self.owes.iter().chain(refused)
    }

    fn holds_all(&self, plan: &PlanName) -> bool {
        !self.owes(plan) && !self.is_away() && self.refused(plan).is_none()
    }
}

/// The first Envoy that keeps clients by `use_hash_policy` of weighted clusters: major and minor.
const STICKY_FROM: (u32, u32) = (1, 36);

/// Major and minor of the first thing in a text that looks like a version: `1.35.2`,
/// `envoy 1.35.2`, `<commit>/1.35.2/Clean/RELEASE/BoringSSL`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut runs = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    runs.find_map(|run| {
        let mut parts = run.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    })
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
mod plain;
#[cfg(test)]
mod tests;
