//! Listeners: where connections come in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::google::protobuf::{Any, UInt32Value};
use envoy_types::util::pack_any;
use plan::spec::ClientAddress;

use crate::render::cluster::CONNECTION_BUFFER;
use crate::render::common::{address, ads, duration, flag};

/// Where captured connections of services that nobody plans go: on to where they wanted.
pub(super) const PASSTHROUGH: &str = "passthrough";

/// A cluster that there is not: connections to it are closed at once.
const NOWHERE: &str = "nowhere";

/// How long a stream may be silent: long polls and streams of an hour stay, the forgotten go.
const STREAM_IDLE: Duration = Duration::from_secs(3_600);

/// What a listener does with a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Carries<'a> {
    /// Requests, by this route configuration.
    Http {
        /// Its name.
        routes: &'a str,
        /// Whether others read `X-Forwarded-For` behind us.
        forwards: Forwards,
    },
    /// Bytes, by this discovered filter.
    Tcp(&'a str),
}

/// Whether the client's address is passed on by header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwards {
    /// As proxies at an edge do.
    Appends,
    /// The request stays as the application wrote it.
    Untouched,
}

/// A listener of a gateway: where its proxies bind, for everything that comes to a port.
pub(super) fn gateway(
    name: &str,
    bind: Option<IpAddr>,
    port: u16,
    client: ClientAddress,
    carries: Carries<'_>,
) -> pb::Listener {
    let first = bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let second = bind.is_none().then(|| pb::AdditionalAddress {
        address: Some(address(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)),
        ..Default::default()
    });
    let filters = match client {
        ClientAddress::ProxyProtocol => {
            vec![listener_filter(
                "envoy.filters.listener.proxy_protocol",
                &ProxyProtocol::default(),
            )]
        }
        ClientAddress::Direct | ClientAddress::Xff(_) => Vec::new(),
    };
    pb::Listener {
        address: Some(address(first, port)),
        additional_addresses: second.into_iter().collect(),
        listener_filters: filters,
        traffic_direction: core::TrafficDirection::Inbound as i32,
        ..listener(name, chain(name, client, carries))
    }
}

/// What a sidecar does with captured connections to one logical address.
pub(super) fn sidecar(name: &str, to: SocketAddr, carries: Carries<'_>) -> pb::Listener {
    pb::Listener {
        address: Some(address(to.ip(), to.port())),
        bind_to_port: flag(false),
        traffic_direction: core::TrafficDirection::Outbound as i32,
        ..listener(name, chain(name, ClientAddress::Direct, carries))
    }
}

/// Where a sidecar's captured connections arrive: handed to the listener of the address they were
/// for; the rest goes on untouched.
pub(super) fn capture(name: &str, at: SocketAddr) -> pb::Listener {
    // Who dials this address itself was not captured, and would be passed on to it for ever.
    let direct = pb::FilterChain {
        filter_chain_match: Some(pb::FilterChainMatch {
            destination_port: Some(UInt32Value { value: at.port().into() }),
            ..Default::default()
        }),
        ..all_to(NOWHERE)
    };
    pb::Listener {
        address: Some(address(at.ip(), at.port())),
        use_original_dst: flag(true),
        listener_filters: vec![listener_filter(
            "envoy.filters.listener.original_dst",
            &OriginalDst::default(),
        )],
        filter_chains: vec![direct],
        default_filter_chain: Some(all_to(PASSTHROUGH)),
        traffic_direction: core::TrafficDirection::Outbound as i32,
        ..listener(name, pb::FilterChain::default())
    }
}

/// All connections to one cluster.
fn all_to(cluster: &str) -> pb::FilterChain {
    let proxy = tcp::TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        idle_timeout: Some(duration(Duration::ZERO)),
        ..Default::default()
    };
    let filter = pb::Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(pb::filter::ConfigType::TypedConfig(pack_any(proxy))),
    };
    pb::FilterChain { filters: vec![filter], ..Default::default() }
}

/// The cluster behind [`PASSTHROUGH`].
pub(super) fn passthrough() -> cluster::Cluster {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
    cluster::Cluster {
        name: PASSTHROUGH.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32)),
        lb_policy: LbPolicy::ClusterProvided as i32,
        connect_timeout: Some(duration(Duration::from_secs(10))),
        ..Default::default()
    }
}

