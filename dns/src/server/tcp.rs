//! The TCP thread: accepting connections and serving them (RFC 7766, RFC 9210).
//!
//! Queries of a connection are answered in order, as many as have arrived together. While answers
//! wait to be read nothing more is read, so a connection holds a bounded amount of memory.

mod connection;
mod inbox;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet, LocalSet};

use self::connection::Connection;
use super::worker::Worker;
use crate::guard::connections::{Admission, CONNECTIONS_MAX, Connections, Id, PER_CLIENT_MAX};

/// How long to wait before accepting again when the process is out of descriptors or memory.
const SCARCE_PAUSE: Duration = Duration::from_millis(100);

/// How long connections may finish their answers after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(1);

/// What TCP clients may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a connection may wait with nothing begun (RFC 7766 section 6.2.3: some seconds).
    pub(super) idle: Duration,
    /// How long a message may take from its first octet to its last.
    pub(super) message: Duration,
    /// How long a client may take to read what is written at a time.
    pub(super) write: Duration,
    /// Connections at a time.
    pub(super) connections: usize,
    /// Connections at a time of one client.
    pub(super) per_client: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(10),
            message: Duration::from_secs(5),
            write: Duration::from_secs(10),
            connections: CONNECTIONS_MAX,
            per_client: PER_CLIENT_MAX,
        }
    }
}

/// The runtime that [`run`] needs; made apart because it can fail.
pub(super) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()
}

/// Serves until it is told to stop.
pub(super) fn run(
    runtime: &Runtime,
    listeners: Vec<TcpListener>,
    worker: Worker,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    let connections = Connections::new(limits.connections, limits.per_client);
    let door = Rc::new(Door {
        worker: RefCell::new(worker),
        connections: RefCell::new(connections),
        closers: RefCell::default(),
        limits,
        stop,
    });
    LocalSet::new().block_on(runtime, async {
        let mut tasks = JoinSet::new();
        for listener in listeners {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    tasks.spawn_local(accept(door.clone(), listener));
                }
                Err(error) => tracing::error!(%error, "cannot serve DNS over TCP"),
            }
        }
        while tasks.join_next().await.is_some() {}
    });
}

/// What all connections share. One thread has it, and nobody holds a borrow while waiting.
struct Door {
    worker: RefCell<Worker>,
    connections: RefCell<Connections>,
    closers: RefCell<HashMap<Id, AbortHandle>>,
    limits: Limits,
    stop: watch::Receiver<bool>,
}

/// Accepts until told to stop, whatever the operating system says meanwhile.
async fn accept(door: Rc<Door>, listener: tokio::net::TcpListener) {
    let mut stop = door.stop.clone();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            // Tasks that ended are let go of.
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    door.worker.borrow().meter().panics.add(1);
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => door.admit(&mut tasks, stream, peer),
                Err(error) => door.accept_failed(&error).await,
            },
        }
    }
    drop(listener);
    let finished = async { while tasks.join_next().await.is_some() {} };
    // Whoever is not done by then is dropped with `tasks`.
    let _ = tokio::time::timeout(DRAIN, finished).await;
}

impl Door {
    fn admit(self: &Rc<Self>, tasks: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr) {
        let admission = self.connections.borrow_mut().admit(peer.ip());
        let worker = self.worker.borrow();
        let meter = worker.meter();
        let id = match admission {
            Admission::Refused => {
                meter.refused.add(1);
                return;
            }
            Admission::Welcome(id) => id,
            Admission::InPlaceOf(id, victim) => {
                meter.evicted.add(1);
                if let Some(closer) = self.closers.borrow_mut().remove(&victim) {
                    closer.abort();
                }
                id
            }
        };
        meter.connections.add(1);
        let seat = Seat { door: self.clone(), id };
        let connection = Connection::new(stream, peer.ip(), seat);
        let closer = tasks.spawn_local(connection.serve());
        self.closers.borrow_mut().insert(id, closer);
    }

    async fn accept_failed(&self, error: &io::Error) {
        self.worker.borrow().meter().accept_errors.add(1);
        let errno = error.raw_os_error().map(Errno::from_raw);
        let pause = match errno {
            // The connection was gone before it was accepted.
            Some(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO) => return,
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => SCARCE_PAUSE,
            _ => super::FAULT_PAUSE,
        };
        tokio::time::sleep(pause).await;
    }
}

/// A connection's place among the connections; leaves when dropped.
struct Seat {
    door: Rc<Door>,
    id: Id,
}

impl Seat {
    fn idle(&self) {
        self.door.connections.borrow_mut().idle(self.id);
    }

    fn busy(&self) {
        self.door.connections.borrow_mut().busy(self.id);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.door.connections.borrow_mut().leave(self.id);
        self.door.closers.borrow_mut().remove(&self.id);
    }
}
