//! A UDP socket whose task is woken by what comes in, and by nothing else.
//!
//! The runtime's own socket is told of datagrams that have left, too: the thread would be woken
//! twice more for each query, for nothing.

use std::io;
use std::net::UdpSocket;

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// A socket that does not block, in the runtime that it was made in.
#[derive(Debug)]
pub(super) struct Incoming(AsyncFd<UdpSocket>);

/// Something may have come.
pub(super) struct Came<'a>(AsyncFdReadyGuard<'a, UdpSocket>);

impl Incoming {
    pub(super) fn of(socket: UdpSocket) -> io::Result<Self> {
        #[expect(deprecated, reason = "the descriptor is owned by what is registered")]
        AsyncFd::with_interest(socket, Interest::READABLE).map(Self)
    }

    /// Waits for something to come.
    pub(super) async fn comes(&self) -> io::Result<Came<'_>> {
        self.0.readable().await.map(Came)
    }

    /// The same of a connected socket, to which also comes that nobody is there. That is no
    /// datagram: who waits for those alone does not hear of it.
    pub(super) async fn comes_or_fails(&self) -> io::Result<Came<'_>> {
        self.0.ready(Interest::READABLE | Interest::ERROR).await.map(Came)
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        self.0.get_ref()
    }
}

impl Came<'_> {
    /// What `read` finds; `None`: nothing is there now, and the next wait is for more.
    pub(super) fn take<T>(
        &mut self,
        read: impl FnOnce(&UdpSocket) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        self.0.try_io(|socket| read(socket.get_ref())).ok()
    }
}
