//! One discovery stream: requests of HTTP/2 in, chunks of responses out, the session in between.
//!
//! The response's body does all of it when it is polled, in the task that hyper has for the stream
//! anyway. No task, channel or timer of its own is kept while nothing happens.

use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use prost::Message as _;
use tokio::time::Sleep;

use super::counts::Bad;
use super::frames::{Inbox, Outbox};
use super::pace::Bucket;
use super::shared::{Seat, Shared};
use super::status;
use crate::client::Identity;
use crate::registry::hub::Slot;
use crate::session::{Close, Code, Next, Opened, Progress, Request, Response, Session, Variant};
use crate::table::Tables;

/// Messages that are read before other streams have their turn.
const TURN: usize = 32;

/// What a request of so many bytes costs as much as another one.
const BYTES_PER_REQUEST: usize = 16 << 10;

/// How long a client has to ask for more after what it asked for first: Envoy asks for endpoints
/// once it has clusters. With [`super::Limits::FILLING`] it allows the arrivals that are allowed.
const YOUNG: Duration = Duration::from_millis(50);

/// The least time that a timer is set to, so that a moment in the past costs no core.
const TICK: Duration = Duration::from_millis(1);

/// One discovery stream.
pub(super) struct Pump {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    seat: Seat,
    /// Until when the connection counts as young at least.
    young_until: Option<Duration>,
    variant: Variant,
    session: Session,
    incoming: Incoming,
    inbox: Inbox,
    /// A request whose turn has not come.
    held: Option<Bytes>,
    outbox: Outbox,
    requests: Bucket,
    told: Progress,
    joined: bool,
    /// Until when the first request, or the rest of one, must have come.
    read_by: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Its trailers are out, or cannot go out.
    over: bool,
}

/// What became of reading.
enum Read {
    /// There is no more now; ask again at this moment if nothing else happens.
    Waits(Option<Duration>),
    /// The client is done.
    Ended,
    /// The connection broke.
    Broke,
}

impl Pump {
    pub(super) fn new(
        shared: Arc<Shared>,
        slot: Arc<Slot>,
        seat: Seat,
        (opened, identity): (Opened, Option<Arc<Identity>>),
        incoming: Incoming,
    ) -> Self {
        let limits = shared.limits;
        Self {
            slot,
            seat,
            young_until: Some(shared.clock.uptime() + YOUNG),
            variant: opened.variant,
            session: Session::new(opened, Arc::clone(&shared.rules)).of(identity),
            incoming,
            inbox: Inbox::new(limits.message_bytes),
            held: None,
            outbox: Outbox::default(),
            requests: Bucket::new(limits.requests_per_second, limits.requests_burst),
            told: Progress::default(),
            joined: false,
            read_by: Some(shared.clock.uptime() + limits.first_request),
            timer: None,
            over: false,
            shared,
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.slot.was_taken();
        if let Some(chunk) = self.outbox.next() {
            return self.give(chunk);
        }
        if self.over {
            return Poll::Ready(None);
        }
        // Before looking, so that what is published while we look wakes us again.
        self.slot.waker.register(cx.waker());
        if self.shared.hub.is_stopping() {
            let message = "the server is going away; connect again, here or elsewhere".to_owned();
            return self.end(&Close { code: Code::Unavailable, message });
        }
        let shared = Arc::clone(&self.shared);
        let now = shared.clock.uptime();
        let tables = shared.hub.look();
        let wake = match self.read(cx, &tables, now) {
            Ok(Read::Waits(wake)) => wake,
            Ok(Read::Ended) => return self.finish(status::fine()),
            Ok(Read::Broke) => {
                self.over = true;
                return Poll::Ready(None);
            }
            Err((bad, close)) => {
                shared.bad(bad, self.slot.peer, &close);
                return self.end(&close);
            }
        };
        let next = self.session.poll(&tables, now);
        drop(tables);
        self.tell();
        match next {
            Next::Send(response) => self.respond(response),
            Next::Wait(until) => {
                self.grow(now);
                self.wait([until, wake, self.read_by, self.young_until], now, cx);
                Poll::Pending
            }
        }
    }

    fn respond(&mut self, response: Response) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let counters = &self.shared.counters;
        counters.responses.add(1);
        counters.resources.add(response.resources);
        counters.bytes.add(response.len());
        self.outbox.put(response.parts);
        // It has a prefix, so there is one.
        let chunk = self.outbox.next().unwrap_or_default();
        self.give(chunk)
    }

