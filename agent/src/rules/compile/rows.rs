//! Rows of clients: who is split by the host plane.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ipnet::IpNet;
use plan::Plane;
use plan::spec::Clients;

use super::ask;
use crate::rules::local::Local;
use crate::rules::table::{Action, Family, Match, Rule};

/// The rows of each plan as rules need them; services of a plan share theirs.
#[derive(Default)]
pub(super) struct Rows(BTreeMap<(usize, Family), Rc<[Row]>>);

/// One network of a row.
#[derive(Clone, Copy, Debug)]
struct Row {
    net: IpNet,
    who: Who,
}

/// What a network means to the host plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// It is split here.
    Split,
    /// It is not.
    Others,
}

impl Rows {
    /// `clients/…`: the first row that holds the source says who it is. Nothing: nobody is split.
    pub(super) fn chain(&mut self, local: &Local<'_>) -> Vec<Rule> {
        let clients = &local.leaf.clients;
        let key = (Arc::as_ptr(clients).addr(), local.family);
        let nets = self.0.entry(key).or_insert_with(|| networks(clients, local.family));
        let rule = |row: &Row| {
            let mut rule = match row.who {
                Who::Split => ask::yes(Some(Match::Source(row.net))),
                Who::Others => Rule { matches: vec![Match::Source(row.net)], actions: Vec::new() },
            };
            rule.actions.push(Action::Return);
            rule
        };
        nets.iter().map(rule).collect()
    }
}

/// The networks of this family in order. Those that are not split stand only where a later network
/// that is split overlaps them.
fn networks(clients: &Clients, family: Family) -> Rc<[Row]> {
    let all = clients.rows.iter().flat_map(|row| {
        let who = if row.plane == Plane::Host { Who::Split } else { Who::Others };
        row.networks.iter().map(move |net| Row { net: net.trunc(), who })
    });
    let all: Vec<Row> = all.filter(|row| Family::of(row.net.addr()) == family).collect();
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    let decides = |at: usize, row: &Row| {
        let mut later = all.iter().skip(at + 1).filter(|later| later.who == Who::Split);
        later.any(|later| overlaps(&row.net, &later.net))
    };
    let kept = all.iter().enumerate();
    let kept = kept.filter(|(at, row)| row.who == Who::Split || decides(*at, row));
    kept.map(|(_, row)| *row).collect()
}
