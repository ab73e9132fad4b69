//! Which method of which service a path names.

use crate::name::TypeUrl;
use crate::session::{Opened, Variant};

/// Aggregated discovery, as a service.
pub(super) const ADS: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// The services of one type, with the last part of their methods.
const SERVICES: [(&str, &str, &str); 9] = [
    ("cluster.v3.ClusterDiscoveryService", "Clusters", TypeUrl::CLUSTER),
    ("endpoint.v3.EndpointDiscoveryService", "Endpoints", TypeUrl::ENDPOINTS),
    ("listener.v3.ListenerDiscoveryService", "Listeners", TypeUrl::LISTENER),
    ("route.v3.RouteDiscoveryService", "Routes", TypeUrl::ROUTES),
    ("route.v3.VirtualHostDiscoveryService", "VirtualHosts", TypeUrl::VIRTUAL_HOST),
    ("route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes", TypeUrl::SCOPED_ROUTES),
    ("extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs", TypeUrl::EXTENSION),
    ("secret.v3.SecretDiscoveryService", "Secrets", TypeUrl::SECRET),
    ("runtime.v3.RuntimeDiscoveryService", "Runtime", TypeUrl::RUNTIME),
];

/// What is called.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// A stream that this server pumps.
    Stream(Opened),
    /// A method of discovery that is not served.
    Fetch,
    /// Something else.
    Other,
}

/// Reads the path of a request.
pub(super) fn called(path: &str) -> Called {
    let Some((service, method)) =
        path.strip_prefix("/envoy.service.").and_then(|rest| rest.split_once('/'))
    else {
        return Called::Other;
    };
    if ADS.strip_prefix("envoy.service.") == Some(service) {
        return match method {
            "StreamAggregatedResources" => stream(Variant::Sotw, None),
            "DeltaAggregatedResources" => stream(Variant::Delta, None),
            _ => Called::Other,
        };
    }
    let Some((_, what, only)) = SERVICES.iter().find(|(known, ..)| *known == service) else {
        return Called::Other;
    };
    // Virtual hosts are incremental only (xds_protocol.rst, "Virtual Host Discovery Service").
    let incremental_only = *only == TypeUrl::VIRTUAL_HOST;
    match method.strip_suffix(what) {
        Some("Stream") if !incremental_only => stream(Variant::Sotw, Some(only)),
        Some("Delta") => stream(Variant::Delta, Some(only)),
        Some("Fetch") if !incremental_only => Called::Fetch,
        _ => Called::Other,
    }
}

fn stream(variant: Variant, only: Option<&str>) -> Called {
    Called::Stream(Opened { variant, only: only.map(TypeUrl::new) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_streams() {
        let cases: [(&str, Called); 9] = [
            (
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
                stream(Variant::Delta, None),
            ),
            (
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
                stream(Variant::Sotw, None),
            ),
            (
                "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
                stream(Variant::Delta, Some(TypeUrl::ROUTES)),
            ),
            (
                "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
                stream(Variant::Sotw, Some(TypeUrl::SECRET)),
            ),
            (
                "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts",
                stream(Variant::Delta, Some(TypeUrl::VIRTUAL_HOST)),
            ),
            (
                "/envoy.service.route.v3.VirtualHostDiscoveryService/StreamVirtualHosts",
                Called::Other,
            ),
            ("/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters", Called::Fetch),
            ("/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaRoutes", Called::Other),
            ("/grpc.health.v1.Health/Check", Called::Other),
        ];
        for (path, want) in cases {
            assert_eq!(called(path), want, "{path}");
        }
    }
}
