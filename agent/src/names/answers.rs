//! What plan names are answered with: immutable, made of the leaves of this host's table.
//!
//! | asked | answer |
//! |---|---|
//! | a service with a logical address | that address; the other family is empty |
//! | one without | the addresses of the side that the DNS plane would tell this host |
//! | HTTPS, SVCB and any other type | empty: the address is all that is moved |
//! | a name under a plan name, or above | not ours: relayed |
//!
//! Empty answers carry an SOA whose TTL and MINIMUM are 0 (RFC 2308 section 5), so that no cache
//! remembers that a plan name had none.

#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dns::names::ADDRESSES_MAX;
use dns::wire::{CLASS_IN, Name, Query};
use plan::bucket::{self, Bucket};
use plan::client;
use plan::endpoint::Pool;
use plan::name::ServiceId;
use plan::snapshot::{Motion, Service, Serving};
use plan::spec::Affinity;
use plan::split::Side;

/// Longest TTL, in seconds, of a name whose service moves: how long a cache on this host can tell
/// an address that is no longer right.
pub const MOVING_TTL_MAX: u32 = 5;

/// Plan names and their answers for one host.
#[derive(Debug)]
pub struct Answers {
    host: IpAddr,
    leaves: Vec<Leaf>,
    /// Wire form in lower case to the place in `leaves` and that of the name in its service.
    names: HashMap<Box<[u8]>, (usize, usize)>,
}

#[derive(Debug)]
struct Leaf {
    service: Arc<Service>,
    logical: Option<IpAddr>,
    legacy: Vec<IpAddr>,
    target: Vec<IpAddr>,
    tally: Arc<Tally>,
}

/// Answers given, kept over the changes of a service.
#[derive(Debug, Default)]
struct Tally {
    logical: AtomicU64,
    legacy: AtomicU64,
    target: AtomicU64,
}

/// How often the names of one service were answered, by what was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The service.
    pub service: ServiceId,
    /// Its logical address.
    pub logical: u64,
    /// Addresses of the legacy side.
    pub legacy: u64,
    /// Addresses of the target side.
    pub target: u64,
}

/// What a message came over.
pub use dns::Transport;
pub(in crate::names) use write::servfail;

impl Answers {
    /// No plan names: everything is relayed.
    #[must_use]
    pub fn empty(host: IpAddr) -> Self {
        Self { host, leaves: Vec::new(), names: HashMap::new() }
    }

    /// The answers for these services to the processes of a host whose own address is `host`. A
    /// name of two services is answered by the first.
    #[must_use]
    pub fn of(host: IpAddr, services: &[Arc<Service>]) -> Self {
        Self::empty(host).next(services)
    }

    /// The answers for another table of the same host. Counters of services that stay go on.
    #[must_use]
    pub fn next(&self, services: &[Arc<Service>]) -> Self {
        let before: HashMap<&ServiceId, &Leaf> =
            self.leaves.iter().map(|leaf| (&leaf.service.id, leaf)).collect();
        let tally = |id| before.get(id).map(|leaf| leaf.tally.clone()).unwrap_or_default();
        let mut next = Self::empty(self.host);
        next.leaves = services.iter().map(|leaf| Leaf::new(leaf, tally(&leaf.id))).collect();
        for (at, service) in services.iter().enumerate() {
            for (host, name) in service.spec.hosts.iter().enumerate() {
                // A host name of a plan is a name; one that were none could not be asked for.
                let Ok(name) = Name::from_text(name.as_str()) else { continue };
                next.names.entry(name.as_wire().into()).or_insert((at, host));
            }
        }
        next
    }

