//! Which side a client gets in each plane, and why.

mod kernel;

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::kernel::{KernelView, kernel};
use super::Planes;
use super::diff::warn::drawn_in_mesh;
use crate::bucket::{self, Bucket};
use crate::client::{self, Keyed};
use crate::endpoint::{Endpoint, Pool};
use crate::file::duration;
use crate::name::{HostName, ServiceId, ServiceName};
use crate::snapshot::{Service, Serving, Snapshot};
use crate::spec::{Affinity, Clients, Gateway, Plane};
use crate::split::{Side, Split};
use crate::token::Token;

/// Who serves a service, and whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explain {
    /// The service.
    pub service: ServiceId,
    /// The snapshot that this was read from.
    pub token: Token,
    /// The share of clients on target.
    pub split_bp: u16,
    /// Its host names.
    pub hosts: Vec<HostName>,
    /// The TTL of each of `hosts` now, in seconds.
    pub ttls: Vec<u32>,
    /// Its logical address.
    pub address: Option<IpAddr>,
    /// What makes two requests come from one client.
    pub affinity: String,
    /// What seasons the buckets.
    pub salt: String,
    /// Prefix lengths of DNS client keys.
    pub client_key: KeyLengths,
    /// The VMs.
    pub legacy: SideView,
    /// The cluster.
    pub target: SideView,
    /// Which plane splits whom, in order; the last row is everyone else.
    pub rows: Vec<RowView>,
    /// The proxies at the target's edge.
    pub gateways: Vec<GatewayView>,
    /// How long after exactly 0 or 100 % what is left on the side that lost is closed: `30s`;
    /// `null`: nothing is.
    pub drain: Option<String>,
    /// The client that was asked for.
    pub client: Option<ClientView>,
}

/// Proxies at the target's edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayView {
    /// Their name.
    pub name: ServiceName,
    /// Where they find the client's address: `direct`, `xff 1`, `proxy-protocol`.
    pub client_address: String,
    /// The networks that their own connections to legacy come from.
    pub egress: Vec<String>,
    /// Where proxies of VMs reach them with mutual TLS.
    pub mtls: Vec<String>,
}

/// Prefix lengths of DNS client keys, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyLengths {
    /// For IPv4.
    pub v4: u8,
    /// For IPv6.
    pub v6: u8,
}

/// One side of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SideView {
    /// The endpoints that count; empty where none is known.
    pub endpoints: Vec<Endpoint>,
    /// Whether any client gets this side.
    pub serving: bool,
    /// Every endpoint fails; `endpoints` is the last good set.
    pub degraded: bool,
}

/// Clients that one plane splits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowView {
    /// Where they are; empty for everyone else.
    pub networks: Vec<String>,
    /// Who splits them.
    pub plane: Plane,
}

/// What one client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientView {
    /// The client as asked for.
    pub client: String,
    /// The plane that splits it.
    pub plane: Plane,
    /// The row that says so, an index of [`Explain::rows`].
    pub row: u32,
    /// Why, in words.
    pub why: String,
    /// The resolver group that it belongs to.
    pub resolver: Option<String>,
    /// The side it gets now; `null` where every answer, request or connection is drawn anew, and
    /// for gateways of the target in plane host, which are left alone.
    pub side: Option<Side>,
    /// The addresses that it sees in DNS.
    pub sees: Vec<IpAddr>,
    /// Why it sees those, in words.
    pub seen_why: String,
    /// Where it stands in each plane.
    pub planes: Planes<Place>,
    /// What the kernel of a VM does with its new connections; `null` for a network, or where there
    /// is no logical address.
    pub kernel: Option<KernelView>,
}

/// Where a client stands in a plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Whether this plane splits this client.
    pub splits: bool,
    /// What tells clients apart there: `network`, `address`, `header x-user`, `cookie session`;
    /// `null` where every answer, request or connection is drawn anew.
    pub keyed_by: Option<String>,
    /// What its bucket is made of: a network in dns, an address elsewhere. Where a header or a
    /// cookie tells clients apart, what stands in for it in requests that lack it: the address.
    pub key: Option<String>,
    /// The bucket of that key, 0 to 9 999; `null` where every answer, request or connection is
    /// drawn anew.
    pub bucket: Option<u16>,
    /// The side that the bucket gets at the present split; `null` also where the plane does not
    /// split this client. Of the key above: a request with the header or cookie gets that of its
    /// value.
    pub side: Option<Side>,
    /// It is on target at every split above this one; `null` as above.
    pub moves_above_bp: Option<u16>,
    /// What else there is to know, in words.
    pub note: String,
}

