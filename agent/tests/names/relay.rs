//! Foreign names over UDP.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent::names::Upstreams;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::{Client, Upstream, as_answer, is_probe, question, stub, upstreams, wait_for};

#[test]
fn both_directions_pass_byte_for_byte() {
    let upstream = Upstream::new(|query| vec![scrambled(query)]);
    let stub = stub(upstreams(&[&upstream]));
    let client = Client::new(&stub);
    let mut runner =
        TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let tail = prop::collection::vec(any::<u8>(), 0..1_500);
    let query = (any::<[u8; 12]>(), tail).prop_map(|(mut head, tail)| {
        // An answer is not answered.
        head[2] &= 0x7f;
        [&head[..], &tail].concat()
    });
    let outcome = runner.run(&query, |query| {
        let answer = client.ask(&query);
        prop_assert_eq!(&upstream.heard().0, &query);
        prop_assert_eq!(answer, scrambled(&query));
        Ok(())
    });
    outcome.unwrap();
    assert!(stub.totals().forwarded >= 400);
    assert_eq!(stub.totals().forged, 0);
}

/// An answer to the query whose flags, codes and records nobody would expect.
fn scrambled(query: &[u8]) -> Vec<u8> {
    let mut answer = as_answer(query, 3);
    let longer: Vec<u8> = query.iter().rev().map(|octet| octet.wrapping_mul(7)).collect();
    answer.extend_from_slice(&longer);
    answer
}

#[test]
fn truncation_and_large_answers_are_left_as_they_are() {
    let upstream = Upstream::new(|query| {
        let mut answer = as_answer(query, 0);
        answer[2] |= 2;
        answer.resize(60_000, 0x5a);
        vec![answer]
    });
    let stub = stub(upstreams(&[&upstream]));
    let answer = Client::new(&stub).ask(&question(9, "large.example", 16));
    assert_eq!(answer.len(), 60_000);
    assert_eq!(answer[2] & 2, 2);
}

#[test]
fn each_query_has_a_port_of_its_own() {
    let upstream = Upstream::echo();
    let stub = stub(upstreams(&[&upstream]));
    let client = Client::new(&stub);
    let mut ports = BTreeSet::new();
    for id in 0..64 {
        client.ask(&question(id, "a.example", 1));
        ports.insert(upstream.heard().1.port());
    }
    assert!(ports.len() > 56, "{ports:?}");
    let steps: BTreeSet<i32> = ports
        .iter()
        .zip(ports.iter().skip(1))
        .map(|(low, high)| i32::from(*high) - i32::from(*low))
        .collect();
    assert!(steps.len() > 10, "the ports are no sequence: {ports:?}");
}

