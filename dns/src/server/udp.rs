//! One UDP thread: its own socket, batches of queries in, batches of answers out.
//!
//! All memory is taken when the thread starts. Nothing is allocated per query.

mod batch;
mod local;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

use self::batch::{Inbox, Outbox};
use self::local::Local;
use super::worker::Worker;
use crate::respond::Transport;

/// Queries taken up by one system call. At 16 the cost of the calls is shared well, while one
/// batch's buffers still fit the first-level cache.
const BATCH: usize = 16;

/// Longest query taken whole. What real clients send stays below 512 octets.
const QUERY_MAX: usize = 2_048;

/// Errors of receiving after which to say so once more; a socket that only fails must not fill the
/// log.
const FAULTS_PER_LINE: u64 = 1_000;

/// What a UDP thread owns.
pub(super) struct UdpThread {
    pub(super) socket: UdpSocket,
    /// What `socket` is bound to.
    pub(super) bound: SocketAddr,
    pub(super) worker: Worker,
    pub(super) stop: Arc<AtomicBool>,
}

impl UdpThread {
    /// Answers until it is told to stop.
    pub(super) fn run(mut self) {
        let mut headers = MultiHeaders::preallocate(BATCH, local::room(self.bound));
        let mut inbox = Inbox::new();
        let mut outbox = Outbox::new(local::room(self.bound));
        while !self.stop.load(Ordering::Relaxed) {
            let turn = || self.batch(&mut headers, &mut inbox, &mut outbox);
            // A fault in answering costs one batch, not the thread: its socket would go on to
            // receive a share of all queries.
            if catch_unwind(AssertUnwindSafe(turn)).is_err() {
                self.worker.meter().panics.add(1);
            }
        }
    }

    fn batch(
        &mut self,
        headers: &mut MultiHeaders<SockaddrStorage>,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
    ) {
        let mut rooms = inbox.rooms();
        let flags = MsgFlags::MSG_WAITFORONE;
        let fd = self.socket.as_raw_fd();
        let received = match recvmmsg(fd, headers, rooms.iter_mut(), flags, None) {
            Ok(received) => received,
            // The pause that lets the thread see `stop`, or a signal.
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            Err(errno) => return self.receive_failed(errno),
        };
        outbox.clear();
        let mut turn = self.worker.begin();
        for message in received {
            // One that is longer than its room is cut and so malformed, like any other that goes on
            // after its last record.
            let query = message.iovs().next().unwrap_or_default();
            let origin = message.address.and_then(|to| Some((to, client(&to)?)));
            let (Some((to, client)), Some(from)) = (origin, Local::of(&message)) else {
                turn.meter().silent.add(1);
                continue;
            };
            if let Some(answer) = turn.answer(query, client, Transport::Udp) {
                outbox.push(answer, to, from);
            }
        }
        outbox.send(fd, turn.meter());
    }

    #[cold]
    fn receive_failed(&self, errno: Errno) {
        let faults = &self.worker.meter().receive_errors;
        if faults.value().is_multiple_of(FAULTS_PER_LINE) {
            tracing::warn!(error = %errno, "receiving DNS queries over UDP failed; trying again");
        }
        faults.add(1);
        // Whatever the reason, do not spin on it.
        std::thread::park_timeout(super::FAULT_PAUSE);
    }
}

/// The address that sent a query, or None for one that cannot be answered: nobody listens on port
/// 0.
fn client(address: &SockaddrStorage) -> Option<IpAddr> {
    let address =
        address.as_sockaddr_in().map(|v4| SocketAddr::new(v4.ip().into(), v4.port())).or_else(
            || address.as_sockaddr_in6().map(|v6| SocketAddr::new(v6.ip().into(), v6.port())),
        )?;
    (address.port() != 0).then(|| address.ip())
}