/// Who serves a service and, where a client is named, what that client gets; `None` where there is
/// no such service.
///
/// A client of one address is taken as the address that queries and packets come from; a network as
/// what a resolver sends of its client (ECS).
pub fn explain(snapshot: &Snapshot, service: &ServiceId, client: Option<IpNet>) -> Option<Explain> {
    let service = snapshot.service(service)?;
    let (spec, serving) = (&service.spec, &service.serving);
    Some(Explain {
        service: service.id.clone(),
        token: snapshot.token,
        split_bp: serving.split().bp(),
        hosts: spec.hosts.clone(),
        ttls: service.ttls.to_vec(),
        address: spec.address,
        affinity: String::from(spec.affinity.clone()),
        salt: spec.salt.as_ref().to_owned(),
        client_key: KeyLengths { v4: service.clients.key.v4, v6: service.clients.key.v6 },
        legacy: side_view(serving.legacy(), !matches!(serving, Serving::Target { .. })),
        target: side_view(serving.target(), !matches!(serving, Serving::Legacy { .. })),
        rows: rows(&service.clients),
        gateways: service.gateways.iter().map(gateway_view).collect(),
        drain: service.drain.map(duration::text),
        client: client.map(|client| client_view(service, client)),
    })
}

fn gateway_view(gateway: &Gateway) -> GatewayView {
    GatewayView {
        name: gateway.name.clone(),
        client_address: gateway.client_address.to_string(),
        egress: gateway.egress.iter().map(ToString::to_string).collect(),
        mtls: gateway.mtls.iter().map(ToString::to_string).collect(),
    }
}

fn side_view(pool: Option<&Pool>, serving: bool) -> SideView {
    SideView {
        endpoints: pool.map_or_else(Vec::new, |pool| pool.serving.as_slice().to_vec()),
        serving,
        degraded: pool.is_some_and(|pool| pool.degraded),
    }
}

fn rows(clients: &Clients) -> Vec<RowView> {
    let rows = clients.rows.iter().map(|row| RowView {
        networks: row.networks.iter().map(ToString::to_string).collect(),
        plane: row.plane,
    });
    rows.chain([RowView { networks: Vec::new(), plane: Plane::Dns }]).collect()
}

fn client_view(service: &Service, client: IpNet) -> ClientView {
    let one = client.prefix_len() == client.max_prefix_len();
    let ecs = (!one).then_some(client);
    let keyed = client::key(&service.clients, client.addr(), ecs);
    let planes = Planes::of(|plane| {
        uses(&service.clients, plane).then(|| place(service, plane, &keyed, one, client))
    });
    // A header or cookie has a side of its own, whatever the address.
    let by_value = keyed.plane == Plane::Mesh && value_key(&service.spec.affinity).is_some();
    let kernel = one.then(|| kernel(service, client.addr().to_canonical())).flatten();
    let drawn = planes.plane(keyed.plane).and_then(|place| place.side).filter(|_| !by_value);
    // At 0 and at 100 % there is nothing to draw.
    let side = match &service.serving {
        Serving::Legacy { .. } => Some(Side::Legacy),
        Serving::Target { .. } => Some(Side::Target),
        Serving::Both { .. } => drawn,
    };
    let in_kernel = kernel.as_ref().filter(|_| keyed.plane == Plane::Host);
    let side = in_kernel.map_or(side, |kernel| kernel.side);
    let (sees, seen_why) = seen(service, keyed.plane, side);
    let resolver = keyed.resolver.and_then(|at| service.clients.resolvers.get(at));
    ClientView {
        client: if one { client.addr().to_string() } else { client.to_string() },
        plane: keyed.plane,
        row: u32::try_from(keyed.row.unwrap_or(service.clients.rows.len())).unwrap_or(u32::MAX),
        why: why(&service.clients, &keyed),
        resolver: resolver.map(|group| group.name.clone()),
        side,
        sees,
        seen_why,
        planes,
        kernel,
    }
}

fn uses(clients: &Clients, plane: Plane) -> bool {
    match plane {
        Plane::Dns => !clients.cover_everyone(),
        Plane::Mesh | Plane::Host => clients.rows.iter().any(|row| row.plane == plane),
    }
}

fn why(clients: &Clients, keyed: &Keyed) -> String {
    let row = keyed.row.and_then(|at| Some((at + 1, clients.rows.get(at)?)));
    let row = match row {
        Some((at, row)) => {
            let networks: Vec<_> = row.networks.iter().map(ToString::to_string).collect();
            format!("client row {at} ({}) says {}", networks.join(", "), row.plane)
        }
        None => "no client row holds it, so dns".to_owned(),
    };
    match keyed.resolver.and_then(|at| clients.resolvers.get(at)) {
        Some(group) => {
            format!("it counts as resolver {} ({}); {row}", group.name, keyed.key.addr())
        }
        None => row,
    }
}

