//! Who calls, and under which conditions: read from a request's head.

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use serde::de::DeserializeOwned;

use plan::{Actor, Ask, Command, Key};

use super::peer::Peer;
use super::problem::{Code, Failure};
use super::request::Reason;

/// The header that makes a repeated call take effect once.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Who makes a changing call, and under which conditions.
pub(crate) struct Caller {
    actor: Actor,
    if_revision: Option<u64>,
    key: Option<Key>,
}

impl Caller {
    /// What the caller asks, as the controller takes it.
    pub(crate) fn ask(self, command: Command, reason: Option<Reason>) -> Ask {
        Ask {
            command,
            if_revision: self.if_revision,
            key: self.key,
            actor: self.actor,
            reason: reason.map(String::from),
        }
    }

    /// Who.
    pub(crate) const fn actor(&self) -> &Actor {
        &self.actor
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let Some(peer) = parts.extensions.get::<Peer>() else {
            return Err(Failure::new(Code::Internal, "the caller is not known"));
        };
        Ok(Self {
            actor: peer.actor(),
            if_revision: if_revision(&parts.headers)?,
            key: key(&parts.headers)?,
        })
    }
}

/// The only value of a header, as text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str() {
        Ok(text) if values.next().is_none() => Ok(Some(text.trim())),
        _ => Err(Failure::new(
            Code::BadRequest,
            format!("the header `{name}` is there twice or is not ASCII; send it once"),
        )),
    }
}

fn if_revision(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(text) = single(headers, &header::IF_MATCH)? else { return Ok(None) };
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    // Digits only: Rust's integers would also take a sign.
    match quoted.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())).map(str::parse) {
        Some(Ok(revision)) => Ok(Some(revision)),
        Some(Err(_)) | None => Err(Failure::new(
            Code::BadRequest,
            format!(
                "`If-Match: {text}` names no revision; send the plan's revision in quotes, like \
                 `If-Match: \"42\"` (no `W/`, no `*`, no list)"
            ),
        )),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<Key>, Failure> {
    let Some(text) = single(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    Key::try_from(text.to_owned())
        .map(Some)
        .map_err(|error| Failure::new(Code::BadRequest, format!("`Idempotency-Key`: {error}")))
}

/// The one parameter of a path, parsed.
pub(crate) struct Named<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Named<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let malformed = |text: String| Failure::new(Code::BadRequest, text);
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|error| malformed(error.body_text()))?;
        let Some((_, text)) = params.iter().next() else {
            return Err(Failure::new(Code::Internal, "the path has no parameter"));
        };
        text.parse().map(Named).map_err(|error: T::Err| malformed(error.to_string()))
    }
}

/// What stands behind the `?`, parsed. Unknown and repeated names are errors.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Asked<T>
where
    T: DeserializeOwned,
    S: Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(error) => {
                let text = error.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ");
                Err(Failure::new(
                    Code::BadRequest,
                    format!("in the query: {}", text.unwrap_or("malformed")),
                ))
            }
        }
    }
}

/// No query where none is understood.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn if_match_names_one_revision() {
        for (value, expect) in [
            ("\"42\"", Some(42)),
            ("\"0\"", Some(0)),
            ("42", None),
            ("\"\"", None),
            ("\"+4\"", None),
            ("\"a\"", None),
            ("\"99999999999999999999\"", None),
            ("W/\"42\"", None),
            ("*", None),
            ("\"1\", \"2\"", None),
            ("", None),
        ] {
            let headers =
                HeaderMap::from_iter([(header::IF_MATCH, HeaderValue::from_static(value))]);
            assert_eq!(if_revision(&headers).ok().flatten(), expect, "{value}");
        }
        assert!(matches!(if_revision(&HeaderMap::new()), Ok(None)));
    }

    #[test]
    fn keys_are_visible_ascii() {
        for (value, fine) in [("a-1", true), ("", false), ("a b", false)] {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, value.clone())]);
            assert_eq!(key(&headers).is_ok(), fine, "{value:?}");
        }
        let value = HeaderValue::from_static("a");
        let twice = [(IDEMPOTENCY_KEY, value.clone()), (IDEMPOTENCY_KEY, value)];
        let mut headers = HeaderMap::new();
        for (name, value) in twice {
            headers.append(name, value);
        }
        assert!(key(&headers).is_err());
    }
}
