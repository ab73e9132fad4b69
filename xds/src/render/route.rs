//! The split: weights of routes and of TCP filters.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::google::protobuf::{BoolValue, UInt32Value};
use envoy_types::util::pack_any;
use plan::spec::Affinity;
use plan::split::Split;

use crate::render::common::duration;

/// The two clusters of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// Of the target side.
    pub(super) target: String,
    /// Of the legacy side.
    pub(super) legacy: String,
}

/// All of a service's requests, whatever their host: who asks has chosen the service already.
pub(super) fn routes(
    name: &str,
    pair: &Pair,
    split: Split,
    affinity: &Affinity,
) -> pb::RouteConfiguration {
    pb::RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![virtual_host(name, vec!["*".to_owned()], pair, split, affinity)],
        ..Default::default()
    }
}

/// The requests for some hosts, as they go to the two sides of a port.
pub(super) fn virtual_host(
    name: &str,
    domains: Vec<String>,
    pair: &Pair,
    split: Split,
    affinity: &Affinity,
) -> pb::VirtualHost {
    let action = pb::RouteAction {
        cluster_specifier: Some(pb::route_action::ClusterSpecifier::WeightedClusters(weights(
            pair, split, affinity,
        ))),
        hash_policy: hash_policy(affinity),
        // The application's own patience counts, as it did before there was a proxy.
        timeout: Some(duration(Duration::ZERO)),
        ..Default::default()
    };
    let everything = pb::RouteMatch {
        path_specifier: Some(pb::route_match::PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    };
    pb::VirtualHost {
        name: name.to_owned(),
        domains,
        routes: vec![pb::Route {
            r#match: Some(everything),
            action: Some(pb::route::Action::Route(action)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Target first, so that a client's place counts from its end and raising the split moves clients
/// only one way. Both sides are always listed: 0 is a weight like any other.
fn weights(pair: &Pair, split: Split, affinity: &Affinity) -> pb::WeightedCluster {
    use pb::weighted_cluster::{ClusterWeight, RandomValueSpecifier};
    let cluster = |name: &str, weight: u16| ClusterWeight {
        name: name.to_owned(),
        weight: Some(UInt32Value { value: weight.into() }),
        ..Default::default()
    };
    let sticky = *affinity != Affinity::None;
    pb::WeightedCluster {
        clusters: vec![
            cluster(&pair.target, split.bp()),
            cluster(&pair.legacy, Split::WHOLE - split.bp()),
        ],
        random_value_specifier: sticky
            .then_some(RandomValueSpecifier::UseHashPolicy(BoolValue { value: true })),
        ..Default::default()
    }
}

/// What makes two requests come from one client: the first that a request has.
fn hash_policy(affinity: &Affinity) -> Vec<pb::route_action::HashPolicy> {
    use pb::route_action::hash_policy::{ConnectionProperties, Cookie, Header, PolicySpecifier};
    let policy = |terminal, specifier| pb::route_action::HashPolicy {
        terminal,
        policy_specifier: Some(specifier),
    };
    let address = policy(
        false,
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
    );
    match affinity {
        Affinity::None => Vec::new(),
        Affinity::ClientIp => vec![address],
        Affinity::Header(name) => {
            let header = Header { header_name: name.to_string(), ..Default::default() };
            vec![policy(true, PolicySpecifier::Header(header)), address]
        }
        Affinity::Cookie(name) => {
            // Without a lifetime Envoy issues none: the cookie is the application's.
            let cookie = Cookie { name: name.to_string(), ..Default::default() };
            vec![policy(true, PolicySpecifier::Cookie(cookie)), address]
        }
    }
}

/// A TCP port's split, as a filter that is discovered by itself: one that came with its listener
/// would cut every connection when it changes. A weight of 0 is refused here, so the side is left
/// out; connections it has stay.
pub(super) fn tcp_filter(name: &str, pair: &Pair, split: Split) -> core::TypedExtensionConfig {
    use tcp::tcp_proxy::weighted_cluster::ClusterWeight;
    use tcp::tcp_proxy::{ClusterSpecifier, WeightedCluster};
    let sides = [(&pair.target, split.bp()), (&pair.legacy, Split::WHOLE - split.bp())];
    let clusters = sides.into_iter().filter(|(_, weight)| *weight > 0).map(|(name, weight)| {
        ClusterWeight { name: name.clone(), weight: weight.into(), metadata_match: None }
    });
    let proxy = tcp::TcpProxy {
        stat_prefix: name.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: clusters.collect(),
        })),
        // Nothing was cut for being idle before there was a proxy.
        idle_timeout: Some(duration(Duration::ZERO)),
        ..Default::default()
    };
    core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(pack_any(proxy)) }
}

/// The head of a route configuration whose virtual hosts are appended as bytes.
pub(super) fn shared_head(name: &str) -> pb::RouteConfiguration {
    pb::RouteConfiguration {
        name: name.to_owned(),
        ignore_port_in_host_matching: true,
        ..Default::default()
    }
}
