//! The sockets that the stub listens on: bound here, or handed over from before a restart.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::incoming::Incoming;

/// Room for queries in the kernel while the agent restarts: some thousand of usual size. The kernel
/// holds it to `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// How often to try another port when the caller left the choice and UDP and TCP disagree.
const PORT_TRIES: u32 = 32;

/// Most addresses to listen on: both families of loopback, on two ports.
const LISTEN_MAX: usize = 4;

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The kernel refuses.
    #[error("cannot listen on {address}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The address can be reached from elsewhere.
    #[error("{0} is no loopback address: names of this host are for this host")]
    NotLoopback(SocketAddr),
    /// No address, or more than are of use.
    #[error("{0} addresses to listen on; give 1 to 4")]
    Count(usize),
    /// A descriptor that was handed over is no socket of ours.
    #[error("a descriptor that was handed over is no bound DNS socket")]
    Handed(#[source] io::Error),
    /// A descriptor cannot be copied.
    #[error("a socket cannot be copied")]
    Copy(#[source] io::Error),
}

/// UDP sockets and TCP listeners.
#[derive(Debug)]
pub struct Sockets {
    datagrams: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
}

impl Sockets {
    /// Binds UDP and TCP on each address. Port 0 gives a free one, the same for both.
    ///
    /// # Errors
    /// The first socket that cannot be had.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        counted(addresses.len())?;
        let mut sockets = Self { datagrams: Vec::new(), listeners: Vec::new() };
        for address in addresses {
            allowed(*address)?;
            let (datagram, listener) = pair(*address)?;
            sockets.datagrams.push(datagram);
            sockets.listeners.push(listener);
        }
        Ok(sockets)
    }

    /// Takes sockets over; which is which they say themselves.
    ///
    /// # Errors
    /// When a descriptor is no bound socket, or can be reached from elsewhere. Nothing is kept
    /// then.
    pub fn from_fds(fds: impl IntoIterator<Item = OwnedFd>) -> Result<Self, BindError> {
        let mut sockets = Self { datagrams: Vec::new(), listeners: Vec::new() };
        for fd in fds {
            let socket = Socket::from(fd);
            let address = socket.local_addr().map_err(BindError::Handed)?;
            let address = address.as_socket().filter(|address| address.port() != 0);
            let address = address.ok_or_else(|| handed("it is not bound to an address"))?;
            allowed(address)?;
            socket.set_nonblocking(true).map_err(BindError::Handed)?;
            match socket.r#type().map_err(BindError::Handed)? {
                Type::DGRAM => sockets.datagrams.push(socket.into()),
                Type::STREAM if socket.is_listener().map_err(BindError::Handed)? => {
                    sockets.listeners.push(socket.into());
                }
                _ => return Err(handed("it is neither for datagrams nor listening")),
            }
        }
        counted(sockets.datagrams.len())?;
        Ok(sockets)
    }

    /// Copies of the descriptors, for the service manager to keep.
    ///
    /// # Errors
    /// When the process has no more.
    pub fn fds(&self) -> Result<Vec<OwnedFd>, BindError> {
        let copy = self.try_clone()?;
        let datagrams = copy.datagrams.into_iter().map(OwnedFd::from);
        Ok(datagrams.chain(copy.listeners.into_iter().map(OwnedFd::from)).collect())
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// When the process has no more descriptors.
    pub fn try_clone(&self) -> Result<Self, BindError> {
        let datagrams = self.datagrams.iter().map(UdpSocket::try_clone);
        let listeners = self.listeners.iter().map(TcpListener::try_clone);
        Ok(Self {
            datagrams: datagrams.collect::<Result<_, _>>().map_err(BindError::Copy)?,
            listeners: listeners.collect::<Result<_, _>>().map_err(BindError::Copy)?,
        })
    }

    /// What the UDP sockets are bound to.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.datagrams.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// For the runtime that this is called in.
    pub(super) fn into_tokio(self) -> io::Result<(Vec<Incoming>, Vec<tokio::net::TcpListener>)> {
        let datagrams = self.datagrams.into_iter().map(Incoming::of);
        let listeners = self.listeners.into_iter().map(tokio::net::TcpListener::from_std);
        Ok((datagrams.collect::<io::Result<_>>()?, listeners.collect::<io::Result<_>>()?))
    }
}

fn counted(addresses: usize) -> Result<(), BindError> {
    let fits = (1..=LISTEN_MAX).contains(&addresses);
    if fits { Ok(()) } else { Err(BindError::Count(addresses)) }
}

fn allowed(address: SocketAddr) -> Result<(), BindError> {
    let inside = address.ip().to_canonical().is_loopback();
    if inside { Ok(()) } else { Err(BindError::NotLoopback(address)) }
}

fn handed(why: &'static str) -> BindError {
    BindError::Handed(io::Error::new(io::ErrorKind::InvalidInput, why))
}

fn pair(address: SocketAddr) -> Result<(UdpSocket, TcpListener), BindError> {
    let mut tries = 1;
    loop {
        match pair_once(address) {
            Err(source)
                if address.port() == 0
                    && tries < PORT_TRIES
                    && source.kind() == io::ErrorKind::AddrInUse =>
            {
                tries += 1;
            }
            outcome => return outcome.map_err(|source| BindError::Socket { address, source }),
        }
    }
}

fn pair_once(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let datagram = datagram(address)?;
    let bound = datagram.local_addr()?;
    Ok((datagram, listener(bound)?))
}

fn datagram(address: SocketAddr) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // A restart finds connections of the old process in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
