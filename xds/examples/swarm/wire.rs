//! One Delta ADS stream on a connection of its own, as cheap as h2 has it.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::{Connection, ResponseFuture};
use h2::{RecvStream, SendStream};
use prost::Message as _;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::net::{TcpSocket, TcpStream};

use crate::bad;

const PATH: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// What a message of gRPC begins with: one byte of flags and four of length.
const HEAD: usize = 5;

/// Addresses of ours that connections come from: ports of one run out at 28 000.
const SOURCES: usize = 8;

/// What is sent and what comes.
pub(crate) struct Wire {
    send: SendStream<Bytes>,
    coming: Coming,
    rest: BytesMut,
}

enum Coming {
    Soon(ResponseFuture),
    Body(RecvStream),
}

/// Connects stream `number`; the connection must be polled beside the wire.
pub(crate) async fn open(
    server: SocketAddr,
    number: usize,
) -> io::Result<(Wire, Connection<TcpStream, Bytes>)> {
    let socket = TcpSocket::new_v4()?;
    if server.ip().is_loopback() {
        let last = u8::try_from(number % SOURCES).unwrap_or_default();
        socket.bind((IpAddr::V4(Ipv4Addr::new(127, 20, 0, last + 1)), 0).into())?;
    }
    let socket = socket.connect(server).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(socket).await.map_err(other)?;
    let request = http::Request::post(format!("http://{server}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(other)?;
    let mut sender = sender;
    let (soon, send) = sender.send_request(request, false).map_err(other)?;
    Ok((Wire { send, coming: Coming::Soon(soon), rest: BytesMut::new() }, connection))
}

impl Wire {
    pub(crate) fn send(&mut self, request: &DeltaDiscoveryRequest) -> io::Result<()> {
        let length = request.encoded_len();
        let mut frame = BytesMut::with_capacity(HEAD + length);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(length).map_err(other)?);
        request.encode(&mut frame).map_err(other)?;
        self.send.send_data(frame.freeze(), false).map_err(other)
    }

    /// The next response.
    pub(crate) async fn next(&mut self) -> io::Result<DeltaDiscoveryResponse> {
        loop {
            if let Some(message) = self.message() {
                return DeltaDiscoveryResponse::decode(message).map_err(other);
            }
            self.more().await?;
        }
    }

    /// A whole message of what came.
    fn message(&mut self) -> Option<Bytes> {
        let mut head = self.rest.get(..HEAD)?;
        head.advance(1);
        let length = HEAD + usize::try_from(head.get_u32()).ok()?;
        if self.rest.len() < length {
            return None;
        }
        let mut whole = self.rest.split_to(length).freeze();
        whole.advance(HEAD);
        Some(whole)
    }

    async fn more(&mut self) -> io::Result<()> {
        let body = match &mut self.coming {
            Coming::Body(body) => body,
            Coming::Soon(soon) => {
                let response = soon.await.map_err(other)?;
                refused(response.headers())?;
                self.coming = Coming::Body(response.into_body());
                return Ok(());
            }
        };
        let Some(data) = poll_fn(|context| body.poll_data(context)).await else {
            let trailers = body.trailers().await.map_err(other)?.unwrap_or_default();
            refused(&trailers)?;
            return Err(bad("the stream ended without a status"));
        };
        let data = data.map_err(other)?;
        body.flow_control().release_capacity(data.len()).map_err(other)?;
        self.rest.extend_from_slice(&data);
        Ok(())
    }
}

/// The status of gRPC, where there is one.
fn refused(headers: &http::HeaderMap) -> io::Result<()> {
    let text = |key| headers.get(key).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None => Ok(()),
        Some(code) => Err(bad(format!("status {code}: {}", text("grpc-message").unwrap_or("")))),
    }
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}
