//! TCP: plan names are answered, every other message goes to an upstream over TCP and its answers
//! come back, both as they are. Several answers to one query (zone transfers) pass too.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dns::Transport;
use dns::wire::Query;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::frames::Frames;
use super::world::{Verdict, World};
use super::{PIPELINE_MAX, STREAMS_MAX};
use crate::names::answers::servfail;

/// How long a connection may be silent on both sides (RFC 7766 section 6.2.3: some seconds).
const IDLE: Duration = Duration::from_secs(10);

/// How long an upstream may take to accept a connection before the next one is asked.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// How long either side may take to take up what is sent to it.
const SEND_WAIT: Duration = Duration::from_secs(5);

/// Pause after an error of accepting, mostly that there are no more descriptors.
const FAULT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for ever.
pub(super) async fn serve(world: Rc<World>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(STREAMS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let world = world.clone();
                tokio::task::spawn_local(async move {
                    // Whatever ends a conversation, the client sees that it has ended.
                    let _ = Conversation::new(&world, Frames::new(stream)).run().await;
                    drop(place);
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
    client: Frames,
    upstream: Option<(SocketAddr, Frames)>,
    /// Relayed and not answered: asked again elsewhere when the upstream goes.
    waiting: VecDeque<Bytes>,
    /// Connections made since the last answer.
    tries: usize,
    has_ended: bool,
    out: Vec<u8>,
}

impl<'a> Conversation<'a> {
    fn new(world: &'a World, client: Frames) -> Self {
        Self {
            world,
            client,
            upstream: None,
            waiting: VecDeque::new(),
            tries: 0,
            has_ended: false,
            out: Vec::new(),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        while !(self.has_ended && self.waiting.is_empty()) {
            let has_room = !self.has_ended && self.waiting.len() < PIPELINE_MAX;
            let upstream = &mut self.upstream;
            let from_upstream = async {
                match upstream {
                    Some((_, upstream)) => upstream.next().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                message = self.client.next(), if has_room => match message? {
                    Some(message) => self.asked(message).await?,
                    None => self.has_ended = true,
                },
                message = from_upstream => match message {
                    Ok(Some(message)) => self.answered(&message).await?,
                    Ok(None) | Err(_) => self.upstream_went().await?,
                },
                () = sleep(IDLE) => return self.give_up().await,
            }
        }
        Ok(())
    }

    async fn asked(&mut self, message: Bytes) -> io::Result<()> {
        let mut out = std::mem::take(&mut self.out);
        let verdict = self.world.judge(&message, Transport::Tcp, &mut out);
        self.out = out;
        match verdict {
            Verdict::Silence => Ok(()),
            Verdict::Answer => within(self.client.send(&self.out)).await,
            Verdict::Relay => {
                self.waiting.push_back(message.clone());
                let sent = match &mut self.upstream {
                    Some((_, upstream)) => within(upstream.send(&message)).await,
                    None => Err(io::ErrorKind::NotConnected.into()),
                };
                if sent.is_err() { self.upstream_went().await } else { Ok(()) }
            }
        }
    }

    async fn answered(&mut self, message: &Bytes) -> io::Result<()> {
        let asked = self.waiting.iter().position(|asked| asked.get(..2) == message.get(..2));
        if asked.and_then(|at| self.waiting.remove(at)).is_some() {
            self.world.meter().forwarded.add();
            self.tries = 0;
        }
        within(self.client.send(message)).await
    }

    /// There is no connection to an upstream, or no longer. One that is closed while nothing waits
    /// was only idle.
    async fn upstream_went(&mut self) -> io::Result<()> {
        if let Some((server, _)) = self.upstream.take()
            && !self.waiting.is_empty()
        {
            self.world.mark_down(server);
        }
        self.ask_again().await
    }

    /// Asks what waits of the next upstream that can be had.
    async fn ask_again(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            let order = self.world.order(&self.world.upstreams());
            // Those that went are asked last, so that the first is another one each time.
            let next = order.first().filter(|_| self.tries < order.len());
            let Some(server) = next.copied() else { return self.give_up().await };
            self.tries += 1;
            let connected = Frames::connect(server, self.world.shared.mark);
            let Ok(Ok(mut upstream)) = timeout(CONNECT_WAIT, connected).await else {
                self.world.mark_down(server);
                continue;
            };
            let mut all_sent = true;
            for message in &self.waiting {
                all_sent &= within(upstream.send(message)).await.is_ok();
            }
            if all_sent {
                self.upstream = Some((server, upstream));
                return Ok(());
            }
            self.world.mark_down(server);
        }
        Ok(())
    }

    /// Nobody answers what waits.
    async fn give_up(&mut self) -> io::Result<()> {
        self.tries = 0;
        for message in std::mem::take(&mut self.waiting) {
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
