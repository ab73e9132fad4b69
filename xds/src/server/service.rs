//! What a request of HTTP/2 is for: a discovery stream, another service, or nothing here.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::service::Routes;
use tower_service::Service as _;

use super::counts::Bad;
use super::doorman::{self, Service};
use super::paths::{Called, called};
use super::shared::{Line, Seat, Shared, lock};
use super::shares::Over;
use super::status;
use super::stream::Pump;
use crate::session::{Close, Code, Opened};

/// After how long a client may come again that found no room.
const AGAIN: Duration = Duration::from_secs(1);

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODINGS: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// A stream without an end, for nothing that a client without a certificate needs.
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Answers the requests of one connection.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) line: Arc<Line>,
    pub(super) routes: Routes,
}

/// A response, now or when another service has it.
pub(super) enum Answer {
    Now(Option<Response<Reply>>),
    Routed(Pin<Box<dyn Future<Output = Response<Reply>> + Send>>),
}

/// The body of a response.
pub(super) enum Reply {
    /// Nothing: it is all in the headers.
    Empty,
    /// A discovery stream.
    Stream(Box<Pump>),
    /// Another service's.
    Routed(Routed),
}

/// A body of another service, in its place.
pub(super) struct Routed {
    body: tonic::body::Body,
    _place: Place,
}

/// The place of a stream of another service; leaves when dropped.
pub(super) struct Place {
    seat: Seat,
    /// Among the calls from there on connections on which nobody is known; `None`: among all else.
    stranger: Option<IpAddr>,
}

impl hyper::service::Service<Request<Incoming>> for Desk {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        match called(request.uri().path()) {
            Called::Stream(opened) => Answer::Now(Some(self.stream(opened, request))),
            Called::Fetch => Answer::Now(Some(refusal(status::closed(&Close {
                code: Code::Unimplemented,
                message: "single requests are not answered; open a stream".to_owned(),
            })))),
            Called::Other => self.route(request),
        }
    }
}

impl Desk {
    fn stream(&self, opened: Opened, request: Request<Incoming>) -> Response<Reply> {
        if let Some(answer) = not_grpc(&request) {
            return answer;
        }
        let shared = &self.shared;
        let full = |what: &str, after: Duration| {
            shared.counters.refused.add(1);
            shared.bad(Bad::Crowd, self.line.peer, &what);
            let close = Close {
                code: Code::Unavailable,
                message: format!("{what}; try again in {} ms", after.as_millis()),
            };
            refusal(status::closed_for(&close, after))
        };
        if shared.hub.is_stopping() {
            let message = "the server is going away; connect again, here or elsewhere".to_owned();
            return refusal(status::closed(&Close { code: Code::Unavailable, message }));
        }
        // First, so that who is refused takes nobody's turn.
        let identity = match doorman::admit(shared, &self.line, Service::Discovery) {
            Ok(identity) => identity,
            Err(close) => return refusal(status::closed(&close)),
        };
        let seat = match shared.seat(&self.line) {
            Ok(seat) => seat,
            Err(over) => return self.over(&over),
        };
        if let Err(wait) = shared.open() {
            seat.give_back();
            return full("streams are opened too fast", wait.max(AGAIN));
        }
        let now = shared.clock.uptime();
        let at = (self.line.peer, self.line.key);
        let Some(slot) = shared.hub.enter(at, opened.clone(), now, shared.limits.streams) else {
            seat.give_back();
            return full("there are as many streams as the server takes", AGAIN);
        };
        shared.counters.opened.add(1);
        // The headers of the request end here; only its body lives on.
        let pump =
            Pump::new(Arc::clone(shared), slot, seat, (opened, identity), request.into_body());
        let mut response = Response::new(Reply::Stream(Box::new(pump)));
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, GRPC);
        headers.insert(ENCODINGS, IDENTITY);
        response
    }

    fn route(&self, mut request: Request<Incoming>) -> Answer {
        let shared = &self.shared;
        match doorman::admit(shared, &self.line, Service::of(request.uri().path())) {
            Ok(Some(identity)) => drop(request.extensions_mut().insert(identity)),
            Ok(None) => {}
            Err(close) => return Answer::Now(Some(refusal(status::closed(&close)))),
        }
        request.extensions_mut().insert(self.line.peer());
        let is_stranger = self.line.is_stranger();
        if is_stranger && request.uri().path() == HEALTH_WATCH {
            let message = "health is watched by clients with a certificate; ask for it with Check";
            let close = Close { code: Code::Unimplemented, message: message.to_owned() };
            return Answer::Now(Some(refusal(status::closed(&close))));
        }
        let seat = match shared.seat(&self.line) {
            Ok(seat) => seat,
            Err(over) => return Answer::Now(Some(self.over(&over))),
        };
        let Some(place) = Place::take(seat, is_stranger) else {
            shared.counters.refused.add(1);
            let what = "there are as many calls as the server takes";
            shared.bad(Bad::Crowd, self.line.peer, &what);
            let close = Close { code: Code::Unavailable, message: what.to_owned() };
            return Answer::Now(Some(refusal(status::closed_for(&close, AGAIN))));
        };
        let mut routes = self.routes.clone();
        let answer = async move {
            let response = routes.call(request).await.unwrap_or_else(|never| match never {});
            response.map(|body| Reply::Routed(Routed { body, _place: place }))
        };
        if !is_stranger {
            return Answer::Routed(Box::pin(answer));
        }
        let in_time = tokio::time::timeout(shared.limits.stranger_call, answer);
        Answer::Routed(Box::pin(async move { in_time.await.unwrap_or_else(|_| slow()) }))
    }

    /// The answer to who has his share.
    fn over(&self, over: &Over) -> Response<Reply> {
        let close = self.shared.over(over, self.line.peer);
        refusal(status::closed_for(&close, over.wait().max(AGAIN)))
    }
}

