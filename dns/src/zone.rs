//! Zone text to an immutable zone that is fast to look up.
//!
//! Text (RFC 1035 section 5, RFC 2308 section 4, RFC 3597 section 5) is read by
//! [`Zone::parse`]; every problem of a text is told at once. Files and `$INCLUDE` are the business
//! of [`mod@include`] and [`load`], so that the parser itself touches no file.
//!
//! Record data is read, checked and printed by one table of fields per type. A crate for it was
//! tried first; its text parser leaves out DNAME, DS, DNSKEY and the generic form.

mod draft;
pub mod include;
pub mod load;
mod location;
mod problem;
pub(crate) mod rdata;
mod read;
pub(crate) mod schema;
pub(crate) mod show;
pub(crate) mod svcb;
mod text;
pub(crate) mod tree;

use std::net::IpAddr;

use crate::wire::{Name, NameBuf, Rtype};
pub use include::{Included, Source};
pub use problem::Problem;
use tree::{NodeId, Set, Tree};

/// Longest text of one zone with its inclusions: 256 MiB, some five million records.
pub const TEXT_MAX: usize = 256 << 20;

/// Most errors told of one text: more do not help, and a wrong file must not fill memory.
pub const PROBLEMS_MAX: usize = 100;

/// Most warnings told of one text.
pub const WARNINGS_MAX: usize = 100;

/// An immutable zone.
#[derive(Clone, Debug)]
pub struct Zone {
    origin: Name,
    depth: usize,
    tree: Tree,
    negative_ttl: u32,
    warnings: Vec<Problem>,
}

impl Zone {
    /// Reads a zone.
    ///
    /// # Errors
    /// Every problem of the text, at most [`PROBLEMS_MAX`], in the order of their places.
    pub fn parse(origin: &Name, source: &Source) -> Result<Self, Vec<Problem>> {
        if source.text().len() > TEXT_MAX {
            let problem = format!("the zone is longer than {} MiB", TEXT_MAX >> 20);
            return Err(vec![source.problem(1, problem::Fault::new(problem, "split it"))]);
        }
        let mut findings = read::Findings::default();
        let draft = read::read(origin, source, &mut findings);
        let tree = draft.finish(origin, source, &mut findings);
        let warnings = findings.close()?;
        let depth = NameBuf::from_name(origin).labels();
        let mut zone = Self { origin: origin.clone(), depth, tree, negative_ttl: 0, warnings };
        zone.negative_ttl = zone.soa().map_or(0, |(ttl, data)| {
            // RFC 2308 section 5: the lesser of the SOA's TTL and its MINIMUM.
            let minimum = data.last_chunk::<4>().map_or(0, |octets| u32::from_be_bytes(*octets));
            ttl.min(minimum)
        });
        Ok(zone)
    }

    /// The zone that is served where a plan gives none: an SOA
    /// `ns1.<zone> hostmaster.<zone> 1 3600 600 86400 60` and an NS `ns1.<zone>`.
    #[must_use]
    pub fn own(origin: &Name) -> Self {
        let under = if origin.as_wire() == [0] { String::new() } else { origin.to_string() };
        let text = format!(
            "@ 3600 SOA ns1.{under} hostmaster.{under} 1 3600 600 86400 60\n@ 3600 NS ns1.{under}\n"
        );
        Self::parse(origin, &Source::new("", text)).unwrap_or_else(|_| Self::bare(origin))
    }

    /// Names so long that `hostmaster.` does not fit before them have no room for more.
    fn bare(origin: &Name) -> Self {
        let text = "@ 3600 SOA @ @ 1 3600 600 86400 60\n@ 3600 NS @\n";
        let zone = Self::parse(origin, &Source::new("", text));
        #[expect(clippy::expect_used, reason = "`@` is valid under every origin")]
        zone.expect("a fixed text")
    }

    /// The name of the apex.
    #[must_use]
    pub const fn origin(&self) -> &Name {
        &self.origin
    }

    /// What is odd but allowed.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Number of names, with those that exist only because names below them do.
    #[must_use]
    pub fn names(&self) -> usize {
        self.tree.len()
    }

    /// Octets of memory the zone takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.tree.memory()
    }

    /// The SERIAL of the SOA.
    #[must_use]
    pub fn serial(&self) -> u32 {
        let serial = self.soa().and_then(|(_, data)| {
            let from_end = data.get(data.len().checked_sub(20)?..)?;
            Some(u32::from_be_bytes(*from_end.first_chunk::<4>()?))
        });
        serial.unwrap_or(0)
    }

    /// The records in presentation format, one a line: owner, TTL, class, type and data.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.tree.ids().flat_map(move |id| {
            let owner = self.tree.name(id, &self.origin);
            self.tree.sets(id).iter().flat_map(move |set| {
                let owner = owner.clone();
                self.tree.records(set).map(move |data| {
                    let (rtype, shown) = (schema::name(set.rtype), show::data(set.rtype, data));
                    format!("{owner} {} IN {rtype} {shown}", set.ttl)
                })
            })
        })
    }

    /// Number of labels of the origin.
    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// TTL of negative answers.
    pub(crate) const fn negative_ttl(&self) -> u32 {
        self.negative_ttl
    }

    /// TTL and data of the SOA.
    pub(crate) fn soa(&self) -> Option<(u32, &[u8])> {
        let set: &Set = self.tree.set(NodeId::APEX, Rtype::SOA)?;
        self.tree.records(set).next().map(|data| (set.ttl, data))
    }
}

/// The type that a mnemonic or `TYPEnnn` says, `ANY` included.
#[must_use]
pub fn rtype(text: &str) -> Option<Rtype> {
    if text.eq_ignore_ascii_case("ANY") { Some(Rtype::ANY) } else { schema::by_text(text) }
}

/// The addresses that the zone text itself gives at `host`, by A, AAAA, CNAMEs inside the zone and
/// wildcards; empty when it has none or leaves the name to another zone.
#[must_use]
pub fn answers(zone: &Zone, host: &Name) -> Vec<IpAddr> {
    let mut name = NameBuf::from_name(host);
    let mut addresses = Vec::new();
    for _ in 0..crate::respond::CHAIN_MAX {
        let Some(node) = crate::respond::lookup::data_node(zone, &name) else { break };
        let tree = zone.tree();
        if let Some(cname) = tree.set(node, Rtype::CNAME) {
            let target = tree.records(cname).next().and_then(NameBuf::from_wire);
            let Some(target) = target else { break };
            name = target;
            continue;
        }
        for set in tree.sets(node) {
            for data in tree.records(set) {
                match set.rtype {
                    Rtype::A => addresses.extend(data.first_chunk::<4>().map(|o| IpAddr::from(*o))),
                    Rtype::AAAA => {
                        addresses.extend(data.first_chunk::<16>().map(|o| IpAddr::from(*o)));
                    }
                    _ => {}
                }
            }
        }
        break;
    }
    addresses
}

impl Zone {
    /// The name of the cut or DNAME in the zone text that hides `host`: no client is told what a
    /// plan says of it.
    #[must_use]
    pub fn occluder(&self, host: &Name) -> Option<Name> {
        let above = crate::respond::lookup::occluder(self, &NameBuf::from_name(host))?;
        Name::from_wire(above.bytes())
    }

    /// The target of the CNAME that the zone text has at `host` itself.
    #[must_use]
    pub fn cname_at(&self, host: &Name) -> Option<Name> {
        let name = NameBuf::from_name(host);
        let node = crate::respond::lookup::exact(self, &name)?;
        let set = self.tree.set(node, Rtype::CNAME)?;
        self.tree.records(set).next().and_then(Name::from_wire)
    }
}
