//! What all streams of a server share.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use futures::task::AtomicWaker;
use tokio::sync::{Notify, watch};

use super::recent::{Recent, changed};
use super::{SessionView, Standings};
use crate::client::{Client, View};
use crate::session::{Opened, Progress};
use crate::table::Tables;

/// What all streams of a server share.
pub(crate) struct Hub {
    tables: ArcSwap<Tables>,
    recent: Mutex<Recent>,
    slots: Mutex<Slots>,
    events: Mutex<Vec<Event>>,
    /// Rung when there is an event, or other tables.
    pub(super) bell: Notify,
    pub(super) standings: watch::Sender<Arc<Standings>>,
    pub(super) clients: watch::Sender<Arc<[Arc<Client>]>>,
    stopping: AtomicBool,
    encodings: AtomicU64,
}

#[derive(Default)]
struct Slots {
    next: u64,
    by_key: HashMap<u64, Arc<Slot>>,
}

/// What a stream tells the reporter.
pub(super) enum Event {
    /// It has said who it is.
    Joined(Arc<Slot>),
    /// Its progress changed; once until the reporter looks.
    Moved(Arc<Slot>),
    /// It ended, at this uptime.
    Left(Arc<Slot>, Duration),
}

/// A stream's place among the others.
pub(crate) struct Slot {
    pub(super) key: u64,
    pub(crate) peer: SocketAddr,
    /// Its connection, to tell streams of one from streams of another.
    pub(crate) line: u64,
    opened: Opened,
    pub(super) since: Duration,
    /// The stream's task.
    pub(crate) waker: AtomicWaker,
    /// When a chunk was handed down that is not known to be taken, as milliseconds of uptime and
    /// one; 0: there is none.
    given: AtomicU64,
    moved: AtomicBool,
    /// Who it is, and what it sees.
    met: OnceLock<(Arc<Client>, View)>,
    progress: Mutex<Progress>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            tables: ArcSwap::from_pointee(Tables::empty()),
            recent: Mutex::default(),
            slots: Mutex::default(),
            events: Mutex::default(),
            bell: Notify::new(),
            standings: watch::Sender::new(Arc::new(Standings::empty())),
            clients: watch::Sender::new(Arc::new([])),
            stopping: AtomicBool::new(false),
            encodings: AtomicU64::new(0),
        }
    }

    pub(crate) fn tables(&self) -> Arc<Tables> {
        self.tables.load_full()
    }

    /// The tables, to be looked at and let go of at once.
    pub(crate) fn look(&self) -> Guard<Arc<Tables>> {
        self.tables.load()
    }

    pub(crate) fn publish(&self, tables: Arc<Tables>) {
        {
            let mut recent = lock(&self.recent);
            let before = self.tables.load_full();
            if tables.generation() <= before.generation() {
                return;
            }
            let changed = changed(&before, &tables);
            let count = u64::try_from(changed.resources).unwrap_or(u64::MAX);
            self.encodings.fetch_add(count, Ordering::Relaxed);
            // Known before anybody can see the tables, so nobody is taken to owe less.
            recent.add(&tables, changed.plans);
            self.tables.store(tables);
        }
        self.wake_all();
        self.bell.notify_one();
    }

    /// Resources that were encoded for what was published.
    pub(crate) fn encodings(&self) -> u64 {
        self.encodings.load(Ordering::Relaxed)
    }

    /// The tables as they are now, with what led there. Nothing is published meanwhile.
    pub(super) fn with_recent<T>(&self, then: impl FnOnce(&Tables, &Recent) -> T) -> T {
        let recent = lock(&self.recent);
        then(&self.tables.load(), &recent)
    }

    fn wake_all(&self) {
        for slot in lock(&self.slots).by_key.values() {
            slot.waker.wake();
        }
    }

    /// Tells all streams to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Makes a place for a stream; `None` where there are `most` already.
    pub(crate) fn enter(
        &self,
        (peer, line): (SocketAddr, u64),
        opened: Opened,
        now: Duration,
        most: usize,
    ) -> Option<Arc<Slot>> {
        let mut slots = lock(&self.slots);
        if slots.by_key.len() >= most {
            return None;
        }
        let key = slots.next;
        slots.next += 1;
        let slot = Arc::new(Slot {
            key,
            peer,
            line,
            opened,
            since: now,
            waker: AtomicWaker::new(),
            given: AtomicU64::new(0),
            moved: AtomicBool::new(false),
            met: OnceLock::new(),
            progress: Mutex::default(),
        });
        slots.by_key.insert(key, Arc::clone(&slot));
        Some(slot)
    }

    /// The stream ended.
    pub(crate) fn leave(&self, slot: &Arc<Slot>, now: Duration) {
        lock(&self.slots).by_key.remove(&slot.key);
        if slot.met.get().is_some() {
            self.tell(Event::Left(Arc::clone(slot), now));
        }
    }

    /// The stream has said who it is, from which it follows what it sees.
    pub(crate) fn join(&self, slot: &Arc<Slot>, met: (Arc<Client>, View), progress: &Progress) {
        *lock(&slot.progress) = progress.clone();
        if slot.met.set(met).is_ok() {
            self.tell(Event::Joined(Arc::clone(slot)));
        }
    }

    /// The stream's progress changed.
    pub(crate) fn moved(&self, slot: &Arc<Slot>, progress: &Progress) {
        *lock(&slot.progress) = progress.clone();
        if !slot.moved.swap(true, Ordering::AcqRel) {
            self.tell(Event::Moved(Arc::clone(slot)));
        }
    }

    fn tell(&self, event: Event) {
        let first = {
            let mut events = lock(&self.events);
            events.push(event);
            events.len() == 1
        };
        if first {
            self.bell.notify_one();
        }
    }

    pub(super) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut *lock(&self.events))
    }

    /// How many streams there are.
    pub(crate) fn streams(&self) -> usize {
        lock(&self.slots).by_key.len()
    }

    /// Streams whose client has taken nothing since before `since`.
    pub(crate) fn stalled(&self, since: Duration) -> Vec<Arc<Slot>> {
        let slots = lock(&self.slots);
        slots.by_key.values().filter(|slot| slot.waits_since_before(since)).cloned().collect()
    }

    pub(super) fn sessions(&self) -> Vec<SessionView> {
        let slots: Vec<_> = lock(&self.slots).by_key.values().cloned().collect();
        let view = |slot: &Arc<Slot>| {
            Some(SessionView {
                client: Arc::clone(slot.client()?),
                peer: slot.peer,
                opened: slot.opened.clone(),
                since: slot.since,
                progress: slot.progress(),
            })
        };
        slots.iter().filter_map(view).collect()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("streams", &self.streams()).finish_non_exhaustive()
    }
}

impl Slot {
    /// A chunk was handed down.
    pub(crate) fn gave(&self, now: Duration) {
        self.given.store(millis(now).saturating_add(1), Ordering::Relaxed);
    }

    /// The next one was asked for.
    pub(crate) fn was_taken(&self) {
        self.given.store(0, Ordering::Relaxed);
    }

    fn waits_since_before(&self, since: Duration) -> bool {
        let given = self.given.load(Ordering::Relaxed);
        given != 0 && given <= millis(since)
    }

    /// Who it is; known to whoever was told that it joined.
    pub(super) fn client(&self) -> Option<&Arc<Client>> {
        self.met.get().map(|(client, _)| client)
    }

    /// What it sees; known as [`Slot::client`] is.
    pub(super) fn view(&self) -> Option<&View> {
        self.met.get().map(|(_, view)| view)
    }

    /// How far it is. Later changes are told again.
    pub(super) fn look(&self) -> Progress {
        self.moved.store(false, Ordering::Release);
        self.progress()
    }

    pub(super) fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whoever panicked while holding it left whole values behind: they are replaced, not edited.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
