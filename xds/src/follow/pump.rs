//! The pump: network, disk and sink around [`session`].

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, aggregated_discovery_service_client as ads,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::causes::{chain, with_causes};
use crate::follow::session::{self, Answered};
use crate::follow::{Again, Applied, Follower, Kept, Link, Refusal, Sink};
use crate::name::Name;

/// The longest message taken, in bytes: the longest zone text and a response around it.
const MESSAGE_MAX: usize = 288 << 20;

/// Requests that may wait to be sent: an answer for each response, one a type at first.
const REQUESTS_MAX: usize = 64;

/// How long after something could not be kept it is asked for again: doubled each time.
const KEEP_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// When to ask again for what could not be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unkept {
    at: Instant,
    pause: Duration,
    /// Everything was asked for, so that what is kept now is all that was not.
    asked: bool,
}

impl Unkept {
    /// Once more, `before` which it was not kept either.
    fn after(before: Option<Self>) -> Self {
        let [least, most] = KEEP_AGAIN;
        let pause = before.map_or(least, |before| before.pause.saturating_mul(2).min(most));
        Self { at: Instant::now() + pause, pause, asked: false }
    }
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Something is to be asked for again.
    Again,
    /// The other end has gone; its words.
    Gone(String),
    /// The other end does not serve something that is asked for; its words.
    Unserved(String),
}

impl End {
    /// By what the other end said last.
    fn of(status: &tonic::Status) -> Self {
        match status.code() == tonic::Code::Unimplemented {
            true => Self::Unserved(said(status)),
            false => Self::Gone(said(status)),
        }
    }
}

/// A response that waits for something else before it is answered.
#[derive(Debug)]
struct Waiting {
    response: Answered,
    named: Vec<Name>,
    refused: Vec<Refusal>,
    what: String,
    until: Instant,
}

impl Follower {
    /// Follows until dropped. `links` says who is followed, `None` while nobody is; `random` gives
    /// 64 random bits at a time.
    pub async fn run<S: Sink>(
        mut self,
        mut sink: S,
        links: watch::Sender<Option<Link>>,
        mut again: watch::Receiver<Again>,
        mut random: impl FnMut() -> u64,
    ) {
        loop {
            let address = self.dial.address();
            let end = match self.dial.connect().await {
                Ok(channel) => self.stream(channel, &mut sink, &links, &mut again).await,
                Err(error) => End::Gone(chain(&error)),
            };
            links.send_if_modified(|link| link.take().is_some());
            let why = match end {
                End::Again => continue,
                // Who comes next may be newer.
                End::Gone(why) => {
                    self.without = false;
                    why
                }
                End::Unserved(why) if self.extra > 0 && !self.without => {
                    tracing::warn!(%address, %why, "an older controller is followed without that");
                    self.without = true;
                    continue;
                }
                End::Unserved(why) => why,
            };
            let pause = self.dial.failed(random());
            self.away.send_replace(Some(format!("{address}: {why}").into()));
            tracing::warn!(%address, %why, ?pause, "the controller is away; stale is served");
            tokio::time::sleep(pause).await;
        }
    }

