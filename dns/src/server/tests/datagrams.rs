//! UDP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use super::world::{ask, at, connect, datagrams, one_address, query, receive, send, serve, told};
use crate::wire::{Rcode, Rtype};

#[test]
fn answers_come_from_the_address_that_was_asked() {
    struct Case {
        bind: &'static str,
        ask: &'static str,
    }
    let cases = [
        Case { bind: "127.0.0.1:0", ask: "127.0.0.1" },
        Case { bind: "[::1]:0", ask: "::1" },
        Case { bind: "0.0.0.0:0", ask: "127.0.0.1" },
        Case { bind: "0.0.0.0:0", ask: "127.0.0.77" },
        Case { bind: "[::]:0", ask: "::1" },
    ];
    for Case { bind, ask: address } in cases {
        let server = serve(bind, 2);
        let address = SocketAddr::new(address.parse().unwrap(), at(&server).port());
        // Connected: the kernel drops what comes from another address.
        let client = datagrams(address);
        let answer = ask(&client, &query(7, "PLAIN.example", Rtype::A.0));
        assert_eq!(one_address(&answer), Ipv4Addr::new(192, 0, 2, 1), "{bind} {address}");
        let mut stream = connect(address);
        send(&mut stream, &query(8, "plain.example", Rtype::A.0));
        assert_eq!(one_address(&receive(&mut stream)), Ipv4Addr::new(192, 0, 2, 1));
    }
}

#[test]
fn clients_of_one_batch_get_their_own_answers_from_their_own_addresses() {
    let server = serve("0.0.0.0:0", 1);
    let clients: Vec<UdpSocket> = (1..=200)
        .map(|last| {
            let address = IpAddr::from([127, 0, 0, last]);
            datagrams(SocketAddr::new(address, at(&server).port()))
        })
        .collect();
    for (id, client) in (0..).zip(&clients) {
        client.send(&query(id, "plain.example", Rtype::A.0)).unwrap();
    }
    for (id, client) in (0..).zip(&clients) {
        let mut answer = [0; 512];
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(told(&answer[..length]).id, id);
    }
}

#[test]
fn broken_messages_get_silence_or_formerr() {
    struct Case {
        what: &'static str,
        bytes: Vec<u8>,
        rcode: Option<Rcode>,
    }
    let good = query(1, "plain.example", Rtype::A.0);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let cases = [
        Case { what: "empty", bytes: Vec::new(), rcode: None },
        Case { what: "one octet", bytes: vec![1], rcode: None },
        Case { what: "shorter than a header", bytes: good[..11].to_vec(), rcode: None },
        Case { what: "an answer itself", bytes: with(2, 0x80), rcode: None },
        Case { what: "a header alone", bytes: good[..12].to_vec(), rcode: Some(Rcode::FORMERR) },
        Case {
            what: "cut in the question",
            bytes: good[..good.len() - 1].to_vec(),
            rcode: Some(Rcode::FORMERR),
        },
        Case { what: "two questions", bytes: with(5, 2), rcode: Some(Rcode::FORMERR) },
        Case { what: "no question", bytes: with(5, 0), rcode: Some(Rcode::FORMERR) },
        Case {
            what: "a label that points at itself",
            bytes: [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat(),
            rcode: Some(Rcode::FORMERR),
        },
        Case {
            what: "longer than any query",
            bytes: [&good[..], &[0; 9_000]].concat(),
            rcode: Some(Rcode::FORMERR),
        },
        Case { what: "an update", bytes: with(2, 5 << 3), rcode: Some(Rcode::NOTIMP) },
        Case { what: "class CH", bytes: with(good.len() - 1, 3), rcode: Some(Rcode::REFUSED) },
    ];
    let server = serve("127.0.0.1:0", 1);
    let client = datagrams(at(&server));
    for Case { what, bytes, rcode } in cases {
        client.send(&bytes).unwrap();
        // Whatever was not answered is overtaken by the answer to a good query.
        client.send(&query(2, "plain.example", Rtype::A.0)).unwrap();
        let mut answer = [0; 4_096];
        if let Some(rcode) = rcode {
            let length = client.recv(&mut answer).unwrap();
            let told = told(&answer[..length]);
            assert_eq!((told.id, u16::from(told.rcode)), (1, rcode.0), "{what}");
        }
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(told(&answer[..length]).id, 2, "{what}");
    }
    let totals = server.totals();
    assert_eq!((totals.queries_udp, totals.silent, totals.panics), (24, 4, 0));
    let formerr = totals.answers.iter().find(|(rcode, _)| *rcode == Rcode::FORMERR);
    assert_eq!(formerr, Some(&(Rcode::FORMERR, 6)));
}

#[test]
fn what_does_not_fit_a_datagram_comes_over_tcp() {
    let server = serve("127.0.0.1:0", 1);
    let query = query(3, "big.example", 16);
    let short = told(&ask(&datagrams(at(&server)), &query));
    assert!(short.truncated);
    let mut stream = connect(at(&server));
    send(&mut stream, &query);
    let answer = receive(&mut stream);
    assert_eq!((told(&answer).truncated, told(&answer).answers), (false, 200));
    let totals = server.totals();
    assert_eq!((totals.queries_udp, totals.queries_tcp, totals.truncated), (1, 1, 1));
}

#[test]
fn a_client_at_port_0_costs_the_others_nothing() {
    // Only raw sockets send from port 0; what the loop does with such an address is the same as
    // with one that the kernel does not take. A client that is gone comes nearest: its port sends
    // ICMP errors back.
    let server = serve("127.0.0.1:0", 1);
    let client = datagrams(at(&server));
    for id in 0..200 {
        let gone = datagrams(at(&server));
        gone.send(&query(id, "plain.example", Rtype::A.0)).unwrap();
        drop(gone);
        assert_eq!(told(&ask(&client, &query(id, "plain.example", Rtype::A.0))).id, id);
    }
}
