//! From the question to its data, along CNAME and DNAME records as far as this server knows them.

use std::sync::Arc;

use super::lookup::{self, Place};
use super::referral::Pending;
use super::{Answer, Section, Step};
use crate::names::Host;
use crate::wire::write::Full;
use crate::wire::{Buffer, HEADER, NameBuf, Question, Rcode, Rtype};
use crate::zone::Zone;
use crate::zone::tree::{NodeId, Set, Tree};

/// Most aliases followed in one answer. A resolver goes on from the last one by itself.
pub const CHAIN_MAX: usize = 16;

/// TTL of the HINFO record that answers ANY.
const ANY_TTL: u32 = 3600;

/// Data of that record: CPU `RFC8482`, no OS (RFC 8482 section 4.2).
const ANY_DATA: &[u8] = b"\x07RFC8482\x00";

/// Highest offset that a compression pointer can say (RFC 1035 section 4.1.4).
const POINTER_MAX: u16 = 0x3fff;

/// The name that is being answered and where it is written.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) name: NameBuf,
    /// Its offset; beyond what a pointer can say, the name is written out.
    pub(super) at: u16,
}

impl Owner {
    /// A name that may not be in the answer yet.
    pub(super) fn unwritten(wire: &[u8]) -> Self {
        Self { name: NameBuf::from_wire(wire).unwrap_or_else(NameBuf::root), at: u16::MAX }
    }
}

/// Names of a chain by their offsets in the answer.
#[derive(Default)]
pub(super) struct Written {
    at: [u16; CHAIN_MAX],
    len: usize,
}

impl Written {
    fn hold(&self, out: &Buffer, name: &[u8]) -> bool {
        let written = self.at.get(..self.len).unwrap_or_default();
        written.iter().any(|at| out.is_at(usize::from(*at), name))
    }

    fn add(&mut self, at: u16) {
        if let Some(slot) = self.at.get_mut(self.len) {
            *slot = at;
            self.len += 1;
        }
    }
}

impl<'a> Answer<'a> {
    /// Answers the question.
    pub(super) fn resolve(&mut self, question: &Question) {
        let rtype = question.rtype;
        let at = u16::try_from(HEADER).unwrap_or_default();
        let mut owner = Owner { name: question.name.clone(), at };
        let mut visited = Written::default();
        let mut dnames = Written::default();
        for link in 0..CHAIN_MAX {
            let catalog = self.catalog;
            let Some(zone) = zone_for(catalog.zones(), &owner.name, rtype) else {
                if link == 0 {
                    self.refuse(Rcode::REFUSED, "the name is in no zone of this server");
                } else {
                    self.note(|| Step::Plain("the rest of the chain is in other zones"));
                }
                break;
            };
            self.note(|| Step::Zone(zone.origin().to_string()));
            if visited.hold(self.out, owner.name.bytes()) {
                self.note(|| Step::Plain("the chain comes back to a name in it"));
                break;
            }
            visited.add(owner.at);
            match self.one(zone, &owner, rtype, &mut dnames) {
                Ok(Some(next)) => owner = next,
                Ok(None) => break,
                Err(Full) => {
                    self.truncated = true;
                    return;
                }
            }
        }
        self.add_addresses();
    }

    /// Answers for one name in its zone; gives the name to go on with when it is an alias.
    fn one(
        &mut self,
        zone: &'a Zone,
        owner: &Owner,
        rtype: Rtype,
        dnames: &mut Written,
    ) -> Result<Option<Owner>, Full> {
        let place = lookup::find(zone, self.catalog.names(), &owner.name);
        let (node, host) = match place {
            // RFC 4035 section 3.1.4.1: the parent answers for the DS of a cut.
            Place::Cut { node, above: 0 } if rtype == Rtype::DS => (Some(node), None),
            Place::Cut { node, above } => {
                // RFC 1034 section 4.3.2: not authoritative, but an alias that led here was.
                self.referral(zone, node, owner, above)?;
                return Ok(None);
            }
            Place::Dname { node, above } => {
                self.authoritative = true;
                return self.substitute(zone, node, owner, above, dnames);
            }
            Place::Exists { node, host } => (node, host),
            Place::Wildcard(node) => {
                self.note(|| Step::Plain("a wildcard stands for the name"));
                (Some(node), None)
            }
            Place::Missing => {
                self.authoritative = true;
                self.rcode = Rcode::NXDOMAIN;
                self.note(|| Step::Plain("the name does not exist"));
                self.negative(zone)?;
                return Ok(None);
            }
        };
        self.authoritative = true;
        match host {
            Some(host) => self.plan_data(zone, node, host, owner, rtype),
            None => self.zone_data(zone, node, owner, rtype),
        }
    }

