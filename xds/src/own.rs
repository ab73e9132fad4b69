//! Resources of our own: leaves of a snapshot to tables that receivers apply as a whole, and back.
//!
//! Pure. What is decoded has been checked: no unknown enum, no split over 10 000, no side without
//! endpoints, nothing that asks for rules we do not know. Messages are in
//! `proto/proto/crossfade/v1`.

mod decode;
mod encode;
mod hosts;
mod revocations;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::snapshot::{Motion, Service, Zone};
use plan::{Digest, PlanName, Snapshot, Token, ZoneName};
use prost::Message as _;

pub use self::decode::{REQUIRES, Reject};
pub use self::hosts::{Concern, Hosts, host_tables};
pub(crate) use self::revocations::REVOKED;
pub use self::revocations::Revocations;
use crate::name::{Name, TypeUrl};
use crate::table::{Change, Edit, Encoded};
use crate::version::Version;

/// The scope that DNS replicas see.
pub const SCOPE: &str = "dns";

/// The names of one plan, as a replica answers them. Sorted lists, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneTable {
    /// The plan.
    pub plan: PlanName,
    /// Its leaves.
    pub services: Vec<Arc<Service>>,
    /// The zones that it owns.
    pub zones: Vec<Arc<Zone>>,
}

/// The text of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneText {
    /// Its origin.
    pub name: ZoneName,
    /// SHA-256 of the text; checked.
    pub digest: Digest,
    /// Master file format (RFC 1035 section 5).
    pub text: Arc<str>,
}

/// What a VM's agent renders: of one plan on the wire, of all of them once put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTable {
    /// The leaves that concern it, of all plans, sorted by id.
    pub services: Vec<Arc<Service>>,
}

impl ZoneTable {
    /// What stands on the wire.
    pub fn encode(&self) -> Vec<u8> {
        encode::zone_table(&self.plan, &self.services, &self.zones).encode_to_vec()
    }

    /// Reads and checks.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn decode(body: &[u8]) -> Result<Self, Reject> {
        decode::zone_table(body)
    }

    /// The same with the leaves of `before` where they are equal, so that whoever compares pointers
    /// sees what changed.
    #[must_use]
    pub fn reusing(mut self, before: &Self) -> Self {
        for leaf in &mut self.services {
            let old = before.services.binary_search_by(|old| old.id.cmp(&leaf.id)).ok();
            if let Some(old) = old.and_then(|at| before.services.get(at)).filter(|old| *old == leaf)
            {
                *leaf = Arc::clone(old);
            }
        }
        for leaf in &mut self.zones {
            if let Some(old) = before.zones.iter().find(|old| *old == leaf) {
                *leaf = Arc::clone(old);
            }
        }
        self
    }
}

impl ZoneText {
    /// What stands on the wire.
    pub fn encode(&self) -> Vec<u8> {
        encode::zone(&self.name, self.digest, &self.text).encode_to_vec()
    }

    /// Reads and checks; the digest is that of the text.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn decode(body: &[u8]) -> Result<Self, Reject> {
        decode::zone(body)
    }
}

impl HostTable {
    /// What stands on the wire.
    pub fn encode(&self) -> Vec<u8> {
        encode::host_table(&self.services).encode_to_vec()
    }

    /// Reads and checks.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn decode(body: &[u8]) -> Result<Self, Reject> {
        decode::host_table(body)
    }
}

/// What [`tables`] made so far, to find what changed.
#[derive(Clone, Debug, Default)]
pub struct Own {
    plans: Arc<[(PlanName, Token)]>,
    /// Of every zone with a text that was put: its leaf.
    zones: BTreeMap<ZoneName, Arc<Zone>>,
    missing: Vec<Digest>,
    declared: bool,
    /// Plans wait for an operator after a restore, and nothing of them is in the tables.
    partial: bool,
}

impl Own {
    /// Zone texts that were not to be had: their zones stay as they were until the next call has
    /// them.
    pub fn missing(&self) -> &[Digest] {
        &self.missing
    }
}

/// The edits to [`SCOPE`] that lead from what `before` says to this snapshot: a [`ZoneTable`] for
/// each plan and a [`ZoneText`] for each zone that has a text. `text` gives a text by its digest.
///
/// Texts come before tables, so that a receiver has the text when the table names it.
///
/// Costs O(changed) beside comparisons of each plan's token and each zone's pointer.
pub fn tables(
    snapshot: &Snapshot,
    text: &mut dyn FnMut(&Digest) -> Option<Arc<str>>,
    before: &Own,
) -> (Own, Vec<Edit>) {
    let mut edits = Vec::new();
    let known = |plan: &PlanName| before.plans.iter().any(|(name, _)| name == plan);
    let waiting = waiting(snapshot, known);
    let say = |change: Change| {
        [TypeUrl::ZONE, TypeUrl::ZONE_TABLE].map(|type_url| Edit {
            scope: SCOPE.into(),
            type_url: type_url.into(),
            change: change.clone(),
        })
    };
    if !before.declared {
        edits.extend(say(Change::Declare));
    }
    if before.partial == waiting.is_empty() {
        edits.extend(say(Change::Partial(!waiting.is_empty())));
    }
    let (zones, missing) = zone_edits(snapshot, text, before, &waiting, &mut edits);
    let plans = plan_edits(snapshot, before, &waiting, &mut edits);
    (Own { plans, zones, missing, declared: true, partial: !waiting.is_empty() }, edits)
}

