//! Health: committed, numbered and rendered like commands, but no plan's revision moves.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use crate::command::Observation;
use crate::endpoint::Endpoint;
use crate::name::ServiceId;
use crate::record::Put;
use crate::split::Side;
use crate::state::{SideState, State, pool};

/// What is put, and a line for each. The last word on a side counts; unknown services and
/// endpoints are ignored.
pub(super) fn observe(state: &State, seen: &[Observation]) -> (Draft, Vec<String>) {
    let mut latest: BTreeMap<(&ServiceId, Side), &BTreeSet<Endpoint>> = BTreeMap::new();
    for Observation::Health { service, side, failing } in seen {
        latest.insert((service, *side), failing);
    }
    let (mut draft, mut what) = (Draft::default(), Vec::new());
    for ((id, side), failing) in latest {
        if let Some((put, line)) = health(state, id, side, failing) {
            draft.puts.push(put);
            what.push(line);
        }
    }
    (draft, what)
}

fn health(
    state: &State,
    id: &ServiceId,
    side: Side,
    failing: &BTreeSet<Endpoint>,
) -> Option<(Put, String)> {
    let spec = &state.snapshot.service(id)?.spec;
    let service = state.plans.get(&id.plan)?.services.get(&id.service)?;
    let (endpoints, before) = match side {
        Side::Legacy => (&spec.legacy, &service.legacy),
        Side::Target => (&spec.target, &service.target),
    };
    let known = |endpoint: &&Endpoint| failing.contains(endpoint);
    let failing: BTreeSet<_> = endpoints.iter().filter(known).copied().collect();
    let pool = pool(endpoints, &failing, &before.pool);
    let after = SideState { failing, pool };
    if after == *before {
        return None;
    }
    let SideState { failing, pool } = after;
    let kept = if pool.degraded { "; the last good set is kept" } else { "" };
    let all = endpoints.as_slice().len();
    let line = format!("{id} {side}: {} of {all} endpoints fail{kept}", failing.len());
    Some((Put::Health { service: id.clone(), side, failing, pool }, line))
}
