//! Binding: every thread's UDP socket and the TCP listener of an address, on one port.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{BindError, Transport};

/// How long a UDP thread waits for a query before it looks whether to stop.
const STOP_LOOK: Duration = Duration::from_millis(100);

/// Room for queries and answers in the kernel, per socket: a burst of some thousand. The kernel
/// holds it to `net.core.rmem_max` and `wmem_max`.
const SOCKET_BUFFER: usize = 4 << 20;

/// Connections that wait for being accepted.
const BACKLOG: i32 = 256;

/// How often to try another port when the caller left the choice and UDP and TCP disagree.
const PORT_TRIES: u32 = 32;

/// The sockets of one address.
pub(super) struct Sockets {
    pub(super) address: SocketAddr,
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: TcpListener,
}

/// Binds TCP and `threads` UDP sockets to `address`. Port 0 gives a free port, the same for both.
pub(super) fn bind(address: SocketAddr, threads: usize) -> Result<Sockets, BindError> {
    let mut tries = 1;
    loop {
        match bind_once(address, threads) {
            Err(BindError::Socket { source, .. })
                if address.port() == 0
                    && tries < PORT_TRIES
                    && source.kind() == io::ErrorKind::AddrInUse =>
            {
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

fn bind_once(address: SocketAddr, threads: usize) -> Result<Sockets, BindError> {
    // TCP first: it is never shared, so it also tells of a second server of the same user, whose
    // UDP sockets the kernel would let us join.
    let tcp = listener(address).map_err(|source| fail(address, Transport::Tcp, source))?;
    let bound = tcp.local_addr().map_err(|source| fail(address, Transport::Tcp, source))?;
    let udp = datagrams(bound, threads).map_err(|source| fail(bound, Transport::Udp, source))?;
    Ok(Sockets { address: bound, udp, tcp })
}

const fn fail(address: SocketAddr, transport: Transport, source: io::Error) -> BindError {
    BindError::Socket { address, transport, source }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart finds connections of the old process in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn datagrams(address: SocketAddr, threads: usize) -> io::Result<Vec<UdpSocket>> {
    // Without SO_REUSEPORT this fails if anyone is there, also a server that shares its port.
    drop(datagram(address, false)?);
    (0..threads).map(|_| datagram(address, true)).collect()
}

fn datagram(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if address.ip().is_unspecified() {
        // Before bind, so that every packet says which of our addresses was asked.
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_read_timeout(Some(STOP_LOOK))?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}
