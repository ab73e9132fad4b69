//! One service as its host sees it: what the rules and the prediction both start from.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use plan::endpoint::Endpoint;
use plan::snapshot::Service;
use plan::spec::{Affinity, Protocol};
use plan::split::Side;
use plan::{Plane, Split};

use crate::rules::host::{Capture, Host};
use crate::rules::table::{Family, Key, Transport};

/// A service with a logical address.
#[derive(Clone, Debug)]
pub(super) struct Local<'a> {
    pub(super) leaf: &'a Service,
    pub(super) host: &'a Host,
    pub(super) logical: IpAddr,
    pub(super) family: Family,
    /// Its ports, in order.
    pub(super) ports: Vec<(Transport, u16)>,
}

/// How an endpoint is reached from a key of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The packet goes there by itself.
    Stay,
    /// Its destination is changed; port 0: not its port.
    To(SocketAddr),
}

/// The way for packets of one transport, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) transport: Option<Transport>,
    pub(super) way: Way,
}

impl<'a> Local<'a> {
    /// `None`: it has no logical address, so that no host rule is about it.
    pub(super) fn of(leaf: &'a Service, host: &'a Host) -> Option<Self> {
        let logical = leaf.spec.address?;
        let ports = leaf.spec.ports.iter();
        let ports = ports.map(|port| (transport(port.protocol), port.port.get())).collect();
        Some(Self { leaf, host, logical, family: Family::of(logical), ports })
    }

    /// The Envoy that takes what this host's own processes send there. It has listeners for what
    /// somebody reaches by the mesh, and is at 127.0.0.1, where the kernel redirects IPv4 alone.
    pub(super) fn captured(&self) -> Option<Capture> {
        let by_mesh = self.leaf.clients.rows.iter().any(|row| row.plane == Plane::Mesh);
        self.host.capture.filter(|_| by_mesh && self.family == Family::V4)
    }

    /// Whether this host's own processes are somebody else's to split.
    pub(super) fn own_left_alone(&self) -> bool {
        self.own_plane() == Plane::Mesh && !self.host.carries
    }

