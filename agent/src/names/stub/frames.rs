//! DNS messages over a stream: two octets of length before each (RFC 1035 section 4.2.2).

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Octets that a connection starts with; it grows to one message at most, 64 KiB.
const ROOM: usize = 2_048;

/// One end of a conversation.
pub(super) struct Frames {
    stream: TcpStream,
    read: BytesMut,
}

impl Frames {
    pub(super) fn new(stream: TcpStream) -> Self {
        // An answer goes out as one write; there is nothing to wait for.
        let _ = stream.set_nodelay(true);
        Self { stream, read: BytesMut::with_capacity(ROOM) }
    }

    pub(super) async fn connect(server: SocketAddr, mark: Option<u32>) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking();
        let socket = Socket::new(Domain::for_address(server), kind, Some(Protocol::TCP))?;
        if let Some(mark) = mark {
            // As for datagrams: without the right to it nothing is captured either.
            let _ = socket.set_mark(mark);
        }
        let socket = TcpSocket::from_std_stream(socket.into());
        Ok(Self::new(socket.connect(server).await?))
    }

    /// The next message without its length; None when the other side has ended. May be dropped
    /// while it waits: what was read is kept.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(message) = self.whole() {
                return Ok(Some(message));
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn whole(&mut self) -> Option<Bytes> {
        let length = usize::from(u16::from_be_bytes(*self.read.first_chunk::<2>()?));
        if self.read.len() < 2 + length {
            self.read.reserve(2 + length - self.read.len());
            return None;
        }
        self.read.advance(2);
        Some(self.read.split_to(length).freeze())
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let length = u16::try_from(message.len()).map_err(too_long)?;
        let mut frame = Vec::with_capacity(2 + message.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(message);
        self.stream.write_all(&frame).await
    }
}
