//! IPv6 and datagrams go the same ways; connections of the side that lost are closed on order.

use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::main_job::{LOGICAL, PLAN};
use super::netns::Space;
use super::peers::{client, dial, letter, side};
use super::world::{World, until};

/// How many clients of IPv6.
const CLIENTS: u16 = 200;

/// The logical address and backends of IPv6, and a service of datagrams.
const MORE: &str = "    - name: six
      hosts: [six.corp.example]
      address: 2001:db8::10
      ports: [{ name: http, port: 8080, protocol: tcp }]
      legacy: { endpoints: [\"fd30::2\"] }
      target: { endpoints: [\"fd40::2\"] }
    - name: metrics
      hosts: [metrics.corp.example]
      address: 192.0.2.11
      ports: [{ name: udp, port: 8125, protocol: udp }]
      legacy: { endpoints: [10.30.0.2] }
      target: { endpoints: [10.40.0.2] }
";

fn more() -> String {
    let rows = PLAN.replace("10.50.0.0/24]", "10.50.0.0/24, \"fd20::/112\"]");
    format!("{rows}{MORE}")
}

/// Sends each datagram back with the letter.
fn datagrams(space: &Space, letter: u8) {
    let socket = space.enter(|| UdpSocket::bind("0.0.0.0:8125").unwrap());
    std::thread::spawn(move || {
        let mut bytes = [0; 8];
        while let Ok((_, from)) = socket.recv_from(&mut bytes) {
            // Who asked may have gone.
            let _ = socket.send_to(&[letter], from);
        }
    });
}

fn six(world: &World) -> String {
    let to: SocketAddr = "[2001:db8::10]:8080".parse().unwrap();
    let ask = |number| {
        let from = Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, number);
        // A neighbour that did not answer in time is asked again.
        let mut tries = (0..5).map(|_| side(from.into(), to));
        let unreachable = |tried: &std::io::Result<char>| {
            tried.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::HostUnreachable)
        };
        let reached = tries.find(|tried| !unreachable(tried));
        let reached = reached.unwrap_or_else(|| panic!("{from}: no route, five times"));
        reached.unwrap_or_else(|error| panic!("{from}: {error}"))
    };
    world.net.client.enter(|| (1..=CLIENTS).map(ask).collect())
}

#[test]
fn six_and_datagrams() {
    let Some(world) = World::new("six_and_datagrams", &more()) else { return };
    datagrams(&world.net.legacy, b'L');
    datagrams(&world.net.target, b'T');
    let _agent = world.joined(&["--no-names"]);
    let socket = world.net.client.enter(|| UdpSocket::bind("10.20.0.5:4000").unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let datagram = || {
        socket.send_to(b"1", "192.0.2.11:8125").unwrap();
        let mut byte = [0];
        socket.recv(&mut byte).unwrap();
        char::from(byte[0])
    };
    let mut before = "L".repeat(CLIENTS.into());
    for (percent, share) in [("0%", 0..=0), ("50%", 70..=130), ("100%", 200..=200)] {
        if percent != "0%" {
            world.shift("six", percent);
            world.shift("metrics", percent);
        }
        let now = six(&world);
        let (on_target, back) = (now.matches('T').count(), before.chars().zip(now.chars()));
        assert!(share.contains(&on_target), "{percent}: {now}");
        assert_eq!(back.filter(|pair| *pair == ('T', 'L')).count(), 0, "{percent}: {before} {now}");
        // One socket, which never ends: a datagram after a change goes the new way at once.
        match percent {
            "0%" => assert_eq!(datagram(), 'L'),
            "100%" => assert_eq!(datagram(), 'T'),
            _ => {}
        }
        before = now;
    }
    world.rollback("shop");
    assert_eq!(six(&world), "L".repeat(CLIENTS.into()));
    assert_eq!(datagram(), 'L', "the same socket goes home");
}

#[test]
fn connections_of_the_side_that_lost() {
    let Some(world) = World::new("connections_of_the_side_that_lost", PLAN) else { return };
    let _agent = world.joined(&["--no-names"]);
    let to: SocketAddr = LOGICAL.parse().unwrap();
    let connect = || world.net.client.enter(|| dial(client(3), to).unwrap());
    let mut open = connect();
    assert_eq!(letter(&mut open).unwrap(), 'L');
    world.shift("orders", "50%");
    let said = world.vm(&["agent", "drain", "orders"]).fails(3);
    assert!(said.contains("exactly 0% or 100%"), "{said}");
    world.shift("orders", "100%");
    open.write_all(b"?").unwrap();
    assert_eq!(letter(&mut open).unwrap(), 'L', "it stays until somebody orders");
    world.vm(&["agent", "drain", "orders"]).ok();
    until("it is closed", || {
        (open.write_all(b"?").is_err() || letter(&mut open).is_err()).then_some(())
    });
    assert_eq!(letter(&mut connect()).unwrap(), 'T', "and comes back on the other side");
}
