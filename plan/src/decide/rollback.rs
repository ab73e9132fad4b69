//! `rollback`: every client to legacy, now. It reads no facts, so nothing can block it.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::limits::{split_of, with_followers};
use super::refused::Verb;
use super::{Refused, find};
use crate::command::Scope;
use crate::name::ServiceName;
use crate::record::Put;
use crate::split::Split;
use crate::state::{Mode, PlanState, State};

pub(super) fn rollback(state: &State, scope: &Scope) -> Result<Draft, Refused> {
    match scope {
        Scope::All => {
            let mut draft = Draft::default();
            for plan in state.plans.values().filter(|plan| plan.mode != Mode::Retired) {
                draft.about.push(plan.spec.name.clone());
                take_back(&mut draft, plan, plan.services.keys());
            }
            Ok(draft)
        }
        Scope::Plan(name) => {
            let plan = not_retired(find::plan(state, name)?)?;
            let mut draft = Draft::about(name);
            take_back(&mut draft, plan, plan.services.keys());
            Ok(draft)
        }
        Scope::Service(id) => {
            let plan = find::plan(state, &id.plan)?;
            let service = find::service(plan, &id.service)?;
            let plan = not_retired(plan)?;
            let mut draft = Draft::about(&id.plan);
            let all = with_followers(plan, [service.clone()]);
            for name in all.iter().filter(|name| *name != service) {
                let from = split_of(plan, name);
                if from > Split::LEGACY {
                    let note = format!("{}/{name} comes after {service}: {from} to 0%", id.plan);
                    draft.notes.push(note);
                }
            }
            take_back(&mut draft, plan, all.iter());
            Ok(draft)
        }
    }
}

fn not_retired(plan: &PlanState) -> Result<&PlanState, Refused> {
    match plan.mode {
        Mode::Retired => Err(Refused::phase(plan, Verb::Rollback)),
        Mode::Ready
        | Mode::Running(_)
        | Mode::Manual
        | Mode::Paused(_)
        | Mode::Expired(_)
        | Mode::RolledBack
        | Mode::Complete => Ok(plan),
    }
}

fn take_back<'a>(
    draft: &mut Draft,
    plan: &PlanState,
    services: impl Iterator<Item = &'a ServiceName>,
) {
    let moves: BTreeMap<_, _> = services.map(|name| (name.clone(), Split::LEGACY)).collect();
    draft.splits(plan, &moves);
    draft.mode(plan, Mode::RolledBack);
    if !plan.approvals.is_empty() {
        draft.puts.push(Put::NoApprovals(plan.spec.name.clone()));
    }
    draft.acted(plan);
}
