//! Connects the core to the store, the clock and everybody who asks.
//!
//! All waiting is here, none in the core: one loop takes what comes, hands it to the core and does
//! what the core says, in order. At most one append or reload, one write of the list of sinks and
//! one checkpoint are under way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dns::Catalog;
use futures::future::BoxFuture;
use plan::{Counts, Done, Facts, HostName, Plane, Snapshot, Source, Standing, State, Token};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::core::{AskError, Core, ForgetError, Input, Output, ReplyTo};
use crate::handle::numbers::Meters;
use crate::handle::{Bound, Handle, Knock, Shared, Shown, Stage};
use crate::identity::Authority;
use crate::planes::PlanePort;
use crate::planes::dns::DnsPort;
use crate::planes::mesh::{Followers, MeshPort};
use crate::pump::doors::{Doors, Event};
use crate::pump::load::Opened;
use crate::store::{AppendError, CHECKPOINT_EVERY, Head, Store};

pub use crate::pump::load::StartError;

mod doors;
mod keep;
mod load;
mod told;

/// How many commands wait in the channel before the core takes them over.
const ORDINARY_DOOR: usize = 256;

/// How many rollbacks wait in their channel; more wait with whoever asks.
const URGENT_DOOR: usize = 64;

/// How many observations, words of planes and sinks to forget wait; more wait with whoever says
/// them.
const OTHER_DOORS: usize = 256;

/// The pump, loaded and not yet running.
#[derive(Debug)]
pub struct Pump {
    core: Core,
    shared: Arc<Shared>,
    urgent: mpsc::Receiver<Knock>,
    doors: Doors,
    said: mpsc::Sender<Input>,
    shown: watch::Sender<Arc<Shown>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    catalog: Option<watch::Sender<Arc<Catalog>>>,
    /// Shared with readers, who make their own facts of it.
    zone_answers: Arc<BTreeMap<HostName, Vec<IpAddr>>>,
    replies: BTreeMap<u64, Reply>,
    last_reply: u64,
    work: Work,
    sinks_version: Option<u64>,
    wake: Option<Duration>,
    number: u64,
    checkpoint: Checkpointing,
    stopped: bool,
}

/// Who waits for an answer.
#[derive(Debug)]
enum Reply {
    Ask(oneshot::Sender<Result<Done, AskError>>),
    Forget(oneshot::Sender<Result<(), ForgetError>>),
}

/// What is under way to the store.
#[derive(Default)]
struct Work {
    log: Option<BoxFuture<'static, Input>>,
    sinks: Option<BoxFuture<'static, keep::Kept>>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (log, sinks) = (self.log.is_some(), self.sinks.is_some());
        f.debug_struct("Work").field("log", &log).field("sinks", &sinks).finish()
    }
}

#[derive(Debug)]
struct Checkpointing {
    /// The revision of the newest one.
    last: u64,
    writing: Option<JoinHandle<()>>,
}

/// A pump that runs.
#[derive(Debug)]
pub struct Running {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Running {
    /// Takes no more commands, finishes the commit in flight and waiting rollbacks, then ends.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the pump ended early");
        }
    }
}

impl Pump {
    /// Reads the log and makes ready. Nothing is served or committed before [`Pump::run`].
    ///
    /// # Errors
    /// The store cannot be read, or what it holds is no log of this version.
    pub async fn open(store: Arc<dyn Store>, clock: Clock) -> Result<(Handle, Self), StartError> {
        let opened = load::open(store.as_ref()).await?;
        Ok(Self::new(store, clock, opened))
    }

