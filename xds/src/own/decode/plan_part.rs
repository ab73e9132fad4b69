//! One plan's leaves.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use plan::bucket;
use plan::endpoint::{Endpoint, Endpoints, Pool};
use plan::name::{PlanName, ServiceId, ServiceName};
use plan::snapshot::{Motion, Parts, Service, Serving};
use plan::spec::{
    self, Affinity, ClientAddress, ClientKey, ClientRow, Clients, Gateway, Plane, Port, Protocol,
    Resolver,
};
use plan::split::Split;
use proto::crossfade::v1 as wire;
use proto::crossfade::v1::affinity::Kind;
use proto::crossfade::v1::gateway::ClientAddress as WireAddress;

use super::{Reject, address, network, parsed, rising, token, ttl};

/// The most proxies before a gateway that may be trusted.
const HOPS_MAX: u32 = 16;

/// What the leaves of one plan share.
struct Shared {
    plan: PlanName,
    clients: Arc<Clients>,
    gateways: Arc<[Gateway]>,
    drain: Option<Duration>,
}

/// A plan's name and its leaves, sorted.
pub(super) fn of_plan(part: wire::Plan) -> Result<(PlanName, Vec<Arc<Service>>), Reject> {
    let plan: PlanName = parsed(&part.name, "plan")?;
    let outer = format!("plan {plan}");
    let within = |reject: Reject| reject.within(&outer);
    let clients = part.clients.ok_or_else(|| within(Reject::Missing("clients".to_owned())))?;
    let gateways = part.gateways.iter().map(gateway).collect::<Result<_, _>>().map_err(within)?;
    let shared = Shared {
        clients: Arc::new(self::clients(clients).map_err(within)?),
        gateways,
        drain: part.drain.map(duration).transpose().map_err(within)?,
        plan,
    };
    let mut services = Vec::with_capacity(part.services.len());
    for message in part.services {
        let inner = format!("service {}", message.name);
        let leaf = service(message, &shared).map_err(|e| within(e.within(&inner)))?;
        services.push(Arc::new(leaf));
    }
    rising(&services, "services", |leaf: &Arc<Service>| leaf.id.clone()).map_err(within)?;
    Ok((shared.plan, services))
}

fn service(message: wire::Service, shared: &Shared) -> Result<Service, Reject> {
    let name: ServiceName = parsed(&message.name, "name")?;
    let salt = bucket::salt(&message.salt);
    if salt != message.seed {
        return Err(Reject::wrong("seed", "the controller computes buckets in another way"));
    }
    let split = u16::try_from(message.split_bp).ok().and_then(Split::from_bp);
    let split = split.ok_or_else(|| {
        Reject::wrong("split", format!("{} basis points are over 10000", message.split_bp))
    })?;
    let (legacy, legacy_pool) = side(message.legacy.as_ref(), "legacy")?;
    let (target, target_pool) = side(message.target.as_ref(), "target")?;
    let ttls = message.hosts.iter().map(|host| ttl(host.ttl)).collect::<Result<_, _>>()?;
    let motion = motion(message.motion())?;
    let spec = spec::Service {
        name: name.clone(),
        hosts: hosts(&message.hosts)?,
        address: match message.address.as_ref() {
            [] => None,
            bytes => Some(address(bytes)?),
        },
        ports: ports(&message.ports)?,
        affinity: affinity(message.affinity.as_ref())?,
        salt: message.salt.into(),
        legacy,
        target,
        after: message.after.iter().map(|name| parsed(name, "after")).collect::<Result<_, _>>()?,
        preserve_source: message.preserve_source,
    };
    let since = token(message.since)?;
    Ok(Service {
        id: ServiceId { plan: shared.plan.clone(), service: name },
        since,
        spec: Arc::new(spec),
        clients: Arc::clone(&shared.clients),
        serving: serving(split, legacy_pool, target_pool)?,
        motion,
        salt,
        gateways: Arc::clone(&shared.gateways),
        drain: shared.drain,
        ttls,
        // Receivers apply a leaf as a whole.
        parts: Parts::all(since),
    })
}

