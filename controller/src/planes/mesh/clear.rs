//! Plans whose `mtls` is not in force, as this controller gives machines no identities: told in the
//! log.

use std::collections::BTreeSet;

use plan::PlanName;
use plan::snapshot::Snapshot;

/// Tells of those that were not there before.
pub(super) fn tell(before: &Snapshot, now: &Snapshot) {
    for plan in with_mtls(now).difference(&with_mtls(before)) {
        tracing::warn!(
            %plan,
            "mtls is not in force: machines get no identities here, so proxies of VMs reach the \
             target in the clear; crossfade serve --xds-identities gives them"
        );
    }
}

fn with_mtls(snapshot: &Snapshot) -> BTreeSet<&PlanName> {
    let leaves = snapshot.services.iter();
    let with = leaves.filter(|leaf| leaf.gateways.iter().any(|gateway| !gateway.mtls.is_empty()));
    with.map(|leaf| &leaf.id.plan).collect()
}
