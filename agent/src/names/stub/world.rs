//! What the tasks of the stub's thread share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dns::Transport;
use dns::wire::Query;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::RELAYED_MAX;
use super::draw::Draw;
use super::meter::Meter;
use crate::names::upstream::Order;
use crate::names::{Answers, Upstreams};

/// How long an upstream that did not answer is asked last.
const DOWN_FOR: Duration = Duration::from_secs(10);

/// What the thread shares with its owner.
pub(super) struct Shared {
    pub(super) answers: Arc<ArcSwap<Answers>>,
    pub(super) meter: Arc<Meter>,
    pub(super) asked: watch::Receiver<Arc<Upstreams>>,
    pub(super) mark: Option<u32>,
}

/// What the tasks share.
pub(super) struct World {
    pub(super) shared: Shared,
    pub(super) draw: Draw,
    /// Where datagrams of upstreams arrive, one at a time.
    pub(super) scratch: RefCell<Box<[u8]>>,
    pub(super) suspects: RefCell<Suspects>,
    down: RefCell<BTreeMap<SocketAddr, Instant>>,
    turn: Cell<usize>,
    /// Who is being relayed, the one that waits longest first.
    relayed: RefCell<VecDeque<Rc<Notify>>>,
}

/// Upstreams that may ask us: what each was asked to find out, and those that did.
#[derive(Default)]
pub(super) struct Suspects {
    pub(super) probes: Vec<(Vec<u8>, SocketAddr)>,
    pub(super) looping: BTreeSet<SocketAddr>,
}

/// A place among the queries that are being relayed; given back when dropped.
pub(super) struct Place {
    world: Rc<World>,
    lost: Rc<Notify>,
}

impl Place {
    /// Waits until a newer query has this place.
    pub(super) async fn is_lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut relayed = self.world.relayed.borrow_mut();
        // One that lost it is no longer there.
        if let Some(at) = relayed.iter().position(|one| Rc::ptr_eq(one, &self.lost)) {
            relayed.remove(at);
        }
    }
}

/// What to do with a message of a client.
pub(super) enum Verdict {
    /// Send what was written.
    Answer,
    /// Ask an upstream.
    Relay,
    /// Nothing.
    Silence,
}

impl World {
    pub(super) fn new(shared: Shared) -> Self {
        Self {
            shared,
            draw: Draw::new(),
            scratch: RefCell::new(vec![0; dns::wire::TCP_MAX].into()),
            suspects: RefCell::default(),
            down: RefCell::default(),
            turn: Cell::new(0),
            relayed: RefCell::default(),
        }
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.shared.meter
    }

    pub(super) fn upstreams(&self) -> Arc<Upstreams> {
        self.shared.asked.borrow().clone()
    }

    /// Judges a message and, where it asks for a plan name, writes the answer.
    pub(super) fn judge(&self, message: &[u8], over: Transport, out: &mut Vec<u8>) -> Verdict {
        let Some(query) = Query::parse(message) else {
            self.meter().silent.add();
            return Verdict::Silence;
        };
        if self.is_own_probe(&query) {
            return Verdict::Silence;
        }
        match self.shared.answers.load().respond(&query, over, self.draw.next(), out) {
            true => Verdict::Answer,
            false => Verdict::Relay,
        }
    }

    /// A place for one more relayed query. When all are taken, the query that waits longest gives
    /// its own: names that nobody answers for hold up no others.
    pub(super) fn place(self: &Rc<Self>) -> Place {
        let mut relayed = self.relayed.borrow_mut();
        if relayed.len() >= RELAYED_MAX
            && let Some(oldest) = relayed.pop_front()
        {
            self.meter().full.add();
            oldest.notify_one();
        }
        let lost = Rc::new(Notify::new());
        relayed.push_back(Rc::clone(&lost));
        Place { world: Rc::clone(self), lost }
    }

    /// The upstreams in the order to ask them: those that answer first, none that asks us.
    pub(super) fn order(&self, upstreams: &Upstreams) -> Vec<SocketAddr> {
        let mut servers = upstreams.servers().to_vec();
        if upstreams.order() == Order::Rotate && !servers.is_empty() {
            let turn = self.turn.get();
            self.turn.set(turn.wrapping_add(1));
            let count = servers.len();
            servers.rotate_left(turn % count);
        }
        let looping = &self.suspects.borrow().looping;
        servers.retain(|server| !looping.contains(server));
        let down = self.down.borrow();
        if !down.is_empty() {
            let now = Instant::now();
            servers.sort_by_key(|server| down.get(server).is_some_and(|until| *until > now));
        }
        servers
    }

    /// An upstream did not answer in time. The table holds no more than the upstreams.
    pub(super) fn mark_down(&self, server: SocketAddr) {
        let known = self.upstreams();
        let mut down = self.down.borrow_mut();
        down.retain(|server, _| known.servers().contains(server));
        if known.servers().contains(&server) {
            down.insert(server, Instant::now() + DOWN_FOR);
        }
    }

    /// An upstream answered.
    pub(super) fn mark_up(&self, server: SocketAddr) {
        let mut down = self.down.borrow_mut();
        if !down.is_empty() {
            down.remove(&server);
        }
    }
}
