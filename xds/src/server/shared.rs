//! What all connections of a server share.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::task::AtomicWaker;
use tokio::sync::Notify;

use super::arrivals::{Arrivals, Turn};
use super::clock::Clock;
use super::counts::{Bad, Counters, Counts, Notices};
use super::doorman::{Doorman, Peer};
use super::limits::Limits;
use super::pace::Bucket;
use super::shares::{Over, Shares};
use super::strangers::{self, Calls, Strangers};
use crate::client::Identity;
use crate::registry::hub::Hub;
use crate::session::{Close, Code, Rules};

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) hub: Arc<Hub>,
    pub(super) rules: Arc<Rules>,
    pub(super) doorman: Option<Arc<dyn Doorman>>,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) counters: Counters,
    notices: Notices,
    lines: Mutex<Lines>,
    /// Rung when the last connection is gone.
    pub(super) empty: Notify,
    /// Streams of other services.
    pub(super) routed: AtomicUsize,
    /// The same on connections on which nobody is known.
    pub(super) stranger_calls: Mutex<Calls>,
    /// Connections that have not yet taken what they first asked for.
    young: AtomicUsize,
    /// Rung when one of them has.
    pub(super) grown: Notify,
    shares: Mutex<Shares>,
    arrivals: Mutex<Arrivals>,
    openings: Mutex<Bucket>,
}

#[derive(Default)]
struct Lines {
    next: u64,
    by_key: HashMap<u64, Arc<Line>>,
    strangers: Strangers,
}

