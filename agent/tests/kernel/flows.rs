//! Flows that are under way when the split changes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use agent::dataplane::{Dataplane as _, Forget, Netlink, Ownership, Tracked};
use agent::rules::{Key, Marks, Transport};
use plan::{ServiceId, Side};

use crate::backends::Backends;
use crate::netns::{Space, World, allowed};
use crate::tables::{LOGICAL, SHAPE, Shape, flows, service, settings};

/// Flows of each kind and family.
const FLOWS: usize = 50;
/// Nothing in these namespaces takes so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Flows that stay open.
#[derive(Debug)]
struct Open {
    datagrams: Vec<UdpSocket>,
    connections: Vec<TcpStream>,
}

impl Open {
    fn new(world: &World) -> Self {
        let mut open = Self { datagrams: Vec::new(), connections: Vec::new() };
        world.client.enter(|| {
            for _ in 0..FLOWS {
                for (any, logical) in ["0.0.0.0", "::"].into_iter().zip(LOGICAL) {
                    let socket = UdpSocket::bind((any, 0)).unwrap();
                    socket.connect((logical, 8080)).unwrap();
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    open.datagrams.push(socket);
                    let stream = TcpStream::connect((logical, 8080)).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    open.connections.push(stream);
                }
            }
        });
        open
    }

    /// Who answers the datagrams, all the same.
    fn datagrams(&self) -> Vec<u8> {
        let mut sides = self
            .datagrams
            .iter()
            .map(|socket| {
                let mut bytes = [0; 2];
                socket.send(b"?").unwrap();
                socket.recv(&mut bytes).unwrap();
                bytes[1]
            })
            .collect::<Vec<_>>();
        sides.dedup();
        sides
    }

    /// Who answers the connections, all the same; how they ended otherwise.
    fn connections(&mut self) -> Vec<Result<u8, ErrorKind>> {
        let mut sides = self
            .connections
            .iter_mut()
            .map(|stream| {
                let mut bytes = [0];
                stream.write_all(b"?").map_err(|error| error.kind())?;
                stream.read_exact(&mut bytes).map_err(|error| error.kind())?;
                Ok(bytes[0])
            })
            .collect::<Vec<_>>();
        sides.dedup();
        sides
    }
}

#[test]
fn flows_stay_until_they_are_forgotten() {
    if !allowed("flows_stay_until_they_are_forgotten") {
        return;
    }
    for old_kernel in [false, true] {
        let world = World::new();
        let _backends = Backends::start(&world);
        let settings = || {
            let mut settings = settings(Ownership::Persistent);
            settings.old_kernel = old_kernel;
            settings
        };
        let mut netlink = world.vm.enter(|| Netlink::open(settings()).unwrap());
        let mut shift = |split| {
            netlink.commit(&service(Shape { split, ..SHAPE })).unwrap();
        };
        shift(0);
        let mut open = Open::new(&world);
        assert_eq!((open.datagrams(), open.connections()), (vec![b'L'], vec![Ok(b'L')]));
        shift(10_000);
        assert_eq!((open.datagrams(), open.connections()), (vec![b'L'], vec![Ok(b'L')]));

        // Of the other side nothing is forgotten.
        netlink.forget(&flows(&[Side::Target], false)).unwrap();
        assert_eq!((open.datagrams(), open.connections()), (vec![b'L'], vec![Ok(b'L')]));

        netlink.forget(&flows(&[Side::Legacy], false)).unwrap();
        assert_eq!(open.datagrams(), vec![b'T'], "decided anew");
        assert_eq!(open.connections(), vec![Ok(b'L')], "connections stay");

        // A connection that the kernel no longer knows is ended by whom it reaches now.
        netlink.forget(&flows(&[Side::Legacy], true)).unwrap();
        let ends = open.connections();
        let reset = |end: &Result<u8, ErrorKind>| {
            matches!(end, Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
        };
        assert!(ends.iter().all(reset), "no hang: {ends:?}");
        assert_eq!(open.datagrams(), vec![b'T']);
    }
}

/// Twenty services, more than are forgotten by a message each, and their marks.
fn many() -> (Vec<ServiceId>, Marks) {
    let ids: Vec<ServiceId> = (0..20).map(|at| format!("shop/s{at:02}").parse().unwrap()).collect();
    let marks = Marks::default().assign(ids.iter()).unwrap();
    (ids, marks)
}

/// Flows that are older than any rule of ours stay as they are; those of many services are found by
/// one look.
#[test]
fn datagrams_that_are_older_and_those_of_many_services_are_decided_anew() {
    if !allowed("datagrams_that_are_older_and_those_of_many_services_are_decided_anew") {
        return;
    }
    let (ids, marks) = many();
    for old_kernel in [false, true] {
        let world = World::new();
        let _backends = Backends::start(&world);
        // Where no rule of NAT stood, ours mark a flow that nobody answered and leave it as it is.
        let kind = if old_kernel { "nat" } else { "filter" };
        let chain = format!("type {kind} hook prerouting priority 0; ct state new counter");
        let tracking = format!("table inet other {{\n chain in {{\n {chain}\n }}\n}}\n");
        assert!(world.vm.nft_file(&tracking).status.success());
        let socket = world.client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect((LOGICAL[0], 8080)).unwrap();
        let ask = || {
            let mut bytes = [0; 2];
            socket.send(b"?")?;
            socket.recv(&mut bytes).map(|_| bytes[1])
        };
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::ConnectionRefused, "nobody is there");
        let mut settings = settings(Ownership::Persistent);
        settings.old_kernel = old_kernel;
        let mut netlink = world.vm.enter(|| Netlink::open(settings).unwrap());
        netlink.commit(&service(Shape { split: 10_000, ..SHAPE })).unwrap();
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::ConnectionRefused, "the flow is older");
        let key = |port| {
            let address = LOGICAL[0].parse().unwrap();
            Key { address, transport: Transport::Udp, port }
        };
        let at = |port| Forget { older: [key(port)].into(), ..Forget::default() };
        netlink.forget(&at(8081)).unwrap();
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::ConnectionRefused, "another's");
        netlink.forget(&at(8080)).unwrap();
        assert_eq!(ask().unwrap(), b'T');
        netlink.commit(&service(Shape { split: 0, ..SHAPE })).unwrap();
        let of = |side| {
            let all = ids.iter().filter_map(|id| Some((marks.of(id)?, side)));
            Forget { marked: all.collect(), ..Forget::default() }
        };
        netlink.forget(&of(Side::Legacy)).unwrap();
        assert_eq!(ask().unwrap(), b'T', "on the other side");
        netlink.forget(&of(Side::Target)).unwrap();
        assert_eq!(ask().unwrap(), b'L');
    }
}

