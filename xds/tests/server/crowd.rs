//! Too many, too slow, half there.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Endpoint;
use xds::server::Limits;

use crate::world::{Delta, World, assert_status, clusters, in_time, named, until};

#[tokio::test]
async fn streams_over_the_limit_are_told_to_come_again() {
    let world = World::start(Limits { streams: 2, ..Limits::default() }).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let mut held = vec![world.delta("a").await, world.delta("b").await];
    for client in &mut held {
        client.took().await;
    }
    for _ in 0..20 {
        let refused = Delta::open(world.channel().await, "c", &clusters()).await;
        let status = refused.err().expect("there is no room");
        assert_status(&status, Code::Unavailable, "try again");
        assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
    }
    assert_eq!(world.meter.counts().refused, 20);
    // Who leaves makes room.
    drop(held.pop());
    until(|| world.meter.counts().streams == 1).await;
    let mut welcome = world.delta("c").await;
    welcome.took().await;
    world.resources.replace(&clusters(), "2", named(&[("a", "2")]));
    held[0].took().await;
}

#[tokio::test]
async fn streams_that_come_too_fast_are_told_to_come_again() {
    let world = World::start(Limits { arrivals_per_second: 1, ..Limits::default() }).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let channel = world.channel().await;
    let mut first = Delta::open(channel.clone(), "a", &clusters()).await.unwrap();
    first.took().await;
    let second = Delta::open(channel, "b", &clusters()).await;
    assert_status(&second.err().expect("too fast"), Code::Unavailable, "too fast; try again in");
    // A connection that comes too fast waits, and is served.
    let mut later = World::channel(&world).await;
    let opened = in_time(async {
        loop {
            match Delta::open(later.clone(), "c", &clusters()).await {
                Ok(stream) => return stream,
                Err(status) => assert_status(&status, Code::Unavailable, "try again"),
            }
            later = world.channel().await;
        }
    });
    opened.await.took().await;
    assert!(world.meter.counts().delayed > 0);
}

#[tokio::test]
async fn connections_over_the_limit_are_closed() {
    let world = World::start(Limits { connections: 1, ..Limits::default() }).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let mut first = world.delta("a").await;
    first.took().await;
    let mut second = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(ended(&mut second).await, 0);
    assert_eq!(world.meter.counts().refused, 1);
}

/// Reads until the other side ends; how many bytes came.
async fn ended(stream: &mut TcpStream) -> usize {
    let mut all = Vec::new();
    // A reset is an end too.
    let _ = in_time(stream.read_to_end(&mut all)).await;
    all.len()
}

#[tokio::test]
async fn half_open_connections_are_cut() {
    let world = World::start(Limits { idle: Duration::from_millis(60), ..Limits::default() }).await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let mut preface = TcpStream::connect(world.address).await.unwrap();
    preface.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut garbage = TcpStream::connect(world.address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    ended(&mut silent).await;
    ended(&mut preface).await;
    ended(&mut garbage).await;
    until(|| world.meter.counts().connections == 0).await;
    let bad = world.meter.counts().bad;
    assert_eq!((bad["idle"], bad["http"]), (2, 1), "{bad:?}");
}

#[tokio::test]
async fn a_connection_with_a_stream_is_not_idle() {
    let world = World::start(Limits { idle: Duration::from_millis(60), ..Limits::default() }).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let mut client = world.delta("a").await;
    client.took().await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    ended(&mut silent).await;
    world.resources.replace(&clusters(), "2", named(&[("a", "2")]));
    client.took().await;
}

#[tokio::test]
async fn who_does_not_read_is_dropped_and_others_are_served() {
    let limits = Limits { stalled: Duration::from_millis(100), ..Limits::default() };
    let world = World::start(limits).await;
    let large = |version: &str| {
        let entry = |n| (format!("c{n}"), (version.to_owned(), vec![n; 60_000]));
        (0..4).map(entry).collect()
    };
    world.resources.replace(&clusters(), "1", large("1"));
    // It may take this much and no more until it reads.
    let endpoint = Endpoint::from_shared(format!("http://{}", world.address)).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535);
    let channel = endpoint.connect().await.unwrap();
    let mut slow = Delta::open(channel, "slow", &clusters()).await.unwrap();
    let mut quick = world.delta("quick").await;
    quick.took().await;
    until(|| world.meter.counts().stalled == 1).await;
    until(|| world.meter.counts().streams == 1).await;
    // Its connection is gone, with what it had not read.
    assert_ne!(slow.end().await.code(), Code::Ok);
    world.resources.replace(&clusters(), "2", large("2"));
    quick.took().await;
    assert_eq!(world.meter.counts().stalled, 1);
}