    fn new(store: Arc<dyn Store>, clock: Clock, opened: Opened) -> (Handle, Self) {
        let core = Core::new(Arc::new(opened.state), opened.expected);
        let first = Arc::new(shown(&core, &Arc::default(), 0));
        let (shown, shown_receiver) = watch::channel(first);
        let (catalog, catalog_receiver) = watch::channel(Arc::new(Catalog::empty()));
        let (ordinary, ordinary_receiver) = mpsc::channel(ORDINARY_DOOR);
        let (urgent, urgent_receiver) = mpsc::channel(URGENT_DOOR);
        let (observed, observed_receiver) = mpsc::channel(OTHER_DOORS);
        let (forget, forget_receiver) = mpsc::channel(OTHER_DOORS);
        let (said, said_receiver) = mpsc::channel(OTHER_DOORS);
        let snapshots = watch::Sender::new(Arc::clone(core.state().snapshot()));
        let shared = Arc::new(Shared {
            ordinary,
            urgent,
            observed,
            forget,
            shown: shown_receiver,
            catalog: catalog_receiver,
            store: Arc::clone(&store),
            clock,
            numbers: Meters::default(),
            stage: watch::Sender::new(Stage::Starting),
            bound: std::sync::RwLock::new(Bound::default()),
        });
        let handle = Handle { shared: Arc::clone(&shared) };
        let moved = store.watch(core.state().token());
        let doors = Doors {
            ordinary: ordinary_receiver,
            observed: observed_receiver,
            forget: forget_receiver,
            said: said_receiver,
            moved: Some(moved),
        };
        let pump = Self {
            core,
            shared,
            urgent: urgent_receiver,
            doors,
            said,
            shown,
            snapshots,
            catalog: Some(catalog),
            zone_answers: Arc::default(),
            replies: BTreeMap::new(),
            last_reply: 0,
            work: Work::default(),
            sinks_version: opened.sinks_version,
            wake: None,
            number: 0,
            checkpoint: Checkpointing { last: opened.checkpoint, writing: None },
            stopped: false,
        };
        (handle, pump)
    }

    /// Connects a plane. What it says reaches the core as long as the pump runs.
    pub fn port(&self, plane: Plane) -> PlanePort {
        let Followers { standing, counts } = self.followers(plane, Source::Plane);
        PlanePort { snapshots: self.snapshots.subscribe(), standing, counts }
    }

    fn followers(&self, plane: Plane, source: Source) -> Followers {
        let nothing = Standing { through: Token::NEVER, sinks: Arc::new([]) };
        let (standing, said) = watch::channel(nothing);
        let input = move |standing| Input::Standing(plane, source, standing);
        tokio::spawn(forward(said, self.said.clone(), input));
        let (counts, counted) = watch::channel(Counts::default());
        let input = move |counts| Input::Counted(plane, source, counts);
        tokio::spawn(forward(counted, self.said.clone(), input));
        Followers { standing, counts }
    }

    /// Connects the DNS plane of this process; once.
    pub fn dns_port(&mut self) -> Option<DnsPort> {
        let catalog = self.catalog.take()?;
        let (zone_answers, answered) = watch::channel(BTreeMap::new());
        tokio::spawn(forward(answered, self.said.clone(), Input::ZoneAnswers));
        let (store, clock) = (Arc::clone(&self.shared.store), self.shared.clock);
        Some(DnsPort { port: self.port(Plane::Dns), catalog, zone_answers, store, clock })
    }

    /// Connects the mesh plane, and the followers that it speaks for.
    pub fn mesh_port(&self, identity: Option<Authority>) -> MeshPort {
        MeshPort {
            port: self.port(Plane::Mesh),
            replicas: self.followers(Plane::Dns, Source::Followers),
            hosts: self.followers(Plane::Host, Source::Plane),
            store: Arc::clone(&self.shared.store),
            clock: self.shared.clock,
            identity,
            forget: self.shared.forget.clone(),
        }
    }

    /// Starts.
    pub fn run(self) -> Running {
        let (stop, stopped) = oneshot::channel();
        Running { task: tokio::spawn(self.pump(stopped)), stop }
    }

