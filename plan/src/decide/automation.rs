//! What a plan does by itself, checked again at the moment it is done.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::limits::Limits;
use super::place::present;
use super::run::next;
use super::{Facts, Refused, find};
use crate::command::Automation;
use crate::name::ServiceName;
use crate::split::Split;
use crate::state::{Mode, PlanState, Run, Stage, State};

/// What is done, and the words for it.
pub(super) fn automation(
    state: &State,
    cause: &Automation,
    facts: &Facts,
) -> Result<(Draft, String), Refused> {
    let plan = find::plan(state, cause.plan())?;
    let name = &plan.spec.name;
    if plan.revision != cause.seen() {
        let (given, current) = (cause.seen(), plan.revision);
        return Err(Refused::Stale { plan: name.clone(), given, current });
    }
    let not_due = || Refused::NotDue { plan: name.clone() };
    let Mode::Running(run) = plan.mode else { return Err(not_due()) };
    if plan.restored {
        return Err(not_due());
    }
    let further = plan.spec.steps.get(usize::from(run.step));
    let overrides = BTreeSet::new();
    let limits = Limits::new(plan, facts, &overrides);
    match (cause, further) {
        (Automation::Advance { .. }, Some(step)) => {
            let draft = next(plan, run, limits, facts)?;
            Ok((draft, format!("advance {name} to {}", step.split)))
        }
        (Automation::Complete { .. }, None) => {
            Ok((next(plan, run, limits, facts)?, format!("complete {name}")))
        }
        (Automation::Expire { .. }, _) => expire(plan, run, facts).ok_or_else(not_due),
        (Automation::Advance { .. } | Automation::Complete { .. }, _) => Err(not_due()),
    }
}

/// Back to the step before, for those that are above it, and a hold until an operator acts.
fn expire(plan: &PlanState, run: Run, facts: &Facts) -> Option<(Draft, String)> {
    let expires = present(&plan.spec, run)?.expires?;
    if facts.now < run.entered.after(expires) {
        return None;
    }
    let step = run.step.saturating_sub(1);
    let stage = if step == 0 { Stage::Onward } else { Stage::Bake };
    let back = Run { step, stage, entered: facts.now };
    let split = present(&plan.spec, back).map_or(Split::LEGACY, |step| step.split);
    let down = |name: &ServiceName, at: Split| (name.clone(), at.min(split));
    let moves: BTreeMap<_, _> = plan.services.iter().map(|(n, s)| down(n, s.split)).collect();
    let mut draft = Draft::about(&plan.spec.name);
    draft.splits(plan, &moves);
    draft.mode(plan, Mode::Expired(back));
    Some((draft, format!("expire {} back to {split}", plan.spec.name)))
}
