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
}

impl One<'_> {
    fn port(&self, port: &Port, items: &mut Vec<Item>) {
        let split = is_split(self.leaf);
        let identified = split && self.roles.identified;
        let sidecar = split && !self.roles.sidecars.is_empty();
        let envoy = split && (self.roles.plain || self.roles.gateway) || self.roles.catch;
        let grpc = split && self.roles.grpc && port.protocol == Protocol::Grpc;
        let prefix = prefix(self.leaf, port);
        let pair = pair(&prefix);
        let needs: Arc<[Name]> =
            Arc::new([pair.target.as_str().into(), pair.legacy.as_str().into()]);
        let scopes = |mesh: bool| [(mesh, MESH), (identified, IDENTIFIED)];
        self.clusters(port, &pair, &scopes(envoy), Reader::Envoy, items);
        self.clusters(port, &pair, &[(grpc, GRPC)], Reader::Grpc, items);
        self.endpoints(port, &pair, &scopes(envoy || grpc), items);
        if port.protocol == Protocol::Tcp {
            if sidecar || (split && self.roles.gateway) {
                let at = self.leaf.serving.split();
                let item = self.tcp(&prefix, &pair, at, split_since(self.leaf), &self.mesh);
                items.push(item.after(&needs));
            }
            if self.roles.catch {
                let at = caught(self.leaf.motion);
                let item = self.tcp(&prefix, &pair, at, catch_since(self.leaf), &CATCH.into());
                items.push(item.after(&needs));
            }
        } else if sidecar || grpc {
            let at = self.leaf.serving.split();
            let routes = route::routes(&prefix, &pair, at, &self.leaf.spec.affinity);
            let name = prefix.as_str().into();
            let item = Item::new(&self.mesh, name, split_since(self.leaf), &routes);
            let item = item.of_plans(&self.plans);
            // A gRPC library asks for clusters only when it has seen the routes to them.
            items.extend(grpc.then(|| item.also_in(&GRPC.into())));
            items.extend(sidecar.then(|| item.after(&needs)));
        }
        if sidecar {
            self.captured(port, &prefix, items);
        }
        if grpc {
            self.dialled(port, &prefix, items);
        }
    }

    /// Both clusters of a port, in each of the scopes where they are wanted.
    fn clusters(
        &self,
        port: &Port,
        pair: &Pair,
        scopes: &[(bool, &str)],
        reader: Reader,
        items: &mut Vec<Item>,
    ) {
        for (side, name) in [(Side::Target, &pair.target), (Side::Legacy, &pair.legacy)] {
            let plain = || cluster::cluster(name, port, reader, Closes::of(self.leaf, port));
            self.side(side, scopes, items, |scope, mtls| {
                let cluster = mtls.map_or_else(plain, |mtls| mtls.cluster(plain()));
                Item::new(scope, name.as_str().into(), self.leaf.parts.shape, &cluster)
            });
        }
    }

    /// Both endpoint sets of a port, likewise.
    fn endpoints(&self, port: &Port, pair: &Pair, scopes: &[(bool, &str)], items: &mut Vec<Item>) {
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
            self.side(side, scopes, items, |scope, mtls| {
                let of = |pool: &Pool| pool.serving.iter().copied().collect();
                let serving: Vec<Endpoint> =
                    mtls.map_or_else(|| pool.map(of).unwrap_or_default(), Mtls::endpoints);
                let set = cluster::endpoints(name, port, side, serving, drained, closes);
                Item::new(scope, name.as_str().into(), since, &set)
            });
        }
    }

    /// One resource of a side, made once for all scopes where it is the same.
    fn side(
        &self,
        side: Side,
        scopes: &[(bool, &str)],
        items: &mut Vec<Item>,
        make: impl Fn(&Scope, Option<&Mtls<'_>>) -> Item,
    ) {
        let mtls = self.mtls.as_ref().filter(|_| side == Side::Target);
        let mut same: Option<Item> = None;
        for scope in scopes.iter().filter(|(wanted, _)| *wanted).map(|(_, scope)| *scope) {
            let (is_own, scope) = (scope == IDENTIFIED && mtls.is_some(), scope.into());
            let item = match &same {
                _ if is_own => make(&scope, mtls),
                Some(same) => same.also_in(&scope),
                None => make(&scope, None),
            };
            let item = item.of_plans(&self.plans);
            if !is_own {
                same = Some(item.clone());
            }
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
        if self.claims.lost_address(&self.leaf.id, port) {
            return;
        }
        let to = SocketAddr::new(ip, port.port.get());
        let filter = tcp_name(prefix);
        let carries = match port.protocol {
            Protocol::Tcp | Protocol::Udp => Carries::Tcp(&filter),
            Protocol::Http | Protocol::Grpc => {
                Carries::Http { routes: prefix, forwards: Forwards::Untouched }
            }
        };
        let listener = listener::sidecar(prefix, to, carries);
        for scope in &self.roles.sidecars {
            let item = Item::new(scope, prefix.into(), self.leaf.parts.shape, &listener);
            items.push(item.of_plans(&self.plans));
        }
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
