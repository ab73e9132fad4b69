//! The HTTP client of the API: one request, one answer, over TCP or a unix socket.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixStream};

use crate::cli::args::ServerUrl;
use crate::config::default_data;
use crate::serve::SOCKET;

/// A status of 10 000 services or a long history fits; more is a fault of the server.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// A controller on this machine or beside it answers a connection at once.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// The controller's own limit on a request is shorter.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);

/// A controller's API.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Or why what was named is none: verbs that ask no controller do not mind.
    server: Result<ServerUrl, String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// What was named is no controller.
    #[error("--server or CROSSFADE_SERVER: {0}")]
    NoServer(String),
    /// Nobody is there.
    #[error(
        "no controller answers at {server}; start one with `crossfade serve`, or name one with \
        --server"
    )]
    Unreachable {
        server: ServerUrl,
        #[source]
        source: std::io::Error,
    },
    /// Somebody is there, but not for this user.
    #[error("you may not open {server}: it belongs to the user who runs the controller")]
    Forbidden {
        server: ServerUrl,
        #[source]
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to {server} broke")]
    Broken {
        server: ServerUrl,
        #[source]
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("{server} did not answer within {} s", limit.as_secs())]
    Slow { server: ServerUrl, limit: Duration },
    /// The controller says no.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The answer is not what this version of the API says.
    #[error("{server} answered something else than this version's API: {what}")]
    Foreign { server: ServerUrl, what: String },
    /// A request that cannot be written down.
    #[error("the request cannot be sent")]
    Request(#[source] hyper::http::Error),
}

/// An error of the API: RFC 9457 with the fields that the API adds (docs/errors.md).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What kind of error.
    pub(crate) title: String,
    /// What is wrong here.
    pub(crate) detail: String,
    /// The stable name of the kind.
    pub(crate) code: String,
    /// Why the rules refuse, in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The command that clears a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clear: Option<String>,
    /// The errors of a file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<plan::file::Problem>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = if self.detail.is_empty() { &self.title } else { &self.detail };
        f.write_str(text)
    }
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its id, to resume from.
    pub(crate) id: String,
    /// Its data.
    pub(crate) data: String,
}

impl Client {
    /// The controller that was named, else the socket in the default data directory, else loopback.
    /// An empty name is none.
    pub(crate) fn named(server: Option<&str>) -> Self {
        let named = server.filter(|text| !text.is_empty());
        match named.map(str::parse).transpose() {
            Ok(named) => Self::new(named),
            Err(why) => Self { server: Err(why) },
        }
    }

    /// The same, for one that is known.
    pub(crate) fn new(named: Option<ServerUrl>) -> Self {
        let socket = || default_data().map(|data| data.join(SOCKET)).filter(|path| path.exists());
        let local = || socket().map(|path: PathBuf| ServerUrl::Unix { path });
        let loopback = || ServerUrl::Http { authority: "127.0.0.1:7400".to_owned() };
        Self { server: Ok(named.or_else(local).unwrap_or_else(loopback)) }
    }

    fn server(&self) -> Result<ServerUrl, ClientError> {
        self.server.clone().map_err(ClientError::NoServer)
    }

