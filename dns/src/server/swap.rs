//! The exchange of one catalog for the next under running threads.
//!
//! Each thread keeps a turn, a number that is odd while the thread works on a batch. It loads the
//! catalog once per batch, after it received the batch and after its turn became odd. A publisher
//! stores the new catalog and then waits until every turn was seen even or has moved on: whoever
//! answers after that has loaded the new one. A thread that waits for queries has an even turn, so
//! it delays nobody.
//!
//! Why no thread slips through: a thread writes its turn, passes a fence and reads the catalog; a
//! publisher writes the catalog, passes a fence and reads the turns. The fences are totally
//! ordered, so either the publisher sees the odd turn or the thread sees the new catalog.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use crate::catalog::Catalog;
use crate::seen::{Places, Roster};

/// Looks at a turn before the task lets others run: a batch lasts some microseconds.
const SPINS: u32 = 2_000;

/// Times that the task lets others run before it takes to a timer: a thread that lost its core in
/// the middle of a batch is away for milliseconds.
const YIELDS: u32 = 32;

/// How long to sleep between looks after that.
const PAUSE: Duration = Duration::from_millis(1);

/// What threads answer from: a catalog, and where to count its services.
pub(crate) struct Published {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) roster: Roster,
}

/// The catalog in force, shared by a server's threads and its publishers.
pub(crate) struct Swap {
    current: ArcSwap<Published>,
    turns: Box<[Turn]>,
    places: Mutex<Places>,
}

/// One thread's counter, on cache lines of its own: its thread writes it twice per batch.
#[repr(align(128))]
#[derive(Default)]
struct Turn(AtomicU64);

impl Swap {
    /// For `threads` readers.
    pub(crate) fn new(catalog: Arc<Catalog>, threads: usize) -> Arc<Self> {
        let mut places = Places::default();
        let roster = places.next(catalog.names());
        Arc::new(Self {
            current: ArcSwap::from_pointee(Published { catalog, roster }),
            turns: (0..threads).map(|_| Turn::default()).collect(),
            places: Mutex::new(places),
        })
    }

    /// One reader for each thread.
    pub(crate) fn readers(self: &Arc<Self>) -> impl Iterator<Item = Reader> {
        (0..self.turns.len()).map(|index| Reader { swap: Arc::clone(self), index })
    }

    /// The catalog in force.
    pub(crate) fn current(&self) -> Arc<Published> {
        self.current.load_full()
    }

    /// Puts `catalog` in force unless a newer one is.
    fn store(&self, catalog: Arc<Catalog>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if catalog.token < self.current.load().catalog.token {
            return;
        }
        let roster = places.next(catalog.names());
        self.current.store(Arc::new(Published { catalog, roster }));
    }
}

/// A thread's access to the catalog in force.
pub(crate) struct Reader {
    swap: Arc<Swap>,
    index: usize,
}

impl Reader {
    /// Starts a batch; to be called after it was received.
    pub(crate) fn enter(&self) -> Batch<'_> {
        let turn = self.swap.turns.get(self.index).map(|turn| &turn.0);
        if let Some(turn) = turn {
            turn.fetch_add(1, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        Batch { published: self.swap.current.load(), turn }
    }
}

/// One batch of answers, all from the same catalog.
pub(crate) struct Batch<'a> {
    published: Guard<Arc<Published>>,
    turn: Option<&'a AtomicU64>,
}

impl Batch<'_> {
    pub(crate) fn published(&self) -> &Published {
        &self.published
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn {
            turn.fetch_add(1, Ordering::Release);
        }
    }
}

/// Puts catalogs in force.
#[derive(Clone)]
pub struct Publisher {
    swap: Arc<Swap>,
}

impl Publisher {
    pub(crate) const fn new(swap: Arc<Swap>) -> Self {
        Self { swap }
    }

    /// Puts `catalog` in force and returns when no thread can still answer from an older one.
    ///
    /// A catalog whose token is below that of the one in force is left out, because tokens never go
    /// back; the call then returns when no thread can still answer from one older than that in
    /// force. An idle thread delays nothing. Must run in a tokio runtime with its timer enabled.
    pub async fn publish(&self, catalog: Arc<Catalog>) {
        self.swap.store(catalog);
        fence(Ordering::SeqCst);
        for turn in &self.swap.turns {
            let seen = turn.0.load(Ordering::SeqCst);
            if seen % 2 == 1 {
                moved(&turn.0, seen).await;
            }
        }
    }

    /// The catalog in force.
    #[must_use]
    pub fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.swap.current().catalog)
    }
}

/// Returns when `turn` is no longer `seen`.
async fn moved(turn: &AtomicU64, seen: u64) {
    for _ in 0..SPINS {
        if turn.load(Ordering::Acquire) != seen {
            return;
        }
        std::hint::spin_loop();
    }
    let mut yields = 0;
    while turn.load(Ordering::Acquire) == seen {
        if yields < YIELDS {
            yields += 1;
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
