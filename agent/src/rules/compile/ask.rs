//! Chains that answer a question, and how they are asked.

use super::named;
use crate::rules::local::Local;
use crate::rules::mark;
use crate::rules::table::{Action, Match, Rule};

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
pub(super) fn if_no(action: Action) -> Rule {
    let answer = Match::FlowMark { mask: mark::SIDE, value: 0 };
    Rule { matches: vec![answer], actions: vec![action] }
}
