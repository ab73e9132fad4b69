//! Answers that say no (RFC 2308): the SOA in the authority section lets resolvers remember it.

use super::chain::Owner;
use super::{Answer, Section, Step};
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

    /// The SOA with the TTL of negative answers.
    pub(super) fn negative(&mut self, zone: &Zone) -> Result<(), Full> {
        let Some(set) = zone.tree().set(NodeId::APEX, Rtype::SOA) else { return Ok(()) };
        let set = set.with_ttl(zone.negative_ttl());
        let owner = Owner::unwritten(zone.origin().as_wire());
        self.set(zone.tree(), &set, &owner, Section::Authority)
    }
}