    /// The address of the host that these answers are for.
    #[must_use]
    pub const fn host(&self) -> IpAddr {
        self.host
    }

    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Writes the answer of a plan name into `out` and gives true; false for everything that is to
    /// be relayed. `random` are 64 uniform bits: the draw of services without affinity, and which
    /// address comes first.
    pub fn respond(
        &self,
        query: &Query<'_>,
        transport: Transport,
        random: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        // What is no plain query (NOTIFY, UPDATE) speaks of zones, which are not ours.
        let Some(question) = query.question.as_ref().filter(|_| query.opcode == 0) else {
            return false;
        };
        let found = self.names.get(question.name.bytes());
        let Some(&(at, host)) = found.filter(|_| question.class == CLASS_IN) else { return false };
        let Some(leaf) = self.leaves.get(at) else { return false };
        let (side, addresses) = leaf.tell(self.host, random);
        leaf.tally.count(side);
        let answer = write::Answer { query, question, addresses, ttl: leaf.ttl(host), random };
        answer.write(transport, out);
        true
    }

    /// Every name with the addresses that this host is told, for a hosts file. Sorted.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, Vec<IpAddr>)> {
        let mut entries: Vec<_> = self
            .names
            .values()
            .filter_map(|&(at, host)| {
                let leaf = self.leaves.get(at)?;
                let name = leaf.service.spec.hosts.get(host)?;
                Some((name.as_str().to_owned(), leaf.tell(self.host, u64::MAX).1.to_vec()))
            })
            .collect();
        entries.sort_unstable();
        entries
    }

    /// How often each service was answered, in the order of the table.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.leaves.iter().map(Leaf::told).collect()
    }
}

impl Leaf {
    fn new(service: &Arc<Service>, tally: Arc<Tally>) -> Self {
        Self {
            service: service.clone(),
            logical: service.spec.address,
            legacy: addresses(service.serving.legacy()),
            target: addresses(service.serving.target()),
            tally,
        }
    }

    /// What a process of `host` is told, and of which side it is; no side: the logical address,
    /// under which the kernel splits.
    fn tell(&self, host: IpAddr, random: u64) -> (Option<Side>, &[IpAddr]) {
        if let Some(logical) = &self.logical {
            return (None, std::slice::from_ref(logical));
        }
        let side = self.side(host, random);
        match side {
            Side::Legacy => (Some(side), &self.legacy),
            Side::Target => (Some(side), &self.target),
        }
    }

    /// The side that the DNS plane tells a client with this address.
    fn side(&self, host: IpAddr, random: u64) -> Side {
        let service = &self.service;
        match &service.serving {
            Serving::Legacy { .. } => Side::Legacy,
            Serving::Target { .. } => Side::Target,
            Serving::Both { split, .. } => {
                let bucket = match service.spec.affinity {
                    Affinity::None => Bucket::from_bits(random),
                    Affinity::ClientIp | Affinity::Header(_) | Affinity::Cookie(_) => {
                        let client = client::key(&service.clients, host, None);
                        bucket::dns(client.key, service.salt)
                    }
                };
                bucket.side(*split)
            }
        }
    }

    /// Seconds that a name may be remembered.
    fn ttl(&self, host: usize) -> u32 {
        let ttl = self.service.ttls.get(host).copied().unwrap_or_default();
        match self.service.motion {
            Motion::Steady => ttl,
            Motion::Moving | Motion::RolledBack | Motion::Restored => ttl.min(MOVING_TTL_MAX),
        }
    }

    fn told(&self) -> Told {
        Told {
            service: self.service.id.clone(),
            logical: self.tally.logical.load(Ordering::Relaxed),
            legacy: self.tally.legacy.load(Ordering::Relaxed),
            target: self.tally.target.load(Ordering::Relaxed),
        }
    }
}

impl Tally {
    fn count(&self, side: Option<Side>) {
        let counter = match side {
            None => &self.logical,
            Some(Side::Legacy) => &self.legacy,
            Some(Side::Target) => &self.target,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The addresses that serve a side, each once, as the DNS plane tells them.
fn addresses(pool: Option<&Pool>) -> Vec<IpAddr> {
    let endpoints = pool.into_iter().flat_map(|pool| &pool.serving);
    let addresses: BTreeSet<IpAddr> = endpoints.map(|endpoint| endpoint.address).collect();
    addresses.into_iter().take(ADDRESSES_MAX).collect()
}
