//! `postrouting`: with which address a flow leaves.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use plan::split::Side;

use super::fixed;
use crate::rules::host::Host;
use crate::rules::local::Local;
use crate::rules::mark::{self, Marks};
use crate::rules::table::{Action, Chain, Match, Rule};

/// The chain of [`proving`].
pub(super) const SOURCES: &str = "proving/sources";

/// Translated flows leave with an address of this host, so that answers come back this way. Where
/// the clients' addresses are kept, only those that would answer themselves do.
pub(in crate::rules) fn post(locals: &[Local<'_>], marks: &Marks) -> Vec<Rule> {
    let bit = Match::FlowMark { mask: mark::MASQUERADE, value: mark::MASQUERADE };
    let mut rules = vec![masquerade([bit])];
    for local in locals.iter().filter(|local| local.keeps_any()) {
        let Some(mark) = marks.of(&local.leaf.id) else { continue };
        let ours = Match::FlowMark { mask: mark::INDEX, value: mark.value(Side::Legacy, false) };
        for address in addresses(local) {
            let itself = [Match::Source(IpNet::from(address)), Match::Destination(address)];
            rules.push(masquerade([ours].into_iter().chain(itself)));
        }
    }
    rules
}

/// Before all that: the agent's own flows that prove return paths leave with an address of a
/// client. They are looked for only among the agent's own.
pub(super) fn proving(host: &Host) -> Option<(Rule, Chain)> {
    let own = Match::PacketMark { mask: host.own_mark.mask, value: host.own_mark.value };
    let look = Rule { matches: vec![own], actions: vec![Action::Goto(fixed(SOURCES))] };
    let leave = |(place, address): (u16, &IpAddr)| {
        let mark = host.own_mark.leaving_as(place);
        let of = Match::PacketMark { mask: mark.mask, value: mark.value };
        Rule { matches: vec![of, Match::LeavesHost], actions: vec![Action::LeaveAs(*address)] }
    };
    let rules: Vec<Rule> = (0..).zip(&host.sources).map(leave).collect();
    (!rules.is_empty()).then_some((look, Chain { hook: None, rules }))
}

fn masquerade(more: impl IntoIterator<Item = Match>) -> Rule {
    let matches = [Match::Translated, Match::LeavesHost].into_iter().chain(more).collect();
    Rule { matches, actions: vec![Action::Masquerade] }
}

/// Every address that a flow of the service can be sent to.
fn addresses(local: &Local<'_>) -> BTreeSet<IpAddr> {
    let pools = [local.leaf.serving.legacy(), local.leaf.serving.target()];
    let endpoints = pools.into_iter().flatten().flat_map(|pool| &pool.serving);
    endpoints.map(|endpoint| endpoint.address).collect()
}
