//! The plan as the operator wants it, parsed: nothing here can be wrong in itself.
//!
//! Made by [`crate::check`] from a plan file. Every value is `Arc`ed where a snapshot shares it.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoints;
use crate::name::{GateName, HostName, PlanName, ServiceName, ZoneName};
use crate::policy::Policy;
use crate::split::Split;
use crate::token::Digest;

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Its name, unique in a controller.
    pub name: PlanName,
    /// How automation takes the steps.
    pub strategy: Strategy,
    /// The zones that the plan's names are in, none twice. They may nest: a host is in the longest
    /// origin that fits.
    pub zones: Vec<ZoneSpec>,
    /// Which plane splits whom, and how DNS clients are told apart.
    pub clients: Arc<Clients>,
    /// What moves, in the order of the file. At least one; names and hosts are unique.
    pub services: Vec<Arc<Service>>,
    /// Rising splits, the last one 100 %. At least one.
    pub steps: Vec<Step>,
    /// The gates that steps name.
    pub gates: Vec<Gate>,
    /// Limits on raising, and what happens to what is left on the side that lost.
    pub policy: Policy,
    /// The proxies at the target's edge; names are unique.
    #[serde(default = "no_gateways", skip_serializing_if = "is_empty")]
    pub gateways: Arc<[Gateway]>,
}

fn no_gateways() -> Arc<[Gateway]> {
    Arc::new([])
}

fn is_empty(gateways: &Arc<[Gateway]>) -> bool {
    gateways.is_empty()
}

/// A kind of proxies at the target's edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its name: what proxies of this kind say in their node's metadata `crossfade.gateway`.
    pub name: ServiceName,
    /// Where they find the client's address.
    pub client_address: ClientAddress,
    /// The networks that their own connections to legacy come from.
    pub egress: Vec<IpNet>,
    /// Where proxies of VMs reach the target side of every port, each at the port's own number,
    /// with mutual TLS: at most 16, none twice. Empty: they reach the target's endpoints
    /// themselves. At most one gateway of a plan has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mtls: Vec<IpAddr>,
}

/// Where a gateway finds the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddress {
    /// It is the connection's.
    #[default]
    Direct,
    /// `X-Forwarded-For`, with so many proxies before the gateway that are trusted to have
    /// written it: 1 to 16.
    Xff(u8),
    /// The PROXY protocol, versions 1 and 2.
    ProxyProtocol,
}

impl fmt::Display for ClientAddress {
    /// `direct`, `xff 1`, `proxy-protocol`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Xff(hops) => write!(f, "xff {hops}"),
            Self::ProxyProtocol => f.write_str("proxy-protocol"),
        }
    }
}

/// How automation takes the steps.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Follow the steps; a step's gates must pass before the next one.
    #[default]
    Gradual,
    /// From 0 to 100 % once all gates pass, then bake. Exactly one step.
    Whole,
}

/// A zone that the plan answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSpec {
    /// The origin.
    pub name: ZoneName,
    /// What is served around the plan's names.
    pub source: ZoneSource,
    /// TTLs of the plan's names in this zone.
    pub ttl: Ttl,
}

/// Where the text of a zone comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZoneSource {
    /// No text: an SOA and an NS of our own.
    Own,
    /// A zone file, named as the plan file names it. Only a plan that was read from disk has this:
    /// whoever sends it reads the file and sends [`ZoneSource::Text`] instead.
    File(String),
    /// The text itself, as the API takes it. Becomes [`ZoneSource::Blob`] once stored.
    Text(Arc<str>),
    /// The text by its SHA-256, as the log keeps it.
    Blob(Digest),
}

/// TTLs of the plan's names in a zone, in seconds: 1 to 2^31 - 1 (RFC 2181 section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ttl {
    /// While nothing moves.
    pub steady: u32,
    /// From `start` or the first shift until the plan is complete.
    pub shifting: u32,
}

impl Default for Ttl {
    /// A minute, and five seconds while moving.
    fn default() -> Self {
        Self { steady: 60, shifting: 5 }
    }
}

/// Which plane splits whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// First match wins; whoever matches none is split by dns. Networks do not overlap.
    pub rows: Vec<ClientRow>,
    /// Resolvers with several addresses, each counted as one client.
    pub resolvers: Vec<Resolver>,
    /// How DNS clients are told apart.
    pub key: ClientKey,
}

/// Clients that one plane splits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRow {
    /// Where they are.
    pub networks: Vec<IpNet>,
    /// Who splits them.
    pub plane: Plane,
}

/// A resolver whose addresses count as one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolver {
    /// Its name, shown by `explain`.
    pub name: String,
    /// Its addresses, sorted; never empty. The first is the one its bucket is made of.
    pub addresses: Vec<IpAddr>,
}

/// How DNS clients are told apart: prefix lengths, in bits. Private sources always count in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientKey {
    /// For IPv4: 1 to 32.
    pub v4: u8,
    /// For IPv6: 1 to 128.
    pub v6: u8,
}

impl Default for ClientKey {
    /// What RFC 7871 section 11.1 recommends to send: /24 and /56.
    fn default() -> Self {
        Self { v4: 24, v6: 56 }
    }
}

/// Who splits a client.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// DNS answers.
    Dns,
    /// Proxies and gRPC clients, by xDS.
    Mesh,
    /// The kernel rules of node agents.
    Host,
}

