//! Services of one type, and services beside discovery.

use http::uri::PathAndQuery;
use proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio_stream::StreamExt as _;
use tonic::client::Grpc;
use tonic::{Code, IntoStreamingRequest as _};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use xds::TypeUrl;
use xds::server::Limits;

use crate::world::{World, assert_status, in_time, named, node, types};

const METHODS: [(&str, &str); 9] = [
    ("cluster.v3.ClusterDiscoveryService", "Clusters"),
    ("endpoint.v3.EndpointDiscoveryService", "Endpoints"),
    ("listener.v3.ListenerDiscoveryService", "Listeners"),
    ("route.v3.RouteDiscoveryService", "Routes"),
    ("route.v3.VirtualHostDiscoveryService", "VirtualHosts"),
    ("route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes"),
    ("extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs"),
    ("secret.v3.SecretDiscoveryService", "Secrets"),
    ("runtime.v3.RuntimeDiscoveryService", "Runtime"),
];

fn path(service: &str, method: &str) -> PathAndQuery {
    format!("/envoy.service.{service}/{method}").parse().unwrap()
}

#[tokio::test]
async fn every_type_has_a_service_of_its_own() {
    let world = World::start(Limits::default()).await;
    let channel = world.channel().await;
    for (type_url, (service, what)) in types().iter().zip(METHODS) {
        world.resources.replace(type_url, "1", named(&[("here", "1")]));
        // Clients of a single type may leave it out.
        let delta = DeltaDiscoveryRequest {
            node: Some(node("n", None)),
            resource_names_subscribe: vec!["here".to_owned()],
            ..DeltaDiscoveryRequest::default()
        };
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
        let open = tokio_stream::once(delta).chain(tokio_stream::pending());
        let path_and_query = path(service, &format!("Delta{what}"));
        let call = grpc.streaming(open.into_streaming_request(), path_and_query, codec);
        let mut responses = in_time(call).await.unwrap().into_inner();
        let response = in_time(responses.message()).await.unwrap().unwrap();
        assert_eq!((&*response.type_url, response.resources.len()), (type_url.as_str(), 1));

        let sotw = DiscoveryRequest {
            node: Some(node("n", None)),
            resource_names: vec!["here".to_owned()],
            ..DiscoveryRequest::default()
        };
        let codec = ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
        let open = tokio_stream::once(sotw).chain(tokio_stream::pending());
        let path_and_query = path(service, &format!("Stream{what}"));
        grpc.ready().await.unwrap();
        let call = in_time(grpc.streaming(open.into_streaming_request(), path_and_query, codec));
        if type_url.as_str() == TypeUrl::VIRTUAL_HOST {
            assert_eq!(call.await.unwrap_err().code(), Code::Unimplemented);
            continue;
        }
        let response = in_time(call.await.unwrap().into_inner().message()).await.unwrap().unwrap();
        assert_eq!((&*response.type_url, response.resources.len()), (type_url.as_str(), 1));
    }
}

#[tokio::test]
async fn what_is_not_here_is_said_to_be_unimplemented() {
    let world = World::start(Limits::default()).await;
    let cases = [
        (path("cluster.v3.ClusterDiscoveryService", "FetchClusters"), "open a stream"),
        (path("cluster.v3.ClusterDiscoveryService", "Clusters"), ""),
        (path("nowhere.v3.NoService", "Stream"), ""),
        ("/".parse().unwrap(), ""),
    ];
    for (path, words) in cases {
        let mut grpc = Grpc::new(world.channel().await);
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
        let request = tonic::Request::new(DiscoveryRequest::default());
        let status = in_time(grpc.unary(request, path, codec)).await.unwrap_err();
        assert_status(&status, Code::Unimplemented, words);
    }
}

#[tokio::test]
async fn health_and_reflection_share_the_port() {
    let world = World::start(Limits::default()).await;
    let mut health = HealthClient::new(world.channel().await);
    let check = health.check(HealthCheckRequest::default());
    assert_eq!(in_time(check).await.unwrap().into_inner().status, 1);
    for (service, serves) in [
        ("envoy.service.discovery.v3.AggregatedDiscoveryService", true),
        ("envoy.service.load_stats.v3.LoadReportingService", true),
        ("crossfade.v1.ReportService", false),
    ] {
        let check = health.check(HealthCheckRequest { service: service.to_owned() });
        match in_time(check).await {
            Ok(answer) => assert_eq!((answer.into_inner().status, serves), (1, true), "{service}"),
            Err(status) => {
                assert_eq!((status.code(), serves), (Code::NotFound, false), "{service}");
            }
        }
    }

    let mut reflection = ServerReflectionClient::new(world.channel().await);
    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let ask = tokio_stream::once(ask).chain(tokio_stream::pending());
    let mut answers = in_time(reflection.server_reflection_info(ask)).await.unwrap().into_inner();
    let answer = in_time(answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    assert!(names.contains(&"envoy.service.discovery.v3.AggregatedDiscoveryService"), "{names:?}");
}
