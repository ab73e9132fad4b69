//! Who answers, and who asks.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, connect,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::netns::{self, Space};

/// The port of backends.
pub(crate) const PORT: u16 = 8080;

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Both backends. They end with the process; their namespaces are gone before.
pub(crate) struct Backends;

impl Backends {
    /// Starts them; the legacy one says `L`, the target `T`.
    pub(crate) fn start(world: &netns::World) -> Self {
        answer(&world.legacy, PORT, b'L');
        answer(&world.target, PORT, b'T');
        Self
    }
}

/// Says the letter to each connection, and again for each byte that comes.
pub(crate) fn answer(space: &Space, port: u16, letter: u8) {
    let any = SocketAddr::from(([0_u16; 8], port));
    let listener = space.enter(|| TcpListener::bind(any).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.write_all(&[letter]).is_ok() && stream.read_exact(&mut byte).is_ok() {}
            });
        }
    });
}

/// The side that answers `from`; this thread is where the client is.
pub(crate) fn side(from: IpAddr, to: SocketAddr) -> io::Result<char> {
    letter(&mut dial(from, to)?)
}

/// What comes next.
pub(crate) fn letter(stream: &mut TcpStream) -> io::Result<char> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(char::from(byte[0]))
}

/// A connection from this address.
pub(crate) fn dial(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    match (from, to) {
        (IpAddr::V4(from), SocketAddr::V4(to)) => {
            let from = SockaddrIn::from(SocketAddrV4::new(from, 0));
            dial_as(AddressFamily::Inet, &from, &SockaddrIn::from(to))
        }
        (IpAddr::V6(from), SocketAddr::V6(to)) => {
            let from = SockaddrIn6::from(SocketAddrV6::new(from, 0, 0, 0));
            dial_as(AddressFamily::Inet6, &from, &SockaddrIn6::from(to))
        }
        _ => panic!("{from} and {to} are of two families"),
    }
}

fn dial_as(
    family: AddressFamily,
    from: &dyn SockaddrLike,
    to: &dyn SockaddrLike,
) -> io::Result<TcpStream> {
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::new(PATIENCE.as_secs().try_into().unwrap(), 0);
    setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
    bind(fd.as_raw_fd(), from)?;
    connect(fd.as_raw_fd(), to)?;
    Ok(fd.into())
}

/// The client of this number: 10.20.0.0/16.
pub(crate) fn client(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 20, high, low).into()
}

/// Which side answers each of the clients 1 to `count`; nobody may be refused.
#[track_caller]
pub(crate) fn sides(world: &netns::World, count: u16, to: &str) -> Vec<char> {
    let to: SocketAddr = to.parse().unwrap();
    let ask = |number| {
        side(client(number), to)
            .unwrap_or_else(|error| panic!("{} to {to}: {error}", client(number)))
    };
    world.client.enter(|| (1..=count).map(ask).collect())
}