/// The answer to a call that nobody waits for any more.
fn slow() -> Response<Reply> {
    let message = "the call took too long; try again".to_owned();
    refusal(status::closed_for(&Close { code: Code::Unavailable, message }, AGAIN))
}

/// An answer to what is no call of gRPC.
fn not_grpc(request: &Request<Incoming>) -> Option<Response<Reply>> {
    let status = if request.method() != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !is_grpc(request) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut response = Response::new(Reply::Empty);
    *response.status_mut() = status;
    Some(response)
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()))
}

/// A response that is over with its headers.
fn refusal(trailers: http::HeaderMap) -> Response<Reply> {
    let mut response = Response::new(Reply::Empty);
    *response.headers_mut() = trailers;
    response.headers_mut().insert(http::header::CONTENT_TYPE, GRPC);
    response
}

impl Future for Answer {
    type Output = Result<Response<Reply>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            // Asked again after it was given, which hyper does not do: it waits for ever.
            Self::Now(response) => response.take().map_or(Poll::Pending, |it| Poll::Ready(Ok(it))),
            Self::Routed(answer) => answer.as_mut().poll(cx).map(Ok),
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(pump) => pump.poll(cx).map_err(|never| match never {}),
            Self::Routed(routed) => Pin::new(&mut routed.body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(pump) => pump.is_over(),
            Self::Routed(routed) => routed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Stream(_) => SizeHint::default(),
            Self::Routed(routed) => routed.body.size_hint(),
        }
    }
}

impl Place {
    /// Takes a place; `None` where there is none.
    fn take(seat: Seat, is_stranger: bool) -> Option<Self> {
        let shared = &seat.shared;
        let stranger = is_stranger.then(|| seat.line.source());
        let is_there = match stranger {
            Some(source) => lock(&shared.stranger_calls).take(source, &shared.limits),
            None => {
                let is_there = shared.routed.fetch_add(1, Ordering::AcqRel) < shared.limits.streams;
                if !is_there {
                    shared.routed.fetch_sub(1, Ordering::AcqRel);
                }
                is_there
            }
        };
        if !is_there {
            seat.give_back();
            return None;
        }
        Some(Self { seat, stranger })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self.stranger {
            Some(source) => lock(&self.seat.shared.stranger_calls).give(source),
            None => drop(self.seat.shared.routed.fetch_sub(1, Ordering::AcqRel)),
        }
    }
}
