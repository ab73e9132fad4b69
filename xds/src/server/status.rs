//! How a gRPC call ends: status and words, as headers alone or as trailers.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::session::{Close, Code};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// After how many milliseconds a client may try again (gRFC A6).
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The longest words that are sent: headers are bounded at the client too.
const MESSAGE_MAX: usize = 2_000;

/// The trailers of a call that went well.
pub(super) fn fine() -> HeaderMap {
    HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))])
}

/// The trailers of a call that we close.
pub(super) fn closed(close: &Close) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(3);
    map.insert(STATUS, HeaderValue::from(close.code as u16));
    if let Ok(words) = HeaderValue::try_from(encoded(&close.message)) {
        map.insert(MESSAGE, words);
    }
    map
}

/// The same, with the time after which to try again.
pub(super) fn closed_for(close: &Close, pushback: Duration) -> HeaderMap {
    let mut map = closed(close);
    map.insert(PUSHBACK, HeaderValue::from(u64::try_from(pushback.as_millis()).unwrap_or(0)));
    map
}

impl From<Close> for tonic::Status {
    fn from(close: Close) -> Self {
        let code = match close.code {
            Code::InvalidArgument => tonic::Code::InvalidArgument,
            Code::PermissionDenied => tonic::Code::PermissionDenied,
            Code::ResourceExhausted => tonic::Code::ResourceExhausted,
            Code::Unimplemented => tonic::Code::Unimplemented,
            Code::Unavailable => tonic::Code::Unavailable,
            Code::Unauthenticated => tonic::Code::Unauthenticated,
        };
        Self::new(code, close.message)
    }
}

/// Percent-encoded: "Status-Message → percent encoded" over printable ASCII without `%` (gRPC over
/// HTTP/2, Responses).
fn encoded(words: &str) -> String {
    let mut out = String::with_capacity(words.len().min(MESSAGE_MAX));
    for byte in words.bytes() {
        if out.len() >= MESSAGE_MAX {
            break;
        }
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_percent_encoded() {
        assert_eq!(encoded("50 % of \"ä\"\n"), "50 %25 of \"%C3%A4\"%0A");
        assert!(encoded(&"%".repeat(MESSAGE_MAX)).len() <= MESSAGE_MAX + 3);
    }

    #[test]
    fn a_closed_call_says_so() {
        let map = closed_for(&Close::exhausted("too much"), Duration::from_millis(250));
        let text = |name: &HeaderName| map.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!((text(&STATUS), text(&MESSAGE)), ("8".to_owned(), "too much".to_owned()));
        assert_eq!(text(&PUSHBACK), "250");
    }
}
