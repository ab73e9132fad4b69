//! Connections on which nobody is known: they keep nobody out.

use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_prost::ProstCodec;
use xds::server::Limits;

use crate::identity::{Leaf, Porter, connect, issuer, tls};
use crate::world::{Delta, World, assert_status, clusters, in_time, named, node, until};

async fn check(channel: &Channel) -> Result<(), Status> {
    let mut health = HealthClient::new(channel.clone());
    in_time(health.check(HealthCheckRequest::default())).await.map(drop)
}

async fn watch(channel: &Channel) -> Result<Streaming<HealthCheckResponse>, Status> {
    let mut health = HealthClient::new(channel.clone());
    Ok(in_time(health.watch(HealthCheckRequest::default())).await?.into_inner())
}

/// A call whose request never comes.
async fn endless(channel: Channel) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let nothing = Request::new(tokio_stream::pending::<HealthCheckRequest>());
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    in_time(client.client_streaming(nothing, path, codec)).await.map(drop)
}

#[tokio::test]
async fn calls_of_nobody_end_and_keep_nobody_from_calling() {
    let (ours, porter) = (issuer(), Porter::new());
    let one = Leaf::of(&ours, "vm-1");
    porter.knows(&one, "vm-1");
    let limits = Limits {
        stranger_calls_per_source: 3,
        stranger_call: Duration::from_secs(5),
        ..Limits::default()
    };
    let tls = tls(&ours, &Leaf::of(&ours, "controller.test"));
    let world = World::guarded(limits, Some(tls), Some(porter)).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let nobody = connect(&world, &ours.pem(), None).await.unwrap();
    let refused = watch(&nobody).await.err().unwrap();
    assert_status(&refused, Code::Unimplemented, "ask for it with Check");

    let mut calls = tokio::task::JoinSet::new();
    let full = async {
        loop {
            calls.spawn(endless(nobody.clone()));
            // Nobody announces that a call has its place: looked for as `until` does.
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Err(refused) = check(&nobody).await {
                break refused;
            }
        }
    };
    assert_status(&in_time(full).await, Code::Unavailable, "as many calls");
    // Who is known is served meanwhile, and may watch.
    let known = connect(&world, &ours.pem(), Some(&one)).await.unwrap();
    check(&known).await.unwrap();
    let watching = watch(&known).await.unwrap();
    let mut stream = Delta::open_as(known, node("vm-1", Some("agent")), &clusters()).await.unwrap();
    assert_eq!(stream.took().await.len(), 1);
    let mut slow = 0;
    while let Some(ended) = in_time(calls.join_next()).await {
        let ended = ended.unwrap().unwrap_err();
        assert_eq!(ended.code(), Code::Unavailable, "{ended}");
        slow += usize::from(ended.message().contains("took too long"));
    }
    assert!(slow > 0);
    check(&nobody).await.unwrap();
    drop(watching);
}

#[tokio::test]
async fn connections_of_nobody_are_cut_and_keep_nobody_from_connecting() {
    let (ours, porter) = (issuer(), Porter::new());
    let one = Leaf::of(&ours, "vm-1");
    porter.knows(&one, "vm-1");
    let limits =
        Limits { strangers_per_source: 2, stranger: Duration::from_secs(1), ..Limits::default() };
    let tls = tls(&ours, &Leaf::of(&ours, "controller.test"));
    let world = World::guarded(limits, Some(tls), Some(porter)).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let known = connect(&world, &ours.pem(), Some(&one)).await.unwrap();
    let mut stream = Delta::open_as(known, node("vm-1", Some("agent")), &clusters()).await.unwrap();
    assert_eq!(stream.took().await.len(), 1);
    // One that has shown who it is has left room for these.
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let nobody = connect(&world, &ours.pem(), None).await.unwrap();
    check(&nobody).await.unwrap();
    until(|| world.meter.counts().connections == 3).await;
    assert_eq!(in_time(silent.read(&mut [0; 1])).await.unwrap_or(0), 0, "it is cut");
    until(|| world.meter.counts().connections == 1).await;
    assert_eq!(world.meter.counts().bad["stranger"], 2);
    world.resources.replace(&clusters(), "2", named(&[("a", "2")]));
    assert_eq!(stream.took().await, [("a".to_owned(), "2".to_owned())]);
}
