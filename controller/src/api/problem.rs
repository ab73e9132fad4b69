//! What is answered where a call fails: problem details for HTTP APIs (RFC 9457).

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use plan::file;

/// The media type of every error (RFC 9457 section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Where the kinds of problem are explained. The part after `#` is the code.
const TYPE: &str = "https://crossfade.dev/errors#";

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words, the same for every one of this kind.
    pub title: String,
    /// The HTTP status.
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// What is wrong with this call, and what would be right.
    pub detail: String,
    /// The kind of problem for programs. Never changes its meaning.
    pub code: Code,
    /// Which rule of the plan refused: `max-step`, `freeze`, `phase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The command that clears the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<String>,
    /// Everything that is wrong in the file or body that was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<file::Problem>,
}

/// The kinds of problem. Each has one status.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request line, a header or a parameter is malformed.
    BadRequest,
    /// The body is no JSON, or not what the call takes.
    BadBody,
    /// The `Host` header names somebody else: a web page may be behind it.
    UnknownHost,
    /// A page of another origin asks.
    ForeignOrigin,
    /// This is answered on the unix socket alone, where the kernel says who asks.
    SocketOnly,
    /// There is no such plan, service, sink or zone.
    NotFound,
    /// There is no such path.
    NoRoute,
    /// The path has no such method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    SlowBody,
    /// The plan's rules refuse; `reason` says which, `clear` the way out.
    Refused,
    /// A record of the log is not what was written.
    LogAltered,
    /// The plan has another revision than `If-Match` names.
    Stale,
    /// The body is too long.
    TooLarge,
    /// The body is of a type that the call does not take.
    UnsupportedType,
    /// The plan is wrong; `errors` says where.
    InvalidPlan,
    /// The idempotency key was used for another call.
    KeyReused,
    /// Too many watchers, connections or plans at once.
    TooMany,
    /// Too many commands wait.
    Busy,
    /// The answer took too long. A command may still take effect.
    TimedOut,
    /// The disk is full.
    StoreFull,
    /// The store cannot write.
    StoreFailed,
    /// The process is stopping or not yet ready.
    NotReady,
    /// A fault of the program.
    Internal,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::BadRequest,
        Self::BadBody,
        Self::UnknownHost,
        Self::ForeignOrigin,
        Self::SocketOnly,
        Self::NotFound,
        Self::NoRoute,
        Self::MethodNotAllowed,
        Self::SlowBody,
        Self::Refused,
        Self::LogAltered,
        Self::Stale,
        Self::TooLarge,
        Self::UnsupportedType,
        Self::InvalidPlan,
        Self::KeyReused,
        Self::TooMany,
        Self::Busy,
        Self::TimedOut,
        Self::StoreFull,
        Self::StoreFailed,
        Self::NotReady,
        Self::Internal,
    ];

    /// The one table: status, code as it is written, title.
    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad-request", "Malformed request"),
            Self::BadBody => (StatusCode::BAD_REQUEST, "bad-body", "Malformed body"),
            Self::UnknownHost => (StatusCode::FORBIDDEN, "unknown-host", "Unknown Host header"),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign-origin", "Foreign origin"),
            Self::SocketOnly => (StatusCode::FORBIDDEN, "socket-only", "On the unix socket alone"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", "No such path"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed")
            }
            Self::SlowBody => (StatusCode::REQUEST_TIMEOUT, "slow-body", "Body too slow"),
            Self::Refused => (StatusCode::CONFLICT, "refused", "Refused by the plan's rules"),
            Self::LogAltered => (StatusCode::CONFLICT, "log-altered", "The log was altered"),
            Self::Stale => (StatusCode::PRECONDITION_FAILED, "stale", "The plan has changed"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Body too large"),
            Self::UnsupportedType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", "Unsupported body type")
            }
            Self::InvalidPlan => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-plan", "Invalid plan"),
            Self::KeyReused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "key-reused", "Idempotency key used before")
            }
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many at once"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy"),
            Self::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, "timed-out", "Took too long"),
            Self::StoreFull => (StatusCode::SERVICE_UNAVAILABLE, "store-full", "Disk full"),
            Self::StoreFailed => {
                (StatusCode::SERVICE_UNAVAILABLE, "store-failed", "The store cannot write")
            }
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

    /// The status that it is answered with.
    pub const fn status(self) -> StatusCode {
        self.row().0
    }

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// In words.
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    /// After how many seconds it is worth trying again.
    const fn retry_after(self) -> Option<HeaderValue> {
        match self {
            Self::Busy | Self::TooMany | Self::TimedOut | Self::NotReady => {
                Some(HeaderValue::from_static("1"))
            }
            Self::StoreFull | Self::StoreFailed => Some(HeaderValue::from_static("30")),
            Self::BadRequest
            | Self::BadBody
            | Self::UnknownHost
            | Self::ForeignOrigin
            | Self::SocketOnly
            | Self::NotFound
            | Self::NoRoute
            | Self::MethodNotAllowed
            | Self::SlowBody
            | Self::Refused
            | Self::LogAltered
            | Self::Stale
            | Self::TooLarge
            | Self::UnsupportedType
            | Self::InvalidPlan
            | Self::KeyReused
            | Self::Internal => None,
        }
    }
}

/// A call that failed; small enough to be carried in a `Result`.
#[derive(Debug)]
pub(crate) struct Failure(Box<Problem>);

impl Failure {
    /// A failure of this kind, told in these words.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: format!("{TYPE}{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status().as_u16(),
            detail: detail.into(),
            code,
            reason: None,
            clear: None,
            errors: Vec::new(),
        }))
    }

    /// The same, with the rule that refused and the command that clears the way.
    pub(crate) fn because(mut self, reason: &str, clear: Option<String>) -> Self {
        self.0.reason = Some(reason.to_owned());
        self.0.clear = clear;
        self
    }

    /// The same, with everything that is wrong in what was sent.
    pub(crate) fn with(mut self, errors: Vec<file::Problem>) -> Self {
        self.0.errors = errors;
        self
    }

    /// What is sent.
    pub(crate) fn body(&self) -> Vec<u8> {
        // Serialising text and numbers cannot fail.
        serde_json::to_vec(&self.0).unwrap_or_default()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = self.0.code;
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = code.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_as_the_table_says() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
        let mut all = Code::ALL.to_vec();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), Code::ALL.len());
    }

    #[test]
    fn a_failure_says_what_it_is() {
        let failure = Failure::new(Code::Refused, "no").because("max-step", Some("clear".into()));
        let response = failure.into_response();
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        assert!(response.headers().get(header::RETRY_AFTER).is_none());
        let busy = Failure::new(Code::Busy, "wait").into_response();
        assert_eq!(busy.headers()[header::RETRY_AFTER], "1");
    }
}
