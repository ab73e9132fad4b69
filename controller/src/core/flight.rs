//! What is under way to the store.

use std::sync::Arc;
use std::time::Duration;

use plan::{Digest, Done, Record, Refused, State, Token};

use crate::core::queue::Pending;

/// How long after the first failed reload the next one follows; it doubles each time.
const RELOAD_WAIT: Duration = Duration::from_millis(100);

/// The longest wait between two reloads.
const RELOAD_WAIT_MAX: Duration = Duration::from_secs(5);

/// What is under way to the store.
#[derive(Debug)]
pub(super) enum Flight {
    /// Nothing.
    Idle,
    /// An append.
    Appending(Batch),
    /// A reload; these wait to learn their outcome.
    Reloading(Unsettled),
    /// The wait before another reload.
    Waiting {
        unsettled: Unsettled,
        /// The uptime at which to reload.
        until: Duration,
    },
}

/// What goes to the store in one append.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    /// The state once all of it is durable.
    pub(super) after: Arc<State>,
}

/// One decided command of a batch.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) pending: Pending,
    pub(super) outcome: Outcome,
}

/// What a decision said.
#[derive(Debug)]
pub(super) enum Outcome {
    /// This record, with its digest.
    Record(Box<Record>, Digest),
    /// Nothing to write. Said only once the records before it in the batch are durable, as it was
    /// decided on them.
    Answer(Result<Done, Refused>),
}

/// What waits for a reload.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    pub(super) items: Vec<Item>,
    /// The medium has to be opened anew.
    pub(super) reopen: bool,
    /// How many reloads have failed.
    pub(super) failures: u32,
}

impl Flight {
    /// The uptime at which something is due.
    pub(super) const fn due(&self) -> Option<Duration> {
        match self {
            Self::Waiting { until, .. } => Some(*until),
            Self::Idle | Self::Appending(_) | Self::Reloading(_) => None,
        }
    }
}

impl Unsettled {
    /// How long to wait before the next reload.
    pub(super) fn wait(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        RELOAD_WAIT.saturating_mul(1 << doublings).min(RELOAD_WAIT_MAX)
    }
}

impl Item {
    /// The record's place and digest, where there is a record.
    pub(super) fn attempt(&self) -> Option<(Token, Digest)> {
        match &self.outcome {
            Outcome::Record(record, digest) => Some((record.token, *digest)),
            Outcome::Answer(_) => None,
        }
    }
}
