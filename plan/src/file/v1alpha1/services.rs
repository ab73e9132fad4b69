//! `services`: names, ports, the logical address and the two sides.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::Placed;
use super::clients::{address, usable};
use crate::endpoint::{Endpoint, Endpoints};
use crate::file::problem::Problems;
use crate::file::read::{self, Fields};
use crate::file::shape::{self, SALT_MAX, Shape};
use crate::file::tree::{Node, shown};
use crate::name::{HostName, PlanName, ServiceName};
use crate::spec::{Affinity, Clients, Plane, Port, Protocol, Service};

/// A service as far as it could be read.
pub(super) struct Draft<'n, 't> {
    pub(super) name: Option<Placed<'n, 't, ServiceName>>,
    pub(super) hosts: Vec<Placed<'n, 't, HostName>>,
    pub(super) after: Vec<Placed<'n, 't, ServiceName>>,
    pub(super) address: Option<IpAddr>,
    ports: Vec<Placed<'n, 't, Port>>,
    affinity: Affinity,
    salt: Option<Arc<str>>,
    legacy: Option<Endpoints>,
    target: Option<Endpoints>,
    preserve_source: bool,
}

impl Draft<'_, '_> {
    pub(super) fn finish(self) -> Option<Service> {
        Some(Service {
            name: self.name?.value,
            hosts: self.hosts.into_iter().map(|host| host.value).collect(),
            address: self.address,
            ports: self.ports.into_iter().map(|port| port.value).collect(),
            affinity: self.affinity,
            salt: self.salt?,
            legacy: self.legacy?,
            target: self.target?,
            after: self.after.into_iter().map(|after| after.value).collect(),
            preserve_source: self.preserve_source,
        })
    }
}

/// What the client rows ask of every service.
struct Demands {
    /// The plane of a row that needs the logical address.
    address: Option<Plane>,
    /// A mesh row: proxies carry no datagrams.
    no_udp: bool,
    /// A client of dns is left: a DNS answer names no port.
    own_ports: bool,
    /// A host row: the kernel tells services apart by address and port alone.
    one_service_per_port: bool,
}

impl Demands {
    /// Rows that cannot be read ask nothing: they are told already.
    fn of(clients: Option<&Clients>) -> Self {
        let has = |plane| {
            clients.is_some_and(|clients| clients.rows.iter().any(|row| row.plane == plane))
        };
        Self {
            address: [Plane::Mesh, Plane::Host].into_iter().find(|plane| has(*plane)),
            no_udp: has(Plane::Mesh),
            own_ports: clients.is_some_and(|clients| !clients.cover_everyone()),
            one_service_per_port: has(Plane::Host),
        }
    }
}

pub(super) fn read<'n, 't>(
    problems: &mut Problems,
    spec: &Fields<'n, 't>,
    plan: Option<&PlanName>,
    clients: Option<&Clients>,
) -> Vec<Draft<'n, 't>> {
    let demands = Demands::of(clients);
    let mut lines: HashMap<ServiceName, u32> = HashMap::new();
    let mut listening: HashMap<(IpAddr, NonZeroU16, bool), u32> = HashMap::new();
    let mut drafts = Vec::new();
    for node in spec.list(problems, "services") {
        let Some(fields) = read::fields(problems, node, &shape::SERVICE) else { continue };
        let draft = service(problems, &fields, plan, &demands);
        if let Some(name) = &draft.name
            && let Some(line) = lines.insert(name.value.clone(), name.node.mark.line)
        {
            let problem = format!("service `{}` stands in line {line} already", name.value);
            problems.value(name.node, problem, "give each service another name");
        }
        if let Some(address) = draft.address.filter(|_| demands.one_service_per_port) {
            for Placed { node, value: port } in &draft.ports {
                let key = (address, port.port, port.protocol == Protocol::Udp);
                if let Some(line) = listening.insert(key, node.mark.line) {
                    let port = port.port;
                    problems.value(
                        node,
                        format!(
                            "{address} port {port} stands in line {line} already, \
                             and the rules of hosts tell services apart by nothing else"
                        ),
                        "give each service an address or a port of its own, or remove the host row",
                    );
                }
            }
        }
        drafts.push(draft);
    }
    drafts
}

