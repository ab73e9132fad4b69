//! The HTTP request that makes a server change something.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bad;

/// A request, ready to be sent.
pub(crate) struct Trigger {
    to: String,
    request: String,
}

impl Trigger {
    pub(crate) fn read(value: &Value) -> io::Result<Self> {
        let text = |key: &str| {
            let text = value.get(key).and_then(Value::as_str);
            text.ok_or_else(|| bad(format!("a trigger without `{key}`: {value}")))
        };
        let (to, method, path) = (text("to")?, text("method")?, text("path")?);
        let body = value.get("body").map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(Self { to: to.to_owned(), request })
    }

    /// Sends it and reads the answer, which must be a good one.
    pub(crate) async fn send(&self) -> io::Result<()> {
        let mut socket = TcpStream::connect(&self.to).await?;
        socket.write_all(self.request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(bad(answer)) }
    }
}
