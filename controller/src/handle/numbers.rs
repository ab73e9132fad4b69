//! What the controller counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plan::Token;

use crate::handle::Shown;

/// Upper bounds of the classes that append times are counted in, in microseconds.
pub const APPEND_CLASSES: [u64; 12] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000,
];

/// What the controller has counted since its start, and how it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The newest token.
    pub token: Token,
    /// How many plans there are.
    pub plans: usize,
    /// How many sinks are expected.
    pub sinks: usize,
    /// How many of them are away.
    pub sinks_away: usize,
    /// How many of them owe something.
    pub sinks_lagging: usize,
    /// How many commands wait for their commit.
    pub waiting: usize,
    /// Whether the log is broken.
    pub broken: bool,
    /// Commands that were done.
    pub asks_done: u64,
    /// Commands that the rules refused.
    pub asks_refused: u64,
    /// Commands that found the queue full.
    pub asks_busy: u64,
    /// Commands that failed: store, stop, or unknown outcome.
    pub asks_failed: u64,
    /// Appends that went well.
    pub appends: u64,
    /// Records in them.
    pub records: u64,
    /// Appends that others were faster than.
    pub appends_stale: u64,
    /// Appends whose outcome was unknown at first.
    pub appends_unknown: u64,
    /// Appends that failed for good, a full disk included.
    pub appends_failed: u64,
    /// How many appends took at most [`APPEND_CLASSES`] microseconds; each append in one class.
    pub append_classes: [u64; APPEND_CLASSES.len()],
    /// How long all appends took together.
    pub append_time: Duration,
    /// Whether the reserve for a rollback on a full disk is in place.
    pub reserve_held: bool,
}

/// The counters behind [`Numbers`].
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) asks_done: AtomicU64,
    pub(crate) asks_refused: AtomicU64,
    pub(crate) asks_busy: AtomicU64,
    pub(crate) asks_failed: AtomicU64,
    pub(crate) appends: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) appends_stale: AtomicU64,
    pub(crate) appends_unknown: AtomicU64,
    pub(crate) appends_failed: AtomicU64,
    append_classes: [AtomicU64; APPEND_CLASSES.len()],
    append_micros: AtomicU64,
}

impl Meters {
    /// Counts one more.
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an append that went well and how long it took.
    pub(crate) fn appended(&self, records: u64, time: Duration) {
        Self::count(&self.appends);
        self.records.fetch_add(records, Ordering::Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let class = APPEND_CLASSES.iter().position(|bound| micros <= *bound);
        if let Some(class) = class.and_then(|class| self.append_classes.get(class)) {
            Self::count(class);
        }
        self.append_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, shown: &Shown, reserve_held: bool) -> Numbers {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sinks = || shown.facts.ledger.sinks();
        Numbers {
            token: shown.state.token(),
            plans: shown.state.plans().count(),
            sinks: sinks().count(),
            sinks_away: sinks().filter(|(sink, _)| sink.is_away()).count(),
            sinks_lagging: sinks().filter(|(sink, _)| !sink.owes.is_empty()).count(),
            waiting: shown.waiting,
            broken: shown.broken.is_some(),
            asks_done: load(&self.asks_done),
            asks_refused: load(&self.asks_refused),
            asks_busy: load(&self.asks_busy),
            asks_failed: load(&self.asks_failed),
            appends: load(&self.appends),
            records: load(&self.records),
            appends_stale: load(&self.appends_stale),
            appends_unknown: load(&self.appends_unknown),
            appends_failed: load(&self.appends_failed),
            append_classes: std::array::from_fn(|at| self.append_classes.get(at).map_or(0, load)),
            append_time: Duration::from_micros(load(&self.append_micros)),
            reserve_held,
        }
    }
}
