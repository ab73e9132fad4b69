//! `own/…`: what this host's own processes send to a logical address.

use plan::split::Side;
use plan::bucket;

use super::named;
use crate::rules::host::Host;
use crate::rules::local::Local;
use crate::rules::mark;
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
/// that calls an address of its own host has that address as its source. So the side is decided
/// here, by the host's address.
pub(super) fn chain(local: &Local<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(capture) = local.captured() {
        rules.push(Rule {
            matches: vec![Match::Transport(Transport::Tcp)],
            actions: vec![Action::Redirect(capture.port)],
        });
    }
    if local.own_left_alone() {
        return rules;
    }
    let word = if local.draws() {
        "split"
    } else {
        match bucket::host(local.host.address, local.leaf.salt).side(local.split()) {
            Side::Legacy => "legacy",
            Side::Target => "target",
        }
    };
    let mut actions = Vec::new();
    if local.keeps_source() {
        // Their source may be an address that the servers do not answer by way of this host.
        actions.push(Action::MarkFlow { mask: mark::MASQUERADE, value: mark::MASQUERADE });
    }
    actions.push(Action::Goto(named(word, &local.leaf.id)));
    rules.push(Rule { matches: Vec::new(), actions });
    rules
}