/// What gRPC libraries look up under the name they dial.
pub(super) fn api(name: &str, routes: &str) -> pb::Listener {
    let manager = hcm::HttpConnectionManager {
        route_specifier: Some(rds(routes)),
        http_filters: vec![router(&Router::default())],
        ..Default::default()
    };
    pb::Listener {
        name: name.to_owned(),
        api_listener: Some(pb::ApiListener { api_listener: Some(pack_any(manager)) }),
        ..Default::default()
    }
}

/// A listener that answers by itself.
pub(super) fn answers(name: &str, at: (IpAddr, u16), host: VirtualHost) -> pb::Listener {
    let routes = RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![host],
        ..Default::default()
    };
    let manager = hcm::HttpConnectionManager {
        stat_prefix: name.to_owned(),
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(routes)),
        http_filters: vec![router(&Router::default())],
        generate_request_id: flag(false),
        ..Default::default()
    };
    let filter = pb::Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(pb::filter::ConfigType::TypedConfig(pack_any(manager))),
    };
    pb::Listener {
        address: Some(address(at.0, at.1)),
        ..listener(name, pb::FilterChain { filters: vec![filter], ..Default::default() })
    }
}

fn listener(name: &str, chain: pb::FilterChain) -> pb::Listener {
    pb::Listener {
        name: name.to_owned(),
        stat_prefix: name.to_owned(),
        filter_chains: vec![chain],
        per_connection_buffer_limit_bytes: Some(UInt32Value { value: CONNECTION_BUFFER }),
        ..Default::default()
    }
}

/// What is done with each connection.
pub(super) fn chain(name: &str, client: ClientAddress, carries: Carries<'_>) -> pb::FilterChain {
    use pb::filter::ConfigType;
    let filter = match carries {
        Carries::Http { routes, forwards } => pb::Filter {
            name: "envoy.filters.network.http_connection_manager".to_owned(),
            config_type: Some(ConfigType::TypedConfig(pack_any(manager(
                name, client, routes, forwards,
            )))),
        },
        Carries::Tcp(filter) => pb::Filter {
            name: filter.to_owned(),
            config_type: Some(ConfigType::ConfigDiscovery(core::ExtensionConfigSource {
                config_source: Some(ads()),
                type_urls: vec![<tcp::TcpProxy as prost::Name>::type_url()],
                ..Default::default()
            })),
        },
    };
    pb::FilterChain { filters: vec![filter], ..Default::default() }
}

/// Changes nothing of a request but what a proxy must.
fn manager(
    name: &str,
    client: ClientAddress,
    routes: &str,
    forwards: Forwards,
) -> hcm::HttpConnectionManager {
    use hcm::http_connection_manager as inner;
    let websocket =
        inner::UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() };
    let quiet = Router { suppress_envoy_headers: true, ..Default::default() };
    hcm::HttpConnectionManager {
        codec_type: inner::CodecType::Auto as i32,
        stat_prefix: name.to_owned(),
        route_specifier: Some(rds(routes)),
        http_filters: vec![router(&quiet)],
        upgrade_configs: vec![websocket],
        server_header_transformation: inner::ServerHeaderTransformation::PassThrough as i32,
        // Otherwise the header alone would say who the client is, and anybody can write it.
        use_remote_address: flag(true),
        xff_num_trusted_hops: match client {
            ClientAddress::Xff(hops) => hops.into(),
            ClientAddress::Direct | ClientAddress::ProxyProtocol => 0,
        },
        skip_xff_append: forwards == Forwards::Untouched,
        generate_request_id: flag(false),
        preserve_external_request_id: true,
        stream_idle_timeout: Some(duration(STREAM_IDLE)),
        strip_trailing_host_dot: true,
        ..Default::default()
    }
}

fn rds(routes: &str) -> hcm::http_connection_manager::RouteSpecifier {
    hcm::http_connection_manager::RouteSpecifier::Rds(hcm::Rds {
        config_source: Some(ads()),
        route_config_name: routes.to_owned(),
    })
}

fn router(router: &Router) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(router.clone()))),
        ..Default::default()
    }
}

/// What looks at a connection before anything else.
pub(super) fn listener_filter<M: prost::Message + prost::Name>(
    name: &str,
    message: &M,
) -> pb::ListenerFilter {
    let any = Any { type_url: M::type_url(), value: message.encode_to_vec() };
    pb::ListenerFilter {
        name: name.to_owned(),
        config_type: Some(pb::listener_filter::ConfigType::TypedConfig(any)),
        ..Default::default()
    }
}
