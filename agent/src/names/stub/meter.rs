//! What the stub counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::names::answers::Told;

/// Counters that the stub's thread writes and anybody reads.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) forwarded: Counter,
    pub(super) failed: Counter,
    pub(super) silent: Counter,
    pub(super) oversized: Counter,
    pub(super) full: Counter,
    pub(super) unsent: Counter,
    pub(super) forged: Counter,
    pub(super) gone: Counter,
    pub(super) loops: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a stub did since it started; answers of plan names since the service came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Answers of plan names, by service.
    pub told: Vec<Told>,
    /// Foreign queries that an upstream answered.
    pub forwarded: u64,
    /// Foreign queries that no upstream answered.
    pub failed: u64,
    /// Queries that were not taken up, and answers that did not go out.
    pub dropped: Dropped,
    /// Datagrams from an upstream's address that answer nothing we asked.
    pub forged: u64,
    /// Queries that an upstream's host gave back: nobody is there.
    pub gone: u64,
    /// Upstreams that were found to ask us.
    pub loops: u64,
}

/// Why something was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Shorter than a header, an answer, or from a port that nobody listens on.
    pub silent: u64,
    /// Longer than [`super::QUERY_MAX`].
    pub oversized: u64,
    /// Beyond [`super::RELAYED_MAX`]: answered SERVFAIL before their time; and connections beyond
    /// [`super::STREAMS_MAX`].
    pub full: u64,
    /// The kernel had no room for the answer.
    pub unsent: u64,
}

impl Dropped {
    /// All of them.
    #[must_use]
    pub const fn all(&self) -> u64 {
        self.silent + self.oversized + self.full + self.unsent
    }
}

impl Meter {
    pub(super) fn totals(&self, told: Vec<Told>) -> Totals {
        Totals {
            told,
            forwarded: self.forwarded.value(),
            failed: self.failed.value(),
            dropped: Dropped {
                silent: self.silent.value(),
                oversized: self.oversized.value(),
                full: self.full.value(),
                unsent: self.unsent.value(),
            },
            forged: self.forged.value(),
            gone: self.gone.value(),
            loops: self.loops.value(),
        }
    }
}
