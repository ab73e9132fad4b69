//! The only door into the controller.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use dns::Catalog;
use plan::view::{self, PlanSummary, SinkView, Status};
use plan::{Ask, Done, Facts, HostName, Observation, PlanName, SinkId, State};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::core::{AskError, Asked, ForgetError};
use crate::store::Store;

pub use crate::handle::changes::Changes;
pub use crate::handle::history::{ENTRIES_MAX, History, Page, SCAN_MAX};
pub use crate::handle::log::{AuditFailure, ReadError};
pub use crate::handle::numbers::{APPEND_CLASSES, Numbers};
pub use crate::handle::zone::{ZoneError, ZoneProblems};

mod changes;
mod history;
mod log;
pub(crate) mod numbers;
mod zone;

/// The only door into the controller: to ask, to tell what was seen, and to read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) ordinary: mpsc::Sender<Knock>,
    pub(crate) urgent: mpsc::Sender<Knock>,
    pub(crate) observed: mpsc::Sender<Observation>,
    pub(crate) forget: mpsc::Sender<ForgetKnock>,
    pub(crate) shown: watch::Receiver<Arc<Shown>>,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) numbers: numbers::Meters,
    pub(crate) stage: watch::Sender<Stage>,
    pub(crate) bound: RwLock<Bound>,
}

/// An ask on its way in.
#[derive(Debug)]
pub(crate) struct Knock {
    pub(crate) asked: Box<Asked>,
    pub(crate) answer: oneshot::Sender<Result<Done, AskError>>,
}

/// A sink to forget, on its way in.
#[derive(Debug)]
pub(crate) struct ForgetKnock {
    pub(crate) sink: SinkId,
    pub(crate) answer: oneshot::Sender<Result<(), ForgetError>>,
}

/// What readers see: one moment of the core.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Raised whenever anything changed that can be seen.
    pub(crate) number: u64,
    pub(crate) state: Arc<State>,
    /// Without [`Facts::zone_answers`].
    pub(crate) facts: Facts,
    pub(crate) zone_answers: Arc<BTreeMap<HostName, Vec<IpAddr>>>,
    pub(crate) pace: plan::pace::Pace,
    pub(crate) waiting: usize,
    pub(crate) broken: Option<String>,
}

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The log is loaded; not all sockets answer yet.
    Starting,
    /// All sockets answer.
    Ready,
    /// No new commands are taken.
    Stopping,
}

/// The bound addresses, and who is let in there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Bound {
    /// Of the API: `127.0.0.1:7400`, `unix:/var/lib/crossfade/crossfade.sock`.
    pub api: Vec<String>,
    /// Of the machines' API: empty until a plane that uses it is built.
    pub xds: Vec<String>,
    /// Of the DNS server.
    pub dns: Vec<String>,
    /// Of health and metrics alone.
    pub metrics: Vec<String>,
    /// Whether machines get identities, without which no plan's `mtls` is in force.
    pub identities: bool,
}

/// What the controller says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Info {
    /// The version of the program.
    pub version: String,
    /// The incarnation of the log.
    pub incarnation: u32,
    /// The newest revision.
    pub revision: u64,
    /// The bound addresses.
    #[serde(flatten)]
    pub bound: Bound,
}