    async fn stream<S: Sink>(
        &mut self,
        channel: Channel,
        sink: &mut S,
        links: &watch::Sender<Option<Link>>,
        again: &mut watch::Receiver<Again>,
    ) -> End {
        let asked = again.borrow_and_update().clone();
        let (requests, sending) = mpsc::channel(REQUESTS_MAX);
        for request in session::open(&self.node, self.asked(), &asked) {
            if requests.send(request).await.is_err() {
                return End::Gone("the stream ended".to_owned());
            }
        }
        let mut client = ads::AggregatedDiscoveryServiceClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_MAX);
        let opened = client.delta_aggregated_resources(ReceiverStream::new(sending)).await;
        let mut responses = match opened {
            Ok(responses) => responses.into_inner(),
            Err(status) => return End::of(&status),
        };
        let address = self.dial.address();
        tracing::info!(%address, "following");
        self.away.send_replace(None);
        links.send_replace(Some(Link { address, channel }));
        self.exchange(&mut responses, &requests, sink, again, asked.round).await
    }

    async fn exchange<S: Sink>(
        &mut self,
        responses: &mut Streaming<DeltaDiscoveryResponse>,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
        sink: &mut S,
        again: &mut watch::Receiver<Again>,
        round: u64,
    ) -> End {
        let mut waiting: Vec<Waiting> = Vec::new();
        loop {
            let late = at(waiting.iter().map(|waiting| waiting.until).min());
            let unkept = self.types.iter().filter_map(|kept| kept.unkept);
            let keep_again = at(unkept.map(|unkept| unkept.at).min());
            let answers = tokio::select! {
                // What is asked for again first: it is the operator of this machine who waits.
                biased;
                Ok(()) = again.changed() => {
                    if again.borrow_and_update().round != round {
                        return End::Again;
                    }
                    continue;
                }
                () = late => give_up(&mut waiting),
                () = keep_again => self.ask_again(),
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        self.dial.worked();
                        let mut answers = self.take(response, sink, &mut waiting).await;
                        answers.extend(settle(&mut waiting, sink).await);
                        answers
                    }
                    Ok(None) => return End::Gone("it closed the stream".to_owned()),
                    Err(status) => return End::of(&status),
                },
            };
            for answer in answers {
                if requests.send(answer).await.is_err() {
                    return End::Gone("the stream ended".to_owned());
                }
            }
        }
    }

    /// Asks for everything of the types that could not be kept: the disk may have room again.
    fn ask_again(&mut self) -> Vec<DeltaDiscoveryRequest> {
        let now = Instant::now();
        let due = |kept: &&mut Kept| kept.unkept.is_some_and(|unkept| unkept.at <= now);
        let ask = |kept: &mut Kept| {
            kept.unkept = Some(Unkept { asked: true, ..Unkept::after(kept.unkept) });
            session::all(&kept.held.type_url)
        };
        self.types.iter_mut().filter(due).map(ask).collect()
    }

    /// Compares, persists, applies; then answers, unless it has to wait.
    async fn take<S: Sink>(
        &mut self,
        response: DeltaDiscoveryResponse,
        sink: &mut S,
        waiting: &mut Vec<Waiting>,
    ) -> Vec<DeltaDiscoveryRequest> {
        let found =
            self.types.iter_mut().find(|kept| kept.held.type_url.as_str() == response.type_url);
        let Some(kept) = found else {
            tracing::warn!(type_url = %response.type_url, "a response of a type not asked for");
            return Vec::new();
        };
        let type_url = kept.held.type_url.clone();
        let answered = Answered { type_url: type_url.clone(), nonce: response.nonce.clone() };
        let mut check = |name: &str, body: &bytes::Bytes, held: Option<&super::Item>| {
            sink.check(&type_url, name, body, held)
        };
        let judged = session::judge(&kept.held, response, &mut check);
        let mut refused = judged.refused;
        if let Some(held) = judged.held {
            match kept.keep(Arc::new(held)).await {
                Ok(()) => {}
                Err(why) => {
                    kept.unkept = Some(Unkept::after(kept.unkept));
                    tracing::error!(%why, "nothing is taken that cannot be kept");
                    refused.push(Refusal { name: None, why });
                    return vec![session::answer(&answered, &refused)];
                }
            }
        }
        // Something was kept, and there is room again.
        kept.unkept = kept.unkept.filter(|unkept| !unkept.asked);
        if let Some(unkept) = &mut kept.unkept {
            unkept.at = Instant::now();
        }
        let Applied { refused: unfit, waits } = sink.apply(&kept.held, &judged.named).await;
        if let Some(what) = waits {
            let until = Instant::now() + Self::WAIT_MAX;
            let named = judged.named;
            waiting.push(Waiting { response: answered, named, refused, what, until });
            return Vec::new();
        }
        refused.extend(concerning(unfit, &judged.named));
        tell(&answered, &refused);
        vec![session::answer(&answered, &refused)]
    }
}

impl Kept {
    /// Puts it on disk, then holds it.
    async fn keep(&mut self, held: Arc<super::Held>) -> Result<(), String> {
        let (slots, next) = (Arc::clone(&self.slots), Arc::clone(&held));
        let write =
            move || slots.lock().unwrap_or_else(PoisonError::into_inner).write(&next.encode());
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {
                self.held = held;
                Ok(())
            }
            Ok(Err(error)) => Err(chain(&error)),
            Err(error) => Err(chain(&error)),
        }
    }
}

/// Waits until then; for ever where there is no such moment.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Answers what has come to all it waited for.
async fn settle<S: Sink>(waiting: &mut Vec<Waiting>, sink: &mut S) -> Vec<DeltaDiscoveryRequest> {
    let mut answers = Vec::new();
    for mut waits in std::mem::take(waiting) {
        let Applied { refused, waits: still } = sink.applied(&waits.response.type_url).await;
        match still {
            Some(what) => waiting.push(Waiting { what, ..waits }),
            None => {
                waits.refused.extend(concerning(refused, &waits.named));
                tell(&waits.response, &waits.refused);
                answers.push(session::answer(&waits.response, &waits.refused));
            }
        }
    }
    answers
}

/// Refuses what has waited too long.
fn give_up(waiting: &mut Vec<Waiting>) -> Vec<DeltaDiscoveryRequest> {
    let now = Instant::now();
    let (late, rest) = std::mem::take(waiting).into_iter().partition(|w| w.until <= now);
    *waiting = rest;
    let late: Vec<Waiting> = late;
    let refuse = |mut waits: Waiting| {
        waits.refused.push(Refusal { name: None, why: waits.what });
        tell(&waits.response, &waits.refused);
        session::answer(&waits.response, &waits.refused)
    };
    late.into_iter().map(refuse).collect()
}

/// What a response is refused for is something that it named: of the rest its server has heard.
fn concerning(refused: Vec<Refusal>, named: &[Name]) -> impl Iterator<Item = Refusal> + '_ {
    let concerns = move |refusal: &Refusal| match &refusal.name {
        Some(name) => named.contains(name),
        None => true,
    };
    refused.into_iter().filter(concerns)
}

fn tell(response: &Answered, refused: &[Refusal]) {
    for Refusal { name, why } in refused {
        let name = name.as_ref().map_or("*", Name::as_str);
        tracing::warn!(type_url = response.type_url.short(), name, %why, "refused");
    }
}

/// What the other end said, for its operator to read: the code's number says no more.
fn said(status: &tonic::Status) -> String {
    match status.message() {
        "" => with_causes(status.code().to_string(), status),
        message => with_causes(message.to_owned(), status),
    }
}
