//! What keeps a plan at the moment.

use super::{HOLDS_MAX, Hold, NAMED_MAX, Why};
use crate::command::{Automation, Cause};
use crate::decide::traffic::{contradictions, unsticky};
use crate::decide::{Facts, Refused};
use crate::gate::Verdict;
use crate::name::ServiceName;
use crate::pace::{self, Next, Pace};
use crate::spec::Plane;
use crate::split::{Side, Split};
use crate::state::{Mode, PlanState, ServiceState, State};

/// Everything that keeps this plan, most serious first. Empty: it is complete or retired, or its
/// next move is due now.
pub fn holds(state: &State, facts: &Facts, pace: &Pace, plan: &PlanState) -> Vec<Hold> {
    let mut whys = Vec::new();
    whys.extend(by_mode(plan));
    if !matches!(plan.mode, Mode::Retired) {
        by_sinks(facts, plan, &mut whys);
        whys.extend(degraded(plan));
        contradicted(facts, plan, &mut whys);
        whys.extend(not_sticky(facts, plan));
    }
    if matches!(plan.mode, Mode::Running(_)) && !plan.restored {
        by_time(facts, pace, plan, &mut whys);
        by_limits(state, facts, plan, &mut whys);
    }
    let steps = matches!(pace::next(plan), Some(Next::Step { .. })) && !plan.restored;
    let hold = |why| Hold { plan: plan.spec.name.clone(), steps, why };
    let mut holds: Vec<Hold> = whys.into_iter().map(hold).collect();
    holds.sort_by_key(Hold::reason);
    holds
}

/// Those of a plan's holds that keep this service: all but what is another service's own.
pub fn of_service<'a>(
    holds: &'a [Hold],
    service: &'a ServiceName,
) -> impl Iterator<Item = &'a Hold> {
    holds.iter().filter(move |hold| {
        let (Why::Degraded { service: own, .. } | Why::Contradicted { service: own, .. }) =
            &hold.why
        else {
            return true;
        };
        own == service
    })
}

fn by_mode(plan: &PlanState) -> Option<Why> {
    let at = plan.changed;
    match plan.mode {
        Mode::Retired => None,
        Mode::RolledBack => {
            let above = plan.services.iter().filter(|(_, service)| service.split > Split::LEGACY);
            let above = above.map(|(name, _)| name.clone()).collect();
            Some(Why::RolledBack { revision: plan.revision, above })
        }
        _ if plan.restored => Some(Why::Restored),
        Mode::Ready => Some(Why::Ready),
        Mode::Manual => Some(Why::Manual { at }),
        Mode::Paused(_) => Some(Why::Paused { at }),
        Mode::Expired(_) => Some(Why::Expired { at }),
        Mode::Running(_) | Mode::Complete => None,
    }
}

fn by_sinks(facts: &Facts, plan: &PlanState, whys: &mut Vec<Why>) {
    let name = &plan.spec.name;
    let mut planes = Vec::new();
    let (mut away, mut nacked, mut lagging) = (Vec::new(), Vec::new(), Vec::new());
    for plane in Plane::ALL.into_iter().filter(|plane| plan.spec.uses(*plane)) {
        if facts.ledger.expected_count(plane, name) == 0 {
            whys.push(Why::NoSink { plane });
            continue;
        }
        if facts.ledger.through(plane).is_none_or(|through| through < plan.rendered) {
            planes.push(plane);
        }
        for sink in facts.ledger.late(plane, name) {
            if sink.is_away() {
                away.push(sink);
            } else if let Some(nack) = sink.refused(name) {
                nacked.push((sink, nack));
            } else {
                lagging.push(sink);
            }
        }
    }
    whys.extend(first(&away, HOLDS_MAX).map(|(sink, more)| Why::Away {
        sink: sink.id.clone(),
        left: sink.left,
        more,
    }));
    whys.extend(first(&nacked, HOLDS_MAX).map(|((sink, nack), more)| Why::Nacked {
        sink: sink.id.clone(),
        plane: sink.plane,
        token: nack.token,
        detail: nack.detail.clone(),
        at: nack.at,
        more,
    }));
    if !planes.is_empty() || !lagging.is_empty() {
        let token = plan.rendered;
        let at = (token.revision == plan.revision).then_some(plan.changed);
        let sinks = lagging.iter().take(NAMED_MAX).map(|sink| (sink.id.clone(), sink.acked));
        let more = lagging.len().saturating_sub(NAMED_MAX);
        whys.push(Why::Lagging { token, at, planes, sinks: sinks.collect(), more });
    }
}

