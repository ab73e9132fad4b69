//! How many bytes a table takes as messages to the kernel, before it is encoded: what each word
//! becomes is added up. Never less than it is, and hardly more.

use std::sync::Arc;

use crate::rules::table::{Action, Chain, Dispatch, Family, Match, Name, Rule, Table};

/// A message's head, and the table's name in it.
const MESSAGE: usize = 40;
/// A set or counter without its name.
const PART: usize = 80;
/// Where the kernel calls a chain.
const HOOKED: usize = 48;
/// An element of a map for IPv6 without its chain's name.
const ELEMENT: usize = 72;
/// The question for the family, or for the transport.
const ASKED: usize = 80;
/// What loads an address, a number of it, or the bits of a mark, and compares it.
const COMPARED: [usize; 2] = [52 + 44, 52 + 56];
/// What leaves some bits of an address.
const MASKED: [usize; 2] = [76, 100];

/// The bytes of a table without counters, sets and chains.
pub(super) fn frame(table: &Table) -> usize {
    let maps: usize = table.dispatch.iter().map(|(name, map)| dispatch(name, map)).sum();
    4 * MESSAGE + table.comment.len() + maps
}

/// The bytes of counters and sets.
pub(super) fn named<'a>(names: impl Iterator<Item = &'a Name>) -> usize {
    names.map(|name| MESSAGE + PART + text(name)).sum()
}

/// The bytes of chains.
pub(super) fn chains<'a>(chains: impl IntoIterator<Item = (&'a Name, &'a Arc<Chain>)>) -> usize {
    chains.into_iter().map(|(name, of)| chain(name, of)).sum()
}

/// An attribute with a name: its head, a zero, and padding.
fn text(name: &Name) -> usize {
    name.as_str().len() + 8
}

fn dispatch(name: &Name, map: &Dispatch) -> usize {
    let elements: usize = map.chains.values().map(|chain| ELEMENT + text(chain)).sum();
    // Each message of elements names the map.
    let messages = map.chains.len() / 100 + 2;
    elements + messages * (MESSAGE + PART + text(name))
}

/// It is made, emptied, and filled.
fn chain(name: &Name, chain: &Chain) -> usize {
    let named = MESSAGE + text(name);
    let rules: usize = chain.rules.iter().map(|it| named + rule(it)).sum();
    let hooked = chain.hook.map_or(0, |_| HOOKED);
    2 * named + hooked + rules
}

fn rule(rule: &Rule) -> usize {
    let matches: usize = rule.matches.iter().map(asked).sum();
    let actions: usize = rule.actions.iter().map(done).sum();
    matches + actions
}

/// Of IPv4 or IPv6.
const fn of(family: Family, [v4, v6]: [usize; 2]) -> usize {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

fn asked(what: &Match) -> usize {
    match *what {
        Match::Family(_) | Match::Transport(_) | Match::SocketUser(_) => ASKED,
        Match::Source(net) => {
            let family = Family::of(net.addr());
            let whole = net.prefix_len() > 0 && net.prefix_len() % 8 == 0;
            let masked = if whole { 0 } else { of(family, MASKED) };
            ASKED + of(family, COMPARED) + masked
        }
        Match::Destination(address) => ASKED + of(Family::of(address), COMPARED),
        Match::SourceBucketBelow { .. } => 240,
        Match::DrawBelow { .. } | Match::PacketMark { .. } | Match::FlowMark { .. } => 160,
        Match::Midway => 260,
        Match::Translated => 156,
        Match::LeavesHost => 96,
    }
}

fn done(what: &Action) -> usize {
    match what {
        Action::MarkFlow { .. } => 140,
        Action::Count(name) => 28 + text(name),
        Action::Note(name) => 300 + text(name),
        Action::Translate(_) => 160,
        Action::LeaveAs(_) => 112,
        Action::Redirect(_) => 84,
        Action::Masquerade => 24,
        Action::Goto(name) | Action::Jump(name) => 52 + text(name),
        Action::Return | Action::Accept => 52,
        Action::Dispatch(name) => 260 + text(name),
    }
}