/// The header or cookie that tells requests apart: what proxies see, and they alone.
fn value_key(affinity: &Affinity) -> Option<String> {
    match affinity {
        Affinity::Header(name) => Some(format!("header {name}")),
        Affinity::Cookie(name) => Some(format!("cookie {name}")),
        Affinity::ClientIp | Affinity::None => None,
    }
}

fn place(service: &Service, plane: Plane, keyed: &Keyed, one: bool, client: IpNet) -> Place {
    let splits = keyed.plane == plane;
    let sticky = service.spec.affinity != Affinity::None;
    let (key, bucket) = match plane {
        Plane::Dns => (Some(keyed.key.to_string()), Some(bucket::dns(keyed.key, service.salt))),
        Plane::Mesh if one => {
            let key = bucket::address_key(client.addr());
            let bucket = bucket::mesh(key.as_bytes());
            (Some(key), Some(bucket))
        }
        Plane::Host if one => {
            let address = client.addr().to_canonical();
            (Some(address.to_string()), Some(bucket::host(address, service.salt)))
        }
        Plane::Mesh | Plane::Host => (None, None),
    };
    let keyed_by = match plane {
        Plane::Dns => "network".to_owned(),
        Plane::Mesh => value_key(&service.spec.affinity).unwrap_or_else(|| "address".to_owned()),
        Plane::Host => "address".to_owned(),
    };
    let bucket = bucket.filter(|_| sticky);
    let counts = bucket.filter(|_| splits);
    // Gateways of the target are left alone by a kernel; who cannot reach target stays.
    let moves = plane != Plane::Host || kernel::moves(service, client.addr().to_canonical());
    let counts = counts.filter(|_| moves);
    Place {
        splits,
        keyed_by: sticky.then_some(keyed_by),
        key: key.filter(|_| sticky),
        bucket: bucket.map(Bucket::number),
        side: counts.map(|bucket| bucket.side(service.serving.split())),
        moves_above_bp: counts.map(Bucket::number),
        note: note(service, plane, keyed, one, splits),
    }
}

fn note(service: &Service, plane: Plane, keyed: &Keyed, one: bool, splits: bool) -> String {
    if !splits {
        return format!("{plane} does not split this client; {} does", keyed.plane);
    }
    if service.spec.affinity == Affinity::None {
        let what = match plane {
            Plane::Dns => "answer",
            Plane::Mesh => "request",
            Plane::Host => "connection",
        };
        return format!("affinity is none: every {what} is drawn anew");
    }
    match plane {
        Plane::Dns if client::is_private(keyed.key.addr()) => {
            format!("told apart by {}: a private address counts in full", keyed.key)
        }
        Plane::Dns => format!("told apart by {}, as every client of that network", keyed.key),
        Plane::Mesh => in_mesh(service, one),
        Plane::Host if !one => {
            "host tells single addresses apart; name one to see its side".to_owned()
        }
        Plane::Host => "told apart by its address".to_owned(),
    }
}

/// How proxies tell a client apart, and which of its ports they cannot keep on a side.
fn in_mesh(service: &Service, one: bool) -> String {
    let mut note = match (value_key(&service.spec.affinity), one) {
        (None, false) => {
            return "mesh tells single addresses apart; name one to see its side".to_owned();
        }
        (None, true) => "told apart by its address".to_owned(),
        (Some(key), true) => {
            format!("told apart by {key}; a request without it by the address, as shown here")
        }
        (Some(key), false) => {
            format!("told apart by {key}; a request without it by the single address")
        }
    };
    for port in &service.spec.ports {
        if let Some(drawn) = drawn_in_mesh(port.protocol) {
            note.push_str(&format!("; port {}: {drawn}", port.port));
        }
    }
    note
}

/// What this client sees in DNS.
fn seen(service: &Service, plane: Plane, side: Option<Side>) -> (Vec<IpAddr>, String) {
    if plane != Plane::Dns {
        let why = format!("the logical address: {plane} chooses the side behind it");
        return (service.spec.address.into_iter().collect(), why);
    }
    let (legacy, target) = (service.serving.legacy(), service.serving.target());
    match side {
        Some(Side::Legacy) => (addresses(legacy), "the endpoints of legacy".to_owned()),
        Some(Side::Target) => (addresses(target), "the endpoints of target".to_owned()),
        None => {
            let mut both = addresses(legacy);
            both.extend(addresses(target));
            let split: Split = service.serving.split();
            (both, format!("those of one side, drawn anew for every answer: target for {split}"))
        }
    }
}

fn addresses(pool: Option<&Pool>) -> Vec<IpAddr> {
    let endpoints = pool.into_iter().flat_map(|pool| pool.serving.iter());
    let mut addresses: Vec<IpAddr> = endpoints.map(|endpoint| endpoint.address).collect();
    addresses.dedup();
    addresses
}