fn service<'n, 't>(
    problems: &mut Problems,
    fields: &Fields<'n, 't>,
    plan: Option<&PlanName>,
    demands: &Demands,
) -> Draft<'n, 't> {
    let name = fields
        .get("name")
        .and_then(|node| read::name(problems, node).map(|value| Placed { node, value }));
    let ports = ports(problems, fields, demands);
    let preserve_source =
        fields.get("preserveSource").is_some_and(|node| read::truth(problems, node) == Some(true));
    let salt = match (fields.get("salt"), plan, &name) {
        (Some(node), _, _) => salt(problems, node),
        (None, Some(plan), Some(name)) => Some(format!("{plan}/{}", name.value).into()),
        (None, _, _) => None,
    };
    let after = fields.list(problems, "after").iter().filter_map(|node| {
        let value = read::name(problems, node)?;
        Some(Placed { node, value })
    });
    let after = after.collect();
    let hosts = fields.list(problems, "hosts").iter().filter_map(|node| {
        let value = read::name(problems, node)?;
        Some(Placed { node, value })
    });
    let hosts = hosts.collect();
    let (legacy, target) = sides(problems, fields, &ports, demands);
    Draft {
        name,
        hosts,
        after,
        address: logical_address(problems, fields, demands),
        affinity: affinity(problems, fields),
        ports,
        salt,
        legacy,
        target,
        preserve_source,
    }
}

fn logical_address(
    problems: &mut Problems,
    fields: &Fields<'_, '_>,
    demands: &Demands,
) -> Option<IpAddr> {
    if let Some(node) = fields.get("address") {
        return address(problems, node);
    }
    if let Some(plane) = demands.address {
        problems.missing(
            fields.node,
            "address",
            format!("`address` is missing, and a {plane} row stands in `clients`"),
            "add the address that clients of that row have hard-coded, or remove the row",
        );
    }
    None
}

fn ports<'n, 't>(
    problems: &mut Problems,
    service: &Fields<'n, 't>,
    demands: &Demands,
) -> Vec<Placed<'n, 't, Port>> {
    let mut ports: Vec<Placed<'n, 't, Port>> = Vec::new();
    for node in service.list(problems, "ports") {
        let Some(fields) = read::fields(problems, node, &shape::PORT) else { continue };
        let name = fields.get("name").and_then(|node| {
            let value: ServiceName = read::name(problems, node)?;
            Some(Placed { node, value })
        });
        let number = read::integer(problems, &fields, "port")
            .and_then(|number| NonZeroU16::new(u16::try_from(number).ok()?));
        let protocol = match read::choice(problems, &fields, "protocol") {
            Some("http") => Some(Protocol::Http),
            Some("grpc") => Some(Protocol::Grpc),
            Some("tcp") => Some(Protocol::Tcp),
            Some("udp") => Some(Protocol::Udp),
            Some(_) | None => None,
        };
        if protocol == Some(Protocol::Udp)
            && demands.no_udp
            && let Some(node) = fields.get("protocol")
        {
            problems.value(
                node,
                "proxies carry no udp, and a mesh row stands in `clients`",
                "move this service to a plan without mesh rows",
            );
        }
        let (Some(name), Some(port), Some(protocol)) = (name, number, protocol) else { continue };
        if ports.iter().any(|other| other.value.name == name.value) {
            let problem = format!("port `{}` is given twice", name.value);
            problems.value(name.node, problem, "give each port another name");
        }
        let udp = |protocol| protocol == Protocol::Udp;
        let same = |other: &Port| other.port == port && udp(other.protocol) == udp(protocol);
        if ports.iter().any(|other| same(&other.value)) {
            let number = fields.get("port").unwrap_or(node);
            problems.value(number, format!("port {port} is given twice"), "keep one of them");
        }
        ports.push(Placed { node, value: Port { name: name.value, port, protocol } });
    }
    ports
}

