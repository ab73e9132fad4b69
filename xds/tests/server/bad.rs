//! What must not come, as bytes.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use tokio::net::TcpStream;
use tonic::Code;
use xds::TypeUrl;
use xds::server::Limits;

use crate::world::{World, assert_status, clusters, in_time, named, node};

const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

fn framed(flag: u8, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat().into()
}

/// Sends these bytes as a call; how it ends: code and words.
async fn call(world: &World, method: &str, body: Bytes) -> (i32, String) {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}{DELTA}", world.address))
        .method(method)
        .header("content-type", "application/grpc")
        .body(Full::new(body))
        .unwrap();
    let response = in_time(sender.send_request(request)).await.unwrap();
    if !response.status().is_success() {
        return (-i32::from(response.status().as_u16()), String::new());
    }
    let mut end = response.headers().clone();
    let collected = in_time(response.into_body().collect()).await.unwrap();
    end.extend(collected.trailers().cloned().unwrap_or_default());
    connection.abort();
    let text = |name| end.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    (text("grpc-status").parse().unwrap(), text("grpc-message"))
}

fn request(type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node("bad", None)),
        type_url: type_url.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn bad_messages_close_their_stream_with_words_and_nobody_elses() {
    let world = World::start(Limits::default()).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let mut innocent = world.delta("innocent").await;
    innocent.took().await;
    let fine = request(TypeUrl::CLUSTER);
    let nobody = DeltaDiscoveryRequest { node: None, ..fine.clone() };
    let mut not_utf8 = fine.encode_to_vec();
    // Field 3, a name, of two bytes that are no UTF-8.
    not_utf8.extend([0x1a, 2, 0xc3, 0x28]);
    let cases: [(&str, Bytes, Code, &str, &str); 8] = [
        (
            "unknown type",
            framed(0, &request("type.googleapis.com/no.Such").encode_to_vec()),
            Code::Unimplemented,
            "no.Such",
            "request",
        ),
        ("no node", framed(0, &nobody.encode_to_vec()), Code::InvalidArgument, "node", "request"),
        ("no UTF-8", framed(0, &not_utf8), Code::InvalidArgument, "discovery request", "message"),
        ("no protobuf", framed(0, &[0xff; 40]), Code::InvalidArgument, "discovery", "message"),
        ("compressed", framed(1, &[1, 2, 3]), Code::Unimplemented, "compressed", "message"),
        ("10 MB", framed(0, &vec![0; 10_000_000]), Code::ResourceExhausted, "4194304", "message"),
        (
            "10 MB announced",
            Bytes::from_static(&[0, 0, 0x98, 0x96, 0x80]),
            Code::ResourceExhausted,
            "10000000",
            "message",
        ),
        (
            "name too long",
            framed(
                0,
                &DeltaDiscoveryRequest {
                    resource_names_subscribe: vec!["n".repeat(5_000)],
                    ..fine.clone()
                }
                .encode_to_vec(),
            ),
            Code::ResourceExhausted,
            "name",
            "limit",
        ),
    ];
    for (what, body, code, words, kind) in cases {
        let before = world.meter.counts().bad;
        let (status, message) = call(&world, "POST", body).await;
        let status = tonic::Status::new(Code::from_i32(status), message);
        assert_eq!(status.code(), code, "{what}: {status:?}");
        assert_status(&status, code, words);
        assert_eq!(world.meter.counts().bad[kind], before[kind] + 1, "{what}");
    }
    assert_eq!(call(&world, "GET", Bytes::new()).await.0, -405);
    assert_eq!(call(&world, "POST", framed(0, &fine.encode_to_vec())).await.0, 0);
    world.resources.replace(&clusters(), "2", named(&[("a", "2")]));
    assert_eq!(innocent.took().await, [("a".to_owned(), "2".to_owned())]);
}

#[tokio::test]
async fn a_hundred_thousand_names_are_taken_and_answered() {
    let world = World::start(Limits::default()).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let names = (0..100_000).map(|n| format!("name-{n}")).collect();
    let many =
        DeltaDiscoveryRequest { resource_names_subscribe: names, ..request(TypeUrl::CLUSTER) };
    let client = world.delta("n").await;
    client.requests.send(many).await.unwrap();
    let mut client = client;
    client.took().await;
    let mut removed = 0;
    while removed < 100_000 {
        let response = client.next().await.unwrap();
        client.ack(&response).await;
        removed += response.removed_resources.len();
    }
}

/// More than any window, before the server has said what its windows are.
#[tokio::test]
async fn a_long_first_request_is_read_to_its_end() {
    let world = World::start(Limits::default()).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let names = (0..20_000).map(|n| format!("name-{n}")).collect();
    let first =
        DeltaDiscoveryRequest { resource_names_subscribe: names, ..request(TypeUrl::CLUSTER) };
    let bytes = framed(0, &first.encode_to_vec());
    // It is whole, so that the stream ends well with the client's side of it.
    assert_eq!(call(&world, "POST", bytes).await.0, 0);
    assert_eq!(world.meter.counts().requests, 1);
}

#[tokio::test]
async fn a_flood_of_requests_is_read_slowly_and_whole() {
    let limits = Limits { requests_per_second: 500, requests_burst: 10, ..Limits::default() };
    let world = World::start(limits).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let mut client = world.delta("flood").await;
    let response = client.next().await.unwrap();
    for _ in 0..100 {
        client.ack(&response).await;
    }
    crate::world::until(|| world.meter.counts().acks == 100).await;
    assert!(world.meter.counts().bad["flood"] > 0);
}

#[tokio::test]
async fn a_stream_without_a_request_is_closed() {
    let limits = Limits { first_request: Duration::from_millis(50), ..Limits::default() };
    let world = World::start(limits).await;
    let mut silent = crate::world::Delta::silent(world.channel().await, &clusters()).await.unwrap();
    assert_status(&silent.end().await, Code::Unavailable, "request");
    assert_eq!(world.meter.counts().bad["silent"], 1);
}