/// The plans that came up from a backup, that no operator has acted on, and that nothing was
/// rendered of: receivers keep what they have of them.
fn waiting(snapshot: &Snapshot, known: impl Fn(&PlanName) -> bool) -> BTreeSet<PlanName> {
    let restored = snapshot.services.iter().filter(|leaf| leaf.motion == Motion::Restored);
    let plans: BTreeSet<&PlanName> = restored.map(|leaf| &leaf.id.plan).collect();
    plans.into_iter().filter(|plan| !known(plan)).cloned().collect()
}

fn zone_edits(
    snapshot: &Snapshot,
    text: &mut dyn FnMut(&Digest) -> Option<Arc<str>>,
    before: &Own,
    waiting: &BTreeSet<PlanName>,
    edits: &mut Vec<Edit>,
) -> (BTreeMap<ZoneName, Arc<Zone>>, Vec<Digest>) {
    let type_url = TypeUrl::from(TypeUrl::ZONE);
    let (mut zones, mut missing) = (BTreeMap::new(), Vec::new());
    for leaf in snapshot.zones.iter().filter(|leaf| !waiting.contains(&leaf.plan)) {
        let Some(digest) = leaf.text else { continue };
        let old = before.zones.get(&leaf.name);
        if let Some(old) = old.filter(|old| Arc::ptr_eq(old, leaf)) {
            zones.insert(leaf.name.clone(), Arc::clone(old));
            continue;
        }
        let Some(text) = text(&digest) else {
            missing.push(digest);
            // What was served of this zone goes on being served.
            zones.extend(old.map(|old| (leaf.name.clone(), Arc::clone(old))));
            continue;
        };
        let body = encode::zone(&leaf.name, digest, &text).encode_to_vec();
        edits.push(put(&type_url, leaf.name.as_str(), leaf.since, &leaf.plan, &body));
        zones.insert(leaf.name.clone(), Arc::clone(leaf));
    }
    let gone = before.zones.keys().filter(|name| !zones.contains_key(*name));
    edits.extend(gone.map(|name| remove(&type_url, name.as_str())));
    (zones, missing)
}

fn plan_edits(
    snapshot: &Snapshot,
    before: &Own,
    waiting: &BTreeSet<PlanName>,
    edits: &mut Vec<Edit>,
) -> Arc<[(PlanName, Token)]> {
    let type_url = TypeUrl::from(TypeUrl::ZONE_TABLE);
    let mut old = before.plans.iter().peekable();
    let mut gone = Vec::new();
    for (plan, since) in snapshot.plans.iter().filter(|(plan, _)| !waiting.contains(plan)) {
        while let Some((name, _)) = old.next_if(|(name, _)| name < plan) {
            gone.push(remove(&type_url, name.as_str()));
        }
        if old.next_if(|(name, _)| name == plan).is_some_and(|(_, was)| was == since) {
            continue;
        }
        let from = snapshot.services.partition_point(|service| service.id.plan < *plan);
        let to = snapshot.services.partition_point(|service| service.id.plan <= *plan);
        let services = snapshot.services.get(from..to).unwrap_or_default();
        let zones: Vec<Arc<Zone>> =
            snapshot.zones.iter().filter(|zone| zone.plan == *plan).cloned().collect();
        let body = encode::zone_table(plan, services, &zones).encode_to_vec();
        edits.push(put(&type_url, plan.as_str(), *since, plan, &body));
    }
    edits.extend(gone);
    edits.extend(old.map(|(name, _)| remove(&type_url, name.as_str())));
    if waiting.is_empty() {
        return Arc::clone(&snapshot.plans);
    }
    snapshot.plans.iter().filter(|(plan, _)| !waiting.contains(plan)).cloned().collect()
}

fn put(type_url: &TypeUrl, name: &str, since: Token, plan: &PlanName, body: &[u8]) -> Edit {
    let version = Version::of(since, body);
    let encoded = Arc::new(Encoded::new(type_url, Name::new(name), version, body));
    let change = Change::Put { encoded, plans: Arc::new([plan.clone()]), needs: Arc::new([]) };
    Edit { scope: SCOPE.into(), type_url: type_url.clone(), change }
}

fn remove(type_url: &TypeUrl, name: &str) -> Edit {
    let change = Change::Remove(Name::new(name));
    Edit { scope: SCOPE.into(), type_url: type_url.clone(), change }
}
