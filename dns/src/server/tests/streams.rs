//! TCP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::world::{
    at, connect, framed, is_closed, one_address, query, receive, send, serve, serve_within, told,
};
use crate::server::Server;
use crate::server::tcp::Limits;
use crate::wire::Rtype;

/// Short enough for a test to wait for.
const SOON: Duration = Duration::from_millis(200);

fn plain(id: u16) -> Vec<u8> {
    query(id, "plain.example", Rtype::A.0)
}

fn is_served(stream: &mut TcpStream) -> bool {
    send(stream, &plain(9));
    told(&receive(stream)).id == 9
}

/// A connection from one of loopback's many addresses.
fn connect_from(last: u8, server: &Server) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
    socket.connect(&at(server).into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn queries_sent_together_are_answered_in_order() {
    let server = serve("127.0.0.1:0", 1);
    let mut stream = connect(at(&server));
    let together: Vec<u8> = (0..1_000).flat_map(|id| framed(&plain(id))).collect();
    stream.write_all(&together).unwrap();
    for id in 0..1_000 {
        let answer = receive(&mut stream);
        assert_eq!(told(&answer).id, id);
        assert_eq!(one_address(&answer), Ipv4Addr::new(192, 0, 2, 1));
    }
}

#[test]
fn a_query_may_come_in_pieces() {
    let server = serve("127.0.0.1:0", 1);
    let mut stream = connect(at(&server));
    stream.set_nodelay(true).unwrap();
    for octet in framed(&plain(5)) {
        stream.write_all(&[octet]).unwrap();
    }
    assert_eq!(told(&receive(&mut stream)).id, 5);
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answers() {
    let server = serve("127.0.0.1:0", 1);
    let mut stream = connect(at(&server));
    let queries: Vec<u8> = (0..50).flat_map(|id| framed(&query(id, "big.example", 16))).collect();
    stream.write_all(&queries).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    for id in 0..50 {
        assert_eq!(told(&receive(&mut stream)).id, id);
    }
    assert!(is_closed(&mut stream));
}

#[test]
fn a_client_that_leaves_early_harms_nobody() {
    let server = serve("127.0.0.1:0", 1);
    for cut in [0, 1, 2, 20] {
        let mut stream = connect(at(&server));
        stream.write_all(&framed(&plain(1))[..cut]).unwrap();
        drop(stream);
        let mut stream = connect(at(&server));
        send(&mut stream, &query(2, "big.example", 16));
        drop(stream);
    }
    assert!(is_served(&mut connect(at(&server))));
    assert_eq!(server.totals().panics, 0);
}

#[test]
fn broken_messages_end_the_connection_or_get_formerr() {
    let server = serve("127.0.0.1:0", 1);
    for broken in [&[0, 0][..], &[0, 3, 1, 2, 3], &[0xff, 0xff, 0, 0]] {
        let mut stream = connect(at(&server));
        send(&mut stream, &plain(1));
        stream.write_all(broken).unwrap();
        assert_eq!(told(&receive(&mut stream)).id, 1);
        assert!(is_closed(&mut stream), "{broken:?}");
    }
    let mut stream = connect(at(&server));
    send(&mut stream, &plain(3)[..12]);
    assert_eq!(told(&receive(&mut stream)).rcode, 1);
    let mut answer = plain(4);
    answer[2] = 0x80;
    send(&mut stream, &answer);
    assert!(is_served(&mut stream));
}

#[test]
fn a_client_that_dribbles_is_closed() {
    let limits = Limits { message: SOON, ..Limits::default() };
    let server = serve_within("127.0.0.1:0", 1, limits);
    let mut stream = connect(at(&server));
    assert!(is_served(&mut stream));
    // Octets go on coming, each well before the limit, but never a whole message.
    stream.set_read_timeout(Some(SOON / 10)).unwrap();
    let closed = framed(&[0; 4_000]).iter().any(|octet| {
        stream.write_all(&[*octet]).is_err() || matches!(stream.read(&mut [0]), Ok(0))
    });
    assert!(closed);
    assert_eq!(server.totals().timed_out, 1);
}

#[test]
fn each_message_has_its_own_time() {
    let limits = Limits { message: SOON * 5, ..Limits::default() };
    let server = serve_within("127.0.0.1:0", 1, limits);
    let (mut stream, mut other) = (connect(at(&server)), connect(at(&server)));
    let query = framed(&plain(9));
    let (half, rest) = query.split_at(10);
    for _ in 0..2 {
        stream.write_all(half).unwrap();
        // The server has seen the half by the time it has answered somebody else.
        assert!(is_served(&mut other));
        stream.write_all(rest).unwrap();
        assert_eq!(told(&receive(&mut stream)).id, 9);
        // A message begun now runs out of time; by then so has the one that was answered.
        let mut late = connect(at(&server));
        late.write_all(half).unwrap();
        assert!(is_closed(&mut late));
    }
}

#[test]
fn a_client_that_is_silent_is_closed() {
    let limits = Limits { idle: SOON, ..Limits::default() };
    let server = serve_within("127.0.0.1:0", 1, limits);
    let mut stream = connect(at(&server));
    assert!(is_served(&mut stream));
    assert!(is_closed(&mut stream));
    assert!(is_closed(&mut connect(at(&server))));
}

#[test]
fn a_client_that_never_reads_is_closed_and_delays_nobody() {
    let limits = Limits { write: SOON, ..Limits::default() };
    let server = serve_within("127.0.0.1:0", 1, limits);
    let mut stream = connect(at(&server));
    let big = framed(&query(1, "big.example", 16));
    // The answers fill every buffer, then the queries do; then only closing ends the waiting.
    while stream.write_all(&big).is_ok() {}
    assert!(is_served(&mut connect(at(&server))));
    assert_eq!(server.totals().timed_out, 1);
}

#[test]
fn a_client_over_its_limit_is_turned_away() {
    let limits = Limits { per_client: 3, ..Limits::default() };
    let server = serve_within("127.0.0.1:0", 1, limits);
    let mut kept: Vec<TcpStream> = (0..3).map(|_| connect(at(&server))).collect();
    kept.iter_mut().for_each(|stream| assert!(is_served(stream)));
    assert!(is_closed(&mut connect(at(&server))));
    assert!(is_served(&mut connect_from(2, &server)));
    kept.iter_mut().for_each(|stream| assert!(is_served(stream)));
    assert_eq!((server.totals().connections, server.totals().refused), (4, 1));
}

#[test]
fn slow_clients_keep_nobody_out() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let server = serve_within("127.0.0.1:0", 1, limits);
    let mut slow: Vec<TcpStream> = (1..=3).map(|last| connect_from(last, &server)).collect();
    // Each begins a message; what was answered before shows that the server has read it.
    slow.iter_mut().for_each(|stream| {
        assert!(is_served(stream));
        stream.write_all(&[0]).unwrap();
    });
    assert!(is_served(&mut connect_from(4, &server)));
    assert!(is_closed(&mut slow[0]));
    assert_eq!((server.totals().evicted, server.totals().refused), (1, 0));
}

#[test]
fn a_full_server_closes_the_longest_idle() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let server = serve_within("127.0.0.1:0", 1, limits);
    let mut kept: Vec<TcpStream> = (1..=3).map(|last| connect_from(last, &server)).collect();
    kept.iter_mut().for_each(|stream| assert!(is_served(stream)));
    let mut fourth = connect_from(4, &server);
    assert!(is_served(&mut fourth));
    let mut kept = kept.into_iter();
    assert!(is_closed(&mut kept.next().unwrap()));
    kept.for_each(|mut stream| assert!(is_served(&mut stream)));
    assert!(is_served(&mut fourth));
    assert_eq!(server.totals().evicted, 1);
}
