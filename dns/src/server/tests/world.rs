//! A small zone with one service, a server for it, and clients that speak plain sockets.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use plan::endpoint::{Endpoint, Endpoints, Pool};
use plan::snapshot::{Motion, Parts, Service, Serving};
use plan::spec::{self, Affinity, Clients};
use plan::split::Split;
use plan::{ServiceId, Token};

use crate::server::Server;
use crate::server::tcp::Limits;
use crate::zone::{Source, Zone};
use crate::{Catalog, Name};

/// A test that waits this long for a message has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Zone `example.`: a plain name, and one whose TXT records fill most of a TCP answer.
pub(super) fn zone() -> Zone {
    let origin = Name::from_text("example").unwrap();
    let mut text = String::from("@ 60 SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\n");
    text += "ns1 A 192.0.2.53\nplain A 192.0.2.1\n";
    for number in 0..200 {
        text += &format!("big TXT \"{number}-{}\"\n", "x".repeat(240));
    }
    Zone::parse(&origin, &Source::new("example.zone", text)).unwrap()
}

/// Service `shop/orders` at `orders.example` with one address on each side.
pub(super) fn orders(split: u16, legacy: Ipv4Addr, since: Token) -> Arc<Service> {
    let side = |address: IpAddr| Endpoints::new(vec![Endpoint { address, port: None }]).unwrap();
    let legacy = side(legacy.into());
    let target = side(Ipv4Addr::new(198, 51, 100, 1).into());
    let pool = |endpoints: &Endpoints| Pool { serving: endpoints.clone(), degraded: false };
    let serving = match split {
        0 => Serving::Legacy { legacy: pool(&legacy), target: Some(pool(&target)) },
        10_000 => Serving::Target { legacy: Some(pool(&legacy)), target: pool(&target) },
        bp => Serving::Both {
            legacy: pool(&legacy),
            target: pool(&target),
            split: Split::from_bp(bp).unwrap(),
        },
    };
    let spec = spec::Service {
        name: "orders".parse().unwrap(),
        hosts: vec!["orders.example".parse().unwrap()],
        address: None,
        ports: Vec::new(),
        affinity: Affinity::ClientIp,
        salt: "orders".into(),
        legacy,
        target,
        after: Vec::new(),
        preserve_source: false,
    };
    Arc::new(Service {
        id: ServiceId { plan: "shop".parse().unwrap(), service: spec.name.clone() },
        since,
        salt: plan::bucket::salt(&spec.salt),
        spec: Arc::new(spec),
        clients: Arc::new(Clients::default()),
        serving,
        motion: Motion::Moving,
        gateways: Arc::new([]),
        drain: None,
        ttls: Arc::new([5]),
        parts: Parts::default(),
    })
}

/// Revision `revision` of the world: the address of the legacy side says which it is.
pub(super) fn catalog(base: &Catalog, revision: u32) -> Arc<Catalog> {
    let token = Token { incarnation: 1, revision: revision.into() };
    let address = Ipv4Addr::from_bits(0x0a00_0000 | revision);
    Arc::new(base.with_names(token, &[orders(0, address, token)]))
}

pub(super) fn first() -> Arc<Catalog> {
    catalog(&Catalog::of_zones(vec![zone()]), 0)
}

pub(super) fn serve(address: &str, threads: usize) -> Server {
    serve_within(address, threads, Limits::default())
}

pub(super) fn serve_within(address: &str, threads: usize, limits: Limits) -> Server {
    let threads = NonZeroUsize::new(threads).unwrap();
    Server::bind_within(&[address.parse().unwrap()], threads, first(), limits).unwrap()
}

/// The address to ask a server at.
pub(super) fn at(server: &Server) -> SocketAddr {
    server.addresses()[0]
}

/// A query of class IN with recursion not desired.
pub(super) fn query(id: u16, name: &str, rtype: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes.extend(Name::from_text(name).unwrap().as_wire());
    bytes.extend(rtype.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// What tests look at in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) id: u16,
    pub(super) rcode: u8,
    pub(super) truncated: bool,
    pub(super) answers: u16,
}

pub(super) fn told(answer: &[u8]) -> Told {
    assert_eq!(answer[2] & 0x80, 0x80, "is an answer");
    Told {
        id: u16::from_be_bytes([answer[0], answer[1]]),
        rcode: answer[3] & 0x0f,
        truncated: answer[2] & 2 != 0,
        answers: u16::from_be_bytes([answer[6], answer[7]]),
    }
}

/// An answer without error that has one address, which ends it.
pub(super) fn one_address(answer: &[u8]) -> Ipv4Addr {
    let told = told(answer);
    assert_eq!((told.rcode, told.answers, told.truncated), (0, 1, false));
    let (_, address) = answer.split_last_chunk::<4>().unwrap();
    Ipv4Addr::from(*address)
}

/// A UDP client that takes answers from `server` alone.
pub(super) fn datagrams(server: SocketAddr) -> UdpSocket {
    let any: SocketAddr = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(super) fn ask(socket: &UdpSocket, query: &[u8]) -> Vec<u8> {
    socket.send(query).unwrap();
    let mut answer = vec![0; 4_096];
    let length = socket.recv(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

pub(super) fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(super) fn send(stream: &mut TcpStream, query: &[u8]) {
    stream.write_all(&framed(query)).unwrap();
}

pub(super) fn framed(query: &[u8]) -> Vec<u8> {
    let length = u16::try_from(query.len()).unwrap();
    [&length.to_be_bytes(), query].concat()
}

pub(super) fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Waits until the server closes; true if it sent nothing more.
pub(super) fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// The moment of the test.
pub(super) fn moment() -> plan::Timestamp {
    let seconds = crate::server::clock::unix_seconds();
    plan::Timestamp::from_millis(i64::try_from(seconds).unwrap() * 1_000)
}

/// A UDP client with one of loopback's many addresses.
pub(super) fn datagrams_from(last: u8, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 1, last], 0))).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}
