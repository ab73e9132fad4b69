//! Which side a client gets in each plane, and why.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Planes;
use crate::bucket::{self, Bucket};
use crate::client::{self, Keyed};
use crate::endpoint::{Endpoint, Pool};
use crate::name::{HostName, ServiceId};
use crate::snapshot::{Service, Serving, Snapshot};
use crate::spec::{Affinity, Clients, Plane, Protocol};
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
    /// The client that was asked for.
    pub client: Option<ClientView>,
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
    /// The side it gets now; `null` where every answer, request or connection is drawn anew.
    pub side: Option<Side>,
    /// The addresses that it sees in DNS.
    pub sees: Vec<IpAddr>,
    /// Why it sees those, in words.
    pub seen_why: String,
    /// Where it stands in each plane.
    pub planes: Planes<Place>,
}

/// Where a client stands in a plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Whether this plane splits this client.
    pub splits: bool,
    /// What its bucket is made of: a network in dns, an address elsewhere.
    pub key: Option<String>,
    /// Its bucket, 0 to 9 999; `null` where every answer, request or connection is drawn anew, or
    /// where the key is not the address.
    pub bucket: Option<u16>,
    /// The side that the bucket gets at the present split; `null` also where the plane does not
    /// split this client.
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
        client: client.map(|client| client_view(service, client)),
    })
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
    let drawn = planes.plane(keyed.plane).and_then(|place| place.side);
    // At 0 and at 100 % there is nothing to draw.
    let side = match &service.serving {
        Serving::Legacy { .. } => Some(Side::Legacy),
        Serving::Target { .. } => Some(Side::Target),
        Serving::Both { .. } => drawn,
    };
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

fn place(service: &Service, plane: Plane, keyed: &Keyed, one: bool, client: IpNet) -> Place {
    let splits = keyed.plane == plane;
    let sticky = service.spec.affinity == Affinity::ClientIp;
    let (key, bucket) = match plane {
        Plane::Dns => (Some(keyed.key.to_string()), Some(bucket::dns(keyed.key, service.salt))),
        Plane::Mesh if one => {
            let key = client.addr().to_canonical().to_string();
            let bucket = bucket::mesh(key.as_bytes());
            (Some(key), Some(bucket))
        }
        Plane::Host if one => {
            let address = client.addr().to_canonical();
            (Some(address.to_string()), Some(bucket::host(address, service.salt)))
        }
        Plane::Mesh | Plane::Host => (None, None),
    };
    let bucket = bucket.filter(|_| sticky);
    let counts = bucket.filter(|_| splits);
    Place {
        splits,
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
    if service.spec.affinity != Affinity::ClientIp {
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
        Plane::Mesh | Plane::Host if !one => {
            format!("{plane} tells single addresses apart; name one to see its side")
        }
        Plane::Host => "told apart by its address".to_owned(),
        Plane::Mesh => {
            let plain = |protocol| matches!(protocol, Protocol::Tcp | Protocol::Grpc);
            let drawn = service.spec.ports.iter().find(|port| plain(port.protocol));
            match drawn {
                None => "told apart by its address".to_owned(),
                Some(port) => {
                    format!("told apart by its address for HTTP; port {} is drawn anew", port.port)
                }
            }
        }
    }
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
