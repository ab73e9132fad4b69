//! The plan's names: which service a host name belongs to, and the addresses of its sides in wire
//! form.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use plan::endpoint::Endpoints;
use plan::name::ServiceId;
use plan::snapshot::Service;

use crate::wire::{Name, NameBuf};
use crate::zone::tree::{NodeId, Tree};

/// Most addresses of one side and family that are answered: as many AAAA records as an answer over
/// TCP holds with room to spare.
pub const ADDRESSES_MAX: usize = 2_000;

/// A node of the index that is no plan name.
const NO_HOST: u32 = u32::MAX;

/// The plan's names at one token. A shift replaces the leaves that changed and nothing else.
#[derive(Clone, Debug)]
pub struct Names {
    index: Arc<Index>,
    leaves: Arc<[Arc<Leaf>]>,
}

/// Host names as a tree from the root, so that a walk also finds the names above them.
#[derive(Debug)]
struct Index {
    tree: Tree,
    /// Of each node its place in `hosts`, or [`NO_HOST`].
    at: Vec<u32>,
    hosts: Vec<Host>,
}

/// A plan name: its service's place among the leaves and its own among the service's hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) service: u32,
    pub(crate) host: u32,
}

/// A service as DNS answers it.
#[derive(Debug)]
pub struct Leaf {
    service: Arc<Service>,
    pub(crate) legacy: Addresses,
    pub(crate) target: Addresses,
    pub(crate) logical: Addresses,
}

/// The addresses of a side in the form they travel.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) v4: Box<[[u8; 4]]>,
    pub(crate) v6: Box<[[u8; 16]]>,
}

impl Addresses {
    fn of(addresses: impl Iterator<Item = IpAddr>) -> Self {
        let addresses: BTreeSet<IpAddr> = addresses.collect();
        let v4 = addresses.iter().filter_map(|address| match address {
            IpAddr::V4(v4) => Some(v4.octets()),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().filter_map(|address| match address {
            IpAddr::V6(v6) => Some(v6.octets()),
            IpAddr::V4(_) => None,
        });
        Self { v4: v4.take(ADDRESSES_MAX).collect(), v6: v6.take(ADDRESSES_MAX).collect() }
    }

    fn of_side(endpoints: Option<&Endpoints>) -> Self {
        let endpoints = endpoints.into_iter().flatten();
        Self::of(endpoints.map(|endpoint| endpoint.address))
    }
}

impl Leaf {
    fn new(service: &Arc<Service>) -> Self {
        Self {
            service: service.clone(),
            legacy: Addresses::of_side(service.serving.legacy().map(|pool| &pool.serving)),
            target: Addresses::of_side(service.serving.target().map(|pool| &pool.serving)),
            logical: Addresses::of(service.spec.address.into_iter()),
        }
    }

    /// The TTL of one of its names: the zone's for steady or shifting, as the snapshot says.
    pub(crate) fn ttl(&self, host: Host) -> u32 {
        let own = usize::try_from(host.host).ok().and_then(|host| self.service.ttls.get(host));
        own.copied().unwrap_or_default()
    }

    /// The snapshot's leaf that this was made from.
    #[must_use]
    pub const fn service(&self) -> &Arc<Service> {
        &self.service
    }
}

impl Names {
    /// No names.
    #[must_use]
    pub fn empty() -> Self {
        Self { index: Arc::new(Index::of(&[])), leaves: Arc::new([]) }
    }

    /// The names of these services, which are sorted by id. Leaves of services that are the same
    /// `Arc` as before are kept; the index is kept while no host name comes or goes.
    #[must_use]
    pub fn next(&self, services: &[Arc<Service>]) -> Self {
        let mut before = self.leaves.iter().peekable();
        let leaves: Arc<[Arc<Leaf>]> = services
            .iter()
            .map(|service| {
                while before.next_if(|leaf| leaf.service.id < service.id).is_some() {}
                let old = before.next_if(|leaf| leaf.service.id == service.id);
                let same = old.filter(|leaf| Arc::ptr_eq(&leaf.service, service));
                same.cloned().unwrap_or_else(|| Arc::new(Leaf::new(service)))
            })
            .collect();
        let same_hosts = self.leaves.len() == leaves.len()
            && self.leaves.iter().zip(leaves.iter()).all(|(old, new)| same_hosts(old, new));
        let index = if same_hosts { self.index.clone() } else { Arc::new(Index::of(&leaves)) };
        Self { index, leaves }
    }

    /// The leaf of a service by its place, as [`crate::Seen::service`] gives it.
    #[must_use]
    pub fn leaf(&self, service: u32) -> Option<&Arc<Leaf>> {
        self.leaves.get(usize::try_from(service).ok()?)
    }

    /// The id of a service by its place, as [`crate::Seen::service`] gives it.
    #[must_use]
    pub fn id(&self, service: u32) -> Option<&ServiceId> {
        self.leaf(service).map(|leaf| &leaf.service.id)
    }

    /// Number of services.
    #[must_use]
    pub fn services(&self) -> usize {
        self.leaves.len()
    }

    /// The plan name that `name` is, and how many of its labels, counted from the root, exist as or
    /// above plan names.
    pub(crate) fn find(&self, name: &NameBuf) -> (Option<Host>, usize) {
        let mut node = NodeId::APEX;
        let mut depth = 0usize;
        for label in (0..name.labels()).rev() {
            let Some(child) = self.index.tree.child(node, name.label(label)) else { break };
            node = child;
            depth += 1;
        }
        let host = if depth == name.labels() { self.index.host(node) } else { None };
        (host, depth)
    }
}

fn same_hosts(old: &Arc<Leaf>, new: &Arc<Leaf>) -> bool {
    Arc::ptr_eq(old, new)
        || Arc::ptr_eq(&old.service.spec, &new.service.spec)
        || old.service.spec.hosts == new.service.spec.hosts
}

impl Index {
    fn of(leaves: &[Arc<Leaf>]) -> Self {
        let mut index = Self { tree: Tree::new(), at: vec![NO_HOST], hosts: Vec::new() };
        for (service, leaf) in (0u32..).zip(leaves) {
            for (host, name) in (0u32..).zip(&leaf.service.spec.hosts) {
                if let Ok(name) = Name::from_text(name.as_str()) {
                    index.insert(&NameBuf::from_name(&name), Host { service, host });
                }
            }
        }
        index.tree.shrink();
        index
    }

    fn insert(&mut self, name: &NameBuf, host: Host) {
        let mut node = NodeId::APEX;
        for label in (0..name.labels()).rev() {
            let Ok(child) = self.tree.intern(node, name.label(label)) else { return };
            node = child;
        }
        self.at.resize(self.tree.len(), NO_HOST);
        let Ok(place) = u32::try_from(self.hosts.len()) else { return };
        if let Some(slot) = usize::try_from(node.0).ok().and_then(|node| self.at.get_mut(node))
            && *slot == NO_HOST
        {
            *slot = place;
            self.hosts.push(host);
        }
    }

    fn host(&self, node: NodeId) -> Option<Host> {
        let place = *self.at.get(usize::try_from(node.0).ok()?)?;
        self.hosts.get(usize::try_from(place).ok()?).copied()
    }
}
