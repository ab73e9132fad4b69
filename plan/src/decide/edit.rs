//! `apply` and `reload`: another plan, or the same one changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::draft::Draft;
use super::limits::split_of;
use super::place::kept;
use super::refused::{Change, Verb};
use super::retire::release_if_answered;
use super::{Facts, Refused, find, neighbours};
use crate::command::ZoneChange;
use crate::name::{PlanName, ServiceId, ServiceName};
use crate::record::Put;
use crate::spec::{Plan, Service, ZoneSource, ZoneSpec};
use crate::split::Split;
use crate::state::{Mode, PlanState, State};

/// The most plans of one controller. Each record copies the map of plans, so that this many cost it
/// some ten microseconds.
pub const PLANS_MAX: usize = 1_000;

/// Takes a plan, new or changed.
pub(super) fn apply(state: &State, spec: &Arc<Plan>, facts: &Facts) -> Result<Draft, Refused> {
    let mut draft = Draft::about(&spec.name);
    let old = state.plans.get(&spec.name);
    if old.is_some_and(|old| old.spec == *spec) {
        return Ok(draft);
    }
    if old.is_none() && state.plans.len() >= PLANS_MAX {
        return Err(Refused::TooManyPlans { limit: PLANS_MAX });
    }
    stored(&spec.zones)?;
    neighbours::apart(state, spec)?;
    draft.puts.push(Put::Plan(Arc::clone(spec)));
    let Some(old) = old else { return Ok(draft) };
    if old.mode == Mode::Retired {
        let only_zones = Plan { zones: spec.zones.clone(), ..Plan::clone(&old.spec) } == **spec;
        if !only_zones {
            return Err(Refused::phase(old, Verb::Apply));
        }
        release_if_answered(&mut draft, old, facts);
        return Ok(draft);
    }
    moves_nobody(old, spec)?;
    order_holds(old, spec)?;
    let mode = mode_after(old, spec, facts, &mut draft);
    draft.mode(old, mode);
    Ok(draft)
}

/// A plan's zones are in the log by digest, never by file or text.
fn stored(zones: &[ZoneSpec]) -> Result<(), Refused> {
    for zone in zones {
        match zone.source {
            ZoneSource::Own | ZoneSource::Blob(_) => {}
            ZoneSource::File(_) | ZoneSource::Text(_) => {
                return Err(Refused::ZoneText { zone: zone.name.clone() });
            }
        }
    }
    Ok(())
}

/// Between 0 and 100 %, whatever chooses clients stays as it is. At 100 % nothing chooses, but what
/// is taken from the plan would fall back to the zone file.
fn moves_nobody(old: &PlanState, new: &Plan) -> Result<(), Refused> {
    let between = |split| split != Split::LEGACY && split != Split::TARGET;
    let some_between = old.services.values().any(|service| between(service.split));
    let mut changes = Vec::new();
    let (was, is) = (&old.spec.clients, &new.clients);
    if some_between && was.rows != is.rows {
        changes.push(Change::Clients);
    }
    if some_between && was.resolvers != is.resolvers {
        changes.push(Change::Resolvers);
    }
    if some_between && was.key != is.key {
        changes.push(Change::ClientKey);
    }
    let by_name: BTreeMap<_, _> = new.services.iter().map(|s| (&s.name, s)).collect();
    for was in &old.spec.services {
        let on_target = split_of(old, &was.name) == Split::TARGET;
        if !some_between && !on_target {
            continue;
        }
        match by_name.get(&was.name) {
            None => changes.push(Change::Removed { service: was.name.clone() }),
            Some(is) => changes.extend(moving_changes(was, is, some_between)),
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    Err(Refused::WouldMove { plan: new.name.clone(), changes })
}

fn moving_changes(was: &Service, is: &Service, between: bool) -> Vec<Change> {
    let service = || was.name.clone();
    let mut changes = Vec::new();
    if between && was.salt != is.salt {
        changes.push(Change::Salt { service: service() });
    }
    if between && was.affinity != is.affinity {
        changes.push(Change::Affinity { service: service() });
    }
    if was.address != is.address {
        changes.push(Change::Address { service: service() });
    }
    if was.hosts != is.hosts {
        changes.push(Change::Hosts { service: service() });
    }
    changes
}

/// The splits of today do not break the order of the new spec. New services are at 0.
fn order_holds(old: &PlanState, new: &Plan) -> Result<(), Refused> {
    for service in &new.services {
        let split = split_of(old, &service.name);
        let above = |name: &&ServiceName| split_of(old, name) < split;
        if let Some(after) = service.after.iter().find(above) {
            return Err(Refused::AfterBroken {
                service: ServiceId { plan: new.name.clone(), service: service.name.clone() },
                after: after.clone(),
                allowed: split_of(old, after),
            });
        }
    }
    Ok(())
}

/// The place by split. A service that joins others on their way starts at 0, and the plan waits for
/// an operator: its next step would take the new one further at once than any step says.
fn mode_after(old: &PlanState, new: &Plan, facts: &Facts, draft: &mut Draft) -> Mode {
    let joins = |name: &ServiceName| !old.services.contains_key(name);
    let joining: Vec<_> = new.services.iter().map(|s| &s.name).filter(|name| joins(name)).collect();
    let under_way = old.highest() > Split::LEGACY;
    let waits = match old.mode {
        Mode::Running(_) | Mode::Paused(_) | Mode::Expired(_) | Mode::Complete => under_way,
        Mode::Ready | Mode::Manual | Mode::RolledBack | Mode::Retired => false,
    };
    if waits && !joining.is_empty() {
        let name = &new.name;
        let starts = |service| format!("{name}/{service} starts at 0%, so {name} is paused");
        draft.notes.extend(joining.into_iter().map(starts));
        return Mode::Manual;
    }
    let kept = |run| kept(old, new, run, facts.now);
    match old.mode {
        Mode::Running(run) => Mode::Running(kept(run)),
        Mode::Paused(run) => Mode::Paused(kept(run)),
        Mode::Expired(run) => Mode::Expired(kept(run)),
        Mode::Ready | Mode::Manual | Mode::RolledBack | Mode::Complete | Mode::Retired => old.mode,
    }
}

/// Zone texts changed on disk: one record for all plans. Retired plans whose names the new texts
/// answer are released.
pub(super) fn reload(
    state: &State,
    changes: &[ZoneChange],
    facts: &Facts,
) -> Result<Draft, Refused> {
    let mut draft = Draft::default();
    let mut by_plan: BTreeMap<&PlanName, Vec<&ZoneChange>> = BTreeMap::new();
    for change in changes {
        by_plan.entry(&change.plan).or_default().push(change);
    }
    for (name, changes) in by_plan {
        let plan = find::plan(state, name)?;
        draft.about.push(name.clone());
        let mut spec = Plan::clone(&plan.spec);
        for change in changes {
            let zone = spec.zones.iter_mut().find(|zone| zone.name == change.zone);
            let zone = zone.ok_or_else(|| Refused::UnknownZone {
                plan: name.clone(),
                zone: change.zone.clone(),
            })?;
            zone.source = change.source.clone();
        }
        stored(&spec.zones)?;
        if spec != *plan.spec {
            draft.puts.push(Put::Plan(Arc::new(spec)));
        }
    }
    for plan in state.plans.values().filter(|plan| plan.mode == Mode::Retired) {
        release_if_answered(&mut draft, plan, facts);
    }
    Ok(draft)
}
