//! What is refused: rules that would take hold of what must not be touched, loop, or be too many.

use std::net::{IpAddr, Ipv4Addr};

use plan::ServiceId;
use plan::split::Side;

use super::{BYTES_MAX, ENDPOINTS_MAX, NETWORKS_MAX, RULES_MAX};
use crate::rules::host::Host;
use crate::rules::keys::Keys;
use crate::rules::local::{Lane, Local, Way};
use crate::rules::mark::Marks;
use crate::rules::table::{Key, Transport};

/// Why a table is not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// No packets of others go to such an address.
    #[error("{service}: its {place} {address} is {what}, which rules cannot stand for")]
    Address {
        /// Whose.
        service: ServiceId,
        /// Which of its addresses.
        place: &'static str,
        /// The address.
        address: IpAddr,
        /// What it is.
        what: &'static str,
    },
    /// The host says that it must not be touched.
    #[error("{service}: {key} is {why}, which rules must not take hold of")]
    Forbidden {
        /// Whose.
        service: ServiceId,
        /// Where its rules would take hold.
        key: Key,
        /// What that is.
        why: String,
    },
    /// What is sent there would come back.
    #[error("{service}: its target {key} is where the rules of {of} take hold: a loop")]
    Loop {
        /// Whose target.
        service: ServiceId,
        /// The destination.
        key: Key,
        /// Whose rules.
        of: ServiceId,
    },
    /// A destination has two meanings.
    #[error("{key} is the logical address of both {first} and {second}")]
    Twice {
        /// The destination.
        key: Key,
        /// One service.
        first: ServiceId,
        /// The other.
        second: ServiceId,
    },
    /// The agent has not given it an index.
    #[error("{service} has no index in the marks of flows")]
    Unmarked {
        /// Which.
        service: ServiceId,
    },
    /// Too many services.
    #[error("{services} services have a logical address; {} are the most", Marks::SERVICES_MAX)]
    Services {
        /// How many.
        services: usize,
    },
    /// Too many endpoints on one side.
    #[error("{service}: its {side} side has {endpoints} endpoints; {ENDPOINTS_MAX} are the most")]
    Endpoints {
        /// Whose.
        service: ServiceId,
        /// Which side.
        side: Side,
        /// How many.
        endpoints: usize,
    },
    /// Too many networks in client rows, and of gateways: each is a rule.
    #[error(
        "{service}: its plan has {networks} networks of clients and gateways; {NETWORKS_MAX} are \
         the most"
    )]
    Networks {
        /// A service of the plan.
        service: ServiceId,
        /// How many.
        networks: usize,
    },
    /// Too many rules.
    #[error("{rules} rules are needed; {RULES_MAX} are the most")]
    Rules {
        /// How many.
        rules: usize,
    },
    /// Too much for one transaction.
    #[error("the rules take {bytes} bytes; {BYTES_MAX} are the most")]
    Bytes {
        /// How many, or a few more.
        bytes: usize,
    },
}

