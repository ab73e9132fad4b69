//! Clusters and endpoint sets: one of each for every side of every port.
//!
//! A cluster says how a side is reached, and never changes while the service's ports and affinity
//! do not, nor whether there is a time to drain: a cluster that Envoy builds anew loses its
//! connections and counts. Who serves is in the endpoint set alone.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as http;
use envoy_types::pb::google::protobuf::UInt32Value;
use envoy_types::util::pack_any;
use plan::endpoint::Endpoint;
use plan::snapshot::Service;
use plan::spec::{Port, Protocol};
use plan::split::Side;

use crate::render::common::{address, ads, duration, word};
use crate::render::drain;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is buffered of one connection, in bytes, before its peer is made to wait.
pub(super) const CONNECTION_BUFFER: u32 = 32 * 1024;

/// Connections, waiting requests and requests at once that a side takes: as good as no limit, as
/// the VMs had none before there was a proxy. Envoy's own 1 024 would fail requests of ours.
const NO_LIMIT: u32 = 1_000_000;

/// Who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Envoy.
    Envoy,
    /// A gRPC library: takes fewer policies, and reports load where the cluster says so.
    Grpc,
}

/// How what is left on a drained side is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closes {
    /// Endpoints move to another zone. To Envoy they are other hosts, so it closes idle connections
    /// to those of before at once and the rest with their last request.
    ByZone,
    /// Endpoints are marked: see [`drain`]. Closes TCP connections, with whatever they carry.
    ByCheck,
}

impl Closes {
    /// How it is with this port.
    pub(super) fn of(leaf: &Service, port: &Port) -> Self {
        if drain::is_checked(leaf, port) { Self::ByCheck } else { Self::ByZone }
    }

    fn cluster(self, cluster: pb::Cluster) -> pb::Cluster {
        match self {
            Self::ByZone => cluster,
            Self::ByCheck => drain::checked(cluster),
        }
    }
}

/// How one side of a port is reached.
pub(super) fn cluster(name: &str, port: &Port, reader: Reader, closes: Closes) -> pb::Cluster {
    let policy = match reader {
        Reader::Envoy => pb::cluster::LbPolicy::LeastRequest,
        // The one that every gRPC library has.
        Reader::Grpc => pb::cluster::LbPolicy::RoundRobin,
    };
    let discovery = pb::cluster::DiscoveryType::Eds as i32;
    let cluster = pb::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(pb::cluster::ClusterDiscoveryType::Type(discovery)),
        eds_cluster_config: Some(pb::cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: String::new(),
        }),
        connect_timeout: Some(duration(CONNECT_TIMEOUT)),
        lb_policy: policy as i32,
        ..Default::default()
    };
    match reader {
        Reader::Envoy => closes.cluster(pb::Cluster {
            per_connection_buffer_limit_bytes: Some(UInt32Value { value: CONNECTION_BUFFER }),
            circuit_breakers: Some(circuit_breakers()),
            typed_extension_protocol_options: protocol_options(port.protocol),
            ..cluster
        }),
        Reader::Grpc => pb::Cluster {
            lrs_server: Some(core::ConfigSource {
                config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Self_(
                    Default::default(),
                )),
                ..Default::default()
            }),
            ..cluster
        },
    }
}

fn circuit_breakers() -> pb::CircuitBreakers {
    let most = Some(UInt32Value { value: NO_LIMIT });
    pb::CircuitBreakers {
        thresholds: vec![pb::circuit_breakers::Thresholds {
            max_connections: most,
            max_pending_requests: most,
            max_requests: most,
            ..Default::default()
        }],
        per_host_thresholds: Vec::new(),
    }
}

/// gRPC needs HTTP/2 towards the side; without options Envoy speaks HTTP/1.1.
fn protocol_options(
    protocol: Protocol,
) -> std::collections::HashMap<String, envoy_types::pb::google::protobuf::Any> {
    use http::http_protocol_options::explicit_http_config::ProtocolConfig;
    use http::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};
    let config = match protocol {
        Protocol::Grpc => ProtocolConfig::Http2ProtocolOptions(Default::default()),
        Protocol::Http | Protocol::Tcp | Protocol::Udp => return Default::default(),
    };
    let explicit = ExplicitHttpConfig { protocol_config: Some(config) };
    let options = http::HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    };
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned();
    [(key, pack_any(options))].into()
}

/// The zone of endpoints whose side is drained.
const DRAINED: &str = "drained";

/// Who serves one side of a port. A degraded set is served whole: it is the last good one.
///
/// A drained side keeps its endpoints, in another zone or marked; so they serve if weights come
/// back before endpoints do. An empty set would close no more and answer 503 then. What no endpoint
/// set can close are requests that do not end, upgraded ones among them: they end when one of their
/// ends does.
pub(super) fn endpoints(
    name: &str,
    port: &Port,
    side: Side,
    serving: Vec<Endpoint>,
    drained: bool,
    closes: Closes,
) -> endpoint::ClusterLoadAssignment {
    let one = |at: Endpoint| {
        let number = at.port.unwrap_or(port.port).get();
        match closes {
            Closes::ByZone => lb_endpoint(at.address, number, None),
            Closes::ByCheck => endpoint::LbEndpoint {
                metadata: drained.then(drain::mark),
                ..lb_endpoint(at.address, number, Some(drain::check_config()))
            },
        }
    };
    let moves = drained && closes == Closes::ByZone;
    let lb_endpoints: Vec<_> = serving.into_iter().map(one).collect();
    let group = endpoint::LocalityLbEndpoints {
        // gRPC wants a locality and a weight; Envoy reports load by it.
        locality: Some(core::Locality {
            zone: if moves { DRAINED.to_owned() } else { String::new() },
            sub_zone: word(side).to_owned(),
            ..Default::default()
        }),
        load_balancing_weight: Some(UInt32Value { value: 1 }),
        lb_endpoints,
        ..Default::default()
    };
    let groups = if group.lb_endpoints.is_empty() { Vec::new() } else { vec![group] };
    endpoint::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: groups,
        ..Default::default()
    }
}

fn lb_endpoint(
    ip: IpAddr,
    port: u16,
    health_check_config: Option<endpoint::endpoint::HealthCheckConfig>,
) -> endpoint::LbEndpoint {
    let address = Some(address(ip, port));
    let at = endpoint::Endpoint { address, health_check_config, ..Default::default() };
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(at)),
        ..Default::default()
    }
}
