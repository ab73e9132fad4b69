//! Who has a name or an address that two services want: the first by name. Envoy would refuse both,
//! and with them everything that came along.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use plan::ServiceId;
use plan::snapshot::Service;
use plan::spec::{Port, Protocol};

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
    addresses: BTreeSet<(ServiceId, u16)>,
    names: BTreeSet<(ServiceId, String)>,
    pub(super) conflicts: Vec<Conflict>,
}

impl Claims {
    pub(super) fn of(leaves: &[Arc<Service>]) -> Self {
        let mut claims = Self::default();
        let mut addresses: BTreeMap<SocketAddr, &ServiceId> = BTreeMap::new();
        let mut names: BTreeMap<String, &ServiceId> = BTreeMap::new();
        for leaf in leaves.iter().filter(|leaf| is_split(leaf)) {
            for port in ports(leaf) {
                if let Some(ip) = leaf.spec.address {
                    let at = SocketAddr::new(ip, port.port.get());
                    let owner = *addresses.entry(at).or_insert(&leaf.id);
                    if *owner != leaf.id {
                        claims.addresses.insert((leaf.id.clone(), port.port.get()));
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

    /// The services of whom one lost something that they did not lose in the other.
    pub(super) fn changed(&self, other: &Self) -> BTreeSet<ServiceId> {
        let addresses = self.addresses.symmetric_difference(&other.addresses);
        let names = self.names.symmetric_difference(&other.names);
        addresses.map(|(id, _)| id.clone()).chain(names.map(|(id, _)| id.clone())).collect()
    }

    pub(super) fn lost_address(&self, service: &ServiceId, port: &Port) -> bool {
        !self.addresses.is_empty() && self.addresses.contains(&(service.clone(), port.port.get()))
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
