//! Where a plan is: intended, acked and measured, and why it does not move.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Planes;
use super::diff::Finding;
use super::hold::{self, Hold, HoldView, holds};
use super::phase::{Phase, Progress, phase};
use crate::decide::Facts;
use crate::ledger::{Sink, SinkId};
use crate::measure::{Note, Share, Stragglers};
use crate::name::{GateName, PlanName, ServiceId, ServiceName};
use crate::pace::{self, Next, Pace};
use crate::spec::{Plane, Strategy};
use crate::split::{Side, Split};
use crate::state::{Mode, PlanState, ServiceState, State};
use crate::time::Timestamp;
use crate::token::Token;

/// Where a plan is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The plan.
    pub plan: PlanName,
    /// What it does.
    pub phase: Phase,
    /// How automation takes the steps.
    pub strategy: Strategy,
    /// The incarnation of the log.
    pub incarnation: u32,
    /// The revision of the last command or automation on the plan: what `--if-revision` compares.
    pub revision: u64,
    /// When that was.
    pub changed_at: Timestamp,
    /// The newest token of the log, seen when this was computed.
    pub head: Token,
    /// Whether everything committed of the plan up to `revision` has arrived at every expected
    /// sink.
    pub converged: bool,
    /// The present step; `null` where the plan does not take its steps: moved by hand, rolled back,
    /// retired.
    pub step: Option<StepView>,
    /// What automation does next; `null` where there is nothing.
    pub next: Option<NextStep>,
    /// When the plan goes back a step if nobody moves on.
    pub expires_at: Option<Timestamp>,
    /// Each service, in the order of the file.
    pub services: Vec<ServiceStatus>,
    /// The receivers that the plan expects.
    pub sinks: SinkSummary,
    /// When the last answer given under an earlier split expires, if that is to come.
    pub old_until: Option<Timestamp>,
    /// Why the plan does not move, most serious first.
    pub holds: Vec<HoldView>,
    /// What of the plan is not in force on this controller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Finding>,
}

/// The present step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// From 1; 0 before the first.
    pub index: u16,
    /// How many steps the plan has.
    pub count: u16,
    /// The step's split; 0 before the first.
    pub split_bp: u16,
    /// How long it bakes.
    pub bake_seconds: u64,
    /// How much of that is over.
    pub baked_seconds: u64,
}

/// What automation does next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextStep {
    /// The step's index, from 1; `null`: the plan is complete then.
    pub index: Option<u16>,
    /// The split that it moves to.
    pub split_bp: u16,
    /// The gates that must pass before.
    pub gates: Vec<GateName>,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// What it does.
    pub phase: Phase,
    /// The share of clients on target that the plan says.
    pub split_bp: u16,
    /// The sides of which every endpoint fails, so that the last good set is kept.
    pub degraded: Vec<Side>,
    /// The three numbers of each plane.
    pub planes: Planes<PlaneStatus>,
    /// Who still reached the legacy VMs at exactly 100 % and was forwarded, as agents saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stragglers: Option<Stragglers>,
    /// What receivers do otherwise than the plan asks: the first hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// The three numbers of a service in a plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlaneStatus {
    /// What the plan says.
    pub intended_bp: u16,
    /// What the sink farthest from that has confirmed; `null` without a sink.
    pub acked_bp: Option<u16>,
    /// What traffic did; `null` until there is something to measure.
    pub measured: Option<Share>,
    /// When the last answer given under an earlier split expires, if that is to come.
    pub old_until: Option<Timestamp>,
}

/// The receivers that a plan expects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkSummary {
    /// How many.
    pub expected: u32,
    /// How many hold everything of the plan.
    pub acked: u32,
    /// Those that are connected and do not: the first hundred.
    pub lagging: Vec<SinkId>,
    /// How many those are.
    #[serde(default)]
    pub lagging_count: u32,
    /// Those that are not connected: the first hundred.
    pub away: Vec<SinkId>,
    /// How many those are.
    #[serde(default)]
    pub away_count: u32,
}

