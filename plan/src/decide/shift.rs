//! `shift`: a service or a plan to any split, now.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::limits::{Limits, split_of, steps_below, with_followers};
use super::refused::Verb;
use super::{Facts, Refused, find};
use crate::command::{Ask, Override};
use crate::name::ServiceName;
use crate::split::Split;
use crate::state::{Mode, PlanState};

/// Raising has limits; lowering has none and takes along the services that come after.
pub(super) fn shift(
    plan: &PlanState,
    service: Option<&ServiceName>,
    split: Split,
    overrides: &BTreeSet<Override>,
    ask: &Ask,
    facts: &Facts,
) -> Result<Draft, Refused> {
    let mut draft = Draft::about(&plan.spec.name);
    let moves = match service {
        Some(service) => one(plan, find::service(plan, service)?, split, &mut draft),
        None => plan.services.keys().map(|name| (name.clone(), split)).collect(),
    };
    if matches!(plan.mode, Mode::RolledBack | Mode::Retired) {
        return Err(Refused::phase(plan, Verb::Shift));
    }
    let mut limits = Limits::new(plan, facts, overrides);
    limits.overrides_are_fine(ask.reason.as_deref())?;
    limits.rise(&moves)?;
    if moves.iter().any(|(name, to)| split_of(plan, name) < *to) {
        limits.gates(&steps_below(plan, split))?;
    }
    draft.splits(plan, &moves);
    let nothing_to_stop = matches!(plan.mode, Mode::Ready | Mode::Manual | Mode::Complete);
    if draft.puts.is_empty() && nothing_to_stop && !plan.restored {
        draft.notes.clear();
        return Ok(draft);
    }
    draft.mode(plan, Mode::Manual);
    draft.acted(plan);
    draft.overridden(&limits.used());
    Ok(draft)
}

/// One service, and where it goes down, those that come after it and are above.
fn one(
    plan: &PlanState,
    service: &ServiceName,
    split: Split,
    draft: &mut Draft,
) -> BTreeMap<ServiceName, Split> {
    let mut moves = BTreeMap::from([(service.clone(), split)]);
    if split >= split_of(plan, service) {
        return moves;
    }
    for follower in with_followers(plan, [service.clone()]) {
        let from = split_of(plan, &follower);
        if follower != *service && from > split {
            draft.notes.push(format!(
                "{}/{follower} comes after {service}: {from} to {split} with it",
                plan.spec.name
            ));
            moves.insert(follower, split);
        }
    }
    moves
}
