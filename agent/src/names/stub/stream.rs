//! TCP: plan names are answered, every other message goes to an upstream over TCP and its answers
//! come back, both as they are. Several answers to one query (zone transfers) pass too.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use dns::Transport;
use dns::wire::Query;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::PIPELINE_MAX;
use super::frames::Frames;
use super::race::is_refusal;
use super::world::{Seat, Verdict, World};
use crate::names::answers::servfail;

/// How long a connection may be silent on both sides where nothing waits (RFC 7766 section 6.2.3:
/// some seconds).
const IDLE: Duration = Duration::from_secs(10);

/// How long an upstream may take to accept a connection before the next one is asked.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// How long either side may take to take up what is sent to it.
const SEND_WAIT: Duration = Duration::from_secs(5);

/// Pause after an error of accepting, mostly that there are no more descriptors.
const FAULT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for ever.
pub(super) async fn serve(world: Rc<World>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (world, seat) = (world.clone(), world.seat());
                tokio::task::spawn_local(async move {
                    let conversation = Conversation::new(&world, &seat, Frames::new(stream));
                    // Whatever ends a conversation, the client sees that it has ended.
                    tokio::select! {
                        _ = conversation.run() => {}
                        () = seat.is_lost() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting DNS connections failed; trying again");
                sleep(FAULT_PAUSE).await;
            }
        }
    }
}

/// A client's connection and the one to an upstream that serves it.
struct Conversation<'a> {
    world: &'a World,
    seat: &'a Seat,
    client: Frames,
    upstream: Option<Upstream>,
    /// Relayed and not answered: asked again elsewhere when the upstream does not answer.
    waiting: VecDeque<Waiting>,
    /// Upstreams that did not answer what waits.
    passed: Vec<SocketAddr>,
    /// When either side said something last.
    heard: Instant,
    /// When what waits was asked, or one of it answered.
    asked: Instant,
    has_ended: bool,
    out: Vec<u8>,
}

/// A connection to an upstream.
struct Upstream {
    server: SocketAddr,
    frames: Frames,
    /// Something was answered on it.
    has_answered: bool,
}

/// A relayed query.
struct Waiting {
    message: Bytes,
    /// What an upstream said that another may know better.
    refusal: Option<Bytes>,
}