fn serving(split: Split, legacy: Option<Pool>, target: Option<Pool>) -> Result<Serving, Reject> {
    let missing = |side: &str| Reject::Missing(format!("the pool of {side}, which serves"));
    match split {
        Split::LEGACY => {
            Ok(Serving::Legacy { legacy: legacy.ok_or_else(|| missing("legacy"))?, target })
        }
        Split::TARGET => {
            Ok(Serving::Target { legacy, target: target.ok_or_else(|| missing("target"))? })
        }
        split => Ok(Serving::Both {
            legacy: legacy.ok_or_else(|| missing("legacy"))?,
            target: target.ok_or_else(|| missing("target"))?,
            split,
        }),
    }
}

fn side(message: Option<&wire::Side>, place: &str) -> Result<(Endpoints, Option<Pool>), Reject> {
    let message = message.ok_or_else(|| Reject::Missing(place.to_owned()))?;
    let declared = endpoints(&message.declared).map_err(|e| e.within(place))?;
    let pool = message.pool.as_ref().map(|pool| {
        let serving = endpoints(&pool.serving).map_err(|e| e.within(place))?;
        Ok::<_, Reject>(Pool { serving, degraded: pool.degraded })
    });
    Ok((declared, pool.transpose()?))
}

fn endpoints(messages: &[wire::Endpoint]) -> Result<Endpoints, Reject> {
    let endpoint = |message: &wire::Endpoint| {
        let port = u16::try_from(message.port)
            .map_err(|_| Reject::wrong("port", format!("{} is over 65535", message.port)))?;
        Ok(Endpoint { address: address(&message.address)?, port: NonZeroU16::new(port) })
    };
    let endpoints = messages.iter().map(endpoint).collect::<Result<Vec<_>, Reject>>()?;
    Endpoints::new(endpoints).ok_or_else(|| Reject::Missing("at least one endpoint".to_owned()))
}

fn hosts(messages: &[wire::Host]) -> Result<Vec<plan::HostName>, Reject> {
    if messages.is_empty() {
        return Err(Reject::Missing("at least one host".to_owned()));
    }
    messages.iter().map(|host| parsed(&host.name, "host")).collect()
}

fn ports(messages: &[wire::Port]) -> Result<Vec<Port>, Reject> {
    if messages.is_empty() {
        return Err(Reject::Missing("at least one port".to_owned()));
    }
    let mut names = BTreeSet::new();
    let port = |message: &wire::Port| {
        let number = u16::try_from(message.number).ok().and_then(NonZeroU16::new);
        let port = number.ok_or_else(|| {
            Reject::wrong("port", format!("{} is not from 1 to 65535", message.number))
        })?;
        let name: ServiceName = parsed(&message.name, "port")?;
        if !names.insert(name.clone()) {
            return Err(Reject::wrong("ports", format!("{name} is there twice")));
        }
        Ok(Port { name, port, protocol: protocol(message.protocol())? })
    };
    messages.iter().map(port).collect()
}

fn affinity(message: Option<&wire::Affinity>) -> Result<Affinity, Reject> {
    let message = message.ok_or_else(|| Reject::Missing("affinity".to_owned()))?;
    // The plan's own reading checks the name.
    let text = match message.kind() {
        Kind::ClientIp => "client-ip".to_owned(),
        Kind::None => "none".to_owned(),
        Kind::Header => format!("header:{}", message.name),
        Kind::Cookie => format!("cookie:{}", message.name),
        Kind::Unspecified => return Err(unknown("affinity", message.kind)),
    };
    Affinity::try_from(text).map_err(|error| Reject::wrong("affinity", error))
}