/// A connection.
pub(super) struct Line {
    pub(super) key: u64,
    pub(super) peer: SocketAddr,
    /// What it showed in its handshake.
    certificate: OnceLock<Bytes>,
    /// Who it was when it first was somebody.
    identity: OnceLock<Arc<Identity>>,
    /// Streams of any service.
    streams: AtomicUsize,
    /// When it had its last stream, in milliseconds of uptime.
    quiet_since: AtomicU64,
    /// When it came, in milliseconds of uptime.
    since: u64,
    /// It has not yet taken what it first asked for.
    young: AtomicBool,
    /// Nobody is known on it, where somebody has to be.
    stranger: AtomicBool,
    /// It is one of its identity's connections.
    counted: AtomicBool,
    /// The connection's task.
    pub(super) waker: AtomicWaker,
    cut: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        hub: Arc<Hub>,
        rules: Arc<Rules>,
        doorman: Option<Arc<dyn Doorman>>,
        limits: Limits,
        clock: Clock,
    ) -> Self {
        let rate = limits.arrivals_per_second;
        Self {
            hub,
            rules,
            doorman,
            limits,
            clock,
            counters: Counters::default(),
            notices: Notices::default(),
            lines: Mutex::default(),
            empty: Notify::new(),
            routed: AtomicUsize::new(0),
            stranger_calls: Mutex::default(),
            young: AtomicUsize::new(0),
            grown: Notify::new(),
            shares: Mutex::default(),
            arrivals: Mutex::new(Arrivals::new(rate)),
            openings: Mutex::new(Bucket::new(rate, rate)),
        }
    }

    /// Counts bad input and tells the log once.
    pub(super) fn bad(&self, bad: Bad, peer: SocketAddr, what: &dyn fmt::Display) {
        self.counters.bad(bad);
        self.notices.tell(bad, peer, self.clock.uptime(), what);
    }

    pub(super) fn counts(&self) -> Counts {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Counts {
            connections: wide(self.connections()),
            streams: wide(self.hub.streams()),
            encodings: self.hub.encodings(),
            ..self.counters.read()
        }
    }

    /// Makes a place for a connection, on which somebody has `to_be_known` or not; `None` where all
    /// are taken.
    pub(super) fn enter(
        self: &Arc<Self>,
        peer: SocketAddr,
        to_be_known: bool,
    ) -> Option<LineGuard> {
        let now = self.clock.uptime();
        let mut lines = lock(&self.lines);
        if lines.by_key.len() >= self.limits.connections
            || to_be_known && !lines.strangers.make_room(peer, &self.limits, now)
        {
            return None;
        }
        let key = lines.next;
        lines.next += 1;
        let line = Arc::new(Line::new(key, peer, now, to_be_known));
        lines.by_key.insert(key, Arc::clone(&line));
        if to_be_known {
            lines.strangers.insert(&line);
        }
        self.young.fetch_add(1, Ordering::AcqRel);
        Some(LineGuard { shared: Arc::clone(self), line })
    }

    /// Somebody is known on this connection now, and it counts as his.
    ///
    /// # Errors
    /// He has his share of connections; it stays among those on which nobody is known.
    pub(super) fn knows(&self, line: &Line) -> Result<(), Over> {
        if !line.is_stranger() {
            return Ok(());
        }
        let who = line.identity.get();
        if let Some(who) = who {
            lock(&self.shares).connect(who, &self.limits)?;
        }
        if line.stranger.swap(false, Ordering::AcqRel) {
            line.counted.store(who.is_some(), Ordering::Release);
            lock(&self.lines).strangers.remove(line.key);
        } else if let Some(who) = who {
            // It was known meanwhile.
            lock(&self.shares).disconnect(who);
        }
        Ok(())
    }

    /// A place for a stream on this connection, of its share where somebody is known there.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn seat(self: &Arc<Self>, line: &Arc<Line>) -> Result<Seat, Over> {
        let who = line.identity().filter(|_| !line.is_stranger());
        if let Some(who) = &who {
            lock(&self.shares).open(who, &self.limits, self.clock.uptime())?;
        }
        line.streams.fetch_add(1, Ordering::AcqRel);
        Ok(Seat { shared: Arc::clone(self), line: Arc::clone(line), who })
    }

    /// Counts who wants more than his share, and tells the log once.
    pub(super) fn over(&self, over: &Over, peer: SocketAddr) -> Close {
        self.counters.refused.add(1);
        self.bad(Bad::Share, peer, over);
        Close::exhausted(over.to_string())
    }

    /// Forgets identities that have nothing.
    pub(super) fn forget_shares(&self) {
        lock(&self.shares).forget(self.clock.uptime());
    }

    /// Connections that came before `since` and on which nobody is known.
    pub(super) fn strangers(&self, since: Duration) -> Vec<Arc<Line>> {
        lock(&self.lines).strangers.older(since)
    }

    pub(super) fn connections(&self) -> usize {
        lock(&self.lines).by_key.len()
    }

    /// All connections.
    pub(super) fn lines(&self) -> Vec<Arc<Line>> {
        lock(&self.lines).by_key.values().cloned().collect()
    }

    /// Wakes all connections, which see then what they are to do.
    pub(super) fn wake_lines(&self) {
        for line in lock(&self.lines).by_key.values() {
            line.waker.wake();
        }
    }

    /// Cuts all connections.
    pub(super) fn cut_lines(&self) {
        for line in lock(&self.lines).by_key.values() {
            line.cut();
        }
    }

    /// Cuts a connection, if it is still there.
    pub(super) fn cut_line(&self, key: u64) {
        if let Some(line) = lock(&self.lines).by_key.get(&key) {
            line.cut();
        }
    }

    /// Connections that have had no stream since before `since`.
    pub(super) fn idle_lines(&self, since: Duration) -> Vec<Arc<Line>> {
        let lines = lock(&self.lines);
        let idle = |line: &&Arc<Line>| {
            line.streams.load(Ordering::Acquire) == 0
                && line.quiet_since.load(Ordering::Acquire) < millis(since)
        };
        lines.by_key.values().filter(idle).cloned().collect()
    }

    /// Whether so many connections are taking what they first asked for that another one had
    /// better wait a moment.
    pub(super) fn is_busy_filling(&self) -> bool {
        self.young.load(Ordering::Acquire) >= self.limits.filling
    }

    /// A connection has taken what it first asked for, or is counted no more for another reason.
    pub(super) fn grow(&self, line: &Line) {
        if line.young.swap(false, Ordering::AcqRel) {
            self.young.fetch_sub(1, Ordering::AcqRel);
            self.grown.notify_one();
        }
    }

    /// Connections that came before `since` are young no more, whatever they did.
    pub(super) fn grow_old(&self, since: Duration) {
        for line in lock(&self.lines).by_key.values() {
            if line.since < millis(since) {
                self.grow(line);
            }
        }
    }

    /// Takes a permit for a new stream.
    ///
    /// # Errors
    /// There is none; how long until there is.
    pub(super) fn open(&self) -> Result<(), Duration> {
        lock(&self.openings).take(self.clock.uptime())
    }

    /// Takes a permit for a new connection from there; `None`: from this machine.
    pub(super) fn arrive(&self, source: Option<IpAddr>) -> Turn {
        lock(&self.arrivals).take(source, self.clock.uptime())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl Line {
    pub(super) fn new(key: u64, peer: SocketAddr, now: Duration, stranger: bool) -> Self {
        Self {
            key,
            peer,
            certificate: OnceLock::new(),
            identity: OnceLock::new(),
            streams: AtomicUsize::new(0),
            quiet_since: AtomicU64::new(millis(now)),
            since: millis(now),
            young: AtomicBool::new(true),
            stranger: AtomicBool::new(stranger),
            counted: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            cut: AtomicBool::new(false),
        }
    }

    /// When it came.
    pub(super) const fn since(&self) -> Duration {
        Duration::from_millis(self.since)
    }

    /// The network that it came from.
    pub(super) fn source(&self) -> IpAddr {
        strangers::source(self.peer)
    }

    /// Whether nobody is known on it, where somebody has to be.
    pub(super) fn is_stranger(&self) -> bool {
        self.stranger.load(Ordering::Acquire)
    }

    /// It showed this certificate.
    pub(super) fn showed(&self, certificate: &[u8]) {
        // Once: a connection has one handshake.
        let _ = self.certificate.set(Bytes::copy_from_slice(certificate));
    }

    /// Who is there, as far as the network tells.
    pub(super) fn peer(&self) -> Peer {
        Peer { address: self.peer, certificate: self.certificate.get().cloned() }
    }

    /// Who it was when it first was somebody.
    pub(super) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.get().cloned()
    }

    /// It is this.
    ///
    /// # Errors
    /// It was somebody else before.
    pub(super) fn known(&self, identity: Identity) -> Result<Arc<Identity>, Close> {
        let known = self.identity.get_or_init(|| Arc::new(identity.clone()));
        if **known == identity {
            return Ok(Arc::clone(known));
        }
        let message = "the certificate is another's now; connect again".to_owned();
        Err(Close { code: Code::Unauthenticated, message })
    }

    /// Ends the connection without waiting for anybody.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}

/// A connection's place; leaves when dropped.
pub(super) struct LineGuard {
    shared: Arc<Shared>,
    pub(super) line: Arc<Line>,
}

impl Drop for LineGuard {
    fn drop(&mut self) {
        self.shared.grow(&self.line);
        if let Some(who) = self.line.identity.get()
            && self.line.counted.swap(false, Ordering::AcqRel)
        {
            lock(&self.shared.shares).disconnect(who);
        }
        let mut lines = lock(&self.shared.lines);
        lines.by_key.remove(&self.line.key);
        lines.strangers.remove(self.line.key);
        if lines.by_key.is_empty() {
            self.shared.empty.notify_one();
        }
    }
}

/// A stream's place on its connection; leaves when dropped.
pub(super) struct Seat {
    pub(super) shared: Arc<Shared>,
    pub(super) line: Arc<Line>,
    /// Of whose share it is.
    who: Option<Arc<Identity>>,
}

impl Seat {
    /// There is no room for the stream among those of all: it costs its machine no opening.
    pub(super) fn give_back(self) {
        if let Some(who) = &self.who {
            lock(&self.shared.shares).not_opened(who);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(who) = &self.who {
            lock(&self.shared.shares).close(who);
        }
        self.line.quiet_since.store(millis(self.shared.clock.uptime()), Ordering::Release);
        self.line.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is locked here is whole at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
