//! What services share at the target's edge: one listener and one route configuration for each port
//! number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use plan::snapshot::Service;
use plan::spec::{ClientAddress, Port, Protocol};
use plan::{PlanName, ServiceId, Token};
use prost::Message as _;

use crate::name::{Name, Scope, TypeUrl};
use crate::render::claims::Conflict;
use crate::render::door::{CATCH, Door, GATEWAY, Role};
use crate::render::item::Item;
use crate::render::listener::{self, Carries, Forwards};
use crate::render::mtls::Entry;
use crate::render::route;
use crate::render::service::{
    catch_since, caught, is_split, pair, ports, prefix, split_since, tcp_name,
};

/// Which of the two kinds of proxies at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    Gateway,
    Catch,
}

impl Edge {
    /// The kind that this role is, if any.
    pub(super) const fn of(role: Role) -> Option<Self> {
        match role {
            Role::Gateway => Some(Self::Gateway),
            Role::Catch => Some(Self::Catch),
            Role::Sidecar | Role::Grpc => None,
        }
    }

    fn scope(self) -> Scope {
        match self {
            Self::Gateway => GATEWAY.into(),
            Self::Catch => CATCH.into(),
        }
    }

    fn takes(self, leaf: &Service) -> bool {
        self == Self::Catch || is_split(leaf)
    }
}

/// Everything that one kind of proxies has at one port number.
#[derive(Clone, Debug)]
pub(super) struct Group {
    carries: Carried,
    plans: Arc<[PlanName]>,
}

#[derive(Clone, Debug)]
enum Carried {
    /// Requests of these services, told apart by host; sorted by service.
    Http { members: Arc<[Arc<Member>]>, needs: Arc<[Name]> },
    /// The connections of one service, by this filter.
    Tcp(String),
}

/// The part of one service's port in a shared route configuration.
#[derive(Debug)]
struct Member {
    service: ServiceId,
    port: Port,
    domains: Arc<[String]>,
    since: Token,
    /// The virtual host, as a field of the route configuration.
    bytes: Bytes,
}

/// All port numbers of one kind of proxies.
#[derive(Clone, Debug, Default)]
pub(super) struct Ports {
    groups: BTreeMap<u16, Arc<Group>>,
    pub(super) conflicts: Vec<Conflict>,
}

/// What all route configurations of gateways are called after.
fn group_name(number: u16) -> String {
    format!("gateway/{number}")
}

impl Ports {
    /// From all services, but for these port numbers. O(services): only when one came, went, or
    /// changed its shape.
    pub(super) fn of(edge: Edge, leaves: &[Arc<Service>], closed: &BTreeSet<u16>) -> Self {
        let mut by_number: BTreeMap<u16, Vec<(&Arc<Service>, &Port)>> = BTreeMap::new();
        for leaf in leaves.iter().filter(|leaf| edge.takes(leaf)) {
            for port in ports(leaf).filter(|port| !closed.contains(&port.port.get())) {
                by_number.entry(port.port.get()).or_default().push((leaf, port));
            }
        }
        let mut all = Self::default();
        for (number, wanted) in by_number {
            if let Some(group) = Group::of(edge, number, &wanted, &mut all.conflicts) {
                all.groups.insert(number, Arc::new(group));
            }
        }
        all
    }

    /// With these leaves in the place of those of their names, which have the same shape. Returns
    /// the numbers whose route configuration changed.
    pub(super) fn update(&mut self, edge: Edge, leaves: &[&Arc<Service>]) -> BTreeSet<u16> {
        let mut changed: BTreeMap<u16, Vec<(&Arc<Service>, &Port)>> = BTreeMap::new();
        for leaf in leaves {
            for port in ports(leaf) {
                changed.entry(port.port.get()).or_default().push((leaf, port));
            }
        }
        let mut touched = BTreeSet::new();
        for (number, parts) in changed {
            let group = self.groups.get_mut(&number);
            if group.is_some_and(|group| Arc::make_mut(group).update(edge, &parts)) {
                touched.insert(number);
            }
        }
        touched
    }

    /// The route configuration of a port number; `None` where it has none.
    pub(super) fn routes(&self, edge: Edge, number: u16, shape: Token) -> Option<Item> {
        let group = self.groups.get(&number)?;
        let Carried::Http { members, needs } = &group.carries else { return None };
        let name = group_name(number);
        let head = route::shared_head(&name).encode_to_vec();
        let length = members.iter().map(|member| member.bytes.len()).sum::<usize>();
        let mut body = BytesMut::with_capacity(head.len() + length);
        body.extend_from_slice(&head);
        members.iter().for_each(|member| body.extend_from_slice(&member.bytes));
        let since = members.iter().map(|member| member.since).fold(shape, Token::max);
        let name = name.as_str().into();
        let item = Item::of_body(&edge.scope(), TypeUrl::ROUTES.into(), name, since, &body);
        Some(item.of_plans(&group.plans).after(needs))
    }

    /// All numbers that there are.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> {
        self.groups.keys().copied()
    }

    /// The listeners of a door. Where the client's address is found goes by `client`; who may come
    /// with mTLS by `entry`.
    pub(super) fn listeners(
        &self,
        door: &Door,
        client: ClientAddress,
        entry: &Entry<'_>,
        shape: Token,
    ) -> Vec<Item> {
        let scope = door.listeners();
        let one = |(number, group): (&u16, &Arc<Group>)| {
            let name = group_name(*number);
            let carries = match &group.carries {
                Carried::Http { .. } => {
                    Carries::Http { routes: &name, forwards: Forwards::Appends }
                }
                Carried::Tcp(filter) => Carries::Tcp(filter),
            };
            let listener = listener::gateway(&name, door.bind, *number, client, carries);
            let listener = match entry.is_at(&group.plans) {
                // Nothing is before the gateway that could say who the client is.
                true => {
                    entry.opened(listener, listener::chain(&name, ClientAddress::Direct, carries))
                }
                false => listener,
            };
            Item::new(&scope, name.as_str().into(), shape, &listener).of_plans(&group.plans)
        };
        self.groups.iter().map(one).collect()
    }
}