    async fn pump(mut self, mut stop: oneshot::Receiver<()>) {
        let mut stopping = false;
        self.feed(Input::Wake);
        while !self.stopped {
            let uptime = self.wake.map(|wake| self.shared.clock.at(wake));
            // Every arm may be dropped while it waits: channels keep what was not taken, and what
            // is under way to the store stays in `work`.
            tokio::select! {
                biased;
                Some(knock) = self.urgent.recv(), if self.core.has_urgent_room() => self.ask(knock),
                input = going(&mut self.work.log) => {
                    // A rollback that is there by now goes before what else waits.
                    self.take_urgent();
                    self.feed(input);
                }
                kept = going(&mut self.work.sinks) => {
                    self.sinks_version = kept.version;
                    self.feed(Input::Kept(kept.done));
                    self.show();
                }
                _ = &mut stop, if !stopping => {
                    stopping = true;
                    self.take_urgent();
                    self.shared.stage.send_replace(Stage::Stopping);
                    self.feed(Input::Stop);
                }
                event = self.doors.next() => self.event(event),
                () = sleep_until(uptime) => {
                    self.wake = None;
                    self.feed(Input::Wake);
                }
            }
        }
        self.finish().await;
    }

    /// Lets what is under way beside the log come to its end, and tells those who came too late.
    async fn finish(mut self) {
        if self.work.sinks.is_some() {
            going(&mut self.work.sinks).await;
        }
        if let Some(writing) = self.checkpoint.writing.take() {
            let _ = writing.await;
        }
        self.urgent.close();
        while let Some(knock) = self.urgent.recv().await {
            let _ = knock.answer.send(Err(AskError::Stopped));
        }
    }

    fn take_urgent(&mut self) {
        while self.core.has_urgent_room()
            && let Ok(knock) = self.urgent.try_recv()
        {
            self.ask(knock);
        }
    }

    fn ask(&mut self, knock: Knock) {
        let to = self.reply_to(Reply::Ask(knock.answer));
        self.feed(Input::Ask(knock.asked, to));
    }

