//! An upstream whose behaviour a test gives, a stub in front of it, and a client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::names::stub::{BindError, StartError};
use agent::names::{Answers, Sockets, Stub, Upstreams};
use plan::fixture;
use plan::split::Split;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What an upstream says to a query: nothing, or any number of messages.
pub(crate) type Behaviour = dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync;

/// A DNS server on loopback, UDP and TCP. It ends with the process.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    heard: Mutex<Receiver<(Vec<u8>, SocketAddr)>>,
}

impl Upstream {
    pub(crate) fn new(behaviour: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let (tell, heard) = channel();
        let (over_tcp, told) = (behaviour.clone(), tell.clone());
        std::thread::spawn(move || datagrams(&udp, &*behaviour, &tell));
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let (behaviour, tell) = (over_tcp.clone(), told.clone());
                std::thread::spawn(move || converse(stream.unwrap(), &*behaviour, &tell));
            }
        });
        Self { address, heard: Mutex::new(heard) }
    }

    /// One that answers every question with itself and NOERROR.
    pub(crate) fn echo() -> Self {
        Self::new(|query| vec![as_answer(query, 0)])
    }

    /// One that never answers.
    pub(crate) fn mute() -> Self {
        Self::new(|_| Vec::new())
    }

    /// The next message that came here and is no question of the stub's own, and from where.
    pub(crate) fn heard(&self) -> (Vec<u8>, SocketAddr) {
        self.heard.lock().unwrap().recv_timeout(PATIENCE).unwrap()
    }

    /// How many came and were not taken yet.
    pub(crate) fn count(&self) -> usize {
        self.heard.lock().unwrap().try_iter().count()
    }
}

/// UDP and TCP on one free port.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

/// Whether this asks for a name by which the stub finds loops.
pub(crate) fn is_probe(query: &[u8]) -> bool {
    query.windows(15).any(|part| part == b"\x04loop\x09crossfade")
}

fn datagrams(udp: &UdpSocket, behaviour: &Behaviour, tell: &Sender<(Vec<u8>, SocketAddr)>) {
    let mut room = vec![0; 65_535];
    while let Ok((length, client)) = udp.recv_from(&mut room) {
        let query = &room[..length];
        if is_probe(query) {
            continue;
        }
        let _ = tell.send((query.to_vec(), client));
        for answer in behaviour(query) {
            let _ = udp.send_to(&answer, client);
        }
    }
}

fn converse(mut stream: TcpStream, behaviour: &Behaviour, tell: &Sender<(Vec<u8>, SocketAddr)>) {
    let client = stream.peer_addr().unwrap();
    while let Some(query) = read_frame(&mut stream) {
        let _ = tell.send((query.clone(), client));
        let answers = behaviour(&query);
        // Nothing to say: a server that closes.
        if answers.is_empty() {
            return;
        }
        for answer in answers {
            write_frame(&mut stream, &answer);
        }
    }
}

pub(crate) fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

pub(crate) fn write_frame(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap();
    let _ = stream.write_all(&[&length.to_be_bytes(), message].concat());
}

/// The message as an answer with this code.
pub(crate) fn as_answer(query: &[u8], code: u8) -> Vec<u8> {
    let mut answer = query.to_vec();
    if let [_, _, flags, low, ..] = answer.as_mut_slice() {
        *flags |= 0x80;
        *low = *low & 0xf0 | code;
    }
    answer
}

/// A question of type A, or of another type.
pub(crate) fn question(id: u16, name: &str, rtype: u16) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    query.extend_from_slice(dns::Name::from_text(name).unwrap().as_wire());
    query.extend_from_slice(&rtype.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    query
}

/// The demo plan without its gate, at a split, for a host of it.
pub(crate) fn answers(bp: u16) -> Answers {
    let text = fixture::SHOP.split("  gates:\n").next().unwrap();
    let text = text.replace(", gates: [sign-off]", "").replace("      address: 10.0.2.10\n", "");
    let snapshot = fixture::snapshot(&text, Split::from_bp(bp).unwrap());
    Answers::of(host(), &snapshot.services)
}

pub(crate) fn host() -> IpAddr {
    "10.0.1.11".parse().unwrap()
}

pub(crate) fn upstreams(servers: &[&Upstream]) -> Upstreams {
    Upstreams::choose(servers.iter().map(|server| server.address), &[]).unwrap()
}

/// Sockets on a port that is free.
pub(crate) fn bound() -> Result<Sockets, BindError> {
    Sockets::bind(&[SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)])
}

pub(crate) fn stub(asked: Upstreams) -> Stub {
    stub_on(bound().unwrap(), asked).unwrap()
}

pub(crate) fn stub_on(sockets: Sockets, asked: Upstreams) -> Result<Stub, StartError> {
    let stub = Stub::waiting(Arc::new(answers(0)), None);
    stub.begin(sockets, asked).map(|()| stub)
}

/// A client with a socket of its own.
pub(crate) struct Client(UdpSocket);

impl Client {
    pub(crate) fn new(stub: &Stub) -> Self {
        Self::at(stub.addresses()[0])
    }

    pub(crate) fn at(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    pub(crate) fn send(&self, query: &[u8]) {
        self.0.send(query).unwrap();
    }

    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut room = vec![0; 65_535];
        let length = self.0.recv(&mut room).unwrap();
        room.truncate(length);
        room
    }

    /// Forgets what has come.
    pub(crate) fn drain(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }

    pub(crate) fn ask(&self, query: &[u8]) -> Vec<u8> {
        self.send(query);
        self.receive()
    }
}

/// Waits until `found` gives something.
pub(crate) fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let (_keep, pause) = channel::<()>();
    for _ in 0..PATIENCE.as_millis() {
        if let Some(found) = found() {
            return found;
        }
        let _ = pause.recv_timeout(Duration::from_millis(1));
    }
    panic!("it did not come: {what}")
}