impl SinkSummary {
    /// The most sinks that each list names: a status stays small, however many sinks a plan has.
    /// `crossfade sinks` lists all.
    pub const LISTED_MAX: usize = 100;
}

/// A plan in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanSummary {
    /// Its name.
    pub plan: PlanName,
    /// What it does.
    pub phase: Phase,
    /// The revision of the last command or automation on it.
    pub revision: u64,
    /// When that was.
    pub changed_at: Timestamp,
    /// Whether everything has arrived.
    pub converged: bool,
    /// The present step.
    pub step: Option<StepView>,
    /// The lowest split of its services.
    pub lowest_bp: u16,
    /// The highest split of its services.
    pub highest_bp: u16,
    /// Its services, in the order of the file.
    pub services: Vec<ServiceName>,
    /// Why it does not move, most serious first.
    pub holds: Vec<HoldView>,
}

/// Where this plan is; `None` where there is no such plan.
pub fn status(state: &State, facts: &Facts, pace: &Pace, plan: &PlanName) -> Option<Status> {
    let plan = state.plan(plan)?;
    let holds = holds(state, facts, pace, plan);
    let services: Vec<ServiceStatus> = plan
        .spec
        .services
        .iter()
        .filter_map(|service| {
            let there = plan.services.get(&service.name)?;
            Some(service_status(state, facts, plan, &service.name, there, &holds))
        })
        .collect();
    let old = services.iter().flat_map(|service| service.planes.iter());
    Some(Status {
        plan: plan.spec.name.clone(),
        phase: phase_of(plan, &mut holds.iter()),
        strategy: plan.spec.strategy,
        incarnation: state.token().incarnation,
        revision: plan.revision,
        changed_at: plan.changed,
        head: state.token(),
        converged: facts.ledger.converged(&plan.spec, plan.rendered),
        step: step_view(facts, pace, plan),
        next: next_view(plan),
        expires_at: pace::expires_at(plan),
        sinks: sink_summary(facts, plan),
        old_until: old.filter_map(|(_, plane)| plane.old_until).max(),
        services,
        holds: holds.iter().map(Hold::view).collect(),
        notes: Vec::new(),
    })
}

/// All plans, sorted by name.
pub fn plans(state: &State, facts: &Facts, pace: &Pace) -> Vec<PlanSummary> {
    state.plans().map(|(_, plan)| summary(state, facts, pace, plan)).collect()
}

fn summary(state: &State, facts: &Facts, pace: &Pace, plan: &PlanState) -> PlanSummary {
    let holds = holds(state, facts, pace, plan);
    let splits = || plan.services.values().map(|service| service.split.bp());
    PlanSummary {
        plan: plan.spec.name.clone(),
        phase: phase_of(plan, &mut holds.iter()),
        revision: plan.revision,
        changed_at: plan.changed,
        converged: facts.ledger.converged(&plan.spec, plan.rendered),
        step: step_view(facts, pace, plan),
        lowest_bp: splits().min().unwrap_or(0),
        highest_bp: splits().max().unwrap_or(0),
        services: plan.spec.services.iter().map(|service| service.name.clone()).collect(),
        holds: holds.iter().map(Hold::view).collect(),
    }
}

fn phase_of(plan: &PlanState, holds: &mut dyn Iterator<Item = &Hold>) -> Phase {
    phase(&plan.mode, plan.restored, Progress::of(holds.map(Hold::reason)))
}

fn service_status(
    state: &State,
    facts: &Facts,
    plan: &PlanState,
    name: &ServiceName,
    there: &ServiceState,
    holds: &[Hold],
) -> ServiceStatus {
    let id = ServiceId { plan: plan.spec.name.clone(), service: name.clone() };
    ServiceStatus {
        name: name.clone(),
        phase: phase_of(plan, &mut hold::of_service(holds, name)),
        split_bp: there.split.bp(),
        degraded: hold::degraded_sides(there).collect(),
        planes: Planes::of(|plane| {
            // Names that have left are no plane's any more.
            let rendered = plan.spec.uses(plane) && !plan.released;
            rendered.then(|| plane_status(state, facts, plane, &id, there.split))
        }),
        stragglers: facts.measured.stragglers(&id),
        notes: facts.measured.notes(&id),
    }
}

