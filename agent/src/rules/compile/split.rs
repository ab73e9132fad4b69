//! `in/…`, and what changes with the weight: `split/…` and `full/…`.

use plan::Split;

use super::ask::{ask, gateways, if_no, if_yes, midway, yes};
use super::{below, named};
use crate::rules::local::Local;
use crate::rules::mark::Mark;
use crate::rules::table::{Action, Rule};

/// Who arrives: clients of the host plane are split, all others stay or are caught.
pub(super) fn arriving(local: &Local<'_>, mark: Mark, has_clients: bool) -> Vec<Rule> {
    let rest = local.is_here().then(|| Action::Goto(named("catch", &local.leaf.id)));
    if !has_clients {
        let rest = rest.map(|rest| Rule { matches: Vec::new(), actions: vec![rest] });
        return rest.into_iter().collect();
    }
    let mut rules = gateways(local, &[local.family]);
    rules.extend([ask(local, "clients", None), if_no(vec![rest.unwrap_or(Action::Accept)])]);
    rules.extend(midway(local, mark));
    rules.extend(sides(local, "split", None));
    rules
}

/// To the side that the chain of this word says; `first` is done before.
pub(super) fn sides(local: &Local<'_>, word: &str, first: Option<Action>) -> Vec<Rule> {
    let goto = |side| Action::Goto(named(side, &local.leaf.id));
    if !local.has_target(local.family) {
        let actions = first.into_iter().chain([goto("legacy")]).collect();
        return vec![Rule { matches: Vec::new(), actions }];
    }
    let legacy = Rule { matches: Vec::new(), actions: vec![goto("legacy")] };
    vec![ask(local, word, first), if_yes(goto("target")), legacy]
}

/// Clients by bucket, or by a draw for each flow. 0 and 100 % are exact: nothing is computed.
pub(super) fn split(local: &Local<'_>) -> Vec<Rule> {
    match local.split() {
        Split::LEGACY => Vec::new(),
        Split::TARGET => vec![yes(None)],
        between => vec![yes(Some(below(local, local.leaf.salt, between.bp())))],
    }
}

/// Whether everyone is on target.
pub(super) fn full(local: &Local<'_>) -> Vec<Rule> {
    let full = local.leaf.serving.split() == Split::TARGET;
    full.then(|| yes(None)).into_iter().collect()
}