    /// Reads.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let request = self.request(Method::GET, path, &[], Bytes::new())?;
        self.parse(self.whole(request).await?)
    }

    /// Changes. `headers` are `If-Match` and the like.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        let mut all = vec![("content-type", content_type.to_owned())];
        all.extend_from_slice(headers);
        let request = self.request(method, path, &all, body.into())?;
        self.parse(self.whole(request).await?)
    }

    /// Deletes. `headers` are `If-Match` and the like.
    pub(crate) async fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<T, ClientError> {
        let request = self.request(Method::DELETE, path, headers, Bytes::new())?;
        self.parse(self.whole(request).await?)
    }

    /// Posts and takes the answer as it comes: a file.
    pub(crate) async fn download(&self, path: &str) -> Result<Response<Incoming>, ClientError> {
        let json = [("content-type", "application/json".to_owned())];
        let request = self.request(Method::POST, path, &json, Bytes::from_static(b"{}"))?;
        let answer = self.open(request).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    /// Follows server-sent events (HTML Living Standard, section 9.2).
    pub(crate) async fn events(&self, path: &str, after: &str) -> Result<Events, ClientError> {
        let mut headers = vec![("accept", "text/event-stream".to_owned())];
        if !after.is_empty() {
            headers.push(("last-event-id", after.to_owned()));
        }
        let request = self.request(Method::GET, path, &headers, Bytes::new())?;
        let answer = self.open(request).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        Ok(Events { server: self.server()?, body: answer.into_body(), text: String::new() })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let server = self.server()?;
        let host = match &server {
            ServerUrl::Http { authority } => authority,
            ServerUrl::Unix { .. } => "localhost",
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.body(Full::new(body)).map_err(ClientError::Request)
    }

    async fn open(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let server = self.server()?;
        let unreachable = |source: std::io::Error| {
            let server = server.clone();
            if source.kind() == std::io::ErrorKind::PermissionDenied {
                return ClientError::Forbidden { server, source };
            }
            ClientError::Unreachable { server, source }
        };
        match &server {
            ServerUrl::Http { authority } => {
                let connect = TcpStream::connect(authority);
                let stream = self.within(CONNECT_TIME_MAX, connect).await?.map_err(unreachable)?;
                self.exchange(TokioIo::new(stream), request).await
            }
            ServerUrl::Unix { path } => {
                let connect = UnixStream::connect(path);
                let stream = self.within(CONNECT_TIME_MAX, connect).await?.map_err(unreachable)?;
                self.exchange(TokioIo::new(stream), request).await
            }
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError>
    where
        S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let server = self.server()?;
        let broken = |source| ClientError::Broken { server: server.clone(), source };
        let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
        // Ends with the answer; what it would say, the answer says.
        tokio::spawn(connection);
        self.within(ANSWER_TIME_MAX, sender.send_request(request)).await?.map_err(broken)
    }

    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, ClientError> {
        let server = self.server()?;
        let slow = |_| ClientError::Slow { server, limit };
        tokio::time::timeout(limit, work).await.map_err(slow)
    }

    async fn whole(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ClientError> {
        let answer = self.open(request).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        self.body(answer.into_body()).await
    }

    async fn body(&self, body: Incoming) -> Result<Bytes, ClientError> {
        let collected = Limited::new(body, ANSWER_BYTES_MAX).collect();
        match self.within(ANSWER_TIME_MAX, collected).await? {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) => Err(self.foreign(error.to_string())),
        }
    }

    async fn refusal(&self, answer: Response<Incoming>) -> ClientError {
        let status = answer.status();
        let json = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            .is_some_and(|kind| kind.starts_with(b"application/problem+json"));
        let body = match self.body(answer.into_body()).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if json => {
                ClientError::Problem(Box::new(Problem { status: status.as_u16(), ..problem }))
            }
            _ => self.foreign(format!("status {status} without a problem")),
        }
    }

    fn parse<T: DeserializeOwned>(&self, body: Bytes) -> Result<T, ClientError> {
        serde_json::from_slice(&body).map_err(|error| self.foreign(error.to_string()))
    }

    fn foreign(&self, what: String) -> ClientError {
        self.server().map_or_else(|error| error, |server| ClientError::Foreign { server, what })
    }
}

impl ClientError {
    /// The exit code: what the operator typed was wrong, the rules said no, or it failed.
    pub(crate) fn exit_code(&self) -> u8 {
        let Self::Problem(problem) = self else {
            return if matches!(self, Self::NoServer(_)) { 2 } else { 1 };
        };
        match problem.code.as_str() {
            "refused" | "stale" => 3,
            "bad-request" | "bad-body" | "not-found" | "too-large" | "invalid-plan"
            | "key-reused" => 2,
            _ => 1,
        }
    }
}

/// A stream of events.
pub(crate) struct Events {
    server: ServerUrl,
    body: Incoming,
    text: String,
}

impl Events {
    /// More in one event is a fault of the server.
    const TEXT_BYTES_MAX: usize = 64 << 20;

    /// The next event; `None` where the server ends the stream. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = take_event(&mut self.text) {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let server = self.server.clone();
            let broken = |source| ClientError::Broken { server: server.clone(), source };
            let Ok(bytes) = frame.map_err(broken)?.into_data() else { continue };
            self.text.push_str(&String::from_utf8_lossy(&bytes));
            if self.text.len() > Self::TEXT_BYTES_MAX {
                let what = "an event of over 64 MiB".to_owned();
                return Err(ClientError::Foreign { server: self.server.clone(), what });
            }
        }
    }
}

/// Takes the first complete event that has data off `text`; comments and empty events are dropped.
fn take_event(text: &mut String) -> Option<Event> {
    loop {
        let end = text.find("\n\n")?;
        let block: String = text.drain(..end + 2).collect();
        let mut event = Event { id: String::new(), data: String::new() };
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => value.clone_into(&mut event.id),
                "data" if event.data.is_empty() => value.clone_into(&mut event.data),
                "data" => {
                    event.data.push('\n');
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
        if !event.data.is_empty() {
            return Some(event);
        }
    }
}

/// Percent-encodes one segment of a path (RFC 3986 section 2.1).
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_and_comments_are_dropped() {
        let mut text =
            ": hello\n\nid: 1.2\nevent: status\ndata: {\ndata: }\n\nid: 1.3\nda".to_owned();
        let event = take_event(&mut text).unwrap();
        assert_eq!((event.id.as_str(), event.data.as_str()), ("1.2", "{\n}"));
        assert_eq!(take_event(&mut text), None);
        assert_eq!(text, "id: 1.3\nda", "the rest waits for more");
    }

    #[test]
    fn what_is_no_controller_is_told_by_verbs_that_ask_one() {
        for named in ["http://127.0.0.1:7400", "unix:/run/socket", ""] {
            assert!(Client::named(Some(named)).server().is_ok(), "{named}");
        }
        let error = Client::named(Some("nonsense")).server().unwrap_err();
        assert!(error.to_string().contains("CROSSFADE_SERVER"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
