//! `own/…`: what this host's own processes send to a logical address.

use plan::bucket;
use plan::split::Side;

use super::ask::{midway, yes};
use super::split::sides;
use crate::rules::host::Host;
use crate::rules::local::Local;
use crate::rules::mark::{self, Mark};
use crate::rules::table::{Action, Match, Rule, Transport};

/// Processes that are left alone: the agent itself, and the Envoy beside it.
pub(in crate::rules) fn exempt(host: &Host) -> Vec<Rule> {
    let rule = |of| Rule { matches: vec![of], actions: vec![Action::Return] };
    let mark = host.own_mark;
    let mut rules = vec![rule(Match::PacketMark { mask: mark.mask, value: mark.value })];
    rules.extend(host.capture.map(|capture| rule(Match::SocketUser(capture.user))));
    rules
}

/// The host is one client: a source address would not tell it from other hosts, because a process
/// that calls an address of its own host has that address as its source. So its side is not
/// computed in the kernel but stands in [`decided`].
pub(super) fn chain(local: &Local<'_>, mark: Mark) -> Vec<Rule> {
    let captured = local.captured();
    if captured.is_none() && local.own_left_alone() {
        return Vec::new();
    }
    let mut rules: Vec<Rule> = midway(local, mark).into_iter().collect();
    if let Some(capture) = captured {
        rules.push(Rule {
            matches: vec![Match::Transport(Transport::Tcp)],
            actions: vec![Action::Redirect(capture.port)],
        });
    }
    if local.own_left_alone() {
        return rules;
    }
    // Their source may be an address that the servers do not answer by way of this host.
    let bit = Action::MarkFlow { mask: mark::MASQUERADE, value: mark::MASQUERADE };
    let word = if local.draws() { "split" } else { "self" };
    rules.extend(sides(local, word, local.keeps_any().then_some(bit)));
    rules
}

/// `self/…`: the host's side, by its address. `None`: nothing asks.
pub(super) fn decided(local: &Local<'_>) -> Option<Vec<Rule>> {
    if local.draws() || local.own_left_alone() || !local.has_target(local.family) {
        return None;
    }
    let side = bucket::host(local.host.address, local.leaf.salt).side(local.split());
    Some((side == Side::Target).then(|| yes(None)).into_iter().collect())
}