    /// Data of a name that the plan owns: its addresses, and of the zone text all but addresses and
    /// a CNAME, which the plan's name replaces.
    fn plan_data(
        &mut self,
        zone: &'a Zone,
        node: Option<NodeId>,
        host: Host,
        owner: &Owner,
        rtype: Rtype,
    ) -> Result<Option<Owner>, Full> {
        let set = node.and_then(|node| zone.tree().set(node, rtype));
        match (rtype, set) {
            (Rtype::A | Rtype::AAAA, _) => {
                if !self.addresses(host, owner, rtype)? {
                    self.no_address(zone, host)?;
                }
            }
            (Rtype::ANY, _) => self.any(owner)?,
            (Rtype::HTTPS | Rtype::SVCB, Some(set)) => self.bindings(zone, set, host, owner)?,
            (Rtype::CNAME, _) | (_, None) => self.no_data(zone)?,
            (_, Some(set)) => self.found(zone, set, owner)?,
        }
        Ok(None)
    }

    /// Data of a name that only the zone text has, if it has any.
    fn zone_data(
        &mut self,
        zone: &'a Zone,
        node: Option<NodeId>,
        owner: &Owner,
        rtype: Rtype,
    ) -> Result<Option<Owner>, Full> {
        let tree = zone.tree();
        let sets = node.map(|node| tree.sets(node)).unwrap_or_default();
        // RFC 4035 section 2.5: these two stand beside a CNAME, so it does not answer for them.
        let beside = matches!(rtype, Rtype::RRSIG | Rtype::NSEC);
        if let Some(cname) = sets.iter().find(|set| set.rtype == Rtype::CNAME && !beside) {
            self.note(|| Step::Plain("the name is an alias"));
            let target = self.alias(zone.tree(), cname, owner)?;
            return Ok(target.filter(|_| !matches!(rtype, Rtype::CNAME | Rtype::ANY)));
        }
        let wanted = if rtype == Rtype::ANY { Rtype::HINFO } else { rtype };
        match sets.iter().find(|set| set.rtype == wanted) {
            Some(set) => self.found(zone, set, owner)?,
            None if rtype == Rtype::ANY && !sets.is_empty() => self.any(owner)?,
            None => self.no_data(zone)?,
        }
        Ok(None)
    }

    fn found(&mut self, zone: &'a Zone, set: &Set, owner: &Owner) -> Result<(), Full> {
        self.note(|| Step::Plain("the zone has these records"));
        self.set(zone.tree(), set, owner, Section::Answer)?;
        self.pending = Pending::of(zone, set);
        Ok(())
    }

    /// RFC 8482 section 4.2: the least that satisfies a question for everything.
    fn any(&mut self, owner: &Owner) -> Result<(), Full> {
        self.note(|| Step::Plain("ANY is answered with one HINFO record"));
        let mark = self.out.mark();
        let written = self.head_at(owner, Rtype::HINFO, ANY_TTL).and_then(|length| {
            self.out.put(ANY_DATA)?;
            self.out.finish_data(length);
            Ok(())
        });
        written.inspect_err(|_| self.out.rewind(mark))?;
        self.count(Section::Answer, 1);
        Ok(())
    }

    /// Writes a CNAME and gives its target.
    fn alias(&mut self, tree: &Tree, set: &Set, owner: &Owner) -> Result<Option<Owner>, Full> {
        let Some(data) = tree.records(set).next() else { return Ok(None) };
        self.cname(owner, set.ttl, data)
    }

    fn cname(&mut self, owner: &Owner, ttl: u32, target: &[u8]) -> Result<Option<Owner>, Full> {
        let mark = self.out.mark();
        let written = self.head_at(owner, Rtype::CNAME, ttl).and_then(|length| {
            let at = self.out.name(target)?;
            self.out.finish_data(length);
            Ok(at)
        });
        let at = written.inspect_err(|_| self.out.rewind(mark))?;
        self.count(Section::Answer, 1);
        Ok(NameBuf::from_wire(target).map(|name| Owner { name, at }))
    }

