//! What a server counts of its work: one meter per thread, added up when somebody asks.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::Rcode;

/// Response codes counted apart: 0 to 23, all that are assigned for answers (RFC 6895 section
/// 2.3). The rest share the last place.
const RCODES: usize = 24;

/// One thread's counters. Only that thread adds to them.
pub(super) struct Meter {
    pub(super) queries_udp: Counter,
    pub(super) queries_tcp: Counter,
    pub(super) truncated: Counter,
    pub(super) silent: Counter,
    pub(super) unsent: Counter,
    pub(super) panics: Counter,
    pub(super) connections: Counter,
    pub(super) refused: Counter,
    pub(super) evicted: Counter,
    pub(super) timed_out: Counter,
    pub(super) accept_errors: Counter,
    pub(super) receive_errors: Counter,
    rcodes: [Counter; RCODES],
}

/// A number with one writer, so that adding needs no locked instruction.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            queries_udp: Counter::default(),
            queries_tcp: Counter::default(),
            truncated: Counter::default(),
            silent: Counter::default(),
            unsent: Counter::default(),
            panics: Counter::default(),
            connections: Counter::default(),
            refused: Counter::default(),
            evicted: Counter::default(),
            timed_out: Counter::default(),
            accept_errors: Counter::default(),
            receive_errors: Counter::default(),
            rcodes: array::from_fn(|_| Counter::default()),
        }
    }

    pub(super) fn answer(&self, rcode: Rcode) {
        let place = usize::from(rcode.0).min(RCODES - 1);
        if let Some(counter) = self.rcodes.get(place) {
            counter.add(1);
        }
    }
}

/// What a server did since it was bound, over all its threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages received over UDP.
    pub queries_udp: u64,
    /// Messages received over TCP.
    pub queries_tcp: u64,
    /// Answers by response code, without codes that never occurred.
    pub answers: Vec<(Rcode, u64)>,
    /// Answers with the TC bit: the client was told to come back over TCP.
    pub truncated: u64,
    /// Messages that were given no answer on purpose.
    pub silent: u64,
    /// Answers that the network stack did not take.
    pub unsent: u64,
    /// Batches or connections given up because of a fault in this program.
    pub panics: u64,
    /// TCP connections taken.
    pub connections: u64,
    /// TCP connections closed at once, because of a limit.
    pub refused: u64,
    /// Idle TCP connections closed to make room for others.
    pub evicted: u64,
    /// TCP connections closed because the client was too slow to send or to read.
    pub timed_out: u64,
    /// Failures of accepting TCP connections, for example for want of file descriptors.
    pub accept_errors: u64,
    /// Failures of receiving over UDP.
    pub receive_errors: u64,
}

impl Totals {
    pub(super) fn of<'a>(meters: impl Iterator<Item = &'a Meter>) -> Self {
        let mut totals = Self::default();
        let mut rcodes = [0_u64; RCODES];
        for meter in meters {
            totals.queries_udp += meter.queries_udp.value();
            totals.queries_tcp += meter.queries_tcp.value();
            totals.truncated += meter.truncated.value();
            totals.silent += meter.silent.value();
            totals.unsent += meter.unsent.value();
            totals.panics += meter.panics.value();
            totals.connections += meter.connections.value();
            totals.refused += meter.refused.value();
            totals.evicted += meter.evicted.value();
            totals.timed_out += meter.timed_out.value();
            totals.accept_errors += meter.accept_errors.value();
            totals.receive_errors += meter.receive_errors.value();
            for (sum, counter) in rcodes.iter_mut().zip(&meter.rcodes) {
                *sum += counter.value();
            }
        }
        let codes = (0..).map(Rcode).zip(rcodes);
        totals.answers = codes.filter(|(_, count)| *count > 0).collect();
        totals
    }
}