    fn give(&self, chunk: Bytes) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.slot.gave(self.shared.clock.uptime());
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn end(&mut self, close: &Close) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.finish(status::closed(close))
    }

    fn finish(&mut self, trailers: HeaderMap) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.over = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    /// Reads what has come, as far as its turn has come.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        tables: &Tables,
        now: Duration,
    ) -> Result<Read, (Bad, Close)> {
        for _ in 0..TURN {
            let message = match self.held.take() {
                Some(message) => Some(message),
                None => self.inbox.next().map_err(|close| (Bad::Message, close))?,
            };
            let Some(message) = message else {
                match Pin::new(&mut self.incoming).poll_frame(cx) {
                    Poll::Pending => return self.waits(now),
                    Poll::Ready(None) if self.inbox.is_amid() => return Ok(Read::Broke),
                    Poll::Ready(None) => return Ok(Read::Ended),
                    Poll::Ready(Some(Err(_))) => return Ok(Read::Broke),
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Ok(piece) = frame.into_data() {
                            self.inbox.put(piece);
                        }
                    }
                }
                continue;
            };
            self.read_by = None;
            let cost = 1 + u32::try_from(message.len() / BYTES_PER_REQUEST).unwrap_or(u32::MAX - 1);
            if let Err(wait) = self.requests.take_many(cost, now) {
                self.shared.bad(Bad::Flood, self.slot.peer, &"requests come faster than is read");
                self.held = Some(message);
                return Ok(Read::Waits(Some(now + wait)));
            }
            self.request(message, tables, now)?;
        }
        cx.waker().wake_by_ref();
        Ok(Read::Waits(None))
    }

    /// There is nothing more to read now.
    fn waits(&mut self, now: Duration) -> Result<Read, (Bad, Close)> {
        if self.inbox.is_amid() && self.read_by.is_none() {
            self.read_by = Some(now + self.shared.limits.first_request);
        }
        if self.read_by.is_some_and(|by| by <= now) {
            let message = "no whole request came in time; the stream is closed".to_owned();
            return Err((Bad::Silent, Close { code: Code::Unavailable, message }));
        }
        Ok(Read::Waits(None))
    }

    fn request(
        &mut self,
        message: Bytes,
        tables: &Tables,
        now: Duration,
    ) -> Result<(), (Bad, Close)> {
        let bad = |error: prost::DecodeError| {
            (Bad::Message, Close::invalid(format!("the message is no discovery request: {error}")))
        };
        // Decoded from a slice: fields of bytes are copied and do not hold the read buffer.
        let (request, acks, nacks) = match self.variant {
            Variant::Sotw => {
                let request =
                    proto::envoy::service::discovery::v3::DiscoveryRequest::decode(&*message)
                        .map_err(bad)?;
                let (nonce, nack) = (&request.response_nonce, request.error_detail.is_some());
                let (acks, nacks) = answers(nonce, nack);
                (Request::Sotw(Box::new(request)), acks, nacks)
            }
            Variant::Delta => {
                let request =
                    proto::envoy::service::discovery::v3::DeltaDiscoveryRequest::decode(&*message)
                        .map_err(bad)?;
                let (nonce, nack) = (&request.response_nonce, request.error_detail.is_some());
                let (acks, nacks) = answers(nonce, nack);
                (Request::Delta(Box::new(request)), acks, nacks)
            }
        };
        let counters = &self.shared.counters;
        counters.requests.add(1);
        counters.acks.add(acks);
        counters.nacks.add(nacks);
        self.session.request(request, tables, now).map_err(|close| {
            let bad = match close.code {
                Code::ResourceExhausted => Bad::Limit,
                Code::InvalidArgument
                | Code::PermissionDenied
                | Code::Unimplemented
                | Code::Unavailable => Bad::Request,
                Code::Unauthenticated => Bad::Stranger,
            };
            (bad, close)
        })
    }

    /// Whoever has what it asked for, and has had time to ask for more, makes room for another one.
    fn grow(&mut self, now: Duration) {
        let Some(until) = self.young_until else { return };
        if self.session.is_in_step() && until <= now {
            self.young_until = None;
            self.shared.grow(&self.seat.line);
        } else if until <= now {
            // Its next ack wakes it.
            self.young_until = Some(now + YOUNG);
        }
    }

    /// Tells the registry what changed.
    fn tell(&mut self) {
        let progress = self.session.progress();
        if !self.joined {
            if let Some(met) = self.session.met() {
                self.joined = true;
                self.told = progress.clone();
                self.shared.hub.join(&self.slot, met.clone(), progress);
            }
        } else if *progress != self.told {
            self.told = progress.clone();
            self.shared.hub.moved(&self.slot, progress);
        }
    }

    /// Has the task woken at the first of these moments.
    fn wait(&mut self, moments: [Option<Duration>; 4], now: Duration, cx: &mut Context<'_>) {
        let Some(first) = moments.into_iter().flatten().min() else {
            self.timer = None;
            return;
        };
        let at = self.shared.clock.at(first.max(now + TICK));
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.shared.hub.leave(&self.slot, self.shared.clock.uptime());
    }
}

/// Acks and nacks in a request.
fn answers(nonce: &str, nack: bool) -> (usize, usize) {
    let answers = !nonce.is_empty();
    (usize::from(answers && !nack), usize::from(answers && nack))
}
