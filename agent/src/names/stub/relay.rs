//! Foreign names over UDP: one socket per query and upstream, both directions byte for byte.
//!
//! A query stays in the kernel's queue until it is answered from memory or handed on: a process
//! that is killed between answers it again when it is back, from the same socket, and the client
//! takes the first answer. One that is with an upstream when the process is killed is lost, as it
//! may be with any server; its client asks again.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use dns::Transport;
use dns::wire::{HEADER, Query};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout_at};

use super::QUERY_MAX;
use super::world::{Place, Verdict, World};
use crate::names::answers::servfail;

/// Queries taken up before other tasks have their turn.
const BATCH: usize = 32;

/// How long an upstream is waited for before the next one is asked too.
const ATTEMPT: Duration = Duration::from_millis(1_500);

/// Most sockets of one query: the one that is waited for and the one before, whose answer may still
/// come.
const OPEN_MAX: usize = 2;

/// Pause after an error of receiving, so that a socket that only fails costs no processor.
const FAULT_PAUSE: Duration = Duration::from_millis(100);

/// Serves one UDP socket for ever.
pub(super) async fn serve(world: Rc<World>, socket: Rc<UdpSocket>) {
    // One octet more than allowed tells a longer query from one of just this length.
    let mut room = vec![0; QUERY_MAX + 1];
    let mut out = Vec::new();
    loop {
        if socket.readable().await.is_err() {
            sleep(FAULT_PAUSE).await;
        }
        for turn in 1..=BATCH {
            match socket.try_peek_from(&mut room) {
                Ok((length, client)) => {
                    let query = room.get(..length).unwrap_or_default();
                    datagram(&world, &socket, query, client, &mut out);
                    // Nobody else reads this socket: it is the one that was looked at.
                    let _ = socket.try_recv_from(&mut []);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(%error, "receiving DNS queries failed; trying again");
                    sleep(FAULT_PAUSE).await;
                    break;
                }
            }
            if turn == BATCH {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn datagram(
    world: &Rc<World>,
    socket: &Rc<UdpSocket>,
    query: &[u8],
    client: SocketAddr,
    out: &mut Vec<u8>,
) {
    if query.len() > QUERY_MAX {
        return world.meter().oversized.add();
    }
    // Nobody listens on port 0.
    if client.port() == 0 {
        return world.meter().silent.add();
    }
    match world.judge(query, Transport::Udp, out) {
        Verdict::Silence => {}
        Verdict::Answer => send(world, socket, out, client),
        Verdict::Relay => {
            let place = world.place(query, client);
            let query = query.into();
            let relayed = relay(world.clone(), socket.clone(), query, client, place);
            tokio::task::spawn_local(relayed);
        }
    }
}

/// Sends at once or not at all, as the network does with datagrams.
fn send(world: &World, socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if SockRef::from(socket).send_to(answer, &SockAddr::from(client)).is_err() {
        world.meter().unsent.add();
    }
}

async fn relay(
    world: Rc<World>,
    socket: Rc<UdpSocket>,
    query: Box<[u8]>,
    client: SocketAddr,
    place: Place,
) {
    let answer = tokio::select! {
        answer = ask(&world, &query) => answer,
        () = place.is_lost() => None,
    };
    if let Some(answer) = answer {
        world.meter().forwarded.add();
        send(&world, &socket, &answer, client);
    } else {
        world.meter().failed.add();
        let mut out = Vec::new();
        if let Some(query) = Query::parse(&query) {
            servfail(&query, &mut out);
            send(&world, &socket, &out, client);
        }
    }
    drop(place);
}

/// Asks the upstreams, one after the other, until one answers well. A refusal of one is given when
/// no other does better, as the C library would have it from several servers.
pub(super) async fn ask(world: &World, query: &[u8]) -> Option<Vec<u8>> {
    let upstreams = world.upstreams();
    let mut order = world.order(&upstreams).into_iter();
    let count = u32::try_from(order.len()).unwrap_or(u32::MAX).max(1);
    let end = Instant::now() + upstreams.timeout();
    let step = ATTEMPT.min(upstreams.timeout() / count);
    let mut race = Race::new(world, query);
    loop {
        let until = match order.next() {
            Some(server) if race.start(server).is_err() => {
                world.mark_down(server);
                continue;
            }
            Some(_) if order.len() > 0 => end.min(Instant::now() + step),
            Some(_) => end,
            None if race.open.is_empty() => return race.refusal,
            None => end,
        };
        match race.run_until(until).await {
            Outcome::Answer(answer) => return Some(answer),
            Outcome::Next => {}
            Outcome::Late if order.len() > 0 => {}
            Outcome::Late => return race.refusal,
        }
    }
}

/// One query and the upstreams that have it.
struct Race<'a> {
    world: &'a World,
    query: &'a [u8],
    /// Where the question ends, when it can be read.
    question: Option<usize>,
    open: Vec<(SocketAddr, UdpSocket)>,
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

impl<'a> Race<'a> {
    fn new(world: &'a World, query: &'a [u8]) -> Self {
        let question = Query::parse(query).and_then(|query| query.question).map(|asked| asked.end);
        Self { world, query, question, open: Vec::new(), refusal: None }
    }

    fn start(&mut self, server: SocketAddr) -> io::Result<()> {
        let socket = connect(server, self.world.shared.mark)?;
        socket.send(self.query)?;
        if self.open.len() >= OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push((server, UdpSocket::from_std(socket.into())?));
        Ok(())
    }

    async fn run_until(&mut self, until: Instant) -> Outcome {
        match timeout_at(until, poll_fn(|context| self.poll(context))).await {
            Err(_) => {
                if let Some((server, _)) = self.open.last() {
                    self.world.mark_down(*server);
                }
                Outcome::Late
            }
            Ok(Event::Gone(at)) => {
                let (server, _) = self.open.remove(at);
                self.world.mark_down(server);
                Outcome::Next
            }
            Ok(Event::Datagram(at, answer)) => {
                let (server, _) = self.open.remove(at);
                self.world.mark_up(server);
                if is_refusal(&answer) {
                    self.refusal.get_or_insert(answer);
                    return Outcome::Next;
                }
                Outcome::Answer(answer)
            }
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Event> {
        let mut scratch = self.world.scratch.borrow_mut();
        for (at, (_, socket)) in self.open.iter().enumerate() {
            while let Poll::Ready(ready) = socket.poll_recv_ready(context) {
                match ready.and_then(|()| socket.try_recv(&mut scratch)) {
                    Ok(length) => {
                        let answer = scratch.get(..length).unwrap_or_default();
                        if self.is_answered_by(answer) {
                            return Poll::Ready(Event::Datagram(at, answer.to_vec()));
                        }
                        self.world.meter().forged.add();
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // Mostly ECONNREFUSED: nobody is there.
                    Err(_) => return Poll::Ready(Event::Gone(at)),
                }
            }
        }
        Poll::Pending
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
        question(answer) == question(self.query)
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
