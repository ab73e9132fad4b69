//! What agents on hosts follow: one [`HostTable`] for each plan that concerns a host.
//!
//! One resource for each plan, so that a table that a host refuses holds that plan alone, and a
//! rollback of another goes through. Hosts that everything concerns share a scope, so that a change
//! is encoded once for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::{PlanName, ServiceId, Snapshot, Token};

use super::{HostTable, waiting};
use crate::name::{Name, Scope, TypeUrl};
use crate::table::{Change, Edit, Encoded};
use crate::version::Version;

/// Which services concern a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// All of them.
    All,
    /// These.
    Only(Arc<BTreeSet<ServiceId>>),
}

impl Concern {
    /// Whether this service concerns the host.
    pub fn has(&self, id: &ServiceId) -> bool {
        match self {
            Self::All => true,
            Self::Only(services) => services.contains(id),
        }
    }

    /// The scope of the tables of this host.
    pub fn scope(&self, host: &str) -> Scope {
        match self {
            Self::All => "hosts".into(),
            Self::Only(_) => format!("host/{host}").as_str().into(),
        }
    }
}

/// What [`host_tables`] made so far.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    views: BTreeMap<Scope, Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    concern: Concern,
    /// The plans that were put, with their token then.
    plans: BTreeMap<PlanName, Token>,
    partial: bool,
}

/// The edits that lead from what `before` says to this snapshot, for each scope that any host
/// sees. Plans that came up from a backup and that no operator has acted on are not touched.
///
/// Costs O(plans) for each scope, and O(services) for plans that changed.
pub fn host_tables(
    snapshot: &Snapshot,
    wanted: &BTreeMap<Scope, Concern>,
    before: &Hosts,
) -> (Hosts, Vec<Edit>) {
    let mut edits = Vec::new();
    let mut views = BTreeMap::new();
    for (scope, concern) in wanted {
        let seen = before.views.get(scope);
        views.insert(scope.clone(), view(snapshot, scope, concern, seen, &mut edits));
    }
    for scope in before.views.keys().filter(|scope| !wanted.contains_key(*scope)) {
        edits.push(edit(scope, Change::Withdraw));
    }
    (Hosts { views }, edits)
}

fn view(
    snapshot: &Snapshot,
    scope: &Scope,
    concern: &Concern,
    seen: Option<&Seen>,
    edits: &mut Vec<Edit>,
) -> Seen {
    let nothing = BTreeMap::new();
    let old = seen.map_or(&nothing, |seen| &seen.plans);
    let waiting = waiting(snapshot, |plan| old.contains_key(plan));
    if seen.is_none() {
        edits.push(edit(scope, Change::Declare));
    }
    let partial = !waiting.is_empty();
    if seen.map_or(partial, |seen| seen.partial != partial) {
        edits.push(edit(scope, Change::Partial(partial)));
    }
    let same_concern = seen.is_some_and(|seen| seen.concern == *concern);
    let mut plans = BTreeMap::new();
    for (plan, since) in snapshot.plans.iter().filter(|(plan, _)| !waiting.contains(plan)) {
        let unchanged = same_concern && old.get(plan) == Some(since);
        if unchanged || put(snapshot, scope, concern, (plan, *since), edits) {
            plans.insert(plan.clone(), *since);
        }
    }
    for plan in old.keys().filter(|plan| !plans.contains_key(*plan)) {
        edits.push(edit(scope, Change::Remove(Name::new(plan.as_str()))));
    }
    Seen { concern: concern.clone(), plans, partial }
}

/// Puts the table of a plan, where any of it concerns these hosts; whether it did.
fn put(
    snapshot: &Snapshot,
    scope: &Scope,
    concern: &Concern,
    (plan, since): (&PlanName, Token),
    edits: &mut Vec<Edit>,
) -> bool {
    let from = snapshot.services.partition_point(|leaf| leaf.id.plan < *plan);
    let to = snapshot.services.partition_point(|leaf| leaf.id.plan <= *plan);
    let leaves = snapshot.services.get(from..to).unwrap_or_default();
    let services: Vec<_> = leaves.iter().filter(|leaf| concern.has(&leaf.id)).cloned().collect();
    if services.is_empty() {
        return false;
    }
    let table = HostTable { services };
    let body = table.encode();
    let version = Version::of(since, &body);
    let type_url = TypeUrl::from(TypeUrl::HOST_TABLE);
    let encoded = Arc::new(Encoded::new(&type_url, Name::new(plan.as_str()), version, &body));
    let change = Change::Put { encoded, plans: Arc::new([plan.clone()]), needs: Arc::new([]) };
    edits.push(Edit { scope: scope.clone(), type_url, change });
    true
}

fn edit(scope: &Scope, change: Change) -> Edit {
    Edit { scope: scope.clone(), type_url: TypeUrl::HOST_TABLE.into(), change }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_share_what_concerns_all_and_see_nothing_else() {
        let snapshot = plan::fixture::snapshot(plan::fixture::SHOP, plan::Split::LEGACY);
        let leaf = snapshot.services.first().unwrap();
        let one = Concern::Only(Arc::new([leaf.id.clone()].into()));
        let none = Concern::Only(Arc::new(BTreeSet::new()));
        let wanted: BTreeMap<_, _> =
            [("a", Concern::All), ("b", one), ("c", none), ("d", Concern::All)]
                .into_iter()
                .map(|(host, concern)| (concern.scope(host), concern))
                .collect();
        assert_eq!(wanted.len(), 3, "those that all concerns share a scope");
        let (hosts, edits) = host_tables(&snapshot, &wanted, &Hosts::default());
        let puts = |edits: &[Edit], scope: &str| {
            let of_scope = edits.iter().filter(|edit| edit.scope == Scope::from(scope));
            of_scope.filter(|edit| matches!(edit.change, Change::Put { .. })).count()
        };
        assert_eq!(
            [puts(&edits, "hosts"), puts(&edits, "host/b"), puts(&edits, "host/c")],
            [snapshot.plans.len(), 1, 0]
        );
        let declared = edits.iter().filter(|edit| matches!(edit.change, Change::Declare));
        assert_eq!(declared.count(), 3, "an empty table is there too");
        let (hosts, edits) = host_tables(&snapshot, &wanted, &hosts);
        assert!(edits.is_empty(), "nothing changed: {edits:?}");
        let (_, edits) = host_tables(&Snapshot::empty(), &wanted, &hosts);
        let removed = edits.iter().filter(|edit| matches!(edit.change, Change::Remove(_)));
        assert_eq!(removed.count(), snapshot.plans.len() + 1);
    }
}