/// Everything that is wrong.
pub(super) fn all(
    host: &Host,
    marks: &Marks,
    locals: &[Local<'_>],
    keys: &Keys,
) -> Result<(), Vec<Reject>> {
    let mut rejects = Vec::new();
    if locals.len() > Marks::SERVICES_MAX {
        rejects.push(Reject::Services { services: locals.len() });
    }
    // Each is a rule of the base chain.
    if host.exempt.len() > RULES_MAX {
        rejects.push(Reject::Rules { rules: host.exempt.len() });
    }
    for (key, first, second) in &keys.twice {
        if let (Some(first), Some(second)) = (locals.get(*first), locals.get(*second)) {
            let (first, second) = (first.leaf.id.clone(), second.leaf.id.clone());
            rejects.push(Reject::Twice { key: *key, first, second });
        }
    }
    for local in locals {
        if marks.of(&local.leaf.id).is_none() {
            rejects.push(Reject::Unmarked { service: local.leaf.id.clone() });
        }
        sizes(local, &mut rejects);
        addresses(local, &mut rejects);
        forbidden(local, &mut rejects);
        loops(local, locals, keys, &mut rejects);
    }
    if rejects.is_empty() { Ok(()) } else { Err(rejects) }
}

fn sizes(local: &Local<'_>, rejects: &mut Vec<Reject>) {
    let service = || local.leaf.id.clone();
    let pools =
        [(Side::Legacy, local.leaf.serving.legacy()), (Side::Target, local.leaf.serving.target())];
    for (side, pool) in pools {
        let endpoints = pool.map_or(0, |pool| pool.serving.as_slice().len());
        if endpoints > ENDPOINTS_MAX {
            rejects.push(Reject::Endpoints { service: service(), side, endpoints });
        }
    }
    let rows = local.leaf.clients.rows.iter().map(|row| row.networks.len());
    let networks = rows.sum::<usize>() + local.egress().count();
    if networks > NETWORKS_MAX {
        rejects.push(Reject::Networks { service: service(), networks });
    }
}

fn addresses(local: &Local<'_>, rejects: &mut Vec<Reject>) {
    let of = |place, pool: Option<&plan::endpoint::Pool>| {
        let endpoints = pool.into_iter().flat_map(|pool| pool.serving.as_slice().to_vec());
        endpoints.map(|endpoint| (place, endpoint.address)).collect::<Vec<_>>()
    };
    let mut all = vec![("logical address", local.logical)];
    all.extend(of("legacy endpoint", local.leaf.serving.legacy()));
    all.extend(of("target endpoint", local.leaf.serving.target()));
    for (place, address) in all {
        if let Some(what) = odd(address) {
            let service = local.leaf.id.clone();
            rejects.push(Reject::Address { service, place, address, what });
        }
    }
}

/// What is special about an address to which nobody else's packets go.
const fn odd(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address");
    }
    if address.is_loopback() {
        return Some("a loopback address");
    }
    if address.is_multicast() {
        return Some("a multicast address");
    }
    match address {
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of this network (RFC 1122)"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address written as IPv6"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn forbidden(local: &Local<'_>, rejects: &mut Vec<Reject>) {
    for key in local.keys().chain(local.own_keys()) {
        let touches = |net: &ipnet::IpNet, port: Option<u16>| {
            net.contains(&key.address) && port.is_none_or(|port| port == key.port)
        };
        let mut found = local.host.forbidden.iter();
        if let Some(found) = found.find(|forbidden| touches(&forbidden.net, forbidden.port)) {
            let (service, why) = (local.leaf.id.clone(), found.why.clone());
            rejects.push(Reject::Forbidden { service, key, why });
        }
    }
}

fn loops(local: &Local<'_>, locals: &[Local<'_>], keys: &Keys, rejects: &mut Vec<Reject>) {
    let target = local.leaf.serving.target();
    for endpoint in target.into_iter().flat_map(|pool| &pool.serving) {
        for lane in local.lanes(Side::Target, *endpoint) {
            for key in reached(local, lane) {
                let of = keys.holder(key).and_then(|at| locals.get(at));
                if let Some(of) = of {
                    let (service, of) = (local.leaf.id.clone(), of.leaf.id.clone());
                    rejects.push(Reject::Loop { service, key, of });
                }
            }
        }
    }
}

/// The destinations that packets of the service get by this lane.
fn reached(local: &Local<'_>, lane: Lane) -> Vec<Key> {
    let Way::To(to) = lane.way else { return Vec::new() };
    let fits = |transport: Transport| lane.transport.is_none_or(|of| of == transport);
    let ports = local.ports.iter().filter(|(transport, _)| fits(*transport));
    let key = |&(transport, port)| Key {
        address: to.ip(),
        transport,
        port: if to.port() == 0 { port } else { to.port() },
    };
    let mut keys: Vec<Key> = ports.map(key).collect();
    keys.dedup();
    keys
}