    /// A DNAME with the CNAME that it makes (RFC 6672 section 3.1).
    fn substitute(
        &mut self,
        zone: &'a Zone,
        node: NodeId,
        owner: &Owner,
        above: usize,
        dnames: &mut Written,
    ) -> Result<Option<Owner>, Full> {
        let tree = zone.tree();
        let Some(set) = tree.set(node, Rtype::DNAME) else { return Ok(None) };
        let Some(target) = tree.records(set).next().and_then(NameBuf::from_wire) else {
            return Ok(None);
        };
        self.note(|| Step::Plain("a DNAME above the name substitutes it"));
        let dname = Owner::unwritten(owner.name.suffix(above));
        // A chain may come by twice; an answer holds a record once (RFC 2181 section 5).
        if !dnames.hold(self.out, dname.name.bytes()) {
            dnames.add(u16::try_from(self.out.len()).unwrap_or(u16::MAX));
            self.set(tree, set, &dname, Section::Answer)?;
        }
        let Some(name) = owner.name.graft(above, &target) else {
            self.rcode = Rcode::YXDOMAIN;
            self.note(|| Step::Plain("the substituted name is too long"));
            return Ok(None);
        };
        let next = self.cname(owner, set.ttl, name.bytes())?;
        let follow = self
            .query
            .question
            .as_ref()
            .is_none_or(|question| !matches!(question.rtype, Rtype::CNAME | Rtype::ANY));
        Ok(next.filter(|_| follow))
    }

    /// Owner, type, class, TTL and room for the length, whose place is given.
    pub(super) fn head_at(&mut self, owner: &Owner, rtype: Rtype, ttl: u32) -> Result<usize, Full> {
        if owner.at <= POINTER_MAX {
            self.out.head(owner.at, rtype.0, ttl)
        } else {
            self.out.head_named(owner.name.bytes(), rtype.0, ttl).map(|(_, length)| length)
        }
    }

    /// Writes a whole record set or nothing.
    pub(super) fn set(
        &mut self,
        tree: &Tree,
        set: &Set,
        owner: &Owner,
        section: Section,
    ) -> Result<(), Full> {
        let mark = self.out.mark();
        for data in tree.records(set) {
            let written = self.head_at(owner, set.rtype, set.ttl).and_then(|length| {
                self.data(set.rtype, data)?;
                self.out.finish_data(length);
                Ok(())
            });
            written.inspect_err(|_| self.out.rewind(mark))?;
        }
        self.count(section, set.count);
        Ok(())
    }

    /// A record's data; names in it are compressed where RFC 3597 section 4 allows.
    fn data(&mut self, rtype: Rtype, data: &[u8]) -> Result<(), Full> {
        match rtype.0 {
            2..=5 | 7..=9 | 12 => self.out.name(data).map(|_| ()),
            15 => {
                let (preference, name) = data.split_at_checked(2).unwrap_or((data, &[0]));
                self.out.put(preference)?;
                self.out.name(name).map(|_| ())
            }
            6 | 14 => {
                let first = NameBuf::from_wire(data).map_or(0, |name| name.bytes().len());
                let rest = data.get(first..).unwrap_or_default();
                let second = NameBuf::from_wire(rest).map_or(0, |name| name.bytes().len());
                self.out.name(data.get(..first).unwrap_or_default())?;
                self.out.name(rest.get(..second).unwrap_or_default())?;
                self.out.put(rest.get(second..).unwrap_or_default())
            }
            _ => self.out.put(data),
        }
    }
}

/// The zone that answers for a name; for the DS of an apex that of its parent, if it is here.
fn zone_for<'c>(
    zones: &'c crate::catalog::Zones,
    name: &NameBuf,
    rtype: Rtype,
) -> Option<&'c Arc<Zone>> {
    let zone = zones.find(name)?;
    if rtype != Rtype::DS || zone.depth() != name.labels() || zone.depth() == 0 {
        return Some(zone);
    }
    zones.find_within(name, name.labels() - 1).or(Some(zone))
}
