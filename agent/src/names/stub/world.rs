//! What the tasks of the stub's thread share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dns::Transport;
use dns::wire::Query;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::draw::Draw;
use super::meter::Meter;
use super::suspects::Suspects;
use super::{RELAYED_MAX, STREAMS_MAX};
use crate::names::upstream::Order;
use crate::names::{Answers, Upstreams};

/// How long an upstream that did not answer is asked last.
const DOWN_FOR: Duration = Duration::from_secs(10);

/// What the thread shares with its owner.
pub(super) struct Shared {
    pub(super) answers: Arc<ArcSwap<Answers>>,
    pub(super) meter: Arc<Meter>,
    pub(super) looping: Arc<ArcSwap<Vec<SocketAddr>>>,
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
    /// Something looks like a loop: upstreams are to be asked now.
    pub(super) suspicion: Notify,
    down: RefCell<BTreeMap<SocketAddr, Instant>>,
    turn: Cell<usize>,
    /// Who is being relayed, the one that waits longest first.
    relayed: RefCell<VecDeque<Rc<Relayed>>>,
    streams: RefCell<Vec<Rc<Connected>>>,
}

/// A query that is being relayed.
struct Relayed {
    lost: Notify,
    client: SocketAddr,
    /// What is asked, if it can be read.
    question: Option<u64>,
}

/// A place among the queries that are being relayed; given back when dropped.
pub(super) struct Place {
    world: Rc<World>,
    relayed: Rc<Relayed>,
}

impl Place {
    /// Waits until a newer query has this place.
    pub(super) async fn is_lost(&self) {
        self.relayed.lost.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut relayed = self.world.relayed.borrow_mut();
        // One that lost it is no longer there.
        if let Some(at) = relayed.iter().position(|one| Rc::ptr_eq(one, &self.relayed)) {
            relayed.remove(at);
        }
    }
}

/// A connection of a client.
struct Connected {
    lost: Notify,
    heard: Cell<Instant>,
}

/// A seat among the connections; given back when dropped.
pub(super) struct Seat {
    world: Rc<World>,
    connected: Rc<Connected>,
}

impl Seat {
    /// Waits until a newer connection has this seat.
    pub(super) async fn is_lost(&self) {
        self.connected.lost.notified().await;
    }

    /// Something was answered here.
    pub(super) fn answered(&self) {
        self.connected.heard.set(Instant::now());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.world.streams.borrow_mut().retain(|one| !Rc::ptr_eq(one, &self.connected));
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
            suspicion: Notify::new(),
            down: RefCell::default(),
            turn: Cell::new(0),
            relayed: RefCell::default(),
            streams: RefCell::default(),
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
    /// its own: names that nobody answers for hold up no others. What two ask at a time may be one
    /// query that comes round.
    pub(super) fn place(self: &Rc<Self>, query: &[u8], client: SocketAddr) -> Place {
        let question = Query::parse(query).and_then(|query| query.question).map(|question| {
            let mut hasher = DefaultHasher::new();
            (question.name.bytes(), question.rtype).hash(&mut hasher);
            hasher.finish()
        });
        let mut relayed = self.relayed.borrow_mut();
        let is_same = |one: &Rc<Relayed>| one.question == question && one.client != client;
        if question.is_some() && relayed.iter().any(is_same) {
            self.suspicion.notify_one();
        }
        if relayed.len() >= RELAYED_MAX
            && let Some(oldest) = relayed.pop_front()
        {
            self.meter().full.add();
            self.suspicion.notify_one();
            oldest.lost.notify_one();
        }
        let one = Rc::new(Relayed { lost: Notify::new(), client, question });
        relayed.push_back(Rc::clone(&one));
        Place { world: Rc::clone(self), relayed: one }
    }

    /// A seat for one more connection. When all are taken, the one where nothing was answered for
    /// longest gives its own.
    pub(super) fn seat(self: &Rc<Self>) -> Seat {
        let mut streams = self.streams.borrow_mut();
        let heard = |(_, one): &(usize, &Rc<Connected>)| one.heard.get();
        if streams.len() >= STREAMS_MAX
            && let Some((at, _)) = streams.iter().enumerate().min_by_key(heard)
        {
            self.meter().full.add();
            streams.swap_remove(at).lost.notify_one();
        }
        let one = Rc::new(Connected { lost: Notify::new(), heard: Cell::new(Instant::now()) });
        streams.push(Rc::clone(&one));
        Seat { world: Rc::clone(self), connected: one }
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
        let suspects = self.suspects.borrow();
        servers.retain(|server| !suspects.is_looping(*server));
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
