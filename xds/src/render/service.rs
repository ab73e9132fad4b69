//! What is rendered of one service alone.

use std::net::SocketAddr;
use std::sync::Arc;

use plan::endpoint::{Endpoint, Pool};
use plan::snapshot::{Motion, Service};
use plan::spec::{Plane, Port, Protocol};
use plan::split::{Side, Split};
use plan::{PlanName, ServiceId, Token};

use crate::name::{Name, Scope};
use crate::render::claims::Claims;
use crate::render::cluster::{self, Closes, Reader};
use crate::render::common::word;
use crate::render::door::{CATCH, GRPC, IDENTIFIED, MESH, Roles};
use crate::render::item::Item;
use crate::render::limit::Part;
use crate::render::listener::{self, Carries, Forwards};
use crate::render::mtls::Mtls;
use crate::render::route::{self, Pair};

/// Whether proxies split this service: a row of its plan says so. Otherwise they only catch, as a
/// second split of the same clients would multiply the shares.
pub(super) fn is_split(leaf: &Service) -> bool {
    leaf.clients.rows.iter().any(|row| row.plane == Plane::Mesh)
}

/// The ports that proxies carry. Datagrams are not among them.
pub(super) fn ports(leaf: &Service) -> impl Iterator<Item = &Port> {
    leaf.spec.ports.iter().filter(|port| port.protocol != Protocol::Udp)
}

/// What everything of a port is named after: `plan/service/port`.
pub(super) fn prefix(leaf: &Service, port: &Port) -> String {
    format!("{}/{}", leaf.id, port.name)
}

/// The clusters of a port.
pub(super) fn pair(prefix: &str) -> Pair {
    Pair {
        target: format!("{prefix}/{}", word(Side::Target)),
        legacy: format!("{prefix}/{}", word(Side::Legacy)),
    }
}

/// The service and side of a cluster's name; `None` where it is not of this kind.
pub fn side_of(cluster_name: &str) -> Option<(ServiceId, Side)> {
    let (prefix, side) = cluster_name.rsplit_once('/')?;
    let side = [Side::Legacy, Side::Target].into_iter().find(|known| word(*known) == side)?;
    let (service, _port) = prefix.rsplit_once('/')?;
    Some((service.parse().ok()?, side))
}

/// Where a catch sends what reached it.
pub(super) fn caught(motion: Motion) -> Split {
    match motion {
        Motion::RolledBack => Split::LEGACY,
        Motion::Steady | Motion::Moving | Motion::Restored => Split::TARGET,
    }
}

/// When a catch's route last changed.
pub(super) fn catch_since(leaf: &Service) -> Token {
    leaf.parts.shape.max(leaf.parts.catch)
}

/// When a split route last changed.
pub(super) fn split_since(leaf: &Service) -> Token {
    leaf.parts.shape.max(leaf.parts.split)
}

/// Everything that is rendered of this service alone, for these roles. `drained`: what is left on
/// the side without traffic is to be closed.
pub(super) fn items(leaf: &Service, drained: bool, roles: &Roles, claims: &Claims) -> Vec<Item> {
    let one = One {
        leaf,
        drained,
        roles,
        claims,
        plans: Arc::new([leaf.id.plan.clone()]),
        mesh: MESH.into(),
        mtls: Mtls::of(leaf, roles.trust_domain.as_deref()),
        limited: if is_split(leaf) { roles.limited.with(&leaf.id) } else { &[] },
    };
    let mut items = Vec::new();
    for port in ports(leaf) {
        one.port(port, &mut items);
    }
    items
}

struct One<'a> {
    leaf: &'a Service,
    drained: bool,
    roles: &'a Roles,
    claims: &'a Claims,
    plans: Arc<[PlanName]>,
    mesh: Scope,
    /// How identified sidecars reach the target side, if not as all others.
    mtls: Option<Mtls<'a>>,
    /// Sidecars that see this service and not all others.
    limited: &'a [Arc<Part>],
}

/// A scope in which the resources of a side are wanted.
struct Place {
    scope: Scope,
    /// Whether proxies there show who they are.
    identified: bool,
}

