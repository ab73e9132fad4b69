//! Answers that the plan weights: which side a client is told, and its addresses.
//!
//! A client's side depends on its bucket alone, never on the type asked for, the server or the
//! moment, so A, AAAA and the hints of HTTPS and SVCB agree everywhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use plan::bucket::{self, Bucket};
use plan::client::{self, Keyed};
use plan::snapshot::Serving;
use plan::spec::{Affinity, Plane};
use plan::split::{Side, Split};

use super::chain::Owner;
use super::{Answer, Context, Section, Seen, Step};
use crate::names::{Addresses, Host, Leaf};
use crate::wire::write::Full;
use crate::wire::{Ecs, NameBuf, Rtype};
use crate::zone::Zone;
use crate::zone::svcb::{IPV4HINT, IPV6HINT, MANDATORY, Params};
use crate::zone::tree::Set;

/// What a client is told of a service, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Who the client is.
    pub client: Keyed,
    /// The side; None where another plane splits the client, who is told the logical address.
    pub side: Option<Side>,
    /// The client's bucket; None where the side does not depend on it.
    pub bucket: Option<Bucket>,
    /// The service's split.
    pub split: Split,
}

impl Choice {
    /// What this client is told.
    fn of(leaf: &Leaf, context: &Context, ecs: Option<&Ecs>) -> Self {
        let service = leaf.service();
        let client = client::key(&service.clients, context.client, ecs.and_then(network));
        let split = service.serving.split();
        if client.plane != Plane::Dns && service.spec.address.is_some() {
            return Self { client, side: None, bucket: None, split };
        }
        let (side, bucket) = match &service.serving {
            Serving::Legacy { .. } => (Side::Legacy, None),
            Serving::Target { .. } => (Side::Target, None),
            Serving::Both { split, .. } => {
                let bucket = match service.spec.affinity {
                    Affinity::None => Bucket::from_bits(context.random),
                    // No header is seen here: the address stands for it.
                    Affinity::ClientIp | Affinity::Header(_) | Affinity::Cookie(_) => {
                        bucket::dns(client.key, service.salt)
                    }
                };
                (bucket.side(*split), Some(bucket))
            }
        };
        Self { client, side: Some(side), bucket, split }
    }

    fn addresses(self, leaf: &Leaf) -> &Addresses {
        match self.side {
            None => &leaf.logical,
            Some(Side::Legacy) => &leaf.legacy,
            Some(Side::Target) => &leaf.target,
        }
    }
}

/// The network that a query carries, unless it asks not to be told apart by one.
fn network(ecs: &Ecs) -> Option<IpNet> {
    if ecs.source == 0 {
        return None;
    }
    IpNet::new(ecs.address, ecs.source).ok().map(|net| match net {
        IpNet::V4(v4) => IpNet::V4(Ipv4Net::trunc(&v4)),
        IpNet::V6(v6) => IpNet::V6(Ipv6Net::trunc(&v6)),
    })
}

impl<'a> Answer<'a> {
    /// Writes the addresses of one family that this client is told; false when there are none.
    pub(super) fn addresses(
        &mut self,
        host: Host,
        owner: &Owner,
        rtype: Rtype,
    ) -> Result<bool, Full> {
        if let Some((leaf, choice)) = self.choose(host) {
            let key = choice.client.key;
            self.seen = choice.side.map(|side| Seen { service: host.service, side, key });
            self.note(|| Step::Plan { service: leaf.service().id.to_string(), choice });
        }
        self.addresses_in(host, owner, rtype, Section::Answer)
    }

    /// The same for any section, without telling that the client was told.
    pub(super) fn addresses_in(
        &mut self,
        host: Host,
        owner: &Owner,
        rtype: Rtype,
        section: Section,
    ) -> Result<bool, Full> {
        let Some((leaf, choice)) = self.choose(host) else { return Ok(false) };
        let addresses = choice.addresses(leaf);
        let ttl = leaf.ttl(host);
        let count = if rtype == Rtype::A {
            self.address_set(&addresses.v4, owner, rtype, ttl)?
        } else {
            self.address_set(&addresses.v6, owner, rtype, ttl)?
        };
        self.count(section, count);
        Ok(count > 0)
    }

    /// Writes all addresses, a different one first each time so that all are used.
    fn address_set<const N: usize>(
        &mut self,
        addresses: &[[u8; N]],
        owner: &Owner,
        rtype: Rtype,
        ttl: u32,
    ) -> Result<u16, Full> {
        let mark = self.out.mark();
        let turn = turn(self.context.random, addresses.len());
        let (before, from) = addresses.split_at_checked(turn).unwrap_or((&[], addresses));
        for octets in from.iter().chain(before) {
            let written = self.head_at(owner, rtype, ttl).and_then(|length| {
                self.out.put(octets)?;
                self.out.finish_data(length);
                Ok(())
            });
            written.inspect_err(|_| self.out.rewind(mark))?;
        }
        Ok(u16::try_from(addresses.len()).unwrap_or(u16::MAX))
    }

    /// The leaf of a plan name and what this client is told of it.
    fn choose(&mut self, host: Host) -> Option<(&'a Leaf, Choice)> {
        let leaf = self.catalog.names().leaf(host.service)?;
        let choice = Choice::of(leaf, self.context, self.ecs());
        self.scope = self.scope.max(choice.client.scope);
        Some((leaf, choice))
    }

