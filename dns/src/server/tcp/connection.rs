//! One TCP connection: messages in, answers out, in order.

use std::net::IpAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Seat;
use super::inbox::{Inbox, TooLong};
use crate::respond::Transport;
use crate::wire::HEADER;

/// Answers are sent when they have this many octets, or when no query is left. With one more
/// answer of 64 KiB it bounds what a connection holds.
const FLUSH: usize = 16_384;

/// One connection.
pub(super) struct Connection {
    stream: TcpStream,
    client: IpAddr,
    seat: Seat,
    inbox: Inbox,
    /// Answers, each after its length.
    outbox: Vec<u8>,
    /// When the message that has begun must be whole.
    due: Option<Instant>,
}

/// Why a connection ends.
enum End {
    /// The client closed, or broke, the connection or the protocol.
    Gone,
    /// It was too slow.
    TimedOut,
    /// The server stops.
    Stopped,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, client: IpAddr, seat: Seat) -> Self {
        Self { stream, client, seat, inbox: Inbox::new(), outbox: Vec::new(), due: None }
    }

    /// Answers until either side has had enough.
    pub(super) async fn serve(mut self) {
        // Answers are written whole; waiting for more would only delay them.
        let _ = self.stream.set_nodelay(true);
        let end = loop {
            if let Err(end) = self.round().await {
                break end;
            }
        };
        if matches!(end, End::TimedOut) {
            self.seat.door.worker.borrow().meter().timed_out.add(1);
        }
    }

    /// Answers what is there, then waits for more.
    async fn round(&mut self) -> Result<(), End> {
        loop {
            let broken = self.answer();
            self.flush().await?;
            match broken {
                Ok(true) => {}
                Ok(false) => break,
                Err(TooLong) => return Err(End::Gone),
            }
        }
        self.read().await
    }

    /// Answers whole messages until none is left, or there is enough to send: then true.
    fn answer(&mut self) -> Result<bool, TooLong> {
        if self.inbox.is_empty() {
            return Ok(false);
        }
        let mut worker = self.seat.door.worker.borrow_mut();
        let mut turn = worker.begin();
        while let Some(query) = self.inbox.next()? {
            self.due = None;
            self.seat.busy();
            // No DNS message is shorter: whoever sends one has lost count.
            if query.len() < HEADER {
                return Err(TooLong);
            }
            let Some(answer) = turn.answer(query, self.client, Transport::Tcp) else { continue };
            let Ok(length) = u16::try_from(answer.len()) else { continue };
            self.outbox.extend_from_slice(&length.to_be_bytes());
            self.outbox.extend_from_slice(answer);
            if self.outbox.len() >= FLUSH {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        match timeout(self.seat.door.limits.write, self.stream.write_all(&self.outbox)).await {
            Ok(Ok(())) => {
                // An idle connection holds no answers' memory.
                self.outbox = Vec::new();
                Ok(())
            }
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::TimedOut),
        }
    }

    async fn read(&mut self) -> Result<(), End> {
        let limits = self.seat.door.limits;
        let idle = self.inbox.is_empty();
        // Also with a message begun: whoever sends slowly must not keep others out.
        self.seat.idle();
        let limit = if idle {
            Instant::now() + limits.idle
        } else {
            *self.due.get_or_insert_with(|| Instant::now() + limits.message)
        };
        let mut stop = self.seat.door.stop.clone();
        let read = timeout_at(limit, self.stream.read(self.inbox.room()));
        let count = tokio::select! {
            biased;
            // A message that has begun may still come; its client gets an answer.
            _ = stop.wait_for(|stop| *stop), if idle => return Err(End::Stopped),
            read = read => match read {
                Ok(Ok(0)) | Ok(Err(_)) => return Err(End::Gone),
                Ok(Ok(count)) => count,
                // An idle connection that is closed was not slow.
                Err(_) => return Err(if idle { End::Gone } else { End::TimedOut }),
            },
        };
        self.inbox.filled(count);
        Ok(())
    }
}
