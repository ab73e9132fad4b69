//! Where a service's packets are forwarded to: what must answer by way of this host where they are
//! to keep the address of their client.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use plan::snapshot::Service;
use plan::split::Side;

use crate::rules::host::Host;
use crate::rules::local::{Local, Way};
use crate::rules::table::{Family, Transport};

/// The endpoints of one side that are elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Which side.
    pub side: Side,
    /// What packets carry that are forwarded.
    pub family: Family,
    /// The endpoints, each at a TCP port of the service; `None`: it has none.
    pub to: Option<BTreeSet<SocketAddr>>,
}

/// Each side of a service that has endpoints elsewhere, for clients of its logical address.
pub fn forwarded(leaf: &Service, host: &Host) -> Vec<Forwarded> {
    let Some(local) = Local::of(leaf, host) else { return Vec::new() };
    let sides = [Side::Legacy, Side::Target].into_iter();
    sides.filter_map(|side| of(&local, side)).collect()
}

fn of(local: &Local<'_>, side: Side) -> Option<Forwarded> {
    let tcp = local.ports.iter().find(|(of, _)| *of == Transport::Tcp).map(|(_, port)| *port);
    let mut elsewhere = false;
    let mut to = BTreeSet::new();
    for endpoint in local.endpoints(side, local.family) {
        if local.host.own.contains(&endpoint.address) {
            continue;
        }
        for lane in local.lanes(side, endpoint) {
            let Way::To(at) = lane.way else { continue };
            elsewhere = true;
            let asked = lane.transport.is_none_or(|of| of == Transport::Tcp);
            let port = if at.port() == 0 { tcp } else { Some(at.port()) };
            to.extend(port.filter(|_| asked).map(|port| SocketAddr::new(at.ip(), port)));
        }
    }
    let to = tcp.map(|_| to);
    elsewhere.then_some(Forwarded { side, family: local.family, to })
}

/// Whether this host splits clients of this address, and they are not the service itself.
pub(crate) fn is_client(leaf: &Service, host: &Host, who: IpAddr) -> bool {
    let within = |nets: &[ipnet::IpNet]| nets.iter().any(|net| net.contains(&who));
    let pools = [leaf.serving.legacy(), leaf.serving.target()];
    let mut endpoints = pools.into_iter().flatten().flat_map(|pool| &pool.serving);
    crate::rules::local::plane_of(leaf, who) == plan::Plane::Host
        && !host.own.contains(&who)
        && leaf.spec.address != Some(who)
        && !endpoints.any(|endpoint| endpoint.address == who)
        && !leaf.gateways.iter().any(|gateway| within(&gateway.egress))
        && !within(&host.exempt)
}