fn affinity(problems: &mut Problems, fields: &Fields<'_, '_>) -> Affinity {
    let Some(node) = fields.get("affinity") else { return Affinity::default() };
    let Some(text) = read::text(problems, node) else { return Affinity::default() };
    if let Ok(affinity) = Affinity::try_from(text.to_owned()) {
        return affinity;
    }
    let (problem, fix) = match text.split_once(':') {
        Some((kind @ ("header" | "cookie"), name)) => (
            format!("`{}` is no name of a {kind}", shown(name)),
            format!(
                "write 1 to {} letters, digits or `!#$%&'*+-.^_|~` after `{kind}:`",
                Affinity::NAME_MAX
            ),
        ),
        _ => (
            format!("`{}` is no `affinity`", shown(text)),
            "write `client-ip`, `header:NAME`, `cookie:NAME` or `none`".to_owned(),
        ),
    };
    problems.value(node, problem, fix);
    Affinity::default()
}

fn salt(problems: &mut Problems, node: &Node<'_>) -> Option<Arc<str>> {
    let text = read::text(problems, node)?;
    if text.is_empty() || text.len() > SALT_MAX || text.chars().any(char::is_control) {
        let fix = format!("write 1 to {SALT_MAX} bytes without control characters");
        problems.value(node, format!("`{}` is no salt", shown(text)), fix);
        return None;
    }
    Some(text.into())
}

fn sides(
    problems: &mut Problems,
    service: &Fields<'_, '_>,
    ports: &[Placed<'_, '_, Port>],
    demands: &Demands,
) -> (Option<Endpoints>, Option<Endpoints>) {
    let mut read_side =
        |name, shape| service.get(name).map(|node| side(problems, node, shape, ports, demands));
    let legacy = read_side("legacy", &shape::LEGACY).unwrap_or_default();
    let target = read_side("target", &shape::TARGET).unwrap_or_default();
    let lines: HashMap<Endpoint, u32> =
        legacy.iter().map(|endpoint| (endpoint.value, endpoint.node.mark.line)).collect();
    for Placed { node, value } in &target {
        if let Some(line) = lines.get(value) {
            problems.value(
                node,
                format!("`{value}` is on both sides; it stands in line {line} as legacy"),
                "keep it on the side where it runs",
            );
        }
    }
    let set = |side: Vec<Placed<'_, '_, Endpoint>>| {
        Endpoints::new(side.into_iter().map(|endpoint| endpoint.value).collect())
    };
    (set(legacy), set(target))
}

fn side<'n, 't>(
    problems: &mut Problems,
    node: &'n Node<'t>,
    shape: &'static Shape,
    ports: &[Placed<'_, '_, Port>],
    demands: &Demands,
) -> Vec<Placed<'n, 't, Endpoint>> {
    let Some(fields) = read::fields(problems, node, shape) else { return Vec::new() };
    let mut lines: HashMap<Endpoint, u32> = HashMap::new();
    let mut side = Vec::new();
    for node in fields.list(problems, "endpoints") {
        let Some(value) = endpoint(problems, node, ports, demands) else { continue };
        if let Some(line) = lines.insert(value, node.mark.line) {
            let problem = format!("endpoint `{value}` stands in line {line} already");
            problems.value(node, problem, "keep one of them");
        }
        side.push(Placed { node, value });
    }
    side
}

/// An endpoint; its port is dropped where it is the service's own, so that equal ones are equal.
fn endpoint(
    problems: &mut Problems,
    node: &Node<'_>,
    ports: &[Placed<'_, '_, Port>],
    demands: &Demands,
) -> Option<Endpoint> {
    let endpoint: Endpoint = read::parsed(problems, node, "write an address")?;
    if !usable(problems, node, endpoint.address) {
        return None;
    }
    let (Some(port), [first, rest @ ..]) = (endpoint.port, ports) else { return Some(endpoint) };
    if rest.iter().any(|other| other.value.port != first.value.port) {
        problems.value(
            node,
            format!("`{endpoint}` has one port for the service's {}", ports.len()),
            format!("write `{}`, or make each port a service", endpoint.address),
        );
        return None;
    }
    if port == first.value.port {
        return Some(Endpoint { port: None, ..endpoint });
    }
    if demands.own_ports {
        problems.value(
            node,
            format!(
                "a DNS answer names no port: dns clients reach port {}, not {port}",
                first.value.port
            ),
            format!(
                "serve port {} there, or give `0.0.0.0/0` and `::/0` to mesh or host rows",
                first.value.port
            ),
        );
    }
    Some(endpoint)
}
