//! A kernel in memory, with the semantics of nftables' NAT: for tests, and to hold a table against
//! what is predicted.
//!
//! What is modelled, because the rules rely on it:
//!
//! - only the first packet of a flow is looked at; later ones keep what was decided, whatever the
//!   tables say by then;
//! - TCP that opens nothing begins a flow all the same, where none is known;
//! - the base chains of all tables are called by their priorities; once one of them has bound the
//!   flow, also to where it goes anyway, later ones are not called;
//! - `goto` does not come back, `jump` does, `return` goes to where the last `jump` was, `accept`
//!   ends a table but not the others;
//! - a rule for the other family does nothing; a lookup without a match, and a full set, end their
//!   rule and not their chain.

mod check;
mod flow;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use plan::split::Side;

pub use self::check::Refused;
pub use self::flow::{Flow, Packet, Sender};
use self::walk::Walk;
use crate::dataplane::Forget;
use crate::rules::mark;
use crate::rules::table::{Family, Hook, Name, Table, Transport};

/// The most flows that are kept; more are not expected of a test.
const FLOWS_MAX: usize = 1 << 20;

/// A host with tables and flows.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    own: BTreeSet<IpAddr>,
    tables: BTreeMap<Name, Arc<Table>>,
    counters: BTreeMap<(Name, Name), u64>,
    noted: BTreeMap<(Name, Name), BTreeMap<IpNet, Noted>>,
    flows: BTreeMap<Packet, Flow>,
    /// Seconds since it began.
    now: u64,
    draws: u64,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    flows: u64,
    until: u64,
}

impl Kernel {
    /// A host with these addresses and no tables. `draws` begins its random numbers, so that a run
    /// can be repeated.
    pub fn new(own: impl IntoIterator<Item = IpAddr>, draws: u64) -> Self {
        Self { own: own.into_iter().collect(), draws, ..Self::default() }
    }

    /// Puts a table, in place of one of this name. Counters and noted networks of names that stay
    /// go on, as in a transaction that does not touch them.
    ///
    /// # Errors
    /// The kernel would not take it; it holds what it held.
    pub fn put(&mut self, table: Table) -> Result<(), Refused> {
        check::table(&table)?;
        let name = table.name.clone();
        self.counters.retain(|(of, part), _| *of != name || table.counters.contains(part));
        self.noted.retain(|(of, part), _| *of != name || table.stragglers.contains_key(part));
        self.tables.insert(name, Arc::new(table));
        Ok(())
    }

    /// Takes a table out, with all that was counted; whether it was there.
    pub fn delete(&mut self, name: &Name) -> bool {
        self.counters.retain(|(of, _), _| of != name);
        self.noted.retain(|(of, _), _| of != name);
        self.tables.remove(name).is_some()
    }

    /// The table of this name.
    pub fn table(&self, name: &Name) -> Option<&Table> {
        self.tables.get(name).map(AsRef::as_ref)
    }

    /// A packet arrives from another host.
    pub fn receive(&mut self, packet: Packet) -> Flow {
        self.pass(packet, None, false)
    }

    /// A packet arrives of a connection that was opened before, but the kernel may not know of it.
    pub fn receive_midway(&mut self, packet: Packet) -> Flow {
        self.pass(packet, None, true)
    }

    /// A process of this host sends a packet.
    pub fn send(&mut self, packet: Packet, sender: Sender) -> Flow {
        self.pass(packet, Some(sender), false)
    }

    fn pass(&mut self, packet: Packet, sender: Option<Sender>, midway: bool) -> Flow {
        if let Some(flow) = self.flows.get(&packet) {
            return *flow;
        }
        let mut walk = Walk::new(packet, sender, midway);
        let first = if sender.is_some() { Hook::Output } else { Hook::Prerouting };
        self.call(first, &mut walk);
        walk.leaves = !self.is_local(walk.flow.destination.ip());
        // What arrives for a process of this host is not sent again.
        if walk.leaves || sender.is_some() {
            self.call(Hook::Postrouting, &mut walk);
        }
        if self.flows.len() < FLOWS_MAX {
            self.flows.insert(packet, walk.flow);
        }
        walk.flow
    }