impl Group {
    fn of(
        edge: Edge,
        number: u16,
        wanted: &[(&Arc<Service>, &Port)],
        conflicts: &mut Vec<Conflict>,
    ) -> Option<Self> {
        let (first, port) = wanted.first()?;
        let is_tcp = port.protocol == Protocol::Tcp;
        let mut lose = |leaf: &Service, with: &ServiceId, what: String| {
            conflicts.push(Conflict { service: leaf.id.clone(), with: with.clone(), what });
        };
        if is_tcp {
            for (leaf, _) in wanted.iter().skip(1) {
                lose(leaf, &first.id, format!("port {number} at gateways"));
            }
            let carries = Carried::Tcp(tcp_name(&prefix(first, port)));
            return Some(Self { carries, plans: Arc::new([first.id.plan.clone()]) });
        }
        let mut owners: HashMap<String, &ServiceId> = HashMap::new();
        let mut members = Vec::new();
        for (leaf, port) in wanted {
            if port.protocol == Protocol::Tcp {
                lose(leaf, &first.id, format!("port {number} at gateways"));
                continue;
            }
            let mut domains = Vec::new();
            for domain in domains_of(leaf) {
                let owner = *owners.entry(domain.clone()).or_insert(&leaf.id);
                if *owner == leaf.id {
                    domains.push(domain);
                } else {
                    lose(leaf, owner, format!("host {domain} on port {number} at gateways"));
                }
            }
            // Envoy refuses a virtual host without a domain.
            if !domains.is_empty() {
                members.push(Arc::new(Member::of(edge, leaf, port, domains.into())));
            }
        }
        let clusters = members.iter().flat_map(|member| {
            let pair = pair(&member.prefix());
            [Name::new(&pair.target), Name::new(&pair.legacy)]
        });
        let needs = clusters.collect();
        let plans: BTreeSet<&PlanName> = members.iter().map(|m| &m.service.plan).collect();
        let plans = plans.into_iter().cloned().collect();
        Some(Self { carries: Carried::Http { members: members.into(), needs }, plans })
    }

    fn update(&mut self, edge: Edge, parts: &[(&Arc<Service>, &Port)]) -> bool {
        let Carried::Http { members, .. } = &mut self.carries else { return false };
        let mut changed = false;
        for (leaf, port) in parts {
            let at = members.binary_search_by(|member| member.service.cmp(&leaf.id));
            let Some(old) = at.ok().and_then(|at| members.get(at)) else { continue };
            if old.port.port != port.port || old.since == edge_since(edge, leaf) {
                continue;
            }
            let new = Arc::new(Member::of(edge, leaf, port, Arc::clone(&old.domains)));
            let mut next = members.to_vec();
            if let Some(slot) = at.ok().and_then(|at| next.get_mut(at)) {
                *slot = new;
                changed = true;
            }
            *members = next.into();
        }
        changed
    }
}

impl Member {
    fn of(edge: Edge, leaf: &Service, port: &Port, domains: Arc<[String]>) -> Self {
        let prefix = prefix(leaf, port);
        let split = match edge {
            Edge::Gateway => leaf.serving.split(),
            Edge::Catch => caught(leaf.motion),
        };
        let affinity = &leaf.spec.affinity;
        let host = route::virtual_host(&prefix, domains.to_vec(), &pair(&prefix), split, affinity);
        let mut bytes = BytesMut::new();
        // RouteConfiguration.virtual_hosts
        prost::encoding::message::encode(2, &host, &mut bytes);
        Self {
            service: leaf.id.clone(),
            port: port.clone(),
            domains,
            since: edge_since(edge, leaf),
            bytes: bytes.freeze(),
        }
    }

    fn prefix(&self) -> String {
        format!("{}/{}", self.service, self.port.name)
    }
}

fn edge_since(edge: Edge, leaf: &Service) -> Token {
    match edge {
        Edge::Gateway => split_since(leaf),
        Edge::Catch => catch_since(leaf),
    }
}

/// What clients may write as a request's host, without a port: routes are chosen without it.
fn domains_of(leaf: &Service) -> Vec<String> {
    let hosts = leaf.spec.hosts.iter().map(ToString::to_string);
    let address = leaf.spec.address.map(|ip| match ip {
        std::net::IpAddr::V4(v4) => v4.to_string(),
        std::net::IpAddr::V6(v6) => format!("[{v6}]"),
    });
    hosts.chain(address).collect()
}

/// Where proxies of this gateway find the client's address: as the first plan says that has such a
/// gateway. Plans that say otherwise are conflicts.
pub(super) fn client_address(
    gateway: Option<&plan::ServiceName>,
    leaves: &[Arc<Service>],
    conflicts: &mut Vec<Conflict>,
) -> ClientAddress {
    let Some(gateway) = gateway else { return ClientAddress::Direct };
    let mut first: Option<(&Service, ClientAddress)> = None;
    for leaf in leaves {
        let Some(said) = leaf.gateways.iter().find(|known| known.name == *gateway) else {
            continue;
        };
        match first {
            None => first = Some((leaf, said.client_address)),
            Some((with, address)) if address != said.client_address => conflicts.push(Conflict {
                service: leaf.id.clone(),
                with: with.id.clone(),
                what: format!("say in where gateway {gateway} finds the client's address"),
            }),
            Some(_) => {}
        }
    }
    first.map(|(_, address)| address).unwrap_or_default()
}
