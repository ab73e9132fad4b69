//! Whether an Envoy is well: its main thread says so, and captured connections arrive at it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::fchown;
use std::path::Path;

use agent::envoy::{Health, listeners};
use nix::unistd::geteuid;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use xds::render::Door;

/// What it answers when it has all that it starts with.
const READY: &[u8] = b"HTTP/1.1 200 ";
/// The longest answer: its listeners, a line each, of 4 095 services.
const ANSWER_MAX: u64 = 1 << 20;

/// Why it is not well; no later than [`Health::ANSWER_WITHIN`].
pub(super) async fn why_not(admin: &Path, user: u32) -> Option<String> {
    let Ok(asked) = tokio::time::timeout(Health::ANSWER_WITHIN, ask(admin)).await else {
        return Some("it does not answer in time".to_owned());
    };
    asked.or_else(|| arrives(user))
}

async fn ask(admin: &Path) -> Option<String> {
    match says(admin, "/ready").await {
        Err(error) => return Some(format!("it does not answer: {error}")),
        Ok(answer) if !answer.starts_with(READY) => {
            return Some("it has not all that it starts with".to_owned());
        }
        Ok(_) => {}
    }
    // One that was told of no listener is ready, and nobody must be sent to it.
    let listens = format!("::{}", Door::CAPTURE);
    match says(admin, "/listeners").await {
        Ok(answer) if has(&answer, listens.as_bytes()) => None,
        Ok(_) => Some(format!("it takes no connections at {}", Door::CAPTURE)),
        Err(error) => Some(format!("it does not answer: {error}")),
    }
}

/// What its admin interface answers.
async fn says(admin: &Path, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(admin).await?;
    let question = format!("GET {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|found| found == part)
}

/// Why captured connections do not arrive at a program of this user: whoever else has the port
/// must be sent nothing.
fn arrives(user: u32) -> Option<String> {
    let at = Door::CAPTURE;
    match users(at) {
        Err(error) => Some(format!("whose {at} is cannot be read: {error}")),
        Ok(users) if users.is_empty() => Some(format!("it takes no connections at {at}")),
        Ok(users) => taken(&users, user),
    }
}

/// Who else has the port, of those who listen there.
fn taken(users: &[u32], user: u32) -> Option<String> {
    let other = users.iter().find(|found| **found != user)?;
    let at = Door::CAPTURE;
    let look = format!("ss -lntp 'sport = :{}'", at.port());
    Some(format!("{at} is taken by a program of user {other}; see: {look}"))
}

fn users(at: SocketAddr) -> io::Result<Vec<u32>> {
    let SocketAddr::V4(at) = at else { return Ok(Vec::new()) };
    let table = BufReader::new(File::open("/proc/self/net/tcp")?);
    Ok(listeners(table.lines().map_while(Result::ok), at))
}

/// The port of captured connections, had for the programs of one user.
///
/// It listens to nothing, so that without Envoy connections are refused; and as long as it is there
/// no other user can have the port (`SO_REUSEPORT`, socket(7)), Envoy or not.
#[derive(Debug)]
pub(super) struct Had {
    _socket: Socket,
}

impl Had {
    /// Takes it.
    pub(super) fn of(user: u32) -> Result<Self, Refused> {
        let had = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            if user != geteuid().as_raw() {
                fchown(&socket, Some(user), None)?;
            }
            socket.set_reuse_port(true)?;
            socket.bind(&Door::CAPTURE.into())?;
            Ok(Self { _socket: socket })
        };
        had().map_err(|error: io::Error| {
            let other = taken(&users(Door::CAPTURE).unwrap_or_default(), user);
            let is_taken = other.is_some();
            let unclear = || format!("{} cannot be had: {error}", Door::CAPTURE);
            Refused { why: other.unwrap_or_else(unclear), is_taken }
        })
    }
}

/// The port cannot be had.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
    /// Whether a program of another user takes connections there.
    pub(super) is_taken: bool,
}
