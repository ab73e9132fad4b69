//! Leaves to messages.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use plan::endpoint::{Endpoints, Pool};
use plan::snapshot::{Motion, Service, Zone};
use plan::spec::{Affinity, ClientAddress, Clients, Gateway, Plane, Protocol};
use plan::{Digest, PlanName, Token, ZoneName};
use proto::crossfade::v1 as wire;
use proto::crossfade::v1::affinity::Kind;
use proto::crossfade::v1::gateway::ClientAddress as WireAddress;

use crate::own::REQUIRES;

pub(super) fn zone_table(
    plan: &PlanName,
    services: &[Arc<Service>],
    zones: &[Arc<Zone>],
) -> wire::ZoneTable {
    let zones = zones.iter().map(|zone| wire::PlanZone {
        name: zone.name.as_str().to_owned(),
        since: Some(token(zone.since)),
        text: zone.text.map_or_else(Bytes::new, digest),
        ttl_steady: zone.ttl.steady,
        ttl_shifting: zone.ttl.shifting,
    });
    wire::ZoneTable {
        requires: REQUIRES,
        plan: Some(of_plan(plan, services)),
        zones: zones.collect(),
    }
}

pub(super) fn zone(name: &ZoneName, text_digest: Digest, text: &str) -> wire::Zone {
    wire::Zone {
        requires: REQUIRES,
        name: name.as_str().to_owned(),
        digest: digest(text_digest),
        text: text.to_owned(),
    }
}

pub(super) fn host_table(services: &[Arc<Service>]) -> wire::HostTable {
    let plans = services.chunk_by(|a, b| a.id.plan == b.id.plan);
    let plans = plans.filter_map(|services| Some(of_plan(&services.first()?.id.plan, services)));
    wire::HostTable { requires: REQUIRES, plans: plans.collect() }
}

/// Leaves of one plan share clients, gateways and drain.
fn of_plan(name: &PlanName, services: &[Arc<Service>]) -> wire::Plan {
    let first = services.first();
    let none = Clients::default();
    wire::Plan {
        name: name.as_str().to_owned(),
        clients: Some(clients(first.map_or(&none, |leaf| &leaf.clients))),
        gateways: first.into_iter().flat_map(|leaf| leaf.gateways.iter()).map(gateway).collect(),
        drain: first.and_then(|leaf| leaf.drain).map(duration),
        services: services.iter().map(|leaf| service(leaf)).collect(),
    }
}

fn service(leaf: &Service) -> wire::Service {
    let spec = &leaf.spec;
    let hosts = spec.hosts.iter().zip(leaf.ttls.iter());
    let hosts = hosts.map(|(name, ttl)| wire::Host { name: name.as_str().to_owned(), ttl: *ttl });
    let ports = spec.ports.iter().map(|port| wire::Port {
        name: port.name.as_str().to_owned(),
        number: port.port.get().into(),
        protocol: protocol(port.protocol).into(),
    });
    wire::Service {
        name: leaf.id.service.as_str().to_owned(),
        since: Some(token(leaf.since)),
        hosts: hosts.collect(),
        address: spec.address.map_or_else(Bytes::new, address),
        ports: ports.collect(),
        affinity: Some(affinity(&spec.affinity)),
        salt: spec.salt.as_ref().to_owned(),
        seed: leaf.salt,
        legacy: Some(side(&spec.legacy, leaf.serving.legacy())),
        target: Some(side(&spec.target, leaf.serving.target())),
        split_bp: leaf.serving.split().bp().into(),
        motion: motion(leaf.motion).into(),
        after: spec.after.iter().map(|name| name.as_str().to_owned()).collect(),
        preserve_source: spec.preserve_source,
    }
}

fn side(declared: &Endpoints, pool: Option<&Pool>) -> wire::Side {
    let list = |endpoints: &Endpoints| {
        let endpoints = endpoints.iter().map(|endpoint| wire::Endpoint {
            address: address(endpoint.address),
            port: endpoint.port.map_or(0, |port| port.get().into()),
        });
        endpoints.collect()
    };
    let pool =
        pool.map(|pool| wire::Pool { serving: list(&pool.serving), degraded: pool.degraded });
    wire::Side { declared: list(declared), pool }
}

fn clients(clients: &Clients) -> wire::Clients {
    let rows = clients.rows.iter().map(|row| wire::clients::Row {
        networks: row.networks.iter().map(network).collect(),
        plane: plane(row.plane).into(),
    });
    let resolvers = clients.resolvers.iter().map(|resolver| wire::clients::Resolver {
        name: resolver.name.clone(),
        addresses: resolver.addresses.iter().copied().map(address).collect(),
    });
    wire::Clients {
        rows: rows.collect(),
        resolvers: resolvers.collect(),
        key_v4: clients.key.v4.into(),
        key_v6: clients.key.v6.into(),
    }
}

fn gateway(gateway: &Gateway) -> wire::Gateway {
    let (client_address, hops) = match gateway.client_address {
        ClientAddress::Direct => (WireAddress::Direct, 0),
        ClientAddress::Xff(hops) => (WireAddress::Xff, hops),
        ClientAddress::ProxyProtocol => (WireAddress::ProxyProtocol, 0),
    };
    wire::Gateway {
        name: gateway.name.as_str().to_owned(),
        client_address: client_address.into(),
        xff_hops: hops.into(),
        egress: gateway.egress.iter().map(network).collect(),
        mtls: gateway.mtls.iter().copied().map(address).collect(),
    }
}

fn affinity(affinity: &Affinity) -> wire::Affinity {
    let (kind, name) = match affinity {
        Affinity::ClientIp => (Kind::ClientIp, ""),
        Affinity::Header(name) => (Kind::Header, name.as_ref()),
        Affinity::Cookie(name) => (Kind::Cookie, name.as_ref()),
        Affinity::None => (Kind::None, ""),
    };
    wire::Affinity { kind: kind.into(), name: name.to_owned() }
}

const fn protocol(protocol: Protocol) -> wire::Protocol {
    match protocol {
        Protocol::Http => wire::Protocol::Http,
        Protocol::Grpc => wire::Protocol::Grpc,
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
    }
}

const fn motion(motion: Motion) -> wire::Motion {
    match motion {
        Motion::Steady => wire::Motion::Steady,
        Motion::Moving => wire::Motion::Moving,
        Motion::RolledBack => wire::Motion::RolledBack,
        Motion::Restored => wire::Motion::Restored,
    }
}

/// A plane as it stands on the wire.
pub(crate) const fn plane(plane: Plane) -> wire::Plane {
    match plane {
        Plane::Dns => wire::Plane::Dns,
        Plane::Mesh => wire::Plane::Mesh,
        Plane::Host => wire::Plane::Host,
    }
}

fn network(network: &IpNet) -> wire::Network {
    wire::Network { address: address(network.addr()), length: network.prefix_len().into() }
}

fn address(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    }
}

fn digest(digest: Digest) -> Bytes {
    Bytes::copy_from_slice(digest.bytes())
}

pub(super) const fn token(token: Token) -> wire::Token {
    wire::Token { incarnation: token.incarnation, revision: token.revision }
}

fn duration(duration: Duration) -> proto::google::protobuf::Duration {
    proto::google::protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}
