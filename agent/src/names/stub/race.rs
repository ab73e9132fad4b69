//! One foreign query and the upstreams that have it: a socket of its own for each.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use dns::wire::{HEADER, Query};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::time::{Instant, timeout_at};

use super::incoming::Incoming;
use super::world::World;

/// How long an upstream is waited for before the next one is asked too.
const ATTEMPT: Duration = Duration::from_millis(1_500);

/// Most sockets of one query: the one that is waited for and the one before, whose answer may still
/// come.
const OPEN_MAX: usize = 2;

/// A query that is with upstreams, one after the other.
pub(super) struct Race {
    world: Rc<World>,
    query: Box<[u8]>,
    /// Where the question ends, when it can be read.
    question: Option<usize>,
    /// Who was not asked yet.
    next: std::vec::IntoIter<SocketAddr>,
    /// How long each is waited for before the next.
    step: Duration,
    end: Instant,
    /// How long the newest is waited for; `None`: there is nobody to wait for.
    until: Option<Instant>,
    open: Vec<(SocketAddr, Incoming)>,
    refusal: Option<Vec<u8>>,
}

/// How a wait ended.
enum Outcome {
    Answer(Vec<u8>),
    /// One of them is out.
    Next,
    /// The time is over.
    Late,
}

/// What came from one of them.
enum Event {
    Datagram(usize, Vec<u8>),
    Gone(usize),
}

impl Race {
    /// The first is asked before this returns.
    pub(super) fn start(world: Rc<World>, query: Box<[u8]>) -> Self {
        let question = Query::parse(&query).and_then(|query| query.question).map(|asked| asked.end);
        let upstreams = world.upstreams();
        let next = world.order(&upstreams).into_iter();
        let count = u32::try_from(next.len()).unwrap_or(u32::MAX).max(1);
        let mut race = Self {
            question,
            next,
            step: ATTEMPT.min(upstreams.timeout() / count),
            end: Instant::now() + upstreams.timeout(),
            until: None,
            open: Vec::new(),
            refusal: None,
            world,
            query,
        };
        race.until = race.ask_next();
        race
    }

    /// The query.
    pub(super) fn query(&self) -> &[u8] {
        &self.query
    }

    /// Waits, and asks the next ones, until one answers well. A refusal of one is given when no
    /// other does better, as the C library would have it from several servers.
    pub(super) async fn run(&mut self) -> Option<Vec<u8>> {
        while let Some(until) = self.until {
            match self.run_until(until).await {
                Outcome::Answer(answer) => return Some(answer),
                Outcome::Late if self.next.len() == 0 => break,
                Outcome::Next | Outcome::Late => self.until = self.ask_next(),
            }
        }
        self.refusal.take()
    }

    /// Asks the next one that can be asked.
    fn ask_next(&mut self) -> Option<Instant> {
        while let Some(server) = self.next.next() {
            if self.ask(server).is_err() {
                self.world.mark_down(server);
                continue;
            }
            let is_last = self.next.len() == 0;
            let step = Instant::now() + self.step;
            return Some(if is_last { self.end } else { self.end.min(step) });
        }
        (!self.open.is_empty()).then_some(self.end)
    }

    fn ask(&mut self, server: SocketAddr) -> io::Result<()> {
        let socket = connect(server, self.world.shared.mark)?;
        socket.send(&self.query)?;
        if self.open.len() >= OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push((server, Incoming::of(socket.into())?));
        Ok(())
    }

    async fn run_until(&mut self, until: Instant) -> Outcome {
        match timeout_at(until, self.event()).await {
            Err(_) => {
                if let Some((server, _)) = self.open.last() {
                    self.world.mark_down(*server);
                }
                Outcome::Late
            }
            Ok(Event::Gone(at)) => {
                let (server, _) = self.open.remove(at);
                self.world.mark_down(server);
                self.world.meter().gone.add();
                Outcome::Next
            }
            Ok(Event::Datagram(at, answer)) => {
                if let Some((server, _)) = self.open.get(at) {
                    self.world.mark_up(*server);
                }
                if is_refusal(&answer) {
                    self.open.remove(at);
                    self.refusal.get_or_insert(answer);
                    return Outcome::Next;
                }
                // Its socket is closed with the race: the client waits for this answer.
                Outcome::Answer(answer)
            }
        }
    }

    /// What comes first; of [`OPEN_MAX`] at most.
    async fn event(&self) -> Event {
        let mut open = self.open.iter().map(|(_, socket)| socket);
        match (open.next(), open.next()) {
            (Some(one), None) => self.event_of(0, one).await,
            (Some(one), Some(other)) => tokio::select! {
                biased;
                event = self.event_of(0, one) => event,
                event = self.event_of(1, other) => event,
            },
            (None, _) => std::future::pending().await,
        }
    }

    async fn event_of(&self, at: usize, socket: &Incoming) -> Event {
        loop {
            let Ok(mut came) = socket.comes_or_fails().await else { return Event::Gone(at) };
            let mut scratch = self.world.scratch.borrow_mut();
            while let Some(received) = came.take(|socket| socket.recv(&mut scratch)) {
                // Mostly ECONNREFUSED: nobody is there.
                let Ok(length) = received else { return Event::Gone(at) };
                let answer = scratch.get(..length).unwrap_or_default();
                if self.is_answered_by(answer) {
                    return Event::Datagram(at, answer.to_vec());
                }
                self.world.meter().forged.add();
            }
        }
    }

    /// Whether this is an answer with our id and our question. Names match in any case; an error
    /// may leave the question out.
    fn is_answered_by(&self, answer: &[u8]) -> bool {
        let (Some(asked), Some(head)) = (self.query.get(..2), answer.first_chunk::<HEADER>())
        else {
            return false;
        };
        let [_, _, flags, code, count @ ..] = head;
        if head.get(..2) != Some(asked) || flags & 0x80 == 0 {
            return false;
        }
        let Some(end) = self.question else { return true };
        if count.first_chunk() == Some(&[0, 0]) {
            return code & 0x0f != 0;
        }
        let question = |message: &[u8]| {
            let (name, kind) = message.get(HEADER..end)?.split_at_checked(end - HEADER - 4)?;
            Some((name.to_ascii_lowercase(), kind.to_vec()))
        };
        question(answer) == question(&self.query)
    }
}

/// SERVFAIL, NOTIMP and REFUSED: another server may know better.
pub(super) fn is_refusal(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|code| matches!(code & 0x0f, 2 | 4 | 5))
}

/// A socket of its own: the kernel draws its port, and takes datagrams of this server only.
pub(super) fn connect(server: SocketAddr, mark: Option<u32>) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking();
    let socket = Socket::new(Domain::for_address(server), kind, Some(Protocol::UDP))?;
    if let Some(mark) = mark {
        // Needs CAP_NET_ADMIN; without it nothing is captured that the mark would exempt.
        let _ = socket.set_mark(mark);
    }
    socket.connect(&SockAddr::from(server))?;
    Ok(socket)
}
