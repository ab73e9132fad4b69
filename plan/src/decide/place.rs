//! A plan's place among its steps, found by its splits and not by an index.

use crate::spec::Plan;
use crate::split::Split;
use crate::state::{PlanState, Run, Stage};
use crate::time::Timestamp;

/// Where a run goes on from these splits: to the first step above every service's split. With none
/// above, everyone at 100 % bakes the last step, and those behind are taken there first.
pub(super) fn onward(plan: &PlanState, spec: &Plan, now: Timestamp) -> Run {
    let highest = plan.highest();
    let taken = spec.steps.iter().take_while(|step| step.split <= highest).count();
    let (taken, stage) = match spec.steps.len() {
        all if taken < all => (taken, Stage::Onward),
        all if plan.all_at(Split::TARGET) => (all, Stage::Bake),
        all => (all.saturating_sub(1), Stage::Onward),
    };
    Run { step: u16::try_from(taken).unwrap_or(u16::MAX), stage, entered: now }
}

/// Where a run is among other steps. It keeps its place by split: at a step of the new spec it goes
/// on baking, between two of them it goes on to the next one. `expires` counts anew where the
/// present step is another one.
pub(super) fn kept(plan: &PlanState, spec: &Plan, run: Run, now: Timestamp) -> Run {
    let mut next = onward(plan, spec, now);
    let present = present(spec, next);
    let bakes = present.is_some_and(|step| plan.all_at(step.split));
    if run.stage == Stage::Bake && bakes {
        next.stage = Stage::Bake;
    }
    let same = next.stage == run.stage && present == self::present(&plan.spec, run);
    if same { Run { entered: run.entered, ..next } } else { next }
}

/// The step that a run has taken last; `None` before the first.
pub(crate) fn present(spec: &Plan, run: Run) -> Option<&crate::spec::Step> {
    spec.steps.get(usize::from(run.step).checked_sub(1)?)
}