    /// Writes HTTPS or SVCB records of a plan name. Their hints follow the side that the client is
    /// told; nothing else of them changes, and no hint appears where the zone text has none.
    pub(super) fn bindings(
        &mut self,
        zone: &'a Zone,
        set: &Set,
        host: Host,
        owner: &Owner,
    ) -> Result<(), Full> {
        self.note(|| Step::Plain("the zone has these records; their hints follow the plan"));
        let mark = self.out.mark();
        for data in zone.tree().records(set) {
            let written = self.binding(set, data, host, owner);
            written.inspect_err(|_| self.out.rewind(mark))?;
        }
        self.count(Section::Answer, set.count);
        Ok(())
    }

    fn binding(&mut self, set: &Set, data: &[u8], host: Host, owner: &Owner) -> Result<(), Full> {
        let hinted = hinted_host(data, owner, host, |name| self.catalog.names().find(name).0);
        let params = data.get(2..).and_then(NameBuf::from_wire).map(|name| 2 + name.bytes().len());
        let (fixed, params) = data.split_at_checked(params.unwrap_or(2)).unwrap_or((data, &[]));
        let has_hint = Params(params).any(|(key, _)| matches!(key, IPV4HINT | IPV6HINT));
        let choice = hinted.filter(|_| has_hint).and_then(|host| {
            self.choose(host).map(|(leaf, choice)| (choice.addresses(leaf), leaf.ttl(host)))
        });
        let Some((addresses, plan_ttl)) = choice else {
            let length = self.head_at(owner, set.rtype, set.ttl)?;
            self.out.put(data)?;
            self.out.finish_data(length);
            return Ok(());
        };
        // A hint must not outlive the addresses it stands for.
        let length = self.head_at(owner, set.rtype, set.ttl.min(plan_ttl))?;
        self.out.put(fixed)?;
        for (key, value) in Params(params) {
            match key {
                IPV4HINT => self.hint(key, &addresses.v4)?,
                IPV6HINT => self.hint(key, &addresses.v6)?,
                MANDATORY => self.mandatory(value, addresses)?,
                _ => {
                    self.out.put_u16(key)?;
                    self.out.put_u16(u16::try_from(value.len()).unwrap_or_default())?;
                    self.out.put(value)?;
                }
            }
        }
        self.out.finish_data(length);
        Ok(())
    }

    /// A hint with no address is left out: an empty one is malformed (RFC 9460 section 7.3).
    fn hint<const N: usize>(&mut self, key: u16, addresses: &[[u8; N]]) -> Result<(), Full> {
        if addresses.is_empty() {
            return Ok(());
        }
        self.out.put_u16(key)?;
        self.out.put_u16(u16::try_from(addresses.len() * N).map_err(|_| Full)?)?;
        addresses.iter().try_for_each(|octets| self.out.put(octets))
    }

    /// The mandatory keys without those of hints that are left out.
    fn mandatory(&mut self, value: &[u8], addresses: &Addresses) -> Result<(), Full> {
        let stays = |key: &[u8]| match key.first_chunk::<2>().map(|key| u16::from_be_bytes(*key)) {
            Some(IPV4HINT) => !addresses.v4.is_empty(),
            Some(IPV6HINT) => !addresses.v6.is_empty(),
            _ => true,
        };
        let count = value.chunks(2).filter(|key| stays(key)).count();
        if count == 0 {
            return Ok(());
        }
        self.out.put_u16(MANDATORY)?;
        self.out.put_u16(u16::try_from(count * 2).unwrap_or_default())?;
        value.chunks(2).filter(|key| stays(key)).try_for_each(|key| self.out.put(key))
    }
}

/// The plan name whose addresses a record's hints are: those of its TargetName, `.` being the owner
/// (RFC 9460 section 2.5). None when it is no plan name; its hints stay as they are.
fn hinted_host(
    data: &[u8],
    owner: &Owner,
    host: Host,
    find: impl Fn(&NameBuf) -> Option<Host>,
) -> Option<Host> {
    let target = data.get(2..).and_then(NameBuf::from_wire)?;
    let own = target.labels() == 0 || target.bytes() == owner.name.bytes();
    if own { Some(host) } else { find(&target) }
}

/// Which address comes first.
fn turn(random: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or_default();
    // The low half: the high one is the draw of services without affinity.
    let turn = (random & 0xffff_ffff).checked_rem(count).unwrap_or_default();
    usize::try_from(turn).unwrap_or_default()
}

/// The address of a client and the network it sends, from text: `192.0.2.1` is a resolver's
/// address, `192.0.2.0/24` a client's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The address that a query comes from.
    Address(IpAddr),
    /// The network that a resolver sends with a query.
    Network(IpNet),
}

/// The text is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address and no network; write `192.0.2.1` or `192.0.2.0/24`")]
pub struct ClientError(String);

impl std::str::FromStr for Client {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        text.parse().map(Self::Network).map_err(|_| ClientError(text.to_owned()))
    }
}

impl Client {
    /// The address a query of this client comes from; of a network some resolver's.
    pub(super) const fn source(self) -> IpAddr {
        match self {
            Self::Address(address) => address,
            Self::Network(IpNet::V4(_)) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::Network(IpNet::V6(_)) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}