/// A program that marks its own flows as ours are marked keeps them: on target they would be
/// translated, and on legacy sent to the service.
#[test]
fn flows_of_others_with_a_mark_of_ours_stay() {
    if !allowed("flows_of_others_with_a_mark_of_ours_stay") {
        return;
    }
    for (side, mark) in [(Side::Target, 0x3), (Side::Legacy, 0x2)] {
        flows_of_others(side, mark);
    }
}

/// The mark is that of the first service on this side.
fn flows_of_others(side: Side, mark: u32) {
    let (ids, marks) = many();
    assert_eq!(ids.first().and_then(|id| marks.of(id)).unwrap().value(side, false), mark);
    let space = Space::new("vm");
    let chain =
        format!("type filter hook output priority -150; tcp dport 9998-9999 ct mark set {mark}");
    let loaded =
        space.nft_file(&format!("table inet other {{\n chain out {{\n {chain}\n }}\n}}\n"));
    assert!(loaded.status.success());
    for old_kernel in [false, true] {
        let settings = || {
            let mut settings = settings(Ownership::Open);
            settings.old_kernel = old_kernel;
            settings
        };
        let mut netlink = space.enter(|| Netlink::open(settings()).unwrap());
        netlink.commit(&service(SHAPE)).unwrap();
        let mut tracked = space.enter(|| Tracked::open().unwrap());
        // A program that another test is just starting has the listener too, until it runs.
        let port = 9998 + u16::from(old_kernel);
        let (_listener, stream) = space.enter(|| {
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            (listener, stream)
        });
        let (from, to) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let mut leaves = || tracked.leaves_as(from, to).unwrap();
        for count in [1, ids.len()] {
            let all = ids.iter().take(count).filter_map(|id| Some((marks.of(id)?, side)));
            let marked = Forget { marked: all.collect(), connections: true, ..Forget::default() };
            netlink.forget(&marked).unwrap();
            assert_eq!(leaves(), Some(from.ip()), "{old_kernel}, {side}, of {count} services");
        }
        if side == Side::Legacy {
            continue;
        }
        // Who asks for where it is sent to finds it.
        let key = Key { address: to.ip(), transport: Transport::Tcp, port: to.port() };
        let older = Forget { older: [key].into(), connections: true, ..Forget::default() };
        netlink.forget(&older).unwrap();
        assert_eq!(leaves(), None);
    }
}
