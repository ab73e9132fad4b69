//! Referrals, and the addresses of the hosts that an answer names.

use super::chain::Owner;
use super::lookup::{self, Place};
use super::{Answer, Section, Step};
use crate::wire::write::Full;
use crate::wire::{NameBuf, Rtype};
use crate::zone::Zone;
use crate::zone::tree::{NodeId, Set};

/// Most hosts of one answer whose addresses are added: a courtesy that must stay cheap.
const HOSTS_MAX: usize = 32;

/// The record set whose hosts' addresses are added once the answer stands, and its zone.
#[derive(Clone, Copy, Default)]
pub(super) struct Pending<'a>(Option<(&'a Zone, Set)>);

impl<'a> Pending<'a> {
    /// For an answer with this set: NS, MX and SRV name hosts.
    pub(super) fn of(zone: &'a Zone, set: &Set) -> Self {
        let names_hosts = matches!(set.rtype, Rtype::NS | Rtype::MX | Rtype::SRV);
        Self(names_hosts.then_some((zone, *set)))
    }
}

impl Answer<'_> {
    /// The NS records of a cut, not authoritative (RFC 1034 section 4.3.2 step 3b). No DS: this
    /// server serves no signatures, and a DS without one proves nothing (RFC 4035 section 3.1.4.1).
    pub(super) fn referral(
        &mut self,
        zone: &Zone,
        node: NodeId,
        owner: &Owner,
        above: usize,
    ) -> Result<(), Full> {
        let cut = Owner::unwritten(owner.name.suffix(above));
        self.note(|| Step::Name(format!("{} is delegated", cut.name)));
        let Some(set) = zone.tree().set(node, Rtype::NS) else { return Ok(()) };
        self.set(zone.tree(), set, &cut, Section::Authority)?;
        self.glue(zone, set, &cut.name)
    }

    /// RFC 9471 section 3.1: all addresses of servers inside the delegated zone, else TC; those of
    /// other servers when there is room.
    fn glue(&mut self, zone: &Zone, set: &Set, cut: &NameBuf) -> Result<(), Full> {
        for inside in [true, false] {
            // Of those inside none may be missing; the NS records themselves bound their number.
            let most = if inside { usize::from(set.count) } else { HOSTS_MAX };
            for data in zone.tree().records(set).take(most) {
                let Some(host) = NameBuf::from_wire(data) else { continue };
                if is_within(&host, cut) != inside {
                    continue;
                }
                let added = self.host_addresses(zone, &host);
                if added.is_err() {
                    return if inside { added } else { Ok(()) };
                }
            }
        }
        Ok(())
    }

    /// The addresses of hosts that NS, MX and SRV records in the answer name. What does not fit is
    /// left out; a client asks for it.
    pub(super) fn add_addresses(&mut self) {
        let Pending(Some((zone, set))) = self.pending else { return };
        let at = match set.rtype {
            Rtype::MX => 2,
            Rtype::SRV => 6,
            _ => 0,
        };
        let hosts = || zone.tree().records(&set).take(HOSTS_MAX).filter_map(|data| data.get(at..));
        for (index, host) in hosts().enumerate() {
            // Records that differ in preference or port may name one host.
            if hosts().take(index).any(|before| before.eq_ignore_ascii_case(host)) {
                continue;
            }
            let Some(host) = NameBuf::from_wire(host) else { continue };
            if self.host_addresses(zone, &host).is_err() {
                return;
            }
        }
    }

    /// Adds A and AAAA records of a host inside `zone`.
    fn host_addresses(&mut self, zone: &Zone, host: &NameBuf) -> Result<(), Full> {
        let apex = zone.origin().as_wire();
        let depth = host.labels().checked_sub(zone.depth());
        if depth.is_none_or(|depth| host.suffix(depth) != apex) {
            return Ok(());
        }
        let owner = Owner::unwritten(host.bytes());
        let (node, plan_host) = match lookup::find(zone, self.catalog.names(), host) {
            Place::Exists { node, host } => (node, host),
            Place::Wildcard(node) => (Some(node), None),
            Place::Cut { .. } => (glue_node(zone, host), None),
            Place::Dname { .. } | Place::Missing => (None, None),
        };
        for rtype in [Rtype::A, Rtype::AAAA] {
            if let Some(plan_host) = plan_host {
                self.addresses_in(plan_host, &owner, rtype, Section::Additional)?;
            } else if let Some(set) = node.and_then(|node| zone.tree().set(node, rtype)) {
                self.set(zone.tree(), set, &owner, Section::Additional)?;
            }
        }
        Ok(())
    }
}

/// The node of a glue name, which lies at or below a cut.
fn glue_node(zone: &Zone, host: &NameBuf) -> Option<NodeId> {
    let tree = zone.tree();
    let mut node = NodeId::APEX;
    for label in (0..host.labels().checked_sub(zone.depth())?).rev() {
        node = tree.child(node, host.label(label))?;
    }
    Some(node)
}

fn is_within(name: &NameBuf, zone: &NameBuf) -> bool {
    let depth = name.labels().checked_sub(zone.labels());
    depth.is_some_and(|depth| name.suffix(depth) == zone.bytes())
}
