//! Bodies: their type, length and time, and what JSON in them is wrong.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use plan::file;

use super::limits;
use super::problem::{Code, Failure};

/// A body of JSON, read to its end and parsed.
pub(crate) struct Json<T>(pub(crate) T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Sync,
{
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        want_type(request.headers(), &["application/json"])?;
        let body = request.into_body();
        let bytes = read(body, limits::BODY_BYTES_MAX, limits::BODY_TIME_MAX).await?;
        parse(&bytes).map(Json)
    }
}

/// Refuses a body of another type. A web page can send three types without being asked for leave;
/// none of them is taken here.
pub(crate) fn want_type(headers: &HeaderMap, types: &[&str]) -> Result<(), Failure> {
    let refuse = |told: &str| {
        Failure::new(
            Code::UnsupportedType,
            format!("{told}; send `Content-Type: {}`", types.join("` or `Content-Type: ")),
        )
    };
    let mut told = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (told.next(), told.next()) else {
        return Err(refuse("the body needs one content type, also where it is `{}`"));
    };
    let text = value.to_str().unwrap_or("").to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    if !parts.next().is_some_and(|essence| types.contains(&essence)) {
        return Err(refuse(&format!("this call takes no body of type `{text}`")));
    }
    for part in parts.filter(|part| part.starts_with("charset=")) {
        if !matches!(part, "charset=utf-8" | "charset=\"utf-8\"") {
            return Err(refuse(&format!("`{part}` is not understood, only UTF-8 is")));
        }
    }
    Ok(())
}

/// Reads a body to its end, within its limits.
pub(crate) async fn read(body: Body, max: usize, time: Duration) -> Result<Bytes, Failure> {
    let limited = Limited::new(body, max);
    match tokio::time::timeout(time, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::new(
            Code::TooLarge,
            format!("the body is longer than {max} bytes, the most that this call takes"),
        )),
        Ok(Err(error)) => {
            Err(Failure::new(Code::BadRequest, format!("the body broke off: {error}")))
        }
        Err(_) => Err(Failure::new(
            Code::SlowBody,
            format!("the body did not arrive within {} s", time.as_secs()),
        )),
    }
}

/// Parses JSON; every fault is told with its line, column and field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    if bytes.is_empty() {
        return Err(Failure::new(Code::BadBody, "the body is empty; send at least `{}`"));
    }
    // Serde would take the fields of an object from an array too, in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Failure::new(Code::BadBody, "the body is no JSON object; send one, like `{}`"));
    }
    let mut source = serde_json::Deserializer::from_slice(bytes);
    let fault = match serde_path_to_error::deserialize(&mut source) {
        Ok(value) => match source.end() {
            Ok(()) => return Ok(value),
            Err(error) => fault(String::new(), &error),
        },
        Err(error) => {
            let field = error.path().to_string();
            fault(
                if matches!(field.as_str(), "." | "?") { String::new() } else { field },
                error.inner(),
            )
        }
    };
    let place = if fault.field.is_empty() { String::new() } else { format!("{}: ", fault.field) };
    let detail = format!("{place}{}; {}", fault.problem, fault.fix);
    Err(Failure::new(Code::BadBody, detail).with(vec![fault]))
}

fn fault(field: String, error: &serde_json::Error) -> file::Problem {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(place.as_str()).unwrap_or(&text);
    let (problem, fix) = match text.split_once(", expected ") {
        Some((problem, expected)) => (problem.to_owned(), format!("write {expected}")),
        None if error.is_data() => {
            (text.to_owned(), "GET /openapi.json says what this call takes".to_owned())
        }
        None => (format!("this is no JSON: {text}"), "send one JSON object".to_owned()),
    };
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    file::Problem {
        file: None,
        line: number(error.line()),
        column: number(error.column()),
        field,
        problem,
        fix,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::api::problem::Problem;
    use crate::api::request::Step;

    fn problem(failure: &Failure) -> Problem {
        serde_json::from_slice(&failure.body()).unwrap()
    }

    #[test]
    fn a_fault_in_json_names_its_field() {
        let cases = [
            ("", "", "empty"),
            ("{", "", "no JSON"),
            ("{} x", "", "no JSON"),
            ("[]", "", "no JSON object"),
            ("3", "", "no JSON object"),
            (r#"{"why":"x"}"#, "why", "unknown field `why`"),
            ("{\n \"reason\": 3}", "reason", "invalid type: integer `3`"),
            (r#"{"override":["acks","-"]}"#, "override", "gate name"),
        ];
        for (text, field, part) in cases {
            let failure = parse::<Step>(text.as_bytes()).unwrap_err();
            let problem = problem(&failure);
            assert_eq!((problem.status, problem.code), (400, Code::BadBody), "{text}");
            assert!(problem.detail.contains(part), "{text}: {}", problem.detail);
            assert_eq!(problem.errors.first().map_or("", |fault| &fault.field), field, "{text}");
        }
        let failure = parse::<Step>(b"{\n \"reason\": 3}").unwrap_err();
        assert_eq!(problem(&failure).errors[0].line, 2);
    }

    #[test]
    fn only_types_that_no_page_can_send_unasked_are_taken() {
        let cases: [(&[&str], bool); 9] = [
            (&["application/json"], true),
            (&["Application/JSON; charset=UTF-8"], true),
            (&["application/json;charset=\"utf-8\""], true),
            (&["application/json; charset=latin1"], false),
            (&["text/plain"], false),
            (&["application/x-www-form-urlencoded"], false),
            (&["application/jsonx"], false),
            (&[], false),
            (&["application/json", "text/plain"], false),
        ];
        for (values, fine) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_TYPE, HeaderValue::from_static(value));
            }
            let result = want_type(&headers, &["application/json"]);
            assert_eq!(result.is_ok(), fine, "{values:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_limited_in_length_and_time() {
        let time = Duration::from_secs(1);
        assert_eq!(read(Body::from("1234"), 4, time).await.unwrap(), "1234");
        let failure = read(Body::from("12345"), 4, time).await.unwrap_err();
        assert_eq!(failure.into_response().status(), 413);
        let silent = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let failure = read(Body::from_stream(silent), 4, time).await.unwrap_err();
        assert_eq!(failure.into_response().status(), 408);
    }
}
