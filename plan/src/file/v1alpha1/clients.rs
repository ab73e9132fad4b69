//! `clients`, `resolvers` and `clientKey`: which plane splits whom, and how clients are told apart.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Placed;
use crate::file::problem::Problems;
use crate::file::read::{self, Fields};
use crate::file::shape;
use crate::file::tree::{Node, shown};
use crate::name::ServiceName;
use crate::spec::{ClientKey, ClientRow, Clients, Plane, Resolver};

/// The clients; `None` where a row's plane or network cannot be read.
pub(super) fn read(problems: &mut Problems, spec: &Fields<'_, '_>) -> Option<Clients> {
    let rows = rows(problems, spec);
    let resolvers = resolvers(problems, spec);
    let key = key(problems, spec);
    Some(Clients { rows: rows?, resolvers: resolvers?, key: key? })
}

fn rows(problems: &mut Problems, spec: &Fields<'_, '_>) -> Option<Vec<ClientRow>> {
    let mut rows = Vec::new();
    let mut placed = Vec::new();
    let mut whole = true;
    for node in spec.list(problems, "clients") {
        let Some(fields) = read::fields(problems, node, &shape::ROW) else {
            whole = false;
            continue;
        };
        let nodes = fields.list(problems, "networks");
        let networks: Vec<_> = nodes
            .iter()
            .filter_map(|node| Some(Placed { node, value: network(problems, node)? }))
            .collect();
        let plane = match read::choice(problems, &fields, "plane") {
            Some("dns") => Some(Plane::Dns),
            Some("mesh") => Some(Plane::Mesh),
            Some("host") => Some(Plane::Host),
            Some(_) | None => None,
        };
        whole &= networks.len() == nodes.len() && plane.is_some();
        if let Some(plane) = plane {
            rows.push(ClientRow {
                networks: networks.iter().map(|net| net.value).collect(),
                plane,
            });
        }
        placed.extend(networks);
    }
    overlaps(problems, placed);
    whole.then_some(rows)
}

/// A network as its prefix says, without further bits.
pub(super) fn network(problems: &mut Problems, node: &Node<'_>) -> Option<IpNet> {
    let text = read::text(problems, node)?;
    if let Ok(network) = text.parse::<IpNet>() {
        if network.trunc() == network {
            return Some(network);
        }
        problems.value(
            node,
            format!("`{network}` has bits set beyond its prefix"),
            format!("write `{}`", network.trunc()),
        );
        return None;
    }
    let fix = match text.parse::<IpAddr>() {
        Ok(address) => format!("write `{}`", IpNet::from(address)),
        Err(_) => "write it like `10.8.0.0/16`".to_owned(),
    };
    problems.value(node, format!("`{}` is no network", shown(text)), fix);
    None
}

/// Tells each network that overlaps an earlier one. Networks overlap only where one holds the
/// other, so in address order the last wider one is enough to look at.
fn overlaps(problems: &mut Problems, mut networks: Vec<Placed<'_, '_, IpNet>>) {
    networks.sort_by_key(|net| (net.value.network(), net.value.prefix_len(), net.node.id));
    let mut wider: Option<&Placed<'_, '_, IpNet>> = None;
    for net in &networks {
        match wider {
            Some(outer) if outer.value.contains(&net.value) => {
                // Told at the one that stands later in the file.
                let (first, second) =
                    if outer.node.id < net.node.id { (outer, net) } else { (net, outer) };
                problems.value(
                    second.node,
                    format!(
                        "network `{}` overlaps `{}` of line {}",
                        second.value, first.value, first.node.mark.line
                    ),
                    "give every client to one row",
                );
            }
            Some(_) | None => wider = Some(net),
        }
    }
}

fn resolvers(problems: &mut Problems, spec: &Fields<'_, '_>) -> Option<Vec<Resolver>> {
    let mut names = HashSet::new();
    let mut owners: HashMap<IpAddr, u32> = HashMap::new();
    let nodes = spec.list(problems, "resolvers");
    let mut resolvers = Vec::new();
    for node in nodes {
        let Some(fields) = read::fields(problems, node, &shape::RESOLVER) else { continue };
        let name = fields.get("name").and_then(|node| {
            let name: ServiceName = read::name(problems, node)?;
            if !names.insert(name.clone()) {
                let problem = format!("resolver `{name}` is given twice");
                problems.value(node, problem, "give each another name");
            }
            Some(name.into())
        });
        let mut addresses = Vec::new();
        for node in fields.list(problems, "addresses") {
            let Some(address) = address(problems, node) else { continue };
            if let Some(line) = owners.insert(address, node.mark.line) {
                let problem = format!("resolver address `{address}` stands in line {line} already");
                problems.value(node, problem, "give each address to one resolver");
            }
            addresses.push(address);
        }
        addresses.sort_unstable();
        resolvers.extend(name.map(|name| Resolver { name, addresses }));
    }
    (resolvers.len() == nodes.len()).then_some(resolvers)
}

/// An address that a host can have.
pub(super) fn address(problems: &mut Problems, node: &Node<'_>) -> Option<IpAddr> {
    let text = read::text(problems, node)?;
    let Ok(address) = text.parse::<IpAddr>() else {
        let problem = format!("`{}` is no IP address", shown(text));
        problems.value(node, problem, "write it like `10.0.1.10` or `2001:db8::1`");
        return None;
    };
    usable(problems, node, address).then_some(address)
}

/// Whether one host can have this address; told where not.
pub(super) fn usable(problems: &mut Problems, node: &Node<'_>, address: IpAddr) -> bool {
    let why = match address {
        _ if address.is_unspecified() => "stands for no address",
        _ if address.is_multicast() => "is a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        IpAddr::V6(v6) if let Some(v4) = v6.to_ipv4_mapped() => {
            let problem = format!("`{address}` is an IPv4 address written as IPv6");
            problems.value(node, problem, format!("write `{v4}`"));
            return false;
        }
        IpAddr::V4(_) | IpAddr::V6(_) => return true,
    };
    problems.value(node, format!("`{address}` {why}"), "write the address of one host");
    false
}

fn key(problems: &mut Problems, spec: &Fields<'_, '_>) -> Option<ClientKey> {
    let default = ClientKey::default();
    let Some(node) = spec.get("clientKey") else { return Some(default) };
    let fields = read::fields(problems, node, &shape::CLIENT_KEY)?;
    let mut bits = |name, default| match fields.get(name) {
        Some(_) => read::integer(problems, &fields, name).and_then(|bits| u8::try_from(bits).ok()),
        None => Some(default),
    };
    let (v4, v6) = (bits("v4", default.v4), bits("v6", default.v6));
    Some(ClientKey { v4: v4?, v6: v6? })
}