fn clients(message: wire::Clients) -> Result<Clients, Reject> {
    let row = |row: &wire::clients::Row| {
        let networks = row.networks.iter().map(network).collect::<Result<_, Reject>>()?;
        Ok::<_, Reject>(ClientRow { networks, plane: plane(row.plane())? })
    };
    let resolver = |resolver: &wire::clients::Resolver| {
        let addresses: Vec<_> =
            resolver.addresses.iter().map(|bytes| address(bytes)).collect::<Result<_, _>>()?;
        if addresses.is_empty() || !addresses.is_sorted() {
            return Err(Reject::wrong("resolver", "its addresses are missing or not sorted"));
        }
        Ok(Resolver { name: resolver.name.clone(), addresses })
    };
    let key = |length: u32, most: u8| {
        let length = u8::try_from(length).ok().filter(|length| (1..=most).contains(length));
        length.ok_or_else(|| Reject::wrong("client key", format!("it is not from 1 to {most}")))
    };
    Ok(Clients {
        rows: message.rows.iter().map(row).collect::<Result<_, _>>()?,
        resolvers: message.resolvers.iter().map(resolver).collect::<Result<_, _>>()?,
        key: ClientKey { v4: key(message.key_v4, 32)?, v6: key(message.key_v6, 128)? },
    })
}

fn gateway(message: &wire::Gateway) -> Result<Gateway, Reject> {
    let client_address = match message.client_address() {
        WireAddress::Direct => ClientAddress::Direct,
        WireAddress::ProxyProtocol => ClientAddress::ProxyProtocol,
        WireAddress::Xff => match u8::try_from(message.xff_hops) {
            Ok(hops) if (1..=HOPS_MAX).contains(&message.xff_hops) => ClientAddress::Xff(hops),
            Ok(_) | Err(_) => return Err(Reject::wrong("gateway", "hops are not from 1 to 16")),
        },
        WireAddress::Unspecified => return Err(unknown("gateway", message.client_address)),
    };
    Ok(Gateway {
        name: parsed(&message.name, "gateway")?,
        client_address,
        egress: message.egress.iter().map(network).collect::<Result<_, _>>()?,
        mtls: message.mtls.iter().map(|bytes| address(bytes)).collect::<Result<_, _>>()?,
    })
}

fn protocol(protocol: wire::Protocol) -> Result<Protocol, Reject> {
    match protocol {
        wire::Protocol::Http => Ok(Protocol::Http),
        wire::Protocol::Grpc => Ok(Protocol::Grpc),
        wire::Protocol::Tcp => Ok(Protocol::Tcp),
        wire::Protocol::Udp => Ok(Protocol::Udp),
        wire::Protocol::Unspecified => Err(Reject::wrong("protocol", "it is none that we know")),
    }
}

fn motion(motion: wire::Motion) -> Result<Motion, Reject> {
    match motion {
        wire::Motion::Steady => Ok(Motion::Steady),
        wire::Motion::Moving => Ok(Motion::Moving),
        wire::Motion::RolledBack => Ok(Motion::RolledBack),
        wire::Motion::Restored => Ok(Motion::Restored),
        wire::Motion::Unspecified => Err(Reject::wrong("motion", "it is none that we know")),
    }
}

fn plane(plane: wire::Plane) -> Result<Plane, Reject> {
    match plane {
        wire::Plane::Dns => Ok(Plane::Dns),
        wire::Plane::Mesh => Ok(Plane::Mesh),
        wire::Plane::Host => Ok(Plane::Host),
        wire::Plane::Unspecified => Err(Reject::wrong("plane", "it is none that we know")),
    }
}

fn unknown(place: &str, number: i32) -> Reject {
    Reject::wrong(place, format!("{number} is no kind that we know"))
}

fn duration(message: proto::google::protobuf::Duration) -> Result<Duration, Reject> {
    let (seconds, nanos) = (u64::try_from(message.seconds), u32::try_from(message.nanos));
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Reject::wrong("drain", "it is no duration")),
    }
}
