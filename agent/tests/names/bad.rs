//! Input that nobody should send.

use std::net::SocketAddr;
use std::time::Duration;

use agent::names::Sockets;
use agent::names::stub::{QUERY_MAX, RELAYED_MAX, StartError};

use crate::world::{Client, Upstream, as_answer, question, stub, stub_on, upstreams, wait_for};

#[test]
fn what_is_dropped_reaches_nobody() {
    let upstream = Upstream::echo();
    let stub = stub(upstreams(&[&upstream]));
    let client = Client::new(&stub);
    let mut response = question(1, "orders.corp.example", 1);
    response[2] |= 0x80;
    let mut long = question(1, "a.example", 1);
    long.resize(QUERY_MAX + 1, 0);
    let mut huge = long.clone();
    huge.resize(65_000, 0xff);
    for message in [&[][..], &[0], &[0; 11], &[0xff; 12], &response, &long, &huge] {
        client.send(message);
    }
    // Answers come in order of the queries: what came first was not answered.
    let query = question(2, "a.example", 1);
    assert_eq!(client.ask(&query), as_answer(&query, 0));
    assert_eq!(upstream.count(), 1);
    let dropped = stub.totals().dropped;
    assert_eq!((dropped.silent, dropped.oversized, dropped.all()), (5, 2, 7));
}

#[test]
fn the_longest_query_passes() {
    let stub = stub(upstreams(&[&Upstream::echo()]));
    let mut query = question(1, "a.example", 1);
    query.resize(QUERY_MAX, 0x33);
    assert_eq!(Client::new(&stub).ask(&query), as_answer(&query, 0));
}

#[test]
fn a_flood_that_nobody_answers_stays_bounded_and_all_other_names_go_on() {
    // Names with a 1 are answered.
    let upstream = Upstream::new(|query| match query.get(13) {
        Some(b'1') => vec![as_answer(query, 0)],
        _ => Vec::new(),
    });
    let stub = stub(upstreams(&[&upstream]).with_timeout(Duration::from_secs(30)));
    let (client, plan) = (Client::new(&stub), Client::new(&stub));
    let extra = 50;
    for id in 0..u16::try_from(RELAYED_MAX + extra).unwrap() {
        client.send(&question(id, "a.example", 1));
        // The client's own socket holds what is sent; the stub must take up every one.
        if id % 64 == 0 {
            plan.ask(&question(id, "orders.corp.example", 1));
        }
    }
    let answer = plan.ask(&question(9, "orders.corp.example", 1));
    assert_eq!(answer[..2], [0, 9]);
    let full = wait_for("the limit", || {
        let full = stub.totals().dropped.full;
        (full > 0).then_some(full)
    });
    assert_eq!(full, u64::try_from(extra).unwrap());
    // Those that waited longest were told so; nobody else has heard anything.
    for id in 0..u16::try_from(extra).unwrap() {
        let refused = client.receive();
        assert_eq!((&refused[..2], refused[3] & 0x0f), (&id.to_be_bytes()[..], 2), "{id}");
    }
    // A name that is answered does not wait for those that are not.
    let other = Client::new(&stub);
    for id in 0..20 {
        let query = question(id, "1.example", 1);
        assert_eq!(other.ask(&query), as_answer(&query, 0));
    }
    assert_eq!(stub.totals().forwarded, 20);
    // One had to go for the first of them; each that is answered leaves its place.
    assert_eq!(stub.totals().dropped.full, u64::try_from(extra + 1).unwrap());
    wait_for("all were relayed", || {
        let heard = upstream.count();
        (heard > 0).then_some(heard)
    });
}

#[test]
fn where_a_stub_may_not_be() {
    let bind = |listen: &[&str]| {
        let listen = listen.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        Sockets::bind(&listen).unwrap_err().to_string()
    };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        assert!(bind(&[address]).contains("no loopback address"), "{address}");
    }
    assert!(bind(&[]).contains("0 addresses"));
    let running = stub(upstreams(&[&Upstream::mute()]));
    let taken = running.addresses()[0].to_string();
    assert!(bind(&[&taken]).contains("cannot listen"), "{taken}");
}

#[test]
fn an_upstream_that_is_the_stub_is_refused_at_the_start() {
    let first = stub(upstreams(&[&Upstream::mute()]));
    let own = agent::names::Upstreams::choose(first.addresses(), &[]).unwrap();
    let listen = first.addresses();
    drop(first);
    let refused = stub_on(Sockets::bind(&listen).unwrap(), own).unwrap_err();
    assert!(matches!(refused, StartError::OwnAddress(_)), "{refused}");
}