impl<'a> Conversation<'a> {
    fn new(world: &'a World, seat: &'a Seat, client: Frames) -> Self {
        let now = Instant::now();
        Self {
            world,
            seat,
            client,
            upstream: None,
            waiting: VecDeque::new(),
            passed: Vec::new(),
            heard: now,
            asked: now,
            has_ended: false,
            out: Vec::new(),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        while !(self.has_ended && self.waiting.is_empty()) {
            let has_room = !self.has_ended && self.waiting.len() < PIPELINE_MAX;
            let until = self.until();
            let upstream = &mut self.upstream;
            let from_upstream = async {
                match upstream {
                    Some(upstream) => upstream.frames.next().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                message = self.client.next(), if has_room => {
                    self.heard = Instant::now();
                    match message? {
                        Some(message) => self.asked(message).await?,
                        None => self.has_ended = true,
                    }
                }
                message = from_upstream => {
                    self.heard = Instant::now();
                    match message {
                        Ok(Some(message)) => self.answered(message).await?,
                        Ok(None) | Err(_) => self.upstream_went().await?,
                    }
                }
                () = sleep_until(until) => match self.waiting.is_empty() {
                    true => return Ok(()),
                    false => self.pass().await?,
                },
            }
        }
        Ok(())
    }

    /// When this has lasted too long: an upstream that does not answer what waits has its share of
    /// the time that is given to all, and a connection on which nothing waits may be silent.
    fn until(&self) -> Instant {
        if self.waiting.is_empty() {
            return self.heard + IDLE;
        }
        let upstreams = self.world.upstreams();
        let count = u32::try_from(upstreams.servers().len()).unwrap_or(u32::MAX).max(1);
        self.asked + upstreams.timeout() / count
    }

    async fn asked(&mut self, message: Bytes) -> io::Result<()> {
        let mut out = std::mem::take(&mut self.out);
        let verdict = self.world.judge(&message, Transport::Tcp, &mut out);
        self.out = out;
        match verdict {
            Verdict::Silence => Ok(()),
            Verdict::Answer => {
                self.seat.answered();
                within(self.client.send(&self.out)).await
            }
            Verdict::Relay => {
                if self.waiting.is_empty() {
                    self.asked = Instant::now();
                }
                self.waiting.push_back(Waiting { message: message.clone(), refusal: None });
                let sent = match &mut self.upstream {
                    Some(upstream) => within(upstream.frames.send(&message)).await.is_ok(),
                    None => return self.ask_again().await,
                };
                if sent { Ok(()) } else { self.upstream_went().await }
            }
        }
    }

    async fn answered(&mut self, message: Bytes) -> io::Result<()> {
        let is_its = |one: &Waiting| one.message.get(..2) == message.get(..2);
        let Some(at) = self.waiting.iter().position(is_its) else {
            // One more answer to what was answered, as in a zone transfer.
            return within(self.client.send(&message)).await;
        };
        if is_refusal(&message) {
            let another = self.others().next().is_some();
            if let Some(waiting) = self.waiting.get_mut(at).filter(|_| another) {
                waiting.refusal.get_or_insert(message);
                return self.ask_another().await;
            }
        }
        let refused = self.waiting.remove(at).and_then(|waiting| waiting.refusal);
        let message = refused.filter(|_| is_refusal(&message)).unwrap_or(message);
        self.asked = Instant::now();
        if let Some(upstream) = &mut self.upstream {
            upstream.has_answered = true;
        }
        if self.waiting.is_empty() {
            self.passed.clear();
        }
        self.world.meter().forwarded.add();
        self.seat.answered();
        within(self.client.send(&message)).await
    }

    /// The connection to an upstream has gone. One on which something was answered was only closed,
    /// as servers do when they please: it is asked on another.
    async fn upstream_went(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() || self.upstream.as_ref().is_some_and(|it| it.has_answered) {
            self.upstream = None;
            return self.ask_again().await;
        }
        self.pass().await
    }

    /// It does not answer what waits.
    async fn pass(&mut self) -> io::Result<()> {
        if let Some(upstream) = &self.upstream {
            self.world.mark_down(upstream.server);
        }
        self.ask_another().await
    }

    async fn ask_another(&mut self) -> io::Result<()> {
        self.passed.extend(self.upstream.take().map(|upstream| upstream.server));
        self.ask_again().await
    }

    /// Who can still be asked, in their order.
    fn others(&self) -> impl Iterator<Item = SocketAddr> {
        let now = self.upstream.as_ref().map(|upstream| upstream.server);
        let order = self.world.order(&self.world.upstreams()).into_iter();
        order.filter(move |server| now != Some(*server) && !self.passed.contains(server))
    }

    /// Asks what waits of the next upstream that can be had.
    async fn ask_again(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            let next = self.others().next();
            let Some(server) = next else { return self.give_up().await };
            let connected = Frames::connect(server, self.world.shared.mark);
            if let Ok(Ok(mut frames)) = timeout(CONNECT_WAIT, connected).await {
                let mut all_sent = true;
                for waiting in &self.waiting {
                    all_sent &= within(frames.send(&waiting.message)).await.is_ok();
                }
                if all_sent {
                    self.upstream = Some(Upstream { server, frames, has_answered: false });
                    self.asked = Instant::now();
                    return Ok(());
                }
            }
            self.world.mark_down(server);
            self.passed.push(server);
        }
        Ok(())
    }

    /// Nobody answers what waits.
    async fn give_up(&mut self) -> io::Result<()> {
        self.passed.clear();
        for Waiting { message, refusal } in std::mem::take(&mut self.waiting) {
            if let Some(refusal) = refusal {
                self.world.meter().forwarded.add();
                within(self.client.send(&refusal)).await?;
                continue;
            }
            self.world.meter().failed.add();
            let Some(query) = Query::parse(&message) else { continue };
            servfail(&query, &mut self.out);
            within(self.client.send(&self.out)).await?;
        }
        Ok(())
    }
}

async fn within(sending: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(SEND_WAIT, sending).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
