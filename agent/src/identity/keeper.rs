//! Keeps an identity valid: asks for the next certificate in time, and goes on asking.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plan::Timestamp;
use tokio::sync::watch;
use xds::causes::chain;

use super::Identity;
use super::call::{Call, CallError};
use super::key::Key;
use super::schedule::{Schedule, Step};
use super::store::{Disk, Files, Store, StoreError};
use super::trust::Trust;

/// The longest sleep: machines are suspended, and clocks are set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How the identity is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It will be renewed then.
    Fine {
        /// When.
        renews: Timestamp,
    },
    /// It could not be renewed, and is tried again.
    Failing {
        /// Since when.
        since: Timestamp,
        /// The last reason, in words.
        why: String,
        /// Whether it has expired meanwhile: controllers and proxies take it no more.
        expired: bool,
    },
    /// The controller will not renew it; it is still asked now and then.
    Refused {
        /// Its words, and what to do.
        why: String,
    },
    /// It expired more than a week ago; only a new token helps.
    Lost {
        /// What to do, in words.
        why: String,
    },
}

/// Keeps an identity valid.
pub struct Keeper<F = Disk> {
    controllers: Vec<String>,
    /// Which of them is asked first: the one that answered last.
    at: usize,
    store: Arc<Mutex<Store<F>>>,
    schedule: Schedule,
    identity: watch::Sender<Arc<Identity>>,
    health: watch::Sender<Health>,
}

/// Why a renewal failed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the next certificate cannot be kept")]
    Store(#[from] StoreError),
    #[error("the identity's files cannot be written: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl<F: Files + 'static> Keeper<F> {
    /// Keeps `identity`, which is the newest of `store`, by asking these controllers. `random` is
    /// 64 random bits.
    pub fn new(store: Store<F>, identity: Identity, controllers: Vec<String>, random: u64) -> Self {
        let schedule = Schedule::new(identity.not_before, identity.not_after, random);
        let health = Health::Fine { renews: schedule.renew() };
        Self {
            controllers,
            at: 0,
            store: Arc::new(Mutex::new(store)),
            schedule,
            identity: watch::Sender::new(Arc::new(identity)),
            health: watch::Sender::new(health),
        }
    }

    /// The newest identity.
    pub fn identity(&self) -> watch::Receiver<Arc<Identity>> {
        self.identity.subscribe()
    }

    /// How it is.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Keeps it until dropped. `now` says what time it is, `random` gives 64 random bits at a time.
    pub async fn run(
        mut self,
        mut now: impl FnMut() -> Timestamp,
        mut random: impl FnMut() -> u64,
    ) {
        loop {
            let pause = self.step(now(), random()).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// Does what is due; says how long to wait before it is to be asked again at the latest.
    pub async fn step(&mut self, now: Timestamp, random: u64) -> Duration {
        match self.schedule.step(now) {
            Step::Wait(pause) => return pause.min(LOOK_EVERY),
            Step::Lost => {
                self.lost();
                return LOOK_EVERY;
            }
            Step::Ask => {}
        }
        match self.renew(now).await {
            Ok(next) => self.renewed(next, random),
            Err(error) => self.failed(&error, now, random),
        }
        match self.schedule.step(now) {
            Step::Wait(pause) => pause.min(LOOK_EVERY),
            Step::Ask | Step::Lost => Duration::ZERO,
        }
    }

    /// Asks the controllers in turn, until one says yes or no.
    async fn renew(&mut self, now: Timestamp) -> Result<Arc<Identity>, RenewError> {
        let last = Arc::clone(&self.identity.borrow());
        let mut failed = None;
        for _ in 0..self.controllers.len() {
            let Some(address) = self.controllers.get(self.at).cloned() else { break };
            // On disk before anybody is asked: a lost answer is asked for with the same key.
            let leaf = last.chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
            let key = self.with_store(move |store| store.prepare(&leaf)).await?;
            match Box::pin(ask(&address, &last, key, now)).await {
                Ok(next) => {
                    let next = Arc::new(next);
                    let kept = Arc::clone(&next);
                    self.with_store(move |store| store.install(&kept)).await?;
                    return Ok(next);
                }
                Err(why) if why.is_settled() => return Err(why.into()),
                Err(why) => failed = Some(why),
            }
            self.at = (self.at + 1) % self.controllers.len().max(1);
        }
        Err(failed.unwrap_or_else(gone).into())
    }

    fn renewed(&mut self, next: Arc<Identity>, random: u64) {
        self.schedule = Schedule::new(next.not_before, next.not_after, random);
        tracing::info!(until = %next.not_after, "the certificate was renewed");
        self.identity.send_replace(next);
        self.health.send_replace(Health::Fine { renews: self.schedule.renew() });
    }

    fn failed(&mut self, error: &RenewError, now: Timestamp, random: u64) {
        let settled = matches!(error, RenewError::Call(error) if error.is_settled());
        self.schedule.failed(now, settled, random);
        let words = chain(error);
        let identity = Arc::clone(&self.identity.borrow());
        let until = identity.not_after;
        let expired = now > until;
        let health = if settled {
            let why = format!(
                "{words}; where that is not mended at the controller, run there `{}` and here `{}`",
                identity.kind.token_command(identity.name.as_str()),
                identity.kind.join_command()
            );
            Health::Refused { why }
        } else {
            let since = match &*self.health.borrow() {
                Health::Failing { since, .. } => *since,
                Health::Fine { .. } | Health::Refused { .. } | Health::Lost { .. } => now,
            };
            Health::Failing { since, why: words, expired }
        };
        tracing::warn!(%until, expired, error = ?health, "the certificate was not renewed");
        self.health.send_replace(health);
    }

    fn lost(&self) {
        let identity = Arc::clone(&self.identity.borrow());
        let why = format!(
            "the certificate expired at {}, more than a week ago, and is not renewed any more; at \
             the controller run `{}`, and join again with the new token: `{}`",
            identity.not_after,
            identity.kind.token_command(identity.name.as_str()),
            identity.kind.join_command()
        );
        self.health.send_if_modified(|health| {
            let lost = Health::Lost { why };
            if *health == lost {
                return false;
            }
            tracing::error!(error = ?lost, "the identity is lost");
            *health = lost;
            true
        });
    }

    /// Does something with the store where waiting for a disk holds nobody up.
    async fn with_store<T: Send + 'static>(
        &self,
        doing: impl FnOnce(&mut Store<F>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, RenewError> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || {
            doing(&mut store.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(done.await??)
    }
}

impl<F> fmt::Debug for Keeper<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("schedule", &self.schedule).finish_non_exhaustive()
    }
}

async fn ask(
    address: &str,
    last: &Identity,
    key: Key,
    now: Timestamp,
) -> Result<Identity, CallError> {
    let mut call = Call::connect(address, &Trust::of(last), now).await?;
    let issued = call.renew(last, &key).await?;
    call.taken(issued, key, (&last.kind, &last.name))
}

fn gone() -> CallError {
    CallError::Away { address: "-".to_owned(), words: "no controller is known".to_owned() }
}
