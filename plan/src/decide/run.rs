//! `start`, `step`, `pause`, `resume`, `approve`, and what a plan does by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::limits::{Limits, gate_of, is_converged};
use super::place::{onward, present};
use super::refused::Verb;
use super::{Facts, Refused};
use crate::command::{Ask, Override};
use crate::name::{GateName, ServiceName};
use crate::record::Put;
use crate::spec::{Step, Strategy};
use crate::split::Split;
use crate::state::{Mode, PlanState, Run, Stage};
use crate::time::Timestamp;

/// From now on the plan takes its steps by itself.
pub(super) fn start(plan: &PlanState, now: Timestamp) -> Result<Draft, Refused> {
    if plan.mode != Mode::Ready {
        return Err(Refused::phase(plan, Verb::Start));
    }
    let mut draft = Draft::about(&plan.spec.name);
    draft.mode(plan, Mode::Running(Run { step: 0, stage: Stage::Onward, entered: now }));
    draft.acted(plan);
    Ok(draft)
}

/// An operator ends the bake of the present step, and nothing but the bake.
pub(super) fn step(
    plan: &PlanState,
    overrides: &BTreeSet<Override>,
    ask: &Ask,
    facts: &Facts,
) -> Result<Draft, Refused> {
    let Mode::Running(run) = plan.mode else { return Err(Refused::phase(plan, Verb::Step)) };
    // A restored plan waits for a `resume`: a step would go on with a run that is long past.
    if plan.restored {
        return Err(Refused::phase(plan, Verb::Step));
    }
    let limits = Limits::new(plan, facts, overrides);
    limits.overrides_are_fine(ask.reason.as_deref())?;
    next(plan, run, limits, facts)
}

/// The next step, or the end: for `step` and automation alike.
pub(super) fn next(
    plan: &PlanState,
    run: Run,
    mut limits: Limits<'_>,
    facts: &Facts,
) -> Result<Draft, Refused> {
    let Some(next) = plan.spec.steps.get(usize::from(run.step)) else {
        return complete(plan, run, limits, facts);
    };
    let up = |name: &ServiceName, split: Split| (name.clone(), split.max(next.split));
    let moves: BTreeMap<_, _> = plan.services.iter().map(|(n, s)| up(n, s.split)).collect();
    limits.gates(&gates_before_next(plan, run))?;
    limits.rise(&moves)?;
    limits.acks()?;
    limits.sticky(&moves)?;
    limits.measured()?;
    let mut draft = Draft::about(&plan.spec.name);
    draft.splits(plan, &moves);
    let run = Run { step: run.step.saturating_add(1), stage: Stage::Bake, entered: facts.now };
    draft.mode(plan, Mode::Running(run));
    draft.overridden(&limits.used());
    Ok(draft)
}

/// The steps whose gates must pass before a run goes on: the present one; `whole` asks before it
/// moves at all, and for none after.
pub(crate) fn gates_before_next(plan: &PlanState, run: Run) -> Vec<&Step> {
    match (plan.spec.strategy, run.step) {
        (Strategy::Gradual, _) => present(&plan.spec, run).into_iter().collect(),
        (Strategy::Whole, 0) => plan.spec.steps.iter().collect(),
        (Strategy::Whole, _) => Vec::new(),
    }
}

/// The end of the last step's bake. Acks cannot be overridden here: a plan is never shown complete
/// while an expected sink lags.
fn complete(
    plan: &PlanState,
    run: Run,
    mut limits: Limits<'_>,
    facts: &Facts,
) -> Result<Draft, Refused> {
    if !plan.all_at(Split::TARGET) {
        return Err(Refused::NotDue { plan: plan.spec.name.clone() });
    }
    limits.gates(&gates_before_next(plan, run))?;
    if !is_converged(plan, facts) {
        return Err(Refused::Acks { plan: plan.spec.name.clone(), overridable: false });
    }
    limits.measured()?;
    let mut draft = Draft::about(&plan.spec.name);
    draft.mode(plan, Mode::Complete);
    draft.overridden(&limits.used());
    Ok(draft)
}

/// Timers stop. A restored plan goes on waiting: `pause` says nothing about traffic.
pub(super) fn pause(plan: &PlanState) -> Result<Draft, Refused> {
    let mut draft = Draft::about(&plan.spec.name);
    match plan.mode {
        Mode::Running(run) | Mode::Expired(run) => draft.mode(plan, Mode::Paused(run)),
        Mode::Ready | Mode::Manual | Mode::Paused(_) | Mode::RolledBack | Mode::Complete => {}
        Mode::Retired => return Err(Refused::phase(plan, Verb::Pause)),
    }
    Ok(draft)
}

/// On from where the plan stands. Moves nobody by itself.
pub(super) fn resume(
    plan: &PlanState,
    if_revision: Option<u64>,
    now: Timestamp,
) -> Result<Draft, Refused> {
    let mut draft = Draft::about(&plan.spec.name);
    let again = |run| Mode::Running(Run { entered: now, ..run });
    match plan.mode {
        Mode::Paused(run) | Mode::Expired(run) => draft.mode(plan, again(run)),
        Mode::RolledBack => {
            // A revision that is not the plan's was refused before.
            if if_revision.is_none() {
                let plan_name = plan.spec.name.clone();
                return Err(Refused::RevisionNeeded { plan: plan_name, current: plan.revision });
            }
            let back = if plan.all_at(Split::LEGACY) { Mode::Ready } else { Mode::Manual };
            draft.mode(plan, back);
        }
        Mode::Running(run) if plan.restored => draft.mode(plan, again(run)),
        Mode::Ready | Mode::Manual | Mode::Complete | Mode::Retired if plan.restored => {}
        Mode::Manual => draft.mode(plan, Mode::Running(onward(plan, &plan.spec, now))),
        Mode::Running(_) => {}
        Mode::Ready | Mode::Complete | Mode::Retired => {
            return Err(Refused::phase(plan, Verb::Resume));
        }
    }
    draft.acted(plan);
    Ok(draft)
}

/// Approves a manual gate. Approvals stay until a rollback.
pub(super) fn approve(plan: &PlanState, gate: &GateName, ask: &Ask) -> Result<Draft, Refused> {
    gate_of(plan, gate)?;
    let mut draft = Draft::about(&plan.spec.name);
    let before = plan.approvals.get(gate).is_some_and(|actors| actors.contains(&ask.actor));
    if !before {
        let (plan, actor) = (plan.spec.name.clone(), ask.actor.clone());
        draft.puts.push(Put::Approval { plan, gate: gate.clone(), actor });
    } else {
        draft.notes.push(format!("{} has approved it before, and counts once", ask.actor));
    }
    Ok(draft)
}
