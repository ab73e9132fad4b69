//! What all streams write on and the commands read.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::bad;

/// The board.
pub(crate) struct Board {
    begun: Instant,
    /// When the present figure began, in nanoseconds since `begun`.
    armed: AtomicU64,
    slots: Vec<Slot>,
    ready: AtomicUsize,
    open: AtomicUsize,
    arrived: AtomicUsize,
    resources: AtomicUsize,
    held: AtomicBool,
    released: Notify,
    changed: Notify,
    failures: Mutex<BTreeMap<String, u64>>,
}

/// One stream's.
#[derive(Default)]
struct Slot {
    /// Resources since the figure began.
    count: AtomicUsize,
    /// When the last of them was acknowledged, in nanoseconds since the figure began.
    acked: AtomicU64,
}

impl Board {
    pub(crate) fn new(streams: usize) -> Self {
        Self {
            begun: Instant::now(),
            armed: AtomicU64::new(0),
            slots: (0..streams).map(|_| Slot::default()).collect(),
            ready: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            resources: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            released: Notify::new(),
            changed: Notify::new(),
            failures: Mutex::default(),
        }
    }

    pub(crate) fn streams(&self) -> usize {
        self.slots.len()
    }

    /// Streams that have had every name answered once.
    pub(crate) fn ready(&self) -> usize {
        self.ready.load(SeqCst)
    }

    /// Streams that have sent their first requests and still stand.
    pub(crate) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// Streams that have acknowledged a resource since the figure began.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(SeqCst)
    }

    /// All resources that ever came.
    pub(crate) fn resources(&self) -> usize {
        self.resources.load(SeqCst)
    }

    /// A figure begins at `now`.
    pub(crate) fn arm(&self, now: Instant) {
        for slot in &self.slots {
            slot.count.store(0, SeqCst);
        }
        self.arrived.store(0, SeqCst);
        self.armed.store(self.nanos(now), SeqCst);
    }

    /// A stream acknowledged so many resources.
    pub(crate) fn acked(&self, stream: usize, resources: usize) {
        self.resources.fetch_add(resources, SeqCst);
        let (Some(slot), true) = (self.slots.get(stream), resources > 0) else { return };
        let since = self.nanos(Instant::now()).saturating_sub(self.armed.load(SeqCst));
        slot.acked.store(since, SeqCst);
        if slot.count.fetch_add(resources, SeqCst) == 0 {
            self.count(&self.arrived);
        }
    }

    /// A stream has all it wants for the first time.
    pub(crate) fn is_ready(&self) {
        self.count(&self.ready);
    }

    /// A stream has asked.
    pub(crate) fn opened(&self) {
        self.count(&self.open);
    }

    /// A stream that had asked is gone.
    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, SeqCst);
        self.changed.notify_one();
    }

    /// Why a stream or a connection ended.
    pub(crate) fn failed(&self, why: String) {
        if let Ok(mut failures) = self.failures.lock() {
            *failures.entry(why).or_default() += 1;
        }
    }

    /// Reasons for which streams ended since the last call, and how often.
    pub(crate) fn failures(&self) -> Value {
        self.failures.lock().map(|mut found| json!(std::mem::take(&mut *found))).unwrap_or_default()
    }

    /// Whether those without a stream wait.
    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, SeqCst);
        if !held {
            self.released.notify_waiters();
        }
    }

    /// Waits while they are held.
    pub(crate) async fn go(&self) {
        loop {
            let released = self.released.notified();
            if !self.held.load(SeqCst) {
                return;
            }
            released.await;
        }
    }

    /// The time of each stream since the figure began, and the resources of all.
    pub(crate) fn times(&self) -> (Vec<Duration>, usize) {
        let time = |slot: &Slot| Duration::from_nanos(slot.acked.load(SeqCst));
        let count = self.slots.iter().map(|slot| slot.count.load(SeqCst)).sum();
        (self.slots.iter().map(time).collect(), count)
    }

    /// Waits until something holds.
    pub(crate) async fn wait(
        &self,
        at_most: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> io::Result<()> {
        let wait = async {
            while !holds(self) {
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(at_most, wait).await.map_err(|_| {
            bad(format!(
                "of {} streams {} were ever ready, {} are open, {} have the change; {}",
                self.streams(),
                self.ready(),
                self.open(),
                self.arrived(),
                self.failures()
            ))
        })
    }

    /// One more; somebody is told when it is all of them.
    fn count(&self, counter: &AtomicUsize) {
        if counter.fetch_add(1, SeqCst) + 1 >= self.streams() {
            self.changed.notify_one();
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX)
    }
}