    /// Calls the base chains of a hook until one has bound the flow.
    fn call(&mut self, hook: Hook, walk: &mut Walk) {
        let mut bases = Vec::new();
        for table in self.tables.values() {
            for (name, chain) in &table.chains {
                if let Some((at, priority)) = chain.hook
                    && at == hook
                {
                    bases.push((priority, Arc::clone(table), name.clone()));
                }
            }
        }
        bases.sort_by_key(|(priority, ..)| *priority);
        walk.enter(hook);
        for (_, table, name) in bases {
            walk.chain(self, &table, &name);
            if walk.is_bound() {
                return;
            }
        }
    }

    /// Forgets flows of any number of services.
    pub fn forget(&mut self, which: &Forget) {
        self.flows.retain(|packet, flow| {
            let value = flow.mark & (mark::SIDE | mark::INDEX);
            let is_its = |(mark, side): &(mark::Mark, Side)| mark.value(*side, false) == value;
            let on_target = value & mark::SIDE != 0;
            let is_older = value & mark::INDEX == 0 || (on_target && !flow.translated);
            let found = match is_older {
                true => which.older.contains(&packet.key()),
                false => which.marked.iter().any(is_its) && (flow.translated || !which.translated),
            };
            let is_spared = packet.transport != Transport::Udp && !which.connections;
            is_spared || !found
        });
    }

    /// How many flows a counter has seen; 0 where there is none.
    pub fn counter(&self, table: &Name, counter: &Name) -> u64 {
        self.counters.get(&(table.clone(), counter.clone())).copied().unwrap_or_default()
    }

    /// The networks in a set of stragglers, with their flows.
    pub fn stragglers(&self, table: &Name, set: &Name) -> BTreeMap<IpNet, u64> {
        let noted = self.noted.get(&(table.clone(), set.clone())).into_iter().flatten();
        let noted = noted.filter(|(_, noted)| noted.until > self.now);
        noted.map(|(net, noted)| (*net, noted.flows)).collect()
    }

    /// Time passes.
    pub fn advance(&mut self, seconds: u64) {
        self.now += seconds;
    }

    fn is_local(&self, address: IpAddr) -> bool {
        self.own.contains(&address) || address.is_loopback()
    }

    /// The address of this family that flows leave with.
    fn leaving(&self, family: Family) -> Option<IpAddr> {
        self.own.iter().copied().find(|own| Family::of(*own) == family)
    }

    fn count(&mut self, table: &Name, counter: &Name) {
        *self.counters.entry((table.clone(), counter.clone())).or_default() += 1;
    }

    /// Notes a network; `false`: the set is full.
    fn note(&mut self, table: &Table, set: &Name, source: IpAddr) -> bool {
        let Some(of) = table.stragglers.get(set) else { return false };
        let Ok(net) = IpNet::new(source, of.prefix) else { return false };
        let now = self.now;
        let noted = self.noted.entry((table.name.clone(), set.clone())).or_default();
        noted.retain(|_, noted| noted.until > now);
        let room = usize::try_from(of.size).unwrap_or(usize::MAX);
        if !noted.contains_key(&net.trunc()) && noted.len() >= room {
            return false;
        }
        let noted = noted.entry(net.trunc()).or_insert(Noted { flows: 0, until: 0 });
        noted.flows += 1;
        noted.until = now + u64::from(of.timeout_seconds);
        true
    }

    /// 0 to 9 999, by a xorshift of 64 bits.
    fn draw(&mut self) -> u16 {
        let mut x = self.draws | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.draws = x;
        plan::Bucket::from_bits(x).number()
    }
}
