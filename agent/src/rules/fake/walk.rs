//! One packet's way through the chains of a table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use plan::bucket;

use super::{Flow, Kernel, Packet, Sender};
use crate::rules::table::{Action, Family, Hook, Key, Match, Name, Table, Transport};

pub(super) struct Walk {
    packet: Packet,
    sender: Option<Sender>,
    hook: Hook,
    bound: bool,
    pub(super) flow: Flow,
    /// It does not end at this host.
    pub(super) leaves: bool,
    /// It opens nothing.
    midway: bool,
}

/// What a chain says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The table is done with it.
    Accept,
    /// On with the rule after the last jump.
    Return,
}

/// What an action says of a packet.
enum Next {
    Action,
    Rule,
    End(Verdict),
}

impl Walk {
    pub(super) const fn new(packet: Packet, sender: Option<Sender>, midway: bool) -> Self {
        let flow = Flow {
            source: packet.source,
            destination: packet.destination,
            mark: 0,
            translated: false,
            masqueraded: false,
        };
        let (hook, leaves) = (Hook::Prerouting, false);
        Self { packet, sender, hook, bound: false, flow, leaves, midway }
    }

    pub(super) const fn enter(&mut self, hook: Hook) {
        self.hook = hook;
        self.bound = false;
    }

    pub(super) const fn is_bound(&self) -> bool {
        self.bound
    }

    pub(super) fn chain(&mut self, kernel: &mut Kernel, table: &Table, name: &Name) {
        self.rules(kernel, table, name);
    }

    /// Depth is bounded: the table was checked.
    fn rules(&mut self, kernel: &mut Kernel, table: &Table, name: &Name) -> Verdict {
        let rules = table.chains.get(name).map_or(&[][..], |chain| &chain.rules);
        for rule in rules {
            if !rule.matches.iter().all(|of| self.fits(kernel, of)) {
                continue;
            }
            for action in &rule.actions {
                match self.act(kernel, table, action) {
                    Next::Action => {}
                    Next::Rule => break,
                    Next::End(verdict) => return verdict,
                }
            }
        }
        Verdict::Return
    }

    const fn family(&self) -> Family {
        Family::of(self.packet.destination.ip())
    }

    fn fits(&self, kernel: &mut Kernel, of: &Match) -> bool {
        let source = self.flow.source.ip();
        match of {
            Match::Family(family) => self.family() == *family,
            Match::Transport(transport) => self.packet.transport == *transport,
            Match::Source(net) => net.contains(&source),
            Match::Destination(address) => self.flow.destination.ip() == *address,
            Match::SourceBucketBelow { family, seed, bound } => {
                self.family() == *family && bucket::host(source, u64::from(*seed)).number() < *bound
            }
            Match::DrawBelow { bound } => kernel.draw() < *bound,
            Match::SocketUser(user) => self.sender.is_some_and(|sender| sender.user == *user),
            Match::PacketMark { mask, value } => {
                self.sender.map_or(0, |sender| sender.mark) & mask == *value
            }
            Match::FlowMark { mask, value } => self.flow.mark & mask == *value,
            Match::Midway => self.midway && self.packet.transport == Transport::Tcp,
            Match::Translated => self.flow.translated,
            Match::LeavesHost => self.leaves,
        }
    }

    fn act(&mut self, kernel: &mut Kernel, table: &Table, action: &Action) -> Next {
        match action {
            Action::MarkFlow { mask, value } => {
                self.flow.mark = (self.flow.mark & !mask) | value;
                Next::Action
            }
            Action::Count(name) => {
                kernel.count(&table.name, name);
                Next::Action
            }
            Action::Note(name) => {
                if kernel.note(table, name, self.flow.source.ip()) {
                    Next::Action
                } else {
                    Next::Rule
                }
            }
            Action::Translate(to) if Family::of(to.ip()) != self.family() => Next::Action,
            Action::Translate(to) => self.translate(*to),
            Action::Redirect(port) => {
                let here = match self.family() {
                    Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
                };
                self.translate(SocketAddr::new(here, *port))
            }
            Action::Masquerade => {
                if let Some(address) = kernel.leaving(self.family()) {
                    self.flow.source.set_ip(address);
                }
                (self.flow.masqueraded, self.bound) = (true, true);
                Next::End(Verdict::Accept)
            }
            Action::LeaveAs(address) if Family::of(*address) != self.family() => Next::Action,
            Action::LeaveAs(address) => {
                self.flow.source.set_ip(*address);
                self.bound = true;
                Next::End(Verdict::Accept)
            }
            Action::Goto(name) => Next::End(self.rules(kernel, table, name)),
            Action::Jump(name) => match self.rules(kernel, table, name) {
                Verdict::Accept => Next::End(Verdict::Accept),
                Verdict::Return => Next::Action,
            },
            Action::Return => Next::End(Verdict::Return),
            Action::Accept => Next::End(Verdict::Accept),
            Action::Dispatch(name) => {
                let to = self.flow.destination;
                let transport = self.packet.transport;
                let key = Key { address: to.ip(), transport, port: to.port() };
                match table.dispatch.get(name).and_then(|map| map.chains.get(&key)) {
                    Some(chain) => Next::End(self.rules(kernel, table, chain)),
                    None => Next::Rule,
                }
            }
        }
    }

    fn translate(&mut self, to: SocketAddr) -> Next {
        let port = if to.port() == 0 { self.flow.destination.port() } else { to.port() };
        let to = SocketAddr::new(to.ip(), port);
        self.flow.translated = to != self.flow.destination;
        self.flow.destination = to;
        self.bound = true;
        Next::End(Verdict::Accept)
    }
}
