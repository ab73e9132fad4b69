//! `gateways`: the kinds of proxies at the target's edge.

use std::collections::HashMap;

use super::clients::network;
use crate::file::problem::Problems;
use crate::file::read::{self, Fields};
use crate::file::shape;
use crate::file::tree::{Node, Value, shown};
use crate::name::ServiceName;
use crate::spec::{ClientAddress, Gateway};

/// The gateways; `None` where a part of one cannot be read.
pub(super) fn read(problems: &mut Problems, spec: &Fields<'_, '_>) -> Option<Vec<Gateway>> {
    let mut lines: HashMap<ServiceName, u32> = HashMap::new();
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
        if let (Some(name), Some(client_address), true) = (name, client_address, whole) {
            gateways.push(Gateway { name, client_address, egress });
        }
    }
    (gateways.len() == nodes.len()).then_some(gateways)
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