fn plane_status(
    state: &State,
    facts: &Facts,
    plane: Plane,
    id: &ServiceId,
    intended: Split,
) -> PlaneStatus {
    let count = facts.measured.count(plane, id);
    PlaneStatus {
        intended_bp: intended.bp(),
        acked_bp: facts.ledger.acked(plane, id, state.snapshot()).map(Split::bp),
        measured: facts.measured.share(plane, id, intended),
        old_until: count.and_then(|count| count.old_until).filter(|until| *until > facts.now),
    }
}

fn step_view(facts: &Facts, pace: &Pace, plan: &PlanState) -> Option<StepView> {
    let count = u16::try_from(plan.spec.steps.len()).unwrap_or(u16::MAX);
    let index = match plan.mode {
        Mode::Ready => 0,
        Mode::Running(run) | Mode::Paused(run) | Mode::Expired(run) => run.step,
        Mode::Complete => count,
        Mode::Manual | Mode::RolledBack | Mode::Retired => return None,
    };
    let step = usize::from(index).checked_sub(1).and_then(|at| plan.spec.steps.get(at));
    let bake = step.map_or(0, |step| step.bake.as_secs());
    let baked = if plan.mode == Mode::Complete {
        bake
    } else {
        pace.baked(&plan.spec.name, facts.uptime).map_or(0, |baked| baked.as_secs())
    };
    Some(StepView {
        index,
        count,
        split_bp: step.map_or(0, |step| step.split.bp()),
        bake_seconds: bake,
        baked_seconds: baked.min(bake),
    })
}

fn next_view(plan: &PlanState) -> Option<NextStep> {
    let gates = pace::gates(plan).into_iter().cloned().collect();
    Some(match pace::next(plan)? {
        Next::Step { index, split } => NextStep { index: Some(index), split_bp: split.bp(), gates },
        Next::Complete => NextStep { index: None, split_bp: plan.highest().bp(), gates },
    })
}

fn sink_summary(facts: &Facts, plan: &PlanState) -> SinkSummary {
    let name = &plan.spec.name;
    let mut summary = SinkSummary::default();
    for plane in Plane::ALL.into_iter().filter(|plane| plan.spec.uses(*plane)) {
        let expected = count(facts.ledger.expected_count(plane, name));
        summary.expected = summary.expected.saturating_add(expected);
        let late = facts.ledger.late(plane, name);
        let (away, behind): (Vec<_>, Vec<_>) = late.into_iter().partition(|sink| sink.is_away());
        let away_here = count(away.len());
        summary.away_count = summary.away_count.saturating_add(away_here);
        listed(&mut summary.away, away);
        let owing: Vec<_> = behind.into_iter().filter(|sink| sink.owes(name)).collect();
        if facts.ledger.through(plane).is_some_and(|through| through >= plan.rendered) {
            summary.lagging_count = summary.lagging_count.saturating_add(count(owing.len()));
            listed(&mut summary.lagging, owing);
        } else {
            let lagging = expected.saturating_sub(away_here);
            summary.lagging_count = summary.lagging_count.saturating_add(lagging);
            let there = facts.ledger.expected(plane, name).filter(|sink| !sink.is_away());
            listed(&mut summary.lagging, there);
        }
    }
    let arrived = summary.expected.saturating_sub(summary.away_count);
    summary.acked = arrived.saturating_sub(summary.lagging_count);
    summary
}

fn listed<'a>(ids: &mut Vec<SinkId>, sinks: impl IntoIterator<Item = &'a Arc<Sink>>) {
    let room = SinkSummary::LISTED_MAX.saturating_sub(ids.len());
    ids.extend(sinks.into_iter().take(room).map(|sink| sink.id.clone()));
}

fn count(sinks: usize) -> u32 {
    u32::try_from(sinks).unwrap_or(u32::MAX)
}
