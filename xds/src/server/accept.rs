//! Accepting connections, whatever the operating system says meanwhile.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tonic::service::Routes;

use super::arrivals::Turn;
use super::counts::Bad;
use super::line::{self, Arrived};
use super::shared::Shared;
use super::strangers;
use super::tls::Tls;

/// Connections that may wait to be accepted: two seconds of them.
const BACKLOG: i32 = 4_096;

/// How long a connection waits for others to have taken what they asked for: even where none ever
/// does, 500 a second are accepted.
const FILLING_WAIT: Duration = Duration::from_millis(2);

/// How long to wait before accepting again when the process is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket. IPv6 addresses take IPv6 alone, so that both families can be bound.
pub(super) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    pub(super) tls: Option<Tls>,
    pub(super) routes: Routes,
}

/// Where connections come in.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(std::net::TcpListener),
    /// A socket of the file system, whose permissions say who may come.
    Local(std::os::unix::net::UnixListener),
}

enum Accepting {
    Tcp(TcpListener),
    Local(UnixListener),
}

impl Accepting {
    /// Cancelled: the connection stays in the queue.
    async fn accept(&self) -> io::Result<(Arrived, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Arrived::Tcp(stream), peer))
            }
            Self::Local(listener) => {
                let (stream, _) = listener.accept().await?;
                // It has no address; it is on this machine.
                Ok((Arrived::Local(stream), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
            }
        }
    }
}

impl Listener {
    fn begin(self) -> io::Result<Accepting> {
        Ok(match self {
            Self::Tcp(listener) => Accepting::Tcp(TcpListener::from_std(listener)?),
            Self::Local(listener) => Accepting::Local(UnixListener::from_std(listener)?),
        })
    }
}

/// Accepts until told to stop.
pub(super) async fn accept(door: Door, listener: Listener, mut stop: watch::Receiver<bool>) {
    let listener = match listener.begin() {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot serve xDS"),
    };
    loop {
        tokio::select! {
            // No server any more: that is a stop too.
            () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
            // Cancelled: the connection stays in the queue, whose socket is closed then.
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => door.admit(stream, peer).await,
                Err(error) => door.failed(&error).await,
            },
        }
    }
}

impl Door {
    /// Lets a connection in when its turn has come; until then nobody else is accepted either.
    async fn admit(&self, stream: Arrived, peer: SocketAddr) {
        let shared = &self.shared;
        let mut waited = false;
        let to_be_known = self.tls.is_some() && matches!(stream, Arrived::Tcp(_));
        let source = to_be_known.then(|| strangers::source(peer));
        loop {
            let wait = match shared.arrive(source) {
                Turn::Now => break,
                Turn::In(wait) => wait,
                Turn::Never => {
                    shared.counters.refused.add(1);
                    let what = "connections come faster from there than its share";
                    return shared.bad(Bad::Crowd, peer, &what);
                }
            };
            if !waited {
                waited = true;
                shared.counters.delayed.add(1);
            }
            tokio::time::sleep(wait).await;
        }
        let is_busy_filling = shared.is_busy_filling();
        let Some(guard) = shared.enter(peer, to_be_known) else {
            shared.counters.refused.add(1);
            return shared.bad(Bad::Crowd, peer, &"there are as many connections as are taken");
        };
        if is_busy_filling {
            // Those that take their time, or never ask, hold nobody up for longer; who found no
            // room holds up nobody.
            let _ = tokio::time::timeout(FILLING_WAIT, shared.grown.notified()).await;
        }
        shared.counters.accepted.add(1);
        let served =
            line::serve(Arc::clone(shared), guard, stream, self.tls.clone(), self.routes.clone());
        tokio::spawn(served);
    }

    async fn failed(&self, error: &io::Error) {
        // The connection was gone before it was accepted.
        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) {
            return;
        }
        // Nobody's in particular.
        let peer = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let what = format!("cannot accept connections, trying again: {error}");
        self.shared.bad(Bad::Accept, peer, &what);
        tokio::time::sleep(PAUSE).await;
    }
}
