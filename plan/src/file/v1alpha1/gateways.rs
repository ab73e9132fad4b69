//! `gateways`: the kinds of proxies at the target's edge.

use std::collections::HashMap;
use std::net::IpAddr;

use super::clients::{address, network};
use super::services::Draft as Service;
use crate::file::problem::Problems;
use crate::file::read::{self, Fields};
use crate::file::shape;
use crate::file::tree::{Node, Value, shown};
use crate::name::ServiceName;
use crate::spec::{ClientAddress, Gateway};

/// The gateways; `None` where a part of one cannot be read.
pub(super) fn read(
    problems: &mut Problems,
    spec: &Fields<'_, '_>,
    services: &[Service<'_, '_>],
) -> Option<Vec<Gateway>> {
    let mut lines: HashMap<ServiceName, u32> = HashMap::new();
    let mut first = None;
    let nodes = spec.list(problems, "gateways");
    let mut gateways = Vec::new();
    for node in nodes {
        let Some(fields) = read::fields(problems, node, &shape::GATEWAY) else { continue };
        let name = fields.get("name").and_then(|node| {
            let name: ServiceName = read::name(problems, node)?;
            if let Some(line) = lines.insert(name.clone(), node.mark.line) {
                let problem = format!("gateway `{name}` stands in line {line} already");
                problems.value(node, problem, "give each gateway another name");
            }
            Some(name)
        });
        let client_address = match fields.get("clientAddress") {
            Some(node) => client_address(problems, node),
            None => Some(ClientAddress::default()),
        };
        let networks = fields.list(problems, "egress");
        let egress: Vec<_> = networks.iter().filter_map(|node| network(problems, node)).collect();
        let whole = egress.len() == networks.len();
        let mtls = match fields.get("mtls") {
            Some(node) => {
                one_alone(problems, node, &mut first);
                before_tls(problems, node, client_address);
                mtls(problems, node, services)
            }
            None => Some(Vec::new()),
        };
        if let (Some(name), Some(client_address), Some(mtls), true) =
            (name, client_address, mtls, whole)
        {
            gateways.push(Gateway { name, client_address, egress, mtls });
        }
    }
    (gateways.len() == nodes.len()).then_some(gateways)
}

/// A proxy goes to one gateway: which one of several nobody could say.
fn one_alone(problems: &mut Problems, node: &Node<'_>, first: &mut Option<u32>) {
    if let Some(line) = first {
        let problem = format!("a gateway with `mtls` stands in line {line} already");
        problems.value(node, problem, "keep `mtls` at the one that proxies of VMs go through");
    } else {
        *first = Some(node.mark.line);
    }
}

/// The PROXY protocol comes before anything else on a connection, and proxies of VMs do not speak
/// it.
fn before_tls(problems: &mut Problems, node: &Node<'_>, address: Option<ClientAddress>) {
    if address == Some(ClientAddress::ProxyProtocol) {
        problems.value(
            node,
            "`mtls` is of no use where connections begin with the PROXY protocol",
            "give `mtls` to a gateway of another name, which its proxies reach directly",
        );
    }
}

/// Where it is reached; `None` where there is nothing to read.
fn mtls(
    problems: &mut Problems,
    node: &Node<'_>,
    services: &[Service<'_, '_>],
) -> Option<Vec<IpAddr>> {
    let fields = read::fields(problems, node, &shape::MTLS)?;
    let mut lines: HashMap<IpAddr, u32> = HashMap::new();
    let mut addresses = Vec::new();
    for node in fields.list(problems, "addresses") {
        let Some(address) = address(problems, node) else { continue };
        if let Some(line) = lines.insert(address, node.mark.line) {
            let problem = format!("address `{address}` stands in line {line} already");
            problems.value(node, problem, "keep one of them");
        } else if address.is_loopback() {
            let problem = format!("`{address}` is each machine itself");
            problems.value(node, problem, "write the address by which VMs reach the gateway");
        } else if let Some(service) = services.iter().find(|it| it.address == Some(address)) {
            let whose = service.name.as_ref().map_or("a service", |name| name.value.as_str());
            let problem = format!("`{address}` is the logical address of `{whose}`");
            problems.value(node, problem, "write the gateway's own address: calls would go round");
        }
        addresses.push(address);
    }
    Some(addresses)
}

/// A word, or `{ xff: N }`.
fn client_address(problems: &mut Problems, node: &Node<'_>) -> Option<ClientAddress> {
    const FIX: &str = "write `direct`, `{ xff: 1 }` or `proxy-protocol`";
    if matches!(node.value, Value::Map(_)) {
        let fields = read::fields(problems, node, &shape::XFF)?;
        let hops = read::integer(problems, &fields, "xff")?;
        return u8::try_from(hops).ok().map(ClientAddress::Xff);
    }
    if matches!(node.value, Value::List(_)) {
        problems.value(node, "a list is no `clientAddress`", FIX);
        return None;
    }
    match read::text(problems, node)? {
        "direct" => Some(ClientAddress::Direct),
        "proxy-protocol" => Some(ClientAddress::ProxyProtocol),
        "xff" => {
            let problem = "`xff` needs the number of trusted proxies before the gateway";
            problems.value(node, problem, "write `{ xff: 1 }` where there is one");
            None
        }
        other => {
            problems.value(node, format!("`{}` is no `clientAddress`", shown(other)), FIX);
            None
        }
    }
}