#[test]
fn forged_answers_are_passed_over() {
    let upstream = Upstream::new(|query| {
        let true_one = as_answer(query, 0);
        let mut other_id = true_one.clone();
        other_id[0] ^= 1;
        let mut other_name = true_one.clone();
        other_name[13] ^= 0x01;
        let mut other_type = true_one.clone();
        let at = other_type.len() - 3;
        other_type[at] ^= 0x20;
        let no_question = vec![query[0], query[1], 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let short = true_one[..11].to_vec();
        vec![other_id, other_name, other_type, query.to_vec(), no_question, short, true_one]
    });
    let stub = stub(upstreams(&[&upstream]));
    // Of type A, 1; the forged one is of type 33. Upper and lower case differ by the same bit.
    let query = question(77, "victim.example", 65);
    assert_eq!(Client::new(&stub).ask(&query), as_answer(&query, 0));
    assert_eq!(stub.totals().forged, 6);
}

#[test]
fn an_upstream_may_answer_in_another_case_or_leave_the_question_out_of_an_error() {
    let upstream = Upstream::new(|query| {
        if query[12] == 5 {
            let mut upper = as_answer(query, 0);
            upper[13..18].make_ascii_uppercase();
            return vec![upper];
        }
        vec![vec![query[0], query[1], 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]]
    });
    let stub = stub(upstreams(&[&upstream]));
    let client = Client::new(&stub);
    assert_eq!(&client.ask(&question(1, "lower.example", 1))[13..18], b"LOWER");
    assert_eq!(client.ask(&question(1, "formerr.example", 1)).len(), 12);
}

#[test]
fn the_next_upstream_is_asked() {
    struct Case {
        name: &'static str,
        first: fn(&[u8]) -> Vec<Vec<u8>>,
    }
    for Case { name, first } in [
        Case { name: "silent", first: |_| Vec::new() },
        Case { name: "SERVFAIL", first: |query| vec![as_answer(query, 2)] },
        Case { name: "NOTIMP", first: |query| vec![as_answer(query, 4)] },
        Case { name: "REFUSED", first: |query| vec![as_answer(query, 5)] },
    ] {
        let (first, second) = (Upstream::new(first), Upstream::echo());
        let stub = stub(upstreams(&[&first, &second]).with_timeout(Duration::from_secs(2)));
        let query = question(5, "a.example", 1);
        assert_eq!(Client::new(&stub).ask(&query), as_answer(&query, 0), "{name}");
        assert_eq!(first.heard().0, query, "{name}");
        assert_eq!(second.heard().0, query, "{name}");
    }
}

#[test]
fn nobody_listens_at_the_first() {
    let closed = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let second = Upstream::echo();
    let stub = stub(Upstreams::choose([closed, second.address], &[]).unwrap());
    let client = Client::new(&stub);
    for id in 0..20 {
        let query = question(id, "a.example", 1);
        assert_eq!(client.ask(&query), as_answer(&query, 0));
    }
    assert_eq!(stub.totals().forwarded, 20);
    // That nobody is there was heard, and not waited for; it is remembered for the others.
    assert_eq!(stub.totals().gone, 1);
}

#[test]
fn nxdomain_is_an_answer_and_is_not_asked_again() {
    let (first, second) = (Upstream::new(|query| vec![as_answer(query, 3)]), Upstream::echo());
    let stub = stub(upstreams(&[&first, &second]));
    let query = question(5, "missing.example", 1);
    assert_eq!(Client::new(&stub).ask(&query), as_answer(&query, 3));
    assert_eq!(second.count(), 0);
}

#[test]
fn a_refusal_is_given_when_nobody_does_better() {
    let refusing = || Upstream::new(|query| vec![as_answer(query, 5)]);
    let (first, second) = (refusing(), refusing());
    let stub = stub(upstreams(&[&first, &second]));
    let query = question(5, "a.example", 1);
    assert_eq!(Client::new(&stub).ask(&query), as_answer(&query, 5));
    assert_eq!(stub.totals().forwarded, 1);
}

#[test]
fn when_nobody_answers_the_client_is_told() {
    let stub = stub(upstreams(&[&Upstream::mute()]).with_timeout(Duration::from_millis(200)));
    let query = question(5, "a.example", 1);
    let answer = Client::new(&stub).ask(&query);
    assert_eq!(answer[3] & 0x0f, 2);
    assert_eq!((&answer[..2], &answer[12..]), (&query[..2], &query[12..]));
    assert_eq!((stub.totals().failed, stub.totals().forwarded), (1, 0));
}

#[test]
fn many_at_once_with_one_id_keep_apart() {
    let upstream = Upstream::echo();
    let stub = stub(upstreams(&[&upstream]));
    let clients: Vec<Client> = (0..100).map(|_| Client::new(&stub)).collect();
    for (at, client) in clients.iter().enumerate() {
        client.send(&question(0, &format!("n{at}.example"), 1));
    }
    for (at, client) in clients.iter().enumerate() {
        let query = question(0, &format!("n{at}.example"), 1);
        assert_eq!(client.receive(), as_answer(&query, 0));
    }
}

#[test]
fn upstreams_change_from_the_next_query_on() {
    let (first, second) = (Upstream::echo(), Upstream::echo());
    let stub = stub(upstreams(&[&first]));
    let client = Client::new(&stub);
    client.ask(&question(1, "a.example", 1));
    stub.ask(upstreams(&[&second])).unwrap();
    client.ask(&question(2, "a.example", 1));
    assert_eq!((first.count(), second.count()), (1, 1));
}

#[test]
fn the_stub_itself_is_no_upstream() {
    let stub = stub(upstreams(&[&Upstream::mute()]));
    let own = Upstreams::choose(stub.addresses(), &[]).unwrap();
    assert!(stub.ask(own.clone()).is_err());
    assert_ne!(*stub.upstreams().unwrap(), own);
}

/// The upstream hands everything to the stub, as a local cache would that reads the resolv.conf
/// which names the stub.
#[test]
fn a_loop_is_found_and_left_out() {
    let relay = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let good = Upstream::echo();
    let servers = [relay.local_addr().unwrap(), good.address];
    let stub = stub(Upstreams::choose(servers, &[]).unwrap());
    let to_stub = stub.addresses()[0];
    let (tell, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut room = [0; 4_096];
        let way = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        while let Ok((length, _)) = relay.recv_from(&mut room) {
            if !is_probe(&room[..length]) {
                tell.send(()).unwrap();
            }
            way.send_to(&room[..length], to_stub).unwrap();
        }
    });
    wait_for("the loop", || (stub.totals().loops == 1).then_some(()));
    let query = question(5, "a.example", 1);
    assert_eq!(Client::new(&stub).ask(&query), as_answer(&query, 0));
    assert!(heard.try_recv().is_err(), "it is not asked again");
}

/// It answers at first, and begins to hand everything to the stub once it was asked whether it
/// does.
#[test]
fn a_loop_that_begins_later_ends_and_is_forgiven_when_it_is_none_any_more() {
    let relay = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let stub = stub(Upstreams::choose([relay.local_addr().unwrap()], &[]).unwrap());
    let to_stub = stub.addresses()[0];
    let (tell, probed) = std::sync::mpsc::channel();
    let does_loop = Arc::new(AtomicBool::new(false));
    let loops = Arc::clone(&does_loop);
    std::thread::spawn(move || {
        let mut room = [0; 4_096];
        // Each time another client, as forwarders are.
        while let Ok((length, from)) = relay.recv_from(&mut room) {
            let query = &room[..length];
            if is_probe(query) {
                let _ = tell.send(());
            }
            if loops.load(Ordering::Relaxed) {
                let way = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                let _ = way.send_to(query, to_stub);
            } else if !is_probe(query) {
                let _ = relay.send_to(&as_answer(query, 0), from);
            }
        }
    });
    // Twice at the start, and then only now and then.
    for _ in 0..2 {
        probed.recv_timeout(crate::world::PATIENCE).unwrap();
    }
    let (client, query) = (Client::new(&stub), question(5, "a.example", 1));
    assert_eq!(client.ask(&query), as_answer(&query, 0));
    does_loop.store(true, Ordering::Relaxed);
    client.send(&query);
    wait_for("the loop", || (stub.looping().len() == 1).then_some(()));
    assert_eq!(client.receive()[3] & 0x0f, 2, "nobody else can be asked");
    does_loop.store(false, Ordering::Relaxed);
    wait_for("its end", || stub.looping().is_empty().then_some(()));
    assert_eq!(client.ask(&query), as_answer(&query, 0));
}
