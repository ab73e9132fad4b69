//! Records as they were read, the rules that a zone must keep, and the step to a [`Tree`].

use std::collections::HashSet;

use super::include::Source;
use super::problem::Fault;
use super::rdata;
use super::read::Findings;
use super::schema;
use super::tree::{self, ARENA_MAX, NodeId, TooLarge, Tree};
use crate::wire::{Name, NameBuf, Rtype, TCP_MAX};

/// Octets a record takes in an answer besides its data, with a compressed owner.
const RECORD_FIXED: usize = 12;

/// Room an answer keeps for header, the longest question and OPT.
const ANSWER_FIXED: usize = 512;

#[derive(Clone, Copy)]
struct Raw {
    node: NodeId,
    ttl: u32,
    at: u32,
    line: u32,
    len: u16,
    rtype: Rtype,
}

/// A zone that is being read.
pub(crate) struct Draft {
    tree: Tree,
    data: Vec<u8>,
    records: Vec<Raw>,
}

impl Draft {
    pub(crate) fn new() -> Self {
        Self { tree: Tree::new(), data: Vec::new(), records: Vec::new() }
    }

    /// Adds a record; the first `depth` labels of `owner` are below the apex.
    pub(crate) fn add(
        &mut self,
        owner: &NameBuf,
        depth: usize,
        rtype: Rtype,
        ttl: u32,
        data: &[u8],
        line: u32,
    ) -> Result<(), TooLarge> {
        let mut node = NodeId::APEX;
        for label in (0..depth).rev() {
            node = self.tree.intern(node, owner.label(label))?;
        }
        if self.data.len() + data.len() > ARENA_MAX {
            return Err(TooLarge);
        }
        let at = u32::try_from(self.data.len()).map_err(|_| TooLarge)?;
        let len = u16::try_from(data.len()).map_err(|_| TooLarge)?;
        self.data.extend_from_slice(data);
        self.records.push(Raw { node, ttl, at, line, len, rtype });
        Ok(())
    }

    /// Checks the zone's rules and compiles it.
    pub(crate) fn finish(self, origin: &Name, source: &Source, findings: &mut Findings) -> Tree {
        let Self { tree, data, mut records } = self;
        records.sort_by_key(|raw| (raw.node, raw.rtype));
        let mut finisher = Finisher { tree, data, origin, source, findings };
        finisher.check_apex(&records);
        for of_node in records.chunk_by(|a, b| a.node == b.node) {
            finisher.check_node(of_node);
            for of_type in of_node.chunk_by(|a, b| a.rtype == b.rtype) {
                finisher.push(of_type);
            }
        }
        finisher.check_below_dname(&records);
        finisher.check_servers(&records);
        finisher.tree.shrink();
        finisher.tree
    }
}

struct Finisher<'s> {
    tree: Tree,
    data: Vec<u8>,
    origin: &'s Name,
    source: &'s Source,
    findings: &'s mut Findings,
}

