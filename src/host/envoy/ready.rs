//! Whether an Envoy is well: its main thread says so, and it takes connections.

use std::io;
use std::path::Path;

use agent::envoy::Health;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use xds::render::Door;

/// What Envoy is asked (its admin interface, `/ready`).
const QUESTION: &[u8] = b"GET /ready HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n";
/// What it answers when it has all that it starts with.
const READY: &[u8] = b"HTTP/1.1 200 ";

/// Whether it is well; no later than [`Health::ANSWER_WITHIN`].
pub(super) async fn is_ready(admin: &Path) -> bool {
    let answered = async { says(admin).await.is_ok_and(|says| says) && takes().await };
    tokio::time::timeout(Health::ANSWER_WITHIN, answered).await.unwrap_or(false)
}

async fn says(admin: &Path) -> io::Result<bool> {
    let mut stream = UnixStream::connect(admin).await?;
    stream.write_all(QUESTION).await?;
    let mut answer = [0; READY.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer == READY)
}

/// One that was told of no listener is ready, and nobody must be sent to it.
async fn takes() -> bool {
    TcpStream::connect(Door::CAPTURE).await.is_ok()
}
