//! One connection, from its handshake to its end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixStream};
use tonic::service::Routes;

use super::counts::Bad;
use super::doorman;
use super::io::Io;
use super::limits::Limits;
use super::service::Desk;
use super::shared::{Line, LineGuard, Shared};
use super::tls::Tls;

/// What a client may send on a stream before we have read it: what HTTP/2 begins with (RFC 9113
/// section 6.9.2). Clients send their first requests before they hear of anything less, so less
/// would save nothing and cost round trips.
const STREAM_WINDOW: u32 = 65_535;

/// The same for a connection.
const CONNECTION_WINDOW: u32 = 65_535;

/// What lies in HTTP/2's buffers of a stream before more is asked of it: one chunk.
const SEND_BUFFER: usize = 16 << 10;

/// The longest list of headers that is taken. Those of gRPC are some hundred bytes.
const HEADERS_MAX: u32 = 8 << 10;

/// The dynamic table of HPACK; clients repeat a few short headers once per stream.
const HEADER_TABLE: u32 = 1 << 10;

/// What a connection comes by.
pub(super) enum Arrived {
    Tcp(TcpStream),
    Local(UnixStream),
}

/// Serves a connection until its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    guard: LineGuard,
    arrived: Arrived,
    tls: Option<Tls>,
    routes: Routes,
) {
    let peer = guard.line.peer;
    let stream = match arrived {
        Arrived::Tcp(stream) => stream,
        Arrived::Local(stream) => {
            return converse(&shared, &guard, Io::Local(stream), routes).await;
        }
    };
    // Responses are written whole; waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot switch off Nagle's algorithm");
    }
    let io = match tls {
        None => Io::Plain(stream),
        Some(tls) => {
            let handshake = Box::pin(tls.acceptor().accept(stream));
            let handshake = tokio::time::timeout(shared.limits.handshake, handshake);
            let Some(done) = unless_cut(&guard.line, handshake).await else { return };
            match done {
                Ok(Ok(stream)) => {
                    let shown = stream.get_ref().1.peer_certificates();
                    if let Some(leaf) = shown.and_then(<[_]>::first) {
                        guard.line.showed(leaf);
                    }
                    doorman::greet(&shared, &guard.line);
                    Io::Tls(Box::new(stream))
                }
                Ok(Err(error)) => {
                    return shared.bad(
                        Bad::Handshake,
                        peer,
                        &format_args!("TLS handshake failed: {error}"),
                    );
                }
                Err(_) => {
                    return shared.bad(Bad::Handshake, peer, &"a TLS handshake took too long");
                }
            }
        }
    };
    converse(&shared, &guard, io, routes).await;
}

async fn converse(shared: &Arc<Shared>, guard: &LineGuard, io: Io, routes: Routes) {
    let line = &guard.line;
    let desk = Desk { shared: Arc::clone(shared), line: Arc::clone(line), routes };
    let connection = builder(&shared.limits).serve_connection(TokioIo::new(io), desk);
    let mut connection = pin!(connection);
    let mut told = false;
    let served = std::future::poll_fn(|cx| {
        if shared.hub.is_stopping() && !told {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    if let Some(Err(error)) = unless_cut(line, served).await
        && !is_departure(&error)
    {
        shared.bad(Bad::Http, line.peer, &format_args!("not HTTP/2 as it should be: {error:?}"));
    }
}

/// What comes of this; `None` where the connection is cut before. Polled again whenever the
/// connection is woken.
async fn unless_cut<T>(line: &Line, what: impl Future<Output = T>) -> Option<T> {
    let mut what = pin!(what);
    std::future::poll_fn(|cx| {
        line.waker.register(cx.waker());
        if line.is_cut() {
            return Poll::Ready(None);
        }
        what.as_mut().poll(cx).map(Some)
    })
    .await
}

fn builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADERS_MAX)
        .header_table_size(HEADER_TABLE)
        .max_concurrent_streams(limits.streams_per_connection)
        .keep_alive_interval(limits.ping_every)
        .keep_alive_timeout(limits.ping_timeout);
    builder
}

/// Whether the peer merely went away.
fn is_departure(error: &hyper::Error) -> bool {
    if error.is_timeout() || error.is_closed() || error.is_incomplete_message() {
        return true;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    // h2 keeps its cause to itself and prints it.
    let words = format!("{error:?}");
    words.contains("Io(") || words.contains("NO_ERROR")
}