/// The first so many, the last of them with how many more there are.
fn first<T>(all: &[T], most: usize) -> impl Iterator<Item = (&T, usize)> {
    let last = all.len().min(most);
    let more = all.len() - last;
    let told = move |at| if at + 1 == last { more } else { 0 };
    all.iter().take(most).enumerate().map(move |(at, one)| (one, told(at)))
}

/// Services whose traffic is not where the plan says.
fn contradicted(facts: &Facts, plan: &PlanState, whys: &mut Vec<Why>) {
    let found: Vec<_> = contradictions(plan, facts).collect();
    whys.extend(first(&found, HOLDS_MAX).map(|((plane, service, found), more)| {
        Why::Contradicted { plane: *plane, service: (*service).clone(), found: *found, more }
    }));
}

/// The proxies that keep the plan from taking its next step, or that move clients at the splits of
/// today where no step is to come.
fn not_sticky(facts: &Facts, plan: &PlanState) -> Option<Why> {
    let between = |split: Split| split != Split::LEGACY && split != Split::TARGET;
    let matters = match (plan.mode, pace::next(plan)) {
        (_, Some(Next::Step { split, .. })) => between(split),
        (Mode::Ready | Mode::Manual | Mode::Paused(_) | Mode::Expired(_), _) => {
            plan.services.values().any(|service| between(service.split))
        }
        _ => false,
    };
    let (sink, more) = matters.then(|| unsticky(plan, facts))??;
    let version = sink.version.clone().unwrap_or_default();
    Some(Why::NotSticky { sink: sink.id.clone(), version, more })
}

fn degraded(plan: &PlanState) -> impl Iterator<Item = Why> {
    plan.services.iter().flat_map(|(name, service)| {
        degraded_sides(service).map(|side| Why::Degraded { service: name.clone(), side })
    })
}

/// The sides of a service of which every endpoint fails.
pub(in crate::view) fn degraded_sides(service: &ServiceState) -> impl Iterator<Item = Side> {
    let sides = [(Side::Legacy, &service.legacy), (Side::Target, &service.target)];
    sides.into_iter().filter(|(_, state)| state.pool.degraded).map(|(side, _)| side)
}

fn by_time(facts: &Facts, pace: &Pace, plan: &PlanState, whys: &mut Vec<Why>) {
    if let Some(left) = pace.settling(facts) {
        whys.push(Why::Settling { left });
    }
    if let Some(left) = pace.draining(plan, facts)
        && let Some(Next::Step { split: to, .. }) = pace::next(plan)
    {
        whys.push(Why::TtlDraining { left, to });
    }
    if let Some(left) = pace.bake_left(plan, facts) {
        whys.push(Why::Baking { left });
    }
}

/// What keeps the next move besides sinks and time. Asks the rules last, so that nothing they would
/// refuse is missing here.
fn by_limits(state: &State, facts: &Facts, plan: &PlanState, whys: &mut Vec<Why>) {
    let found = whys.len();
    let verdicts = pace::gates(plan).into_iter().map(|gate| Verdict::of(plan, gate));
    whys.extend(verdicts.filter(|verdict| !verdict.passed()).map(Why::Gate));
    if let Some(Next::Step { split, .. }) = pace::next(plan) {
        if let Some((_, until)) = plan.spec.policy.frozen(facts.now) {
            whys.push(Why::Frozen { until });
        }
        whys.extend(too_far(plan, split));
    }
    if found == 0 && whys.is_empty() {
        whys.extend(refused(state, facts, plan));
    }
}

/// The service that the step would raise the furthest, where that is too far.
fn too_far(plan: &PlanState, to: Split) -> Option<Why> {
    let most = plan.spec.policy.max_step?;
    let (service, from) =
        plan.services.iter().map(|(name, s)| (name, s.split)).min_by_key(|s| s.1)?;
    let far = to.bp().saturating_sub(from.bp()) > most.bp();
    far.then(|| Why::MaxStep { service: service.clone(), from, to, most })
}

fn refused(state: &State, facts: &Facts, plan: &PlanState) -> Option<Why> {
    let (name, seen) = (plan.spec.name.clone(), plan.revision);
    let cause = match pace::next(plan)? {
        Next::Step { .. } => Automation::Advance { plan: name, seen },
        Next::Complete => Automation::Complete { plan: name, seen },
    };
    let refused = state.decide(&Cause::Automation(cause), facts).err()?;
    Some(if let Refused::After { service, after, to, allowed, .. } = refused {
        Why::After { service: service.service, first: after, split: allowed, to }
    } else {
        Why::Rules { detail: refused.to_string(), clear: refused.clear() }
    })
}
