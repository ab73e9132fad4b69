//! Answers that say no (RFC 2308): the SOA in the authority section lets resolvers remember it.

use super::chain::Owner;
use super::{Answer, Section, Step};
use crate::names::Host;
use crate::wire::Rtype;
use crate::wire::write::Full;
use crate::zone::Zone;
use crate::zone::tree::NodeId;

impl Answer<'_> {
    /// The name exists, the type does not.
    pub(super) fn no_data(&mut self, zone: &Zone) -> Result<(), Full> {
        self.note(|| Step::Plain("the name exists without records of this type"));
        self.negative(zone)
    }

    /// The side that this client is told has no address of this family. The other side may have
    /// one, so the answer lives no longer than an address of the name would.
    pub(super) fn no_address(&mut self, zone: &Zone, host: Host) -> Result<(), Full> {
        self.note(|| Step::Plain("the side has no address of this family"));
        let names = self.catalog.names();
        let plan_ttl = names.leaf(host.service).map_or(0, |leaf| leaf.ttl(host));
        self.soa(zone, zone.negative_ttl().min(plan_ttl))
    }

    /// The SOA with the TTL of negative answers.
    pub(super) fn negative(&mut self, zone: &Zone) -> Result<(), Full> {
        self.soa(zone, zone.negative_ttl())
    }

    fn soa(&mut self, zone: &Zone, ttl: u32) -> Result<(), Full> {
        let Some(set) = zone.tree().set(NodeId::APEX, Rtype::SOA) else { return Ok(()) };
        let set = set.with_ttl(ttl);
        let owner = Owner::unwritten(zone.origin().as_wire());
        self.set(zone.tree(), &set, &owner, Section::Authority)
    }
}
