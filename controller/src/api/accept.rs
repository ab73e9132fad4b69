//! Connections: accepted, counted, timed, and let finish when the server stops.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::limits;
use super::peer::Peer;
use super::problem::{Code, Failure, MEDIA_TYPE};
use super::socket::Socket;

/// One listener's connections.
pub(crate) struct Door {
    router: Router,
    room: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    graceful: GracefulShutdown,
}

impl Door {
    /// A door to this router with room for so many connections.
    pub(crate) fn new(router: Router, connections_max: usize) -> Self {
        Self {
            router,
            room: Arc::new(Semaphore::new(connections_max)),
            turned_away: Arc::new(Semaphore::new(limits::TURNED_AWAY_MAX)),
            graceful: GracefulShutdown::new(),
        }
    }

    /// Accepts on all these listeners until `stop`, then waits until what is being answered is
    /// answered.
    pub(crate) async fn tcp(self, listeners: Vec<TcpListener>, mut stop: watch::Receiver<bool>) {
        let accepting = futures::future::join_all(listeners.iter().map(|listener| async {
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        // An answer is small and whole: waiting to fill a segment only delays it.
                        let _ = stream.set_nodelay(true);
                        self.admit(stream, async move { Peer::Tcp(from.ip().to_canonical()) });
                    }
                    Err(error) => pause(&error).await,
                }
            }
        }));
        tokio::select! {
            _ = accepting => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        drop(listeners);
        self.finish().await;
    }

    /// The same on the unix socket.
    pub(crate) async fn unix(self, socket: Socket, mut stop: watch::Receiver<bool>) {
        let accepting = async {
            loop {
                match socket.listener.accept().await {
                    Ok((stream, _)) => match stream.peer_cred() {
                        Ok(cred) => self.admit(stream, user(cred.uid())),
                        Err(error) => pause(&error).await,
                    },
                    Err(error) => pause(&error).await,
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        drop(socket);
        self.finish().await;
    }

    fn admit<S>(&self, stream: S, peer: impl Future<Output = Peer> + Send + 'static)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Ok(seat) = Arc::clone(&self.room).try_acquire_owned() else {
            if let Ok(seat) = Arc::clone(&self.turned_away).try_acquire_owned() {
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(limits::LINGER, turn_away(stream)).await;
                    drop(seat);
                });
            }
            return;
        };
        let (router, watcher) = (self.router.clone(), self.graceful.watcher());
        tokio::spawn(async move {
            converse(stream, peer.await, router, watcher).await;
            drop(seat);
        });
    }

    async fn finish(self) {
        let stopped = self.graceful.shutdown();
        if tokio::time::timeout(limits::STOP_TIME_MAX, stopped).await.is_err() {
            tracing::warn!("requests were still being answered when the server stopped");
        }
    }
}

async fn user(uid: u32) -> Peer {
    let found = tokio::task::spawn_blocking(move || Peer::user(uid)).await;
    found.unwrap_or(Peer::Unix { uid, name: None })
}

/// Out of file descriptors, most likely: they come back when callers leave.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
}

async fn converse<S>(stream: S, peer: Peer, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIME_MAX)
        .max_headers(limits::HEADERS_MAX)
        .max_buf_size(limits::HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Says so, then reads on for a moment: closing with unread bytes would take the answer back (RFC
/// 9112 section 9.6).
async fn turn_away(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let busy = Failure::new(
        Code::Busy,
        "too many connections are open; close some, or ask again in a second",
    );
    let body = busy.body();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {MEDIA_TYPE}\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len(),
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await?;
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
