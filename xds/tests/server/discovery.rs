//! Both variants, acks and refusals, and the end.

use tonic::Code;
use xds::server::Limits;

use crate::world::{Delta, Sotw, World, assert_status, clusters, in_time, named};

fn pair(name: &str, version: &str) -> (String, String) {
    (name.to_owned(), version.to_owned())
}

#[tokio::test]
async fn both_variants_follow_what_is_served() {
    let world = World::start(Limits::default()).await;
    let first = world.resources.replace(&clusters(), "one", named(&[("a", "1"), ("b", "x-7")]));
    let mut delta = world.delta("d").await;
    let mut sotw = Sotw::open(world.channel().await, "s").await;
    assert_eq!(delta.took().await, [pair("a", "1"), pair("b", "x-7")]);
    assert_eq!(sotw.took().await, ("one".to_owned(), vec!["a".to_owned(), "b".to_owned()]));
    world.acked("d", first).await;
    world.acked("s", first).await;

    let second = world.resources.change(&clusters(), "two", named(&[("c", "1")]), &["a"]);
    // What comes comes first, and what goes after its ack.
    assert_eq!(delta.took().await, [pair("c", "1")]);
    let response = delta.next().await.unwrap();
    assert_eq!(response.removed_resources, ["a"]);
    delta.ack(&response).await;
    // On the way there it has more than is served, which has no name of the caller's.
    let (version, bodies) = sotw.took().await;
    assert_ne!(version, "two");
    assert_eq!(bodies, ["a", "b", "c"]);
    assert_eq!(sotw.took().await, ("two".to_owned(), vec!["b".to_owned(), "c".to_owned()]));
    world.acked("d", second).await;
    world.acked("s", second).await;

    // A name with the version it had is not sent again.
    world.resources.replace(&clusters(), "two", named(&[("b", "x-7"), ("c", "1")]));
    world.resources.change(&clusters(), "three", named(&[("c", "2")]), &[]);
    assert_eq!(delta.took().await, [pair("c", "2")]);

    let counts = world.meter.counts();
    assert_eq!((counts.connections, counts.streams, counts.opened), (2, 2, 2));
    assert_eq!(counts.encodings, 4);
    assert!(counts.bytes > 0 && counts.responses >= 5 && counts.acks >= 4, "{counts:?}");
}

#[tokio::test]
async fn a_refusal_is_told_with_the_clients_words() {
    let world = World::start(Limits::default()).await;
    let mark = world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let mut delta = world.delta("d").await;
    let response = delta.next().await.unwrap();
    delta.nack(&response, "no such filter").await;
    let sink = world.sink("d", |sink| sink.progress.refused.is_some()).await;
    assert_eq!(sink.progress.refused.unwrap().detail, "no such filter");
    assert!(sink.progress.acked < mark);
    assert_eq!(world.meter.counts().nacks, 1);
    // What replaces it is sent, and taken.
    let mark = world.resources.replace(&clusters(), "2", named(&[("a", "2")]));
    assert_eq!(delta.took().await, [pair("a", "2")]);
    let sink = world.sink("d", |sink| sink.progress.acked >= mark).await;
    assert!(sink.progress.refused.is_none());
}

#[tokio::test]
async fn long_messages_arrive_whole() {
    let world = World::start(Limits::default()).await;
    let body: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let entry = |n: usize| (format!("c{n}"), ("1".to_owned(), body[n..].to_vec()));
    let small = (10..400).map(|n| (format!("s{n}"), ("1".to_owned(), vec![7; n])));
    world.resources.replace(&clusters(), "1", (0..3).map(entry).chain(small).collect());
    let mut delta = world.delta("d").await;
    let mut found = 0;
    while found < 393 {
        let response = delta.next().await.unwrap();
        delta.ack(&response).await;
        found += response.resources.len();
        for resource in response.resources {
            let value = resource.resource.unwrap().value;
            match resource.name.split_at(1) {
                ("c", n) => assert!(value == body[n.parse::<usize>().unwrap()..]),
                (_, n) => assert_eq!(value, vec![7; n.parse().unwrap()]),
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_is_done_is_told_so() {
    let world = World::start(Limits::default()).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let Delta { requests, mut responses, .. } = world.delta("d").await;
    in_time(responses.message()).await.unwrap().unwrap();
    drop(requests);
    assert_eq!(in_time(responses.message()).await.unwrap(), None);
}

#[tokio::test]
async fn a_server_that_stops_sends_clients_elsewhere() {
    let world = World::start(Limits::default()).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let mut clients = Vec::new();
    for n in 0..5 {
        let mut client = world.delta(&n.to_string()).await;
        client.took().await;
        clients.push(client);
    }
    world.stop().await;
    for client in &mut clients {
        assert_status(&client.end().await, Code::Unavailable, "going away");
    }
}
