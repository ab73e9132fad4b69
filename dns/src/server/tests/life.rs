//! Starting and stopping.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::world::{
    ask, at, connect, datagrams, first, is_closed, query, receive, send, serve, told,
};
use crate::respond::Transport;
use crate::server::{BindError, Server};
use crate::wire::Rtype;

fn bind(addresses: &[SocketAddr]) -> Result<Server, BindError> {
    Server::bind(addresses, NonZeroUsize::MIN, first())
}

#[test]
fn a_taken_port_is_told_with_its_address() {
    // An address that no other test uses: a port that is free for TCP and not for UDP stays so.
    let loopback: SocketAddr = "127.7.7.7:0".parse().unwrap();
    let running = serve("127.7.7.7:0", 1);
    let tcp = TcpListener::bind(loopback).unwrap();
    let udp = UdpSocket::bind(loopback).unwrap();
    // The kernel would let us share this one; it is taken all the same.
    let shared = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    shared.set_reuse_port(true).unwrap();
    shared.bind(&loopback.into()).unwrap();
    let cases = [
        ("a server of ours", at(&running), Transport::Tcp),
        ("another's TCP", tcp.local_addr().unwrap(), Transport::Tcp),
        ("another's UDP", udp.local_addr().unwrap(), Transport::Udp),
        ("shared UDP", shared.local_addr().unwrap().as_socket().unwrap(), Transport::Udp),
    ];
    for (what, taken, expected) in cases {
        let Err(error) = bind(&[loopback, taken]) else { panic!("{what}: bound") };
        let text = error.to_string();
        let BindError::Socket { address, transport, .. } = error else { panic!("{text}") };
        assert_eq!((address, transport), (taken, expected), "{what}");
        assert!(text.contains(&format!("sport = :{}", taken.port())), "{text}");
    }
}

#[test]
fn an_address_of_nobody_is_told() {
    let Err(error) = bind(&["192.0.2.1:0".parse().unwrap()]) else { panic!("bound") };
    assert!(error.to_string().contains("no address 192.0.2.1"), "{error}");
    assert!(matches!(bind(&[]), Err(BindError::NoAddress)));
}

#[tokio::test]
async fn several_addresses_are_served_and_given_up_at_shutdown() {
    let addresses = ["127.0.0.1:0", "[::1]:0"].map(|address| address.parse().unwrap());
    let server = bind(&addresses).unwrap();
    let bound = server.addresses().to_vec();
    for address in &bound {
        let answer = ask(&datagrams(*address), &query(1, "plain.example", Rtype::A.0));
        assert_eq!(told(&answer).answers, 1);
    }
    server.shutdown().await;
    bind(&bound).unwrap();
}

#[test]
fn shutdown_ends_under_load() {
    let server = serve("127.0.0.1:0", 2);
    let address = at(&server);
    let stop = AtomicBool::new(false);
    let mut idle = connect(address);
    send(&mut idle, &query(1, "plain.example", Rtype::A.0));
    receive(&mut idle);
    let mut begun = connect(address);
    send(&mut begun, &query(1, "plain.example", Rtype::A.0));
    receive(&mut begun);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let client = datagrams(address);
                while !stop.load(Ordering::Relaxed) {
                    // Fails once nobody listens.
                    let _ = client.send(&query(1, "plain.example", Rtype::A.0));
                }
            });
        }
        scope.spawn(|| {
            runtime.block_on(server.shutdown());
            stop.store(true, Ordering::Relaxed);
        });
    });
    assert!(is_closed(&mut idle));
    assert!(TcpListener::bind(address).is_ok());
}

#[test]
fn a_dropped_server_lets_go() {
    let server = serve("127.0.0.1:0", 1);
    let address = at(&server);
    let mut idle = connect(address);
    drop(server);
    assert!(is_closed(&mut idle));
    while bind(&[address]).is_err() {
        thread::yield_now();
    }
}
