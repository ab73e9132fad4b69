//! `catch/…`: stragglers, who at 100 % still reach this host's own addresses.

use plan::split::Side;

use super::ask::{ask, gateways, if_no, stay};
use super::{Compiling, STRAGGLERS_MAX, fixed, named};
use crate::rules::mark;
use crate::rules::table::{Action, Family, Match, Name, Rule, Stragglers};

/// After so many seconds without a new flow a network counts as moved: a day, so that nightly work
/// is seen.
const TIMEOUT_SECONDS: u32 = 86_400;

/// At exactly 100 % all who come here go on to target; before that they stay. Exempt networks never
/// come here: the base chain has left them alone.
pub(super) fn chain(service: &Compiling<'_>) -> Vec<Rule> {
    let (local, families) = (service.local, service.catch_families());
    let id = &local.leaf.id;
    let all: Vec<Family> = families.into_iter().collect();
    let (with, without): (Vec<Family>, Vec<Family>) =
        all.iter().partition(|family| local.has_target(**family));
    if with.is_empty() {
        return Vec::new();
    }
    let mut rules = gateways(local, &all);
    // Who is here was served here.
    rules.push(Rule { matches: vec![Match::Midway], actions: stay(service.mark) });
    let stays =
        |family: Family| Rule { matches: vec![Match::Family(family)], actions: stay(service.mark) };
    rules.extend(without.into_iter().map(stays));
    rules.extend([ask(local, "full", None), if_no(stay(service.mark))]);
    for family in &with {
        let matches = || vec![Match::Family(*family)];
        rules.push(Rule { matches: matches(), actions: vec![Action::Note(set(service, *family))] });
        // Nobody has proved that answers to them come back this way.
        let bit = Action::MarkFlow { mask: mark::MASQUERADE, value: mark::MASQUERADE };
        let bit = local.keeps_source(Side::Target).then_some(bit);
        let on = [Action::Count(named("caught", id)), Action::Goto(named("target", id))];
        rules.push(Rule { matches: matches(), actions: bit.into_iter().chain(on).collect() });
    }
    rules
}

/// The sets that note them. They stand before 100 % too, so that getting there adds only rules.
pub(super) fn sets(service: &Compiling<'_>) -> Vec<(Name, Stragglers)> {
    let of = |family: Family| {
        let prefix = match family {
            Family::V4 => 24,
            Family::V6 => 64,
        };
        let stragglers =
            Stragglers { family, prefix, size: STRAGGLERS_MAX, timeout_seconds: TIMEOUT_SECONDS };
        (set(service, family), stragglers)
    };
    service.catch_families().into_iter().map(of).collect()
}

fn set(service: &Compiling<'_>, family: Family) -> Name {
    fixed(&format!("stragglers/{}/{family}", service.local.leaf.id))
}