impl Handle {
    /// Asks for a change. Returns once it is durable and published.
    ///
    /// Dropping the future does not take the ask back.
    ///
    /// # Errors
    /// The rules refuse it, too many wait (never said to a rollback), or the store fails.
    pub async fn ask(&self, ask: Ask) -> Result<Done, AskError> {
        let (answer, answered) = oneshot::channel();
        let urgent = matches!(ask.command, plan::Command::Rollback(_));
        let zone_answers = self.new_zone_answers(&ask.command).await;
        let knock = Knock { asked: Box::new(Asked { ask, zone_answers }), answer };
        if urgent {
            self.shared.urgent.send(knock).await.map_err(|_| AskError::Stopped)?;
        } else {
            self.shared.ordinary.try_send(knock).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    numbers::Meters::count(&self.shared.numbers.asks_busy);
                    AskError::Busy { waiting: self.shared.ordinary.max_capacity() }
                }
                mpsc::error::TrySendError::Closed(_) => AskError::Stopped,
            })?;
        }
        answered.await.unwrap_or(Err(AskError::Stopped))
    }

    /// Tells what was seen. Waits while too many observations wait already.
    pub async fn observe(&self, observation: Observation) {
        // Only a stopped controller refuses; then nobody needs it.
        let _ = self.shared.observed.send(observation).await;
    }

    /// Forgets a sink that is gone for good.
    ///
    /// # Errors
    /// There is no such sink, it is connected, or the list cannot be written.
    pub async fn forget(&self, sink: SinkId) -> Result<(), ForgetError> {
        let (answer, answered) = oneshot::channel();
        let knock = ForgetKnock { sink, answer };
        self.shared.forget.send(knock).await.map_err(|_| ForgetError::Stopped)?;
        answered.await.unwrap_or(Err(ForgetError::Stopped))
    }

    /// The newest durable state.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.shown().state)
    }

    /// What is known beside the state, at this moment.
    pub fn facts(&self) -> Facts {
        self.facts_of(&self.shown())
    }

    /// How this plan is; `None`: there is no such plan.
    pub fn status(&self, plan: &PlanName) -> Option<Status> {
        let shown = self.shown();
        let status = view::status(&shown.state, &self.facts_of(&shown), &shown.pace, plan)?;
        Some(self.noted(status, &shown.state))
    }

    /// How every plan is, sorted by name.
    pub fn statuses(&self) -> Vec<Status> {
        let shown = self.shown();
        let facts = self.facts_of(&shown);
        let status = |(name, _)| view::status(&shown.state, &facts, &shown.pace, name);
        let statuses = shown.state.plans().filter_map(status);
        statuses.map(|status| self.noted(status, &shown.state)).collect()
    }

    /// With what this controller does not do of it.
    fn noted(&self, mut status: Status, state: &State) -> Status {
        if let Some(plan) = state.plan(&status.plan).filter(|_| !self.gives_identities()) {
            status.notes.extend(view::in_the_clear(&plan.spec));
        }
        status
    }

    /// Whether machines get identities.
    fn gives_identities(&self) -> bool {
        self.shared.bound.read().unwrap_or_else(PoisonError::into_inner).identities
    }

    /// A line for each plan.
    pub fn plans(&self) -> Vec<PlanSummary> {
        let shown = self.shown();
        view::plans(&shown.state, &self.facts_of(&shown), &shown.pace)
    }

    /// Every receiver.
    pub fn sinks(&self) -> Vec<SinkView> {
        let shown = self.shown();
        view::sinks(&shown.state, &self.facts_of(&shown))
    }

    /// Watches for changes of anything that the readers above show.
    pub fn changes(&self) -> Changes {
        Changes::new(self.shared.shown.clone())
    }

    /// Why nothing is committed any more, if so: the log is broken.
    pub fn broken(&self) -> Option<String> {
        self.shown().broken.clone()
    }

    /// What the controller says of itself.
    pub fn info(&self) -> Info {
        let token = self.state().token();
        let bound = self.shared.bound.read().unwrap_or_else(PoisonError::into_inner).clone();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Info { version, incarnation: token.incarnation, revision: token.revision, bound }
    }

    /// Notes addresses that were bound.
    pub fn bound(&self, note: impl FnOnce(&mut Bound)) {
        note(&mut self.shared.bound.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// How far the process is.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.shared.stage.subscribe()
    }

    /// Says that all sockets answer. A controller that stops does not become ready again.
    pub fn ready(&self) {
        self.shared.stage.send_if_modified(|stage| {
            let starting = *stage == Stage::Starting;
            if starting {
                *stage = Stage::Ready;
            }
            starting
        });
    }

    /// Numbers for metrics.
    pub fn numbers(&self) -> Numbers {
        let shown = self.shown();
        self.shared.numbers.read(&shown, self.shared.store.reserve_held())
    }

    fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shared.shown.borrow())
    }

    fn facts_of(&self, shown: &Shown) -> Facts {
        let mut facts = shown.facts.clone();
        facts.now = self.shared.clock.now();
        facts.uptime = facts.uptime.max(self.shared.clock.uptime());
        facts.zone_answers = shown.zone_answers.as_ref().clone();
        facts
    }
}
