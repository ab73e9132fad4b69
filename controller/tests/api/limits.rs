//! Slow, silent and too many callers; the addresses; a graceful stop.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{Answer, World, exchange, get, post, request};

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A connection that is cut may end in a reset.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let world = World::new().await;
    let mut slow = world.connect().await;
    let mut silent = world.connect().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").await.unwrap();
    // The server hangs up by itself: these ends do nothing but read.
    assert!(!rest(&mut slow).await.starts_with(b"HTTP/1.1 200"));
    assert_eq!(rest(&mut silent).await, b"");
    world.stop().await;
}

#[tokio::test]
async fn heads_are_bounded() {
    let world = World::new().await;
    let mut many = get("/healthz");
    for number in 0..100 {
        many = many.header(&format!("x-{number}"), "1");
    }
    assert_eq!(world.send(&many).await.status, 431);
    let long = get("/healthz").header("x-long", &"x".repeat(20 << 10));
    assert_eq!(world.send(&long).await.status, 431);
    let target = format!("/v1/answer?name={}", "x".repeat(20 << 10));
    let status = world.send(&get(&target)).await.status;
    assert!(matches!(status, 414 | 431), "{status}");
    world.stop().await;
}

#[tokio::test]
async fn a_body_is_not_read_beyond_its_limit() {
    let world = World::new().await;
    let mut stream = world.connect().await;
    let declared = post("/v1/rollback", "").header("Content-Length", "999999999");
    stream.write_all(&declared.bytes()).await.unwrap();
    // More than the limit, less than declared: it need not come to its end to be refused.
    let _ = stream.write_all(&vec![b' '; 65 << 10]).await;
    assert_eq!(Answer::parse(&rest(&mut stream).await).code(), "too-large");
    world.stop().await;
}

#[tokio::test]
async fn who_is_too_many_is_told_and_the_unix_socket_stays_open() {
    let world = World::new().await;
    let mut crowd = Vec::new();
    for _ in 0..512 {
        let mut stream = world.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        crowd.push(stream);
    }
    let answer = world.send(&get("/healthz")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "busy"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(world.send_unix(&get("/healthz")).await.status, 200);
    drop(crowd);
    world.stop().await;
}

#[tokio::test]
async fn the_metrics_address_has_health_and_metrics_alone() {
    let world = World::new().await;
    for (target, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/v1/plans", 404),
        ("/openapi.json", 404),
    ] {
        let stream = TcpStream::connect(world.metrics).await.unwrap();
        // Scrapers ask by whatever name they know.
        let answer = exchange(stream, &get(target).header("Host", "node-7.corp.example")).await;
        assert_eq!(answer.status, status, "{target}: {answer:?}");
    }
    let stream = TcpStream::connect(world.metrics).await.unwrap();
    assert_eq!(exchange(stream, &request("POST", "/metrics")).await.status, 405);
    world.stop().await;
}

#[tokio::test]
async fn a_stop_lets_what_is_being_answered_finish() {
    let world = World::new().await;
    world.shop().await;
    let mut idle = world.connect().await;
    let mut busy = world.connect().await;
    let shift = post("/v1/plans/shop/shift", r#"{"split":"3%"}"#).bytes();
    let (head, tail) = shift.split_at(shift.len() - 1);
    busy.write_all(head).await.unwrap();
    // A round trip on another connection: by now the server has taken the first one's head.
    assert_eq!(world.send(&get("/healthz")).await.status, 200);
    let (address, unix) = (world.address, world.unix.clone());
    let handle = world.handle.clone();
    let (stopping, running) = world.begin_stop();
    // The idle connection is closed at once; that the stop has begun is known by it.
    assert_eq!(rest(&mut idle).await, b"");
    busy.write_all(tail).await.unwrap();
    assert_eq!(Answer::parse(&rest(&mut busy).await).status, 200);
    stopping.await.unwrap();
    let orders = handle.status(&"shop".parse().unwrap()).unwrap();
    assert_eq!(orders.services[0].split_bp, 300);
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!unix.exists());
    running.stop().await;
}
