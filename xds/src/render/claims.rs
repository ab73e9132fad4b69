//! Who has a name or an address that two services want: the first by name. Envoy would refuse both,
//! and with them everything that came along.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use plan::ServiceId;
use plan::snapshot::Service;
use plan::spec::{Port, Protocol};

use crate::render::limit::Limit;
use crate::render::service::{is_split, ports};

/// Two services want what only one can have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Who does not get it.
    pub service: ServiceId,
    /// Who has it.
    pub with: ServiceId,
    /// What it is, in words.
    pub what: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no {}: {} has it", self.service, self.what, self.with)
    }
}

/// Who lost what.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    /// Who wants a listener in sidecars where others want one too, sorted: the first of those that
    /// a proxy sees has it.
    addresses: BTreeMap<SocketAddr, Vec<ServiceId>>,
    names: BTreeSet<(ServiceId, String)>,
    pub(super) conflicts: Vec<Conflict>,
}

impl Claims {
    pub(super) fn of(leaves: &[Arc<Service>]) -> Self {
        let mut claims = Self::default();
        let mut owners: BTreeMap<SocketAddr, &ServiceId> = BTreeMap::new();
        let mut names: BTreeMap<String, &ServiceId> = BTreeMap::new();
        for leaf in leaves.iter().filter(|leaf| is_split(leaf)) {
            for port in ports(leaf) {
                if let Some(ip) = leaf.spec.address {
                    let at = SocketAddr::new(ip, port.port.get());
                    let owner = *owners.entry(at).or_insert(&leaf.id);
                    if *owner != leaf.id {
                        let all = claims.addresses.entry(at);
                        all.or_insert_with(|| vec![owner.clone()]).push(leaf.id.clone());
                        claims.tell(&leaf.id, owner, format!("listener at {at} in sidecars"));
                    }
                }
                for name in wanted_names(leaf, port) {
                    let owner = *names.entry(name.clone()).or_insert(&leaf.id);
                    if *owner != leaf.id {
                        claims.tell(&leaf.id, owner, format!("gRPC name {name}"));
                        claims.names.insert((leaf.id.clone(), name));
                    }
                }
            }
        }
        claims
    }

    fn tell(&mut self, service: &ServiceId, with: &ServiceId, what: String) {
        let (service, with) = (service.clone(), with.clone());
        self.conflicts.push(Conflict { service, with, what });
    }

    /// The services of whom one may have lost something that they did not lose in the other.
    pub(super) fn changed(&self, other: &Self) -> BTreeSet<ServiceId> {
        let mut changed: BTreeSet<ServiceId> = BTreeSet::new();
        for (one, two) in [(self, other), (other, self)] {
            let addresses = one.addresses.iter();
            let apart = addresses.filter(|(at, wanting)| two.addresses.get(at) != Some(*wanting));
            changed.extend(apart.flat_map(|(_, wanting)| wanting.iter().cloned()));
        }
        let names = self.names.symmetric_difference(&other.names);
        changed.extend(names.map(|(id, _)| id.clone()));
        changed
    }

    /// Whether another has the listener at this address in sidecars that see no others than these.
    pub(super) fn lost_address(
        &self,
        service: &ServiceId,
        at: SocketAddr,
        limit: Option<&Limit>,
    ) -> bool {
        let Some(wanting) = self.addresses.get(&at) else { return false };
        let first = wanting.iter().find(|id| limit.is_none_or(|limit| limit.has(id)));
        first.is_some_and(|first| first != service)
    }

    /// What gRPC libraries may dial this port by.
    pub(super) fn grpc_names(&self, leaf: &Service, port: &Port) -> Vec<String> {
        let mut names = wanted_names(leaf, port);
        if !self.names.is_empty() {
            names.retain(|name| !self.names.contains(&(leaf.id.clone(), name.clone())));
        }
        names
    }
}

fn wanted_names(leaf: &Service, port: &Port) -> Vec<String> {
    if port.protocol != Protocol::Grpc {
        return Vec::new();
    }
    let only = ports(leaf).filter(|port| port.protocol == Protocol::Grpc).count() == 1;
    let hosts = leaf.spec.hosts.iter();
    let with_port = hosts.clone().map(|host| format!("{host}:{}", port.port));
    with_port.chain(hosts.filter(|_| only).map(ToString::to_string)).collect()
}
