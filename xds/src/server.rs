//! The server: HTTP/2 and TLS around [`Session`](crate::session::Session)s.
//!
//! Discovery streams are pumped by the body of their response ([`stream`]): it reads requests from
//! HTTP/2, hands them to the session, and writes what the session says as frames that were encoded
//! once for all streams. Other gRPC services share the port and are tonic's.
//!
//! Everything is bounded by [`Limits`]. What is over them is told so, counted ([`Counts`]) and
//! logged once; other clients do not notice.

mod accept;
mod arrivals;
mod clock;
mod counts;
mod doorman;
mod frames;
mod io;
mod limits;
mod line;
mod pace;
mod paths;
mod routes;
mod service;
mod shared;
mod shares;
mod status;
mod strangers;
mod stream;
mod sweep;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::service::Routes;

use self::accept::{Door, Listener};
use self::shared::Shared;
use crate::registry::hub::Hub;
use crate::registry::{Publisher, Registry, reporter};
use crate::session::Rules;

pub use self::clock::Clock;
pub use self::counts::Counts;
pub use self::doorman::{Doorman, Peer, Service};
pub use self::limits::Limits;
pub use self::routes::{RoutesError, serving, standard_routes};
pub use self::tls::{Tls, TlsError};
pub use crate::client::Identity;

/// What a server is made of.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one. Without TLS, loopback only.
    pub listen: Vec<SocketAddr>,
    /// Certificates, ours and those that clients must show.
    pub tls: Option<Tls>,
    /// Who is let in. `None`: whoever can connect, which with TLS is who shows a certificate.
    pub doorman: Option<Arc<dyn Doorman>>,
    /// What every stream goes by.
    pub rules: Arc<Rules>,
    /// What is taken at most.
    pub limits: Limits,
    /// The source of uptime.
    pub clock: Clock,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Whoever reaches it would be served whatever he asks for.
    #[error(
        "{0} is not a loopback address: without TLS anybody could follow the plan; give a \
         certificate, its key and the CA of the clients' certificates, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    tls: Option<Tls>,
    shared: Arc<Shared>,
}

/// Reads what a server counts, while it serves.
#[derive(Clone, Debug)]
pub struct Meter {
    shared: Arc<Shared>,
}

impl Server {
    /// Listens. Clients wait until [`Server::serve`].
    ///
    /// # Errors
    /// An address cannot be had, or is not loopback and there is no TLS.
    pub fn bind(settings: Settings) -> Result<Self, BindError> {
        let Settings { listen, tls, doorman, rules, limits, clock } = settings;
        let mut listeners = Vec::with_capacity(listen.len());
        let mut addresses = Vec::with_capacity(listen.len());
        for address in listen {
            if tls.is_none() && !address.ip().to_canonical().is_loopback() {
                return Err(BindError::Open(address));
            }
            let failed = |source| BindError::Listen { address, source };
            let listener = accept::listen(address).map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            listeners.push(Listener::Tcp(listener));
        }
        let shared = Arc::new(Shared::new(Arc::new(Hub::new()), rules, doorman, limits, clock));
        Ok(Self { listeners, addresses, tls, shared })
    }

    /// Listens on this socket of the file system too, in the clear: whoever may open it is served.
    ///
    /// # Errors
    /// It cannot be made to wait for nobody.
    pub fn also(&mut self, listener: UnixListener) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        self.listeners.push(Listener::Local(listener));
        Ok(())
    }

    /// Where it listens, with the ports that were taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where tables are handed in.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(Arc::clone(&self.shared.hub))
    }

    /// Who is connected.
    pub fn registry(&self) -> Registry {
        Registry::new(Arc::clone(&self.shared.hub))
    }

    /// What is counted.
    pub fn meter(&self) -> Meter {
        Meter { shared: Arc::clone(&self.shared) }
    }

    /// Serves until `stop` is ready, and then until all connections have ended, at most for
    /// [`Limits::stop`]: streams end with `UNAVAILABLE`, so clients connect elsewhere.
    pub async fn serve(self, routes: Routes, stop: impl Future<Output = ()>) {
        let Self { listeners, tls, shared, .. } = self;
        // Dropped with this function, whatever way it ends.
        let mut helpers = JoinSet::new();
        helpers.spawn(reporter::run(Arc::clone(&shared.hub)));
        helpers.spawn(sweep::run(Arc::clone(&shared)));
        helpers.spawn(doorman::watch(Arc::clone(&shared)));
        let (stopper, stopped) = watch::channel(false);
        let mut doors = JoinSet::new();
        let door = Door { shared: Arc::clone(&shared), tls, routes: routes.prepare() };
        for listener in listeners {
            doors.spawn(accept::accept(door.clone(), listener, stopped.clone()));
        }
        let _cut = CutOnDrop(Arc::clone(&shared));
        stop.await;
        stopper.send_replace(true);
        shared.hub.stop();
        shared.wake_lines();
        let ended = async {
            while doors.join_next().await.is_some() {}
            while shared.connections() > 0 {
                shared.empty.notified().await;
            }
        };
        if tokio::time::timeout(shared.limits.stop, ended).await.is_err() {
            tracing::info!(left = shared.connections(), "connections are cut: the server stops");
        }
    }
}

impl Meter {
    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }
}

/// No connection outlives its server.
struct CutOnDrop(Arc<Shared>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.hub.stop();
        self.0.cut_lines();
    }
}