impl Finisher<'_> {
    fn error(&mut self, line: u32, problem: String, fix: &str) {
        self.findings.error(self.source, line, Fault::new(problem, fix));
    }

    fn warn(&mut self, line: u32, problem: String, fix: &str) {
        self.findings.warn(self.source, line, Fault::new(problem, fix));
    }

    fn data(&self, raw: &Raw) -> &[u8] {
        let at = usize::try_from(raw.at).unwrap_or(usize::MAX);
        self.data.get(at..at.saturating_add(usize::from(raw.len))).unwrap_or_default()
    }

    /// The name of a node in text.
    fn name(&self, node: NodeId) -> String {
        self.tree.name(node, self.origin)
    }

    fn check_apex(&mut self, records: &[Raw]) {
        let apex =
            |rtype| records.iter().filter(move |r| r.node == NodeId::APEX && r.rtype == rtype);
        let mut soas = apex(Rtype::SOA);
        let first = soas.next();
        let second = soas.find(|raw| first.is_none_or(|first| self.data(raw) != self.data(first)));
        let has_ns = apex(Rtype::NS).next().is_some();
        let signed = apex(Rtype(48)).next().map(|raw| raw.line);
        let origin = self.origin.to_string();
        if first.is_none() {
            let fix = format!("add `{origin} SOA ns1.{origin} hostmaster.{origin} 1 1h 10m 1d 1m`");
            self.error(1, "the zone has no SOA at its apex".to_owned(), &fix);
        }
        if let (Some(first), Some(second)) = (first, second) {
            let (_, at) = self.source.place(first.line);
            let problem = format!("the zone has a second SOA; the first is in line {at}");
            self.error(second.line, problem, "remove one");
        }
        if !has_ns {
            let fix = format!("add `{origin} NS ns1.{origin}`");
            self.error(1, "the zone has no NS at its apex".to_owned(), &fix);
        }
        if let Some(line) = signed {
            let problem = "the zone has DNSSEC keys, but is served without signatures".to_owned();
            self.warn(line, problem, "remove the DS at the parent first");
        }
    }

    fn check_node(&mut self, records: &[Raw]) {
        let Some(node) = records.first().map(|raw| raw.node) else { return };
        let apex = node == NodeId::APEX;
        let of = |rtype| records.iter().filter(move |raw: &&Raw| raw.rtype == rtype);
        if let Some(raw) = of(Rtype::SOA).next().filter(|_| !apex) {
            let problem = format!("{} has an SOA but is not the apex", self.name(node));
            self.error(raw.line, problem, "remove it, or make a zone of it");
        }
        if let Some(cname) = of(Rtype::CNAME).next() {
            // RFC 2181 section 10.1; the types of DNSSEC may stand beside (RFC 4034 section 2.5).
            let beside =
                |raw: &&Raw| !matches!(raw.rtype, Rtype::CNAME | Rtype::RRSIG | Rtype::NSEC);
            if let Some(other) = records.iter().find(beside) {
                let other = schema::name(other.rtype);
                let problem = format!("{} has a CNAME and {other}", self.name(node));
                self.error(cname.line, problem, "a name with a CNAME has nothing else");
            }
        }
        for rtype in [Rtype::CNAME, Rtype::DNAME] {
            let first = of(rtype).next();
            let differs = |raw: &&Raw| first.is_some_and(|f| !self.same(raw, f));
            if let Some(second) = of(rtype).find(differs) {
                let problem = format!("{} has two {}s", self.name(node), schema::name(rtype));
                self.error(second.line, problem, "keep one");
            }
        }
        if let (Some(dname), Some(_), false) = (of(Rtype::DNAME).next(), of(Rtype::NS).next(), apex)
        {
            // RFC 6672 section 2.3.
            let problem = format!("{} has a DNAME and is a zone cut", self.name(node));
            self.error(dname.line, problem, "keep the DNAME or the NS records");
        }
    }

    fn same(&self, a: &Raw, b: &Raw) -> bool {
        rdata::canonical(a.rtype, self.data(a)) == rdata::canonical(b.rtype, self.data(b))
    }

    /// Compiles one record set: repeated records once, one TTL.
    fn push(&mut self, records: &[Raw]) {
        let Some(first) = records.first().copied() else { return };
        let ttl = records.iter().map(|raw| raw.ttl).min().unwrap_or(first.ttl);
        let type_name = schema::name(first.rtype);
        if let Some(raw) = records.iter().find(|raw| raw.ttl != first.ttl)
            && first.rtype != Rtype::RRSIG
        {
            // RFC 2181 section 5.2.
            let name = self.name(first.node);
            let problem = format!("the {type_name} records of {name} have different TTLs");
            self.warn(raw.line, problem, &format!("the least is served: {ttl}"));
        }
        let mut seen = HashSet::new();
        let mut keep = Vec::with_capacity(records.len());
        let mut size = ANSWER_FIXED;
        for raw in records {
            if records.len() > 1 && !seen.insert(rdata::canonical(raw.rtype, self.data(raw))) {
                continue;
            }
            size += RECORD_FIXED + usize::from(raw.len);
            keep.push(*raw);
        }
        if size > TCP_MAX {
            let name = self.name(first.node);
            let problem = format!("the {type_name} records of {name} fit no answer");
            return self.error(first.line, problem, "65535 octets are the most that DNS carries");
        }
        let at = |raw: &Raw| usize::try_from(raw.at).unwrap_or(usize::MAX);
        let Self { tree, data, .. } = self;
        let slices = keep.iter().map(|raw| {
            data.get(at(raw)..at(raw).saturating_add(usize::from(raw.len))).unwrap_or_default()
        });
        let pushed = tree.push_set(first.node, first.rtype, ttl, slices);
        match first.rtype {
            Rtype::NS if first.node != NodeId::APEX => tree.flag(first.node, tree::CUT),
            Rtype::DNAME => tree.flag(first.node, tree::DNAME),
            _ => {}
        }
        if pushed.is_err() {
            self.error(first.line, "the zone is too large".to_owned(), "split it into zones");
        }
    }

    /// RFC 6672 section 2.4: nothing exists below a DNAME.
    fn check_below_dname(&mut self, records: &[Raw]) {
        if !records.iter().any(|raw| raw.rtype == Rtype::DNAME) {
            return;
        }
        for of_node in records.chunk_by(|a, b| a.node == b.node) {
            let Some(raw) = of_node.first() else { continue };
            let mut above = self.tree.parent(raw.node);
            while let Some(node) = above {
                if self.tree.flags(node) & tree::DNAME != 0 {
                    let (name, dname) = (self.name(raw.node), self.name(node));
                    let problem = format!("{name} is below the DNAME at {dname}");
                    self.error(raw.line, problem, "remove it or the DNAME");
                    break;
                }
                above = self.tree.parent(node);
            }
        }
    }

    /// A name server inside the zone needs an address, else nobody reaches it.
    fn check_servers(&mut self, records: &[Raw]) {
        let apex = NameBuf::from_name(self.origin);
        for raw in records.iter().filter(|raw| raw.rtype == Rtype::NS) {
            let Some(target) = NameBuf::from_wire(self.data(raw)) else { continue };
            let depth = target.labels().checked_sub(apex.labels());
            let Some(depth) = depth.filter(|depth| target.suffix(*depth) == apex.bytes()) else {
                continue;
            };
            if !self.has_address(&target, depth) {
                let problem = format!("the name server {target} has no address in the zone");
                self.warn(raw.line, problem, "add an A or AAAA record");
            }
        }
    }

    fn has_address(&self, target: &NameBuf, depth: usize) -> bool {
        let mut node = NodeId::APEX;
        for label in (0..depth).rev() {
            let Some(child) = self.tree.child(node, target.label(label)) else {
                // A wildcard may hold it; a name below a cut belongs to others.
                return self.tree.flags(node) & (tree::WILD | tree::CUT) != 0;
            };
            node = child;
        }
        [Rtype::A, Rtype::AAAA].iter().any(|rtype| self.tree.set(node, *rtype).is_some())
    }
}
