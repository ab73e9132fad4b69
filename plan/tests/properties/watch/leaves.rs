//! What must hold of the leaves of a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use plan::command::{Cause, Command};
use plan::endpoint::{Endpoint, Endpoints, Pool};
use plan::snapshot::Service;
use plan::state::SideState;
use plan::{Put, Serving, Split};

use super::{Committed, Violation, must};
use crate::clients::on_target;

/// 3: the snapshot is the whole of what is committed, and no serving side is empty of its own
/// endpoints.
pub(super) fn whole(step: &Committed<'_>) -> Result<(), Violation> {
    let snapshot = step.after.snapshot();
    let expected: usize = step
        .after
        .plans()
        .filter(|(_, plan)| !plan.released)
        .map(|(_, plan)| plan.services.len())
        .sum();
    must(snapshot.services.len() == expected, 3, || {
        format!("{} leaves for {expected} services", snapshot.services.len())
    })?;
    must(snapshot.services.is_sorted_by(|a, b| a.id < b.id), 3, || "not in order".to_owned())?;
    let observed = matches!(step.cause, Some(Cause::Observed(_)));
    let asked = asked(step);
    for leaf in snapshot.services.iter() {
        let before = step.before.snapshot().service(&leaf.id);
        if before.is_some_and(|before| Arc::ptr_eq(before, leaf)) {
            continue;
        }
        let split = leaf.serving.split();
        let put = step.record.puts.iter().rev().find_map(|put| match put {
            Put::Split { service, split } if *service == leaf.id => Some(*split),
            _ => None,
        });
        let was = before.map_or(Split::LEGACY, |before| before.serving.split());
        must(split == put.unwrap_or(was), 3, || format!("{} shows {split}, not {put:?}", leaf.id))?;
        must(!observed || split == was, 3, || format!("health moved {}", leaf.id))?;
        must(asked.is_none_or(|asked| split <= asked.max(was)), 3, || {
            format!("{} is at {split}, beyond {asked:?}", leaf.id)
        })?;
        sides(step, leaf)?;
    }
    Ok(())
}

/// Where a `shift` was told to go: nobody goes beyond.
fn asked(step: &Committed<'_>) -> Option<Split> {
    match step.command() {
        Some(Command::Shift { split, .. }) => Some(*split),
        _ => None,
    }
}

fn sides(step: &Committed<'_>, leaf: &Service) -> Result<(), Violation> {
    let plan = step.after.plan(&leaf.id.plan).unwrap();
    let state = &plan.services[&leaf.id.service];
    let kind = match &leaf.serving {
        Serving::Legacy { .. } => state.split == Split::LEGACY,
        Serving::Both { .. } => state.split != Split::LEGACY && state.split != Split::TARGET,
        Serving::Target { .. } => state.split == Split::TARGET,
    };
    must(kind && leaf.serving.split() == state.split, 3, || format!("{} is not whole", leaf.id))?;
    for (pool, side, all) in [
        (leaf.serving.legacy(), &state.legacy, &leaf.spec.legacy),
        (leaf.serving.target(), &state.target, &leaf.spec.target),
    ] {
        let fine = pool.is_some_and(|pool| counts(pool, side, all));
        must(fine, 3, || format!("{}: {pool:?} of {all:?}", leaf.id))?;
    }
    Ok(())
}

/// Those that do not fail; if all fail, some that belong to the side, and it is told.
fn counts(pool: &Pool, side: &SideState, all: &Endpoints) -> bool {
    let known = |endpoint: &Endpoint| all.as_slice().contains(endpoint);
    let good: Vec<_> = all.iter().filter(|e| !side.failing.contains(e)).copied().collect();
    let serving = pool.serving.as_slice();
    !serving.is_empty()
        && serving.iter().all(known)
        && pool.degraded == good.is_empty()
        && (pool.degraded || serving == good)
}

/// 13: a host belongs to one leaf, and what tells clients apart stays while they are apart.
pub(super) fn split_once(step: &Committed<'_>) -> Result<(), Violation> {
    if !step.record.puts.iter().any(|put| matches!(put, Put::Plan(_))) {
        return Ok(());
    }
    let mut hosts = BTreeMap::new();
    for leaf in step.after.snapshot().services.iter() {
        for host in &leaf.spec.hosts {
            let other = hosts.insert(host, &leaf.id);
            must(other.is_none(), 13, || format!("{host} is in {} and {other:?}", leaf.id))?;
        }
        let Some(before) = step.before.snapshot().service(&leaf.id) else { continue };
        let apart = !matches!(before.serving.split(), Split::LEGACY | Split::TARGET);
        let same = before.clients == leaf.clients;
        must(!apart || same, 13, || format!("{} has other clients now", leaf.id))?;
    }
    let shared = |a: &Arc<Service>, b: &Arc<Service>| {
        a.id.plan != b.id.plan || Arc::ptr_eq(&a.clients, &b.clients)
    };
    let leaves = &step.after.snapshot().services;
    let one = leaves.iter().zip(leaves.iter().skip(1)).all(|(a, b)| shared(a, b));
    must(one, 13, || "services of one plan split clients differently".to_owned())
}

/// 14: raising moves clients to target only, lowering to legacy only, and nothing else moves any.
pub(super) fn monotone(step: &Committed<'_>) -> Result<(), Violation> {
    for after in step.after.snapshot().services.iter() {
        let Some(before) = step.before.snapshot().service(&after.id) else { continue };
        if Arc::ptr_eq(before, after) {
            continue;
        }
        let (from, to) = (before.serving.split(), after.serving.split());
        for (was, is) in on_target(before).into_iter().zip(on_target(after)) {
            let fine = match from.cmp(&to) {
                std::cmp::Ordering::Less => !was || is,
                std::cmp::Ordering::Equal => was == is,
                std::cmp::Ordering::Greater => was || !is,
            };
            must(fine, 14, || format!("a client of {} moved back, {from} to {to}", after.id))?;
        }
    }
    Ok(())
}
