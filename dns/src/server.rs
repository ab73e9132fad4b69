//! The server: threads and sockets around [`respond`](crate::respond()).
//!
//! | thread | number | does |
//! |---|---|---|
//! | `dns-udp-N` | `threads` per address | all UDP of a socket that shares its port, in batches |
//! | `dns-tcp` | one | accepts and serves all TCP connections (RFC 7766, RFC 9210) |
//!
//! Nothing but [`Publisher`] reaches into a running thread. What threads count is read by
//! [`Server::totals`] and [`Server::counts`].

mod clock;
mod meter;
mod random;
mod sockets;
mod swap;
mod tcp;
mod udp;
mod worker;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use plan::measure::Counts;
use plan::time::Timestamp;
use tokio::sync::watch;

use self::meter::Meter;
pub use self::meter::Totals;
pub use self::swap::Publisher;
use self::swap::Swap;
use self::tcp::Limits;
use self::udp::UdpThread;
use self::worker::Worker;
use crate::catalog::Catalog;
use crate::respond::Transport;
use crate::seen::{self, KeyHasher, Seen};

/// How long to wait before trying again what failed for a reason that may last.
const FAULT_PAUSE: Duration = Duration::from_millis(20);

/// Most threads per address; beyond the cores of any machine they only cost.
pub const THREADS_MAX: usize = 256;

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A socket could not be had.
    #[error(
        "cannot listen on {address} over {}: {source}; {}",
        name(*transport), remedy(*address, source)
    )]
    Socket {
        /// What was asked for.
        address: SocketAddr,
        /// The transport.
        transport: Transport,
        /// The operating system's words.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error(
        "cannot start a DNS thread: {0}; raise the limit of threads (`ulimit -u`) or ask for fewer"
    )]
    Thread(#[source] io::Error),
    /// No address was given.
    #[error("no address to listen on")]
    NoAddress,
}

const fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
    }
}

fn remedy(address: SocketAddr, source: &io::Error) -> String {
    let port = address.port();
    if source.kind() == io::ErrorKind::AddrInUse {
        format!(
            "stop what listens there (`ss -lntup 'sport = :{port}'` shows it) \
             or give another address"
        )
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        format!(
            "port {port} needs the capability CAP_NET_BIND_SERVICE; grant it \
             or give a port from 1024 on"
        )
    } else if source.kind() == io::ErrorKind::AddrNotAvailable {
        format!("this machine has no address {}; `ip address` shows those it has", address.ip())
    } else {
        "give another address".to_owned()
    }
}

/// A running server. Dropping it stops its threads within 100 ms, without waiting for them.
pub struct Server {
    addresses: Vec<SocketAddr>,
    swap: Arc<Swap>,
    seen: Vec<Arc<Seen>>,
    meters: Vec<Arc<Meter>>,
    stop: Arc<AtomicBool>,
    stop_tcp: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    /// Listens on each address over UDP and TCP and answers from `catalog`, with `threads` threads
    /// per address for UDP, at most [`THREADS_MAX`]. Port 0 is a free port, the same for UDP and
    /// TCP. An IPv6 address takes no IPv4.
    ///
    /// # Errors
    /// When an address cannot be had; nothing listens then.
    pub fn bind(
        addresses: &[SocketAddr],
        threads: NonZeroUsize,
        catalog: Arc<Catalog>,
    ) -> Result<Self, BindError> {
        Self::bind_within(addresses, threads, catalog, Limits::default())
    }

    fn bind_within(
        addresses: &[SocketAddr],
        threads: NonZeroUsize,
        catalog: Arc<Catalog>,
        limits: Limits,
    ) -> Result<Self, BindError> {
        if addresses.is_empty() {
            return Err(BindError::NoAddress);
        }
        let threads = threads.get().min(THREADS_MAX);
        let mut bound = Vec::new();
        for address in addresses {
            bound.push(sockets::bind(*address, threads)?);
        }
        let count = bound.len() * threads + 1;
        let random = RandomState::new();
        let hasher = KeyHasher::new([random.hash_one(1_u8), random.hash_one(2_u8)]);
        let server = Self {
            addresses: bound.iter().map(|sockets| sockets.address).collect(),
            swap: Swap::new(catalog, count),
            seen: (0..count).map(|_| Arc::new(Seen::new(hasher))).collect(),
            meters: (0..count).map(|_| Arc::new(Meter::new())).collect(),
            stop: Arc::new(AtomicBool::new(false)),
            stop_tcp: watch::channel(false).0,
            threads: Mutex::new(Vec::new()),
        };
        // From here on an error drops the server, which stops the threads that run.
        server.start(bound, limits)?;
        Ok(server)
    }

    fn start(&self, bound: Vec<sockets::Sockets>, limits: Limits) -> Result<(), BindError> {
        let things = self.swap.readers().zip(&self.seen).zip(&self.meters);
        let mut workers =
            things.map(|((reader, seen), meter)| Worker::new(reader, seen.clone(), meter.clone()));
        let mut listeners = Vec::new();
        let udp = bound.into_iter().flat_map(|sockets| {
            listeners.push(sockets.tcp);
            sockets.udp.into_iter().map(move |socket| (sockets.address, socket))
        });
        for (number, (address, socket)) in udp.enumerate() {
            let Some(worker) = workers.next() else { break };
            let thread = UdpThread { socket, bound: address, worker, stop: self.stop.clone() };
            self.spawn(format!("dns-udp-{number}"), move || thread.run())?;
        }
        let Some(worker) = workers.next() else { return Ok(()) };
        self.start_tcp(listeners, worker, limits)
    }

    fn start_tcp(
        &self,
        listeners: Vec<TcpListener>,
        worker: Worker,
        limits: Limits,
    ) -> Result<(), BindError> {
        let stop = self.stop_tcp.subscribe();
        let runtime = tcp::runtime().map_err(BindError::Thread)?;
        let thread = move || tcp::run(&runtime, listeners, worker, limits, stop);
        self.spawn("dns-tcp".to_owned(), thread)
    }

    fn spawn(&self, name: String, thread: impl FnOnce() + Send + 'static) -> Result<(), BindError> {
        let builder = std::thread::Builder::new().name(name);
        let handle = builder.spawn(thread).map_err(BindError::Thread)?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        Ok(())
    }

    /// The addresses listened on, in the order given, with the ports that were chosen.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The way to put another catalog in force.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.swap.clone())
    }

    /// What was done since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals::of(self.meters.iter().map(|meter| &**meter))
    }

    /// Which clients were told which side, of every service since its split last changed. Reads
    /// all threads' tables: up to some ten milliseconds when they are full.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> Counts {
        let published = self.swap.current();
        let tables = self.seen.iter().map(|seen| &**seen);
        let counts = seen::counts(tables, &published.roster, now);
        let names = published.catalog.names();
        let counts = counts.into_iter();
        let services = counts.filter_map(|(at, count)| Some((names.id(at)?.clone(), count)));
        Counts { services: Arc::new(services.collect()), ..Counts::default() }
    }

    /// Stops taking queries, ends TCP connections after the answers under way and returns when
    /// all threads are gone.
    pub async fn shutdown(self) {
        self.tell_stop();
        let threads = self.take_threads();
        let joined = tokio::task::spawn_blocking(move || {
            // A thread that panicked is gone as well.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        drop(joined.await);
    }

    fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_tcp.send_replace(true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tell_stop();
    }
}

#[cfg(test)]
mod tests;
