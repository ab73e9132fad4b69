//! TCP.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use agent::names::stub::{PIPELINE_MAX, STREAMS_MAX};
use agent::names::{Stub, Upstreams};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::{
    PATIENCE, Upstream, as_answer, question, read_frame, stub, upstreams, write_frame,
};

fn connect(stub: &Stub) -> TcpStream {
    let stream = TcpStream::connect(stub.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, query: &[u8]) -> Vec<u8> {
    write_frame(stream, query);
    read_frame(stream).unwrap()
}

#[test]
fn both_directions_pass_byte_for_byte() {
    let upstream = Upstream::new(|query| vec![as_answer(&[query, query].concat(), 3)]);
    let stub = stub(upstreams(&[&upstream]));
    let stream = RefCell::new(connect(&stub));
    let mut runner =
        TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let tail = prop::collection::vec(any::<u8>(), 0..20_000);
    let query = (any::<[u8; 12]>(), tail).prop_map(|(mut head, tail)| {
        head[2] &= 0x7f;
        [&head[..], &tail].concat()
    });
    let outcome = runner.run(&query, |query| {
        let answer = ask(&mut stream.borrow_mut(), &query);
        prop_assert_eq!(&upstream.heard().0, &query);
        prop_assert_eq!(answer, as_answer(&[&query[..], &query].concat(), 3));
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn several_messages_to_one_query_pass() {
    let upstream = Upstream::new(|query| {
        (0..50).map(|at| [&as_answer(query, 0)[..], &[at; 1_000]].concat()).collect()
    });
    let stub = stub(upstreams(&[&upstream]));
    let mut stream = connect(&stub);
    write_frame(&mut stream, &question(4, "zone.example", 252));
    for at in 0..50 {
        assert!(read_frame(&mut stream).unwrap().ends_with(&[at; 1_000]), "{at}");
    }
}

#[test]
fn queries_may_follow_each_other_and_plan_names_stand_between() {
    let upstream = Upstream::echo();
    let stub = stub(upstreams(&[&upstream]));
    let mut stream = connect(&stub);
    let count = u16::try_from(3 * PIPELINE_MAX).unwrap();
    for id in 0..count {
        let name = if id % 3 == 0 { "orders.corp.example" } else { "a.example" };
        write_frame(&mut stream, &question(id, name, 1));
    }
    // The end of what is asked is no end of what is answered.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut ids: Vec<u16> = (0..count)
        .map(|_| {
            let answer = read_frame(&mut stream).unwrap();
            u16::from_be_bytes([answer[0], answer[1]])
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..count).collect::<Vec<u16>>());
    assert_eq!(read_frame(&mut stream), None);
}

#[test]
fn octets_may_come_one_by_one() {
    let stub = stub(upstreams(&[&Upstream::echo()]));
    let mut stream = connect(&stub);
    stream.set_nodelay(true).unwrap();
    let query = question(4, "a.example", 1);
    let frame = [&u16::try_from(query.len()).unwrap().to_be_bytes(), &query[..]].concat();
    for octet in frame {
        stream.write_all(&[octet]).unwrap();
    }
    assert_eq!(read_frame(&mut stream).unwrap(), as_answer(&query, 0));
}

#[test]
fn an_upstream_that_closes_is_replaced() {
    let (closing, good) = (Upstream::mute(), Upstream::echo());
    let stub = stub(upstreams(&[&closing, &good]));
    let mut stream = connect(&stub);
    for id in 0..4 {
        let query = question(id, "a.example", 1);
        assert_eq!(ask(&mut stream, &query), as_answer(&query, 0));
    }
    assert_eq!((closing.count(), good.count()), (1, 4));
}

#[test]
fn when_nobody_answers_the_client_is_told() {
    let stub = stub(upstreams(&[&Upstream::mute()]).with_timeout(Duration::from_secs(1)));
    let mut stream = connect(&stub);
    let query = question(6, "a.example", 1);
    let answer = ask(&mut stream, &query);
    assert_eq!((answer[3] & 0x0f, &answer[12..]), (2, &query[12..]));
    assert_eq!(stub.totals().failed, 1);
}

#[test]
fn answers_and_garbage_get_no_answer() {
    let upstream = Upstream::echo();
    let stub = stub(upstreams(&[&upstream]));
    let mut stream = connect(&stub);
    for message in [&[][..], &[1], &[0xff; 40], &[0; 11]] {
        write_frame(&mut stream, message);
    }
    let query = question(6, "a.example", 1);
    assert_eq!(ask(&mut stream, &query), as_answer(&query, 0));
    assert_eq!(upstream.count(), 1);
    // Half a message, then the end: the connection ends too.
    stream.write_all(&[0, 40, 1, 2, 3]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn an_upstream_that_says_nothing_is_passed_over() {
    // It takes connections and whatever is asked.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = Upstream::echo();
    let servers = [silent.local_addr().unwrap(), good.address];
    let asked = Upstreams::choose(servers, &[]).unwrap().with_timeout(Duration::from_secs(2));
    let stub = stub(asked);
    let mut stream = connect(&stub);
    let query = question(6, "a.example", 1);
    assert_eq!(ask(&mut stream, &query), as_answer(&query, 0));
    // From then on it is asked last.
    assert_eq!(ask(&mut connect(&stub), &query), as_answer(&query, 0));
    silent.set_nonblocking(true).unwrap();
    let asked = silent.incoming().take_while(Result::is_ok).count();
    assert_eq!(asked, 1);
}

#[test]
fn an_upstream_that_closes_after_an_answer_is_asked_again() {
    let once = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = once.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in once.incoming() {
            let mut stream = stream.unwrap();
            let Some(query) = read_frame(&mut stream) else { continue };
            write_frame(&mut stream, &as_answer(&query, 0));
        }
    });
    let stub = stub(Upstreams::choose([server], &[]).unwrap());
    let mut stream = connect(&stub);
    for id in 0..20 {
        let query = question(id, "a.example", 1);
        assert_eq!(ask(&mut stream, &query), as_answer(&query, 0), "{id}");
    }
}

#[test]
fn a_refusal_is_given_where_no_other_knows_better() {
    let refusing = || Upstream::new(|query| vec![as_answer(query, 5)]);
    let (first, second) = (refusing(), Upstream::new(|query| vec![as_answer(query, 2)]));
    let good = Upstream::echo();
    let query = question(6, "a.example", 1);
    let stub_of = |servers: &[&Upstream]| stub(upstreams(servers));
    assert_eq!(ask(&mut connect(&stub_of(&[&first, &good])), &query), as_answer(&query, 0));
    assert_eq!(ask(&mut connect(&stub_of(&[&first, &second])), &query), as_answer(&query, 5));
    let alone = stub_of(&[&first]);
    let mut stream = connect(&alone);
    for _ in 0..3 {
        assert_eq!(ask(&mut stream, &query), as_answer(&query, 5));
    }
}

#[test]
fn connections_that_wait_for_nothing_hold_up_no_others() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let asked = Upstreams::choose([silent.local_addr().unwrap()], &[]).unwrap();
    let stub = stub(asked.with_timeout(Duration::from_secs(30)));
    let foreign = question(6, "a.example", 1);
    let mut waiting: Vec<TcpStream> = (0..STREAMS_MAX + 12)
        .map(|_| {
            let mut stream = connect(&stub);
            write_frame(&mut stream, &foreign);
            stream
        })
        .collect();
    let plan = question(7, "orders.corp.example", 1);
    assert_eq!(ask(&mut connect(&stub), &plan)[..2], [0, 7]);
    // Those that were there first gave their places.
    assert_eq!(read_frame(&mut waiting[0]), None);
    assert_eq!(stub.totals().dropped.full, 13);
}