impl Place {
    fn of(scope: &str, identified: bool) -> Self {
        Self { scope: scope.into(), identified }
    }
}

impl One<'_> {
    fn port(&self, port: &Port, items: &mut Vec<Item>) {
        let (split, roles) = (is_split(self.leaf), &self.roles.whole);
        let sidecar = split && !roles.sidecars.is_empty();
        let envoy = split && (roles.plain || roles.gateway) || roles.catch;
        let grpc = split && roles.grpc && port.protocol == Protocol::Grpc;
        let prefix = prefix(self.leaf, port);
        let pair = pair(&prefix);
        let needs: Arc<[Name]> =
            Arc::new([pair.target.as_str().into(), pair.legacy.as_str().into()]);
        self.clusters(port, &pair, &self.places(envoy), Reader::Envoy, items);
        if grpc {
            self.clusters(port, &pair, &[Place::of(GRPC, false)], Reader::Grpc, items);
        }
        self.endpoints(port, &pair, &self.places(envoy || grpc), items);
        if port.protocol == Protocol::Tcp {
            let mesh = sidecar || (split && roles.gateway);
            if mesh || !self.limited.is_empty() {
                let at = self.leaf.serving.split();
                let item = self.tcp(&prefix, &pair, at, split_since(self.leaf), &self.mesh);
                items.extend(self.in_limited(&item, &needs));
                items.extend(mesh.then(|| item.after(&needs)));
            }
            if roles.catch {
                let at = caught(self.leaf.motion);
                let item = self.tcp(&prefix, &pair, at, catch_since(self.leaf), &CATCH.into());
                items.push(item.after(&needs));
            }
        } else if sidecar || grpc || !self.limited.is_empty() {
            let at = self.leaf.serving.split();
            let routes = route::routes(&prefix, &pair, at, &self.leaf.spec.affinity);
            let name = prefix.as_str().into();
            let item = Item::new(&self.mesh, name, split_since(self.leaf), &routes);
            let item = item.of_plans(&self.plans);
            // A gRPC library asks for clusters only when it has seen the routes to them.
            items.extend(grpc.then(|| item.also_in(&GRPC.into())));
            items.extend(self.in_limited(&item, &needs));
            items.extend(sidecar.then(|| item.after(&needs)));
        }
        if split {
            self.captured(port, &prefix, items);
        }
        if grpc {
            self.dialled(port, &prefix, items);
        }
    }

    /// Where the resources of sides are wanted, in `mesh` or not.
    fn places(&self, mesh: bool) -> Vec<Place> {
        let identified = is_split(self.leaf) && self.roles.whole.identified;
        let known = [(mesh, MESH, false), (identified, IDENTIFIED, true)];
        let whole = known.iter().filter(|(wanted, ..)| *wanted);
        let whole = whole.map(|(_, scope, identified)| Place::of(scope, *identified));
        let limited = self
            .limited
            .iter()
            .map(|part| Place { scope: part.scope.clone(), identified: part.identified });
        whole.chain(limited).collect()
    }

    /// The same where not all services are seen.
    fn in_limited(&self, item: &Item, needs: &Arc<[Name]>) -> Vec<Item> {
        self.limited.iter().map(|part| item.also_in(&part.scope).after(needs)).collect()
    }

    /// Both clusters of a port, in each of the places where they are wanted.
    fn clusters(
        &self,
        port: &Port,
        pair: &Pair,
        places: &[Place],
        reader: Reader,
        items: &mut Vec<Item>,
    ) {
        for (side, name) in [(Side::Target, &pair.target), (Side::Legacy, &pair.legacy)] {
            let plain = || cluster::cluster(name, port, reader, Closes::of(self.leaf, port));
            self.side(side, places, items, |scope, mtls| {
                let cluster = mtls.map_or_else(plain, |mtls| mtls.cluster(plain()));
                Item::new(scope, name.as_str().into(), self.leaf.parts.shape, &cluster)
            });
        }
    }

    /// Both endpoint sets of a port, likewise.
    fn endpoints(&self, port: &Port, pair: &Pair, places: &[Place], items: &mut Vec<Item>) {
        let (serving, parts) = (&self.leaf.serving, &self.leaf.parts);
        let sides = [
            (Side::Target, &pair.target, serving.target(), parts.target),
            (Side::Legacy, &pair.legacy, serving.legacy(), parts.legacy),
        ];
        let idle = match serving.split() {
            Split::LEGACY => Some(Side::Target),
            Split::TARGET => Some(Side::Legacy),
            _ => None,
        };
        let closes = Closes::of(self.leaf, port);
        for (side, name, pool, since) in sides {
            // What is drained is as old as what is not: which of the two it is comes and goes with
            // the process, and nothing may be taken for older than the other. So it is with the
            // gateway in place of the endpoints: a proxy may come to be identified, or cease to be.
            let (drained, since) = (self.drained && idle == Some(side), since.max(parts.shape));
            self.side(side, places, items, |scope, mtls| {
                let of = |pool: &Pool| pool.serving.iter().copied().collect();
                let serving: Vec<Endpoint> =
                    mtls.map_or_else(|| pool.map(of).unwrap_or_default(), Mtls::endpoints);
                let set = cluster::endpoints(name, port, side, serving, drained, closes);
                Item::new(scope, name.as_str().into(), since, &set)
            });
        }
    }

    /// One resource of a side, made once for all places where it is the same.
    fn side(
        &self,
        side: Side,
        places: &[Place],
        items: &mut Vec<Item>,
        make: impl Fn(&Scope, Option<&Mtls<'_>>) -> Item,
    ) {
        let (mut plain, mut by_gateway): (Option<Item>, Option<Item>) = (None, None);
        for Place { scope, identified } in places {
            let mtls = self.mtls.as_ref().filter(|_| *identified && side == Side::Target);
            let same = if mtls.is_some() { &mut by_gateway } else { &mut plain };
            let item = match same {
                Some(same) => same.also_in(scope),
                None => same.insert(make(scope, mtls).of_plans(&self.plans)).clone(),
            };
            items.push(item);
        }
    }

    fn tcp(&self, prefix: &str, pair: &Pair, split: Split, since: Token, scope: &Scope) -> Item {
        let name = tcp_name(prefix);
        let filter = route::tcp_filter(&name, pair, split);
        Item::new(scope, name.as_str().into(), since, &filter).of_plans(&self.plans)
    }

    /// The listener of the logical address, in sidecars.
    fn captured(&self, port: &Port, prefix: &str, items: &mut Vec<Item>) {
        let Some(ip) = self.leaf.spec.address else { return };
        let to = SocketAddr::new(ip, port.port.get());
        let has = |limit| !self.claims.lost_address(&self.leaf.id, to, limit);
        let whole = self.roles.whole.sidecars.iter().filter(|_| has(None));
        let limited = self.limited.iter().filter(|part| has(Some(&part.limit)));
        let mut scopes = whole.chain(limited.flat_map(|part| part.listeners.iter()));
        let Some(first) = scopes.next() else { return };
        let filter = tcp_name(prefix);
        let carries = match port.protocol {
            Protocol::Tcp | Protocol::Udp => Carries::Tcp(&filter),
            Protocol::Http | Protocol::Grpc => {
                Carries::Http { routes: prefix, forwards: Forwards::Untouched }
            }
        };
        let listener = listener::sidecar(prefix, to, carries);
        let item = Item::new(first, prefix.into(), self.leaf.parts.shape, &listener);
        let item = item.of_plans(&self.plans);
        items.extend(scopes.map(|scope| item.also_in(scope)));
        items.push(item);
    }

    /// The listeners that gRPC libraries look up: by host and port, and by host alone where the
    /// service has one such port.
    fn dialled(&self, port: &Port, prefix: &str, items: &mut Vec<Item>) {
        for name in self.claims.grpc_names(self.leaf, port) {
            let listener = listener::api(&name, prefix);
            let item =
                Item::new(&GRPC.into(), name.as_str().into(), self.leaf.parts.shape, &listener);
            items.push(item.of_plans(&self.plans));
        }
    }
}

/// The name of a TCP port's filter.
pub(super) fn tcp_name(prefix: &str) -> String {
    format!("{prefix}/tcp")
}
