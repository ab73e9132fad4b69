//! What traffic and the proxies that carry it say of a plan: whether it may rise.

use std::sync::Arc;

use super::Facts;
use crate::ledger::Sink;
use crate::measure::{Contradiction, contradiction};
use crate::name::ServiceName;
use crate::spec::{Affinity, Plane};
use crate::state::PlanState;

/// The services of this plan whose traffic contradicts it, though everything has arrived where it
/// was measured. Only plane mesh counts requests since they were sent by the present split; caches
/// make answers of dns come back late.
pub(crate) fn contradictions<'a>(
    plan: &'a PlanState,
    facts: &'a Facts,
) -> impl Iterator<Item = (Plane, &'a ServiceName, Contradiction)> {
    let plane = Plane::Mesh;
    let name = &plan.spec.name;
    let counts = facts.measured.of_plan(plane, name);
    let arrived = plan.spec.uses(plane)
        && !plan.released
        && facts.ledger.converged_in(plane, name, plan.rendered);
    counts.filter(move |_| arrived).filter_map(move |(service, count)| {
        let (name, there) = plan.services.get_key_value(service)?;
        let affinity = &plan.spec.service(name)?.affinity;
        Some((plane, name, contradiction(count, there.split, affinity)?))
    })
}

/// The first proxy that cannot keep clients on their side, where this plan says that they keep it,
/// and how many others cannot.
pub(crate) fn unsticky<'a>(
    plan: &'a PlanState,
    facts: &'a Facts,
) -> Option<(&'a Arc<Sink>, usize)> {
    let sticky = |affinity: &Affinity| *affinity != Affinity::None;
    let asks = || plan.spec.services.iter().any(|service| sticky(&service.affinity));
    if !plan.spec.uses(Plane::Mesh) || !asks() {
        return None;
    }
    let found = facts.ledger.unsticky(&plan.spec.name);
    found.first().map(|first| (*first, found.len() - 1))
}