    fn reply_to(&mut self, reply: Reply) -> ReplyTo {
        self.last_reply = self.last_reply.wrapping_add(1);
        self.replies.insert(self.last_reply, reply);
        ReplyTo(self.last_reply)
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Ask(knock) => self.ask(knock),
            Event::Observed(observation) => self.feed(Input::Observed(observation)),
            Event::Forget(knock) => {
                let to = self.reply_to(Reply::Forget(knock.answer));
                self.feed(Input::Forget(knock.sink, to));
            }
            Event::Said(input) => {
                if let Input::ZoneAnswers(answers) = &input {
                    self.zone_answers = Arc::new(answers.clone());
                }
                self.feed(input);
                self.show();
            }
            Event::Moved(token) => self.feed(Input::Moved(token)),
            Event::WatchEnded => {
                self.doors.moved = Some(self.shared.store.watch(self.core.state().token()));
            }
        }
    }

    fn feed(&mut self, input: Input) {
        if let Input::Appended(result) = &input {
            self.count_append(result);
        }
        let clock = self.shared.clock;
        for output in self.core.handle(input, clock.now(), clock.uptime()) {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        let store = Arc::clone(&self.shared.store);
        match output {
            Output::Append(batch, urgency) => {
                let shared = Arc::clone(&self.shared);
                self.work.log = Some(Box::pin(async move {
                    let begun = shared.clock.uptime();
                    let result = store.append(&batch, urgency).await;
                    if result.is_ok() {
                        let records = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                        let took = shared.clock.uptime().saturating_sub(begun);
                        shared.numbers.appended(records, took);
                        told::committed(&batch);
                    }
                    Input::Appended(result)
                }));
            }
            Output::Reload { after, reopen } => {
                self.work.log = Some(Box::pin(async move {
                    Input::Reloaded(load::after(store.as_ref(), after, reopen).await)
                }));
            }
            Output::Publish(state) => self.publish(&state),
            Output::Reply(to, answer) => self.reply(to, answer),
            Output::Keep(list) => {
                self.work.sinks = Some(Box::pin(keep::keep(store, self.sinks_version, list)));
            }
            Output::Forgotten(to, answer) => {
                if let Some(Reply::Forget(waiting)) = self.replies.remove(&to.0) {
                    // Whoever asked may have gone.
                    let _ = waiting.send(answer);
                }
                self.show();
            }
            Output::Wake(at) => self.wake = Some(at),
            Output::Stopped => self.stopped = true,
        }
    }

    /// Planes first, then readers, then (by the core's order) whoever asked.
    fn publish(&mut self, state: &Arc<State>) {
        self.snapshots.send_replace(Arc::clone(state.snapshot()));
        self.show();
        self.checkpoint(state);
    }

    fn show(&mut self) {
        self.number = self.number.wrapping_add(1);
        self.shown.send_replace(Arc::new(shown(&self.core, &self.zone_answers, self.number)));
    }

    fn reply(&mut self, to: ReplyTo, answer: Result<Done, AskError>) {
        let numbers = &self.shared.numbers;
        Meters::count(match &answer {
            Ok(_) => &numbers.asks_done,
            Err(AskError::Refused(_)) => &numbers.asks_refused,
            Err(AskError::Busy { .. }) => &numbers.asks_busy,
            Err(_) => &numbers.asks_failed,
        });
        if let Some(Reply::Ask(waiting)) = self.replies.remove(&to.0) {
            // Whoever asked may have gone.
            let _ = waiting.send(answer);
        }
    }

    fn count_append(&self, result: &Result<(), AppendError>) {
        let numbers = &self.shared.numbers;
        match result {
            Ok(()) => {}
            Err(AppendError::Stale { .. }) => Meters::count(&numbers.appends_stale),
            Err(AppendError::Unknown) => Meters::count(&numbers.appends_unknown),
            Err(error @ (AppendError::Full | AppendError::Failed(_))) => {
                Meters::count(&numbers.appends_failed);
                tracing::error!(%error, "the log cannot be written");
            }
        }
    }

    /// Keeps the state beside the log now and then, so that the next start reads less.
    fn checkpoint(&mut self, state: &Arc<State>) {
        let Token { revision, .. } = state.token();
        let writing = self.checkpoint.writing.as_ref().is_some_and(|task| !task.is_finished());
        if writing || revision.saturating_sub(self.checkpoint.last) < CHECKPOINT_EVERY {
            return;
        }
        self.checkpoint.last = revision;
        let (state, store) = (Arc::clone(state), Arc::clone(&self.shared.store));
        self.checkpoint.writing = Some(tokio::spawn(async move {
            let head = Head { token: state.token(), digest: state.digest() };
            let bytes = tokio::task::spawn_blocking(move || Arc::from(state.checkpoint())).await;
            let Ok(bytes) = bytes else { return };
            if let Err(error) = store.checkpoint(head, bytes).await {
                tracing::warn!(%error, "no checkpoint was kept; the next start reads more");
            }
        }));
    }
}

/// One moment of the core, for readers.
fn shown(core: &Core, zone_answers: &Arc<BTreeMap<HostName, Vec<IpAddr>>>, number: u64) -> Shown {
    let facts = core.facts();
    let facts = Facts {
        now: facts.now,
        uptime: facts.uptime,
        ledger: facts.ledger.clone(),
        measured: facts.measured.clone(),
        zone_answers: BTreeMap::new(),
    };
    Shown {
        number,
        state: Arc::clone(core.state()),
        facts,
        zone_answers: Arc::clone(zone_answers),
        pace: core.pace().clone(),
        waiting: core.waiting(),
        broken: core.broken().map(ToOwned::to_owned),
    }
}

/// Hands what a plane says to the core, latest first, until either has gone.
async fn forward<T: Clone>(
    mut from: watch::Receiver<T>,
    to: mpsc::Sender<Input>,
    input: impl Fn(T) -> Input,
) {
    while from.changed().await.is_ok() {
        let said = from.borrow_and_update().clone();
        if to.send(input(said)).await.is_err() {
            return;
        }
    }
}

/// Waits for what is under way; for ever, where nothing is.
async fn going<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = work else { return std::future::pending().await };
    let done = future.await;
    *work = None;
    done
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
