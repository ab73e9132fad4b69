//! A controller with its API, and a client that writes requests by hand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use controller::Handle;
use controller::api::{self, Files, Listen, Settings};
use controller::clock::Clock;
use controller::identity::Authority;
use controller::planes;
use controller::pump::{Pump, Running};
use controller::store::Memory;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running controller.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) unix: PathBuf,
    pub(crate) handle: Handle,
    pub(crate) store: Arc<Memory>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    running: Running,
    directory: PathBuf,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_files(None).await
    }

    pub(crate) async fn with_files(files: Option<Arc<dyn Files>>) -> Self {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("cf-api-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let unix = directory.join("api.sock");
        let store = Arc::new(Memory::new());
        let opened = Pump::open(store.clone(), Clock::start()).await;
        let (handle, mut pump) = opened.unwrap();
        let catalog = Arc::new(dns::Catalog::empty());
        let one = std::num::NonZeroUsize::MIN;
        let loopback = "127.0.0.1:0".parse::<SocketAddr>().unwrap();
        let server = Arc::new(dns::Server::bind(&[loopback], one, catalog).unwrap());
        let port = pump.dns_port().unwrap();
        tokio::spawn(planes::dns::run(port, Arc::clone(&server)));
        let running = pump.run();
        let listen =
            Listen { tcp: vec![loopback], unix: Some(unix.clone()), metrics: Some(loopback) };
        let bound = api::bind(&listen).await.unwrap();
        let (address, metrics) = (bound.tcp()[0], bound.metrics().unwrap());
        handle.ready();
        let authority = Authority::open(store.clone(), Clock::start(), Default::default());
        let identity = authority.await.unwrap();
        let settings = Settings {
            hosts: vec!["ops.corp.example".to_owned()],
            files,
            scratch: Some(directory.clone()),
            dns: Some(server),
            xds: None,
            identity: Some(identity),
            controllers: vec!["controller.example:7410".to_owned()],
        };
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(api::serve(bound, settings, handle.clone(), async {
            let _ = stopped.await;
        }));
        Self { address, metrics, unix, handle, store, stop, serving, running, directory }
    }

    /// Stops the API, waits for it, then stops the controller.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.serving.await.unwrap();
        self.running.stop().await;
        std::fs::remove_dir_all(&self.directory).unwrap();
    }

    /// Begins to stop the API; gives what ends when it has, and the controller, which goes on.
    pub(crate) fn begin_stop(self) -> (JoinHandle<()>, Running) {
        let _ = self.stop.send(());
        (self.serving, self.running)
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends one request over TCP.
    pub(crate) async fn send(&self, request: &Request) -> Answer {
        exchange(self.connect().await, request).await
    }

    /// Sends one request over the unix socket.
    pub(crate) async fn send_unix(&self, request: &Request) -> Answer {
        exchange(UnixStream::connect(&self.unix).await.unwrap(), request).await
    }

    /// Applies the demo plan.
    pub(crate) async fn shop(&self) -> Answer {
        let plan = plan::file::write(&plan::fixture::plan()).to_string();
        let answer = self.send(&put("/v1/plans/shop", &plan)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }
}

/// A request; everything in it may be wrong.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn request(method: &str, target: &str) -> Request {
    let headers = vec![("Host".to_owned(), "localhost".to_owned())];
    Request { method: method.to_owned(), target: target.to_owned(), headers, body: Vec::new() }
}

pub(crate) fn get(target: &str) -> Request {
    request("GET", target)
}

pub(crate) fn post(target: &str, body: &str) -> Request {
    request("POST", target).header("Content-Type", "application/json").body(body)
}

pub(crate) fn put(target: &str, body: &str) -> Request {
    request("PUT", target).header("Content-Type", "application/yaml").body(body)
}

impl Request {
    /// The same with this header, in place of any other of its name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let named = |name: &str| self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !named("content-length") && !self.body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        if !named("connection") {
            text.push_str("Connection: close\r\n");
        }
        text.push_str("\r\n");
        [text.as_bytes(), &self.body].concat()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let headers: Vec<_> = lines.map(header).collect();
        let mut body = bytes[end + 4..].to_vec();
        if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
            body = unchunk(&body);
        }
        Self { status, headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The problem's code; empty where the answer is no problem.
    pub(crate) fn code(&self) -> String {
        match self.header("content-type") {
            Some("application/problem+json") => self.json()["code"].as_str().unwrap().to_owned(),
            _ => String::new(),
        }
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        body.extend_from_slice(&rest[end + 2..][..size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body
}

/// Writes a request and reads until the server closes.
pub(crate) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &Request,
) -> Answer {
    // A server that refuses early may close before all is written; its answer counts.
    let _ = stream.write_all(&request.bytes()).await;
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes).await;
    assert!(read.is_ok() || !bytes.is_empty(), "{read:?} to {request:?}");
    Answer::parse(&bytes)
}
