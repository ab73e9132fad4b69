//! Chains that answer a question, and how they are asked; and who is asked nothing.

use plan::split::Side;

use super::named;
use crate::rules::local::Local;
use crate::rules::mark::{self, Mark};
use crate::rules::table::{Action, Family, Match, Rule};

/// What the target's own gateways send, which would go round in a loop, is not touched. Those of
/// this service's plan alone: another plan's are its clients like all others.
pub(in crate::rules) fn gateways(local: &Local<'_>, families: &[Family]) -> Vec<Rule> {
    let nets = local.egress().filter(|net| families.contains(&Family::of(net.addr())));
    let accept = |net| Rule { matches: vec![Match::Source(net)], actions: vec![Action::Accept] };
    nets.map(|net| accept(net.trunc())).collect()
}

/// Left where it goes by itself: on legacy, but not counted there. It is marked, so that its flow
/// is found when that side is closed.
pub(in crate::rules) fn stay(mark: Mark) -> Vec<Action> {
    let value = mark.value(Side::Legacy, false);
    vec![Action::MarkFlow { mask: mark::MASK, value }, Action::Accept]
}

/// A connection that was open before the kernel tracked it stays where it is, whatever the split
/// is by now. Where legacy is not reached by leaving packets alone there is none: what goes to it
/// is translated, and so has been tracked from its beginning.
pub(super) fn midway(local: &Local<'_>, mark: Mark) -> Option<Rule> {
    let rule = Rule { matches: vec![Match::Midway], actions: stay(mark) };
    local.leaves_alone().then_some(rule)
}

/// Asks the chain of this word, for which the bit is cleared, whoever set it; `more` is done too.
pub(super) fn ask(local: &Local<'_>, word: &str, more: Option<Action>) -> Rule {
    let clear = Action::MarkFlow { mask: mark::SIDE, value: 0 };
    let jump = Action::Jump(named(word, &local.leaf.id));
    Rule { matches: Vec::new(), actions: more.into_iter().chain([clear, jump]).collect() }
}

/// Says yes where this holds; `None`: always.
pub(super) fn yes(to: Option<Match>) -> Rule {
    let set = Action::MarkFlow { mask: mark::SIDE, value: mark::SIDE };
    Rule { matches: to.into_iter().collect(), actions: vec![set] }
}

/// What is done where the answer was yes.
pub(super) fn if_yes(action: Action) -> Rule {
    let answer = Match::FlowMark { mask: mark::SIDE, value: mark::SIDE };
    Rule { matches: vec![answer], actions: vec![action] }
}

/// What is done where it was no.
pub(super) fn if_no(actions: Vec<Action>) -> Rule {
    let answer = Match::FlowMark { mask: mark::SIDE, value: 0 };
    Rule { matches: vec![answer], actions }
}