    /// Where the target's gateways send from, of the plan of this service.
    pub(super) fn egress(&self) -> impl Iterator<Item = ipnet::IpNet> + '_ {
        self.leaf.gateways.iter().flat_map(|gateway| &gateway.egress).copied()
    }

    /// Whether TCP of any client reaches legacy by being left alone.
    pub(super) fn leaves_alone(&self) -> bool {
        let tcp = |lane: &Lane| lane.transport.is_none_or(|of| of == Transport::Tcp);
        let stays = |lane: Lane| tcp(&lane) && lane.way == Way::Stay;
        let endpoints = self.endpoints(Side::Legacy, self.family);
        let mut lanes = endpoints.iter().flat_map(|to| self.lanes(Side::Legacy, *to));
        self.ports.iter().any(|(of, _)| *of == Transport::Tcp)
            && (endpoints.is_empty() || lanes.any(stays))
    }

    /// Where old applications send to.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let key = |&(transport, port)| Key { address: self.logical, transport, port };
        self.ports.iter().map(key)
    }

    /// Where this host itself serves the legacy side beside its logical address, and where it can
    /// be told which of the service's ports is meant.
    pub(super) fn own_keys(&self) -> Vec<Key> {
        let endpoints = self.leaf.serving.legacy().into_iter().flat_map(|pool| &pool.serving);
        let own = endpoints.filter(|endpoint| self.host.own.contains(&endpoint.address));
        let mut keys = Vec::new();
        for endpoint in own {
            for &(transport, port) in &self.ports {
                let address = endpoint.address;
                match endpoint.port.map_or(port, std::num::NonZeroU16::get) {
                    at if at == port || self.only(transport).is_some() => {
                        keys.push(Key { address, transport, port: at });
                    }
                    _ => {}
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| !self.keys().any(|logical| logical == *key));
        keys
    }

    /// The service's port of this transport, where it has exactly one.
    pub(super) fn only(&self, transport: Transport) -> Option<u16> {
        let mut ports = self.ports.iter().filter(|(of, _)| *of == transport);
        match (ports.next(), ports.next()) {
            (Some((_, port)), None) => Some(*port),
            _ => None,
        }
    }

    /// The endpoints of a side that packets of this family can reach.
    pub(super) fn endpoints(&self, side: Side, family: Family) -> Vec<Endpoint> {
        let pool = match side {
            Side::Legacy => self.leaf.serving.legacy(),
            Side::Target => self.leaf.serving.target(),
        };
        let endpoints = pool.into_iter().flat_map(|pool| &pool.serving);
        endpoints.filter(|endpoint| Family::of(endpoint.address) == family).copied().collect()
    }

    /// Whether clients of this family can be sent to target at all.
    pub(super) fn has_target(&self, family: Family) -> bool {
        let endpoints = self.leaf.serving.target().into_iter().flat_map(|pool| &pool.serving);
        endpoints.into_iter().any(|endpoint| Family::of(endpoint.address) == family)
    }

    /// The split at the logical address: 0 where target cannot be reached from there.
    pub(super) fn split(&self) -> Split {
        if self.has_target(self.family) { self.leaf.serving.split() } else { Split::LEGACY }
    }

    /// Whether stragglers of this family are sent to target now: only at exactly 100 %.
    #[cfg(test)]
    pub(super) fn catches(&self, family: Family) -> bool {
        self.leaf.serving.split() == Split::TARGET && self.has_target(family)
    }

    /// Whether the logical address is this host's own.
    pub(super) fn is_here(&self) -> bool {
        self.host.own.contains(&self.logical)
    }

    /// Whether every flow is drawn anew.
    pub(super) fn draws(&self) -> bool {
        self.leaf.spec.affinity == Affinity::None
    }

    /// Whether flows that are forwarded to this side keep the address of their client: it was asked
    /// for, and proved that answers come back this way.
    pub(super) fn keeps_source(&self, side: Side) -> bool {
        let proved = |(id, of): &(plan::ServiceId, Side)| *id == self.leaf.id && *of == side;
        self.leaf.spec.preserve_source && self.host.returns.iter().any(proved)
    }

    /// Whether flows to any side do.
    pub(super) fn keeps_any(&self) -> bool {
        [Side::Legacy, Side::Target].into_iter().any(|side| self.keeps_source(side))
    }

    /// The plane of the host's own processes: that of the first row with its address.
    pub(super) fn own_plane(&self) -> Plane {
        plane_of(self.leaf, self.host.address)
    }

    /// How this endpoint is reached. A legacy endpoint is reached by leaving the packet alone where
    /// it is the logical address, or where both are addresses of this host.
    pub(super) fn lanes(&self, side: Side, endpoint: Endpoint) -> Vec<Lane> {
        let here = endpoint.address == self.logical
            || (self.is_here() && self.host.own.contains(&endpoint.address));
        let way = |transport: Transport| {
            let (only, port) = (self.only(transport), endpoint.port.map(std::num::NonZeroU16::get));
            if side == Side::Legacy && here && (port.is_none() || port == only) {
                return Way::Stay;
            }
            Way::To(SocketAddr::new(endpoint.address, port.or(only).unwrap_or_default()))
        };
        let used = |transport| self.ports.iter().any(|(of, _)| *of == transport);
        let lanes = [Transport::Tcp, Transport::Udp].into_iter().filter(|of| used(*of));
        let lanes: Vec<Lane> = lanes.map(|of| Lane { transport: Some(of), way: way(of) }).collect();
        match lanes.as_slice() {
            // The port is written only beside its transport.
            [first, rest @ ..] if rest.iter().all(|lane| lane.way == first.way) => {
                match first.way {
                    Way::To(to) if to.port() != 0 => lanes,
                    way @ (Way::Stay | Way::To(_)) => vec![Lane { transport: None, way }],
                }
            }
            _ => lanes,
        }
    }
}

/// Whether legacy of a service is reached by leaving packets alone and in no other way, by whoever
/// comes by this transport, or by any.
pub fn legacy_stays(leaf: &Service, host: &Host, by: Option<Transport>) -> bool {
    // Without a logical address nothing is sent on.
    let Some(local) = Local::of(leaf, host) else { return true };
    let is_meant = |lane: &Lane| by.is_none() || lane.transport.is_none_or(|of| Some(of) == by);
    let endpoints = local.endpoints(Side::Legacy, local.family);
    let mut lanes = endpoints.iter().flat_map(|to| local.lanes(Side::Legacy, *to));
    lanes.all(|lane| !is_meant(&lane) || lane.way == Way::Stay)
}

/// Which plane splits clients of this address: that of the first row that holds it.
pub(super) fn plane_of(leaf: &Service, address: IpAddr) -> Plane {
    plan::client::row_of(&leaf.clients, address).1
}

/// What carries a protocol.
pub(super) const fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Http | Protocol::Grpc | Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    }
}