impl Plane {
    /// All of them, in the order they are shown.
    pub const ALL: [Self; 3] = [Self::Dns, Self::Mesh, Self::Host];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Mesh => "mesh",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing that moves as a unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name, unique in the plan.
    pub name: ServiceName,
    /// Its host names, each inside a zone of the plan. At least one.
    pub hosts: Vec<HostName>,
    /// The address that old applications have hard-coded.
    pub address: Option<IpAddr>,
    /// What it listens on. At least one; names are unique, and so are numbers of one transport (a
    /// number may serve udp beside one of the others).
    pub ports: Vec<Port>,
    /// What makes two requests come from one client.
    pub affinity: Affinity,
    /// Seasons the buckets, so that other clients go first in another migration.
    pub salt: Arc<str>,
    /// The VMs.
    pub legacy: Endpoints,
    /// The cluster.
    pub target: Endpoints,
    /// Its split is never above that of these services of the plan. No cycle.
    pub after: Vec<ServiceName>,
    /// In the host plane, forwarded packets keep their source where the agent has proved that
    /// answers come back through it; else they leave with the host's address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preserve_source: bool,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name, unique in the service.
    pub name: ServiceName,
    /// Its number.
    pub port: NonZeroU16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// gRPC over HTTP/2.
    Grpc,
    /// Bytes over TCP.
    Tcp,
    /// Datagrams.
    Udp,
}

/// What makes two requests come from one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Affinity {
    /// The client's address; in dns its network.
    #[default]
    ClientIp,
    /// The value of this request header; the client's address where there is none. The dns and host
    /// planes see no headers and go by the address.
    Header(Arc<str>),
    /// The value of this cookie, which the application sets; otherwise as for a header.
    Cookie(Arc<str>),
    /// Nothing: every answer, request or flow is drawn anew.
    None,
}

impl From<Affinity> for String {
    fn from(affinity: Affinity) -> Self {
        match affinity {
            Affinity::ClientIp => "client-ip".to_owned(),
            Affinity::Header(name) => format!("header:{name}"),
            Affinity::Cookie(name) => format!("cookie:{name}"),
            Affinity::None => "none".to_owned(),
        }
    }
}

impl TryFrom<String> for Affinity {
    type Error = AffinityError;

    fn try_from(text: String) -> Result<Self, AffinityError> {
        match text.as_str() {
            "client-ip" => Ok(Self::ClientIp),
            "none" => Ok(Self::None),
            _ => match text.split_once(':') {
                Some(("header", name)) if is_token(name) => {
                    Ok(Self::Header(name.to_ascii_lowercase().into()))
                }
                Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.into())),
                Some(_) | None => Err(AffinityError(text)),
            },
        }
    }
}

impl Affinity {
    /// The longest name of a header or a cookie, in bytes: longer ones are mistakes.
    pub const NAME_MAX: usize = 128;
}

/// A token as RFC 9110 section 5.6.2 has it: what header fields and cookies may be called.
fn is_token(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=Affinity::NAME_MAX).contains(&name.len()) && name.bytes().all(fine)
}

/// The text is no affinity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no affinity; write `client-ip`, `header:NAME`, `cookie:NAME` or `none`")]
pub struct AffinityError(String);

/// One wanted split.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The split of all services.
    pub split: Split,
    /// How long the step must stay converged and healthy.
    pub bake: Duration,
    /// Back one step if nobody moves on for this long.
    pub expires: Option<Duration>,
    /// What must pass before the plan moves on (`whole`: before it moves at all).
    pub gates: Vec<GateName>,
}

/// A condition that must pass before the plan moves on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Its name, unique in the plan.
    pub name: GateName,
    /// What it asks.
    pub test: GateTest,
}

/// What a gate asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum GateTest {
    /// That so many different people approve. At least 1.
    Manual {
        /// How many.
        approvers: u32,
    },
}

impl Plan {
    /// The service of this name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.name == *name)
    }

    /// The zone that `host` is in: the longest origin that fits.
    pub fn zone_of(&self, host: &HostName) -> Option<&ZoneSpec> {
        let fits = self.zones.iter().filter(|zone| host.is_in(&zone.name));
        fits.max_by_key(|zone| zone.name.as_str().len())
    }

    /// Whether this plane splits any client of this plan.
    pub fn uses(&self, plane: Plane) -> bool {
        match plane {
            Plane::Dns => !self.clients.cover_everyone(),
            Plane::Mesh | Plane::Host => self.clients.rows.iter().any(|row| row.plane == plane),
        }
    }
}

impl Clients {
    /// Whether rows of other planes cover `0.0.0.0/0` and `::/0`, so that no dns client is left.
    pub fn cover_everyone(&self) -> bool {
        let networks = || {
            let rows = self.rows.iter().filter(|row| row.plane != Plane::Dns);
            rows.flat_map(|row| &row.networks)
        };
        let merged = IpNet::aggregate(&networks().copied().collect());
        let (mut v4, mut v6) = (false, false);
        for net in merged.iter().filter(|net| net.prefix_len() == 0) {
            match net {
                IpNet::V4(_) => v4 = true,
                IpNet::V6(_) => v6 = true,
            }
        }
        v4 && v6
    }
}
