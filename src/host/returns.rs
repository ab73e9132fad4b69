//! Proves, again and again, that servers answer by way of this host ([`agent::returns`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent::dataplane::{DataplaneError, Tracked};
use agent::returns::{Ask, Judged, Outcome, Proofs, Wanted};
use agent::rules::{Host, SocketMark};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::following;
use crate::host::actor::Shared;
use crate::verbs::chain;

/// How often what is wanted is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long an answer may take; a request that was lost is sent again after a second.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Where own connections come from: ports that no system gives to its clients by itself, so that
/// the connection of a real client with this address is not met.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many of those are tried for one that is free.
const PORTS_TRIED: usize = 8;

/// What was proved, for [`Host`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Proved {
    sources: Vec<IpAddr>,
    pub(super) judged: Judged,
}

impl Proved {
    /// Tells the rules.
    pub(super) fn tell(&self, host: &mut Host) {
        host.sources.clone_from(&self.sources);
        host.returns.clone_from(&self.judged.returns);
        host.unproved.clone_from(&self.judged.unproved);
    }
}

/// Goes on for as long as anybody listens.
pub(super) async fn go_on(world: Shared, proved: watch::Sender<Proved>) {
    let tracked = match Tracked::open() {
        Ok(tracked) => Arc::new(Mutex::new(tracked)),
        Err(error) => {
            tracing::error!(why = %chain(&error), "no way back can be proved");
            return std::future::pending().await;
        }
    };
    let began = Instant::now();
    let (mut proofs, mut random) = (Proofs::default(), following::random());
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (wanted, standing) = {
            let world = world.lock();
            let table = world.merged(None);
            let wanted = Wanted::of(&table.services, &world.host);
            let standing = world.host.sources == wanted.sources;
            (Arc::new(wanted), standing)
        };
        proofs.keep(&wanted);
        publish(&proved, &wanted, &proofs, began.elapsed());
        if !standing {
            continue;
        }
        let mut asking = JoinSet::new();
        for ask in proofs.next(&wanted, began.elapsed()) {
            let Some(place) = place(&wanted, ask.from) else { continue };
            let ports: Vec<u16> = (0..PORTS_TRIED).map(|_| port(random())).collect();
            let tracked = Arc::clone(&tracked);
            let mark = SocketMark::AGENT.proving(place);
            asking.spawn(async move { (ask, again(ask, mark, &ports, &tracked).await) });
        }
        while let Some(answered) = asking.join_next().await {
            match answered {
                Ok((ask, outcome)) => proofs.answered(ask, outcome, began.elapsed()),
                Err(error) => tracing::error!(why = %chain(&error), "nothing was proved"),
            }
            publish(&proved, &wanted, &proofs, began.elapsed());
        }
    }
}

/// Says what is proved now, if it is something else.
fn publish(proved: &watch::Sender<Proved>, wanted: &Wanted, proofs: &Proofs, now: Duration) {
    let judged = proofs.judge(wanted, now);
    let new = Proved { sources: wanted.sources.clone(), judged };
    proved.send_if_modified(|old| {
        let other = *old != new;
        *old = new;
        other
    });
}

fn place(wanted: &Wanted, from: IpAddr) -> Option<u16> {
    let at = wanted.sources.iter().position(|source| *source == from)?;
    u16::try_from(at).ok()
}

fn port(random: u64) -> u16 {
    let place = random % u64::from(PORTS.end - PORTS.start);
    PORTS.start + u16::try_from(place).unwrap_or_default()
}

/// Asks, and where nothing came back once more: one packet may be lost.
async fn again(ask: Ask, mark: u32, ports: &[u16], tracked: &Mutex<Tracked>) -> Outcome {
    match once(ask, mark, ports, tracked).await {
        Outcome::Failed(_) => once(ask, mark, ports, tracked).await,
        outcome @ (Outcome::CameBack | Outcome::Refused(_) | Outcome::NotAsked) => outcome,
    }
}

async fn once(ask: Ask, mark: u32, ports: &[u16], tracked: &Mutex<Tracked>) -> Outcome {
    let socket = match socket(ask.to, mark, ports) {
        Ok(socket) => socket,
        Err(error) => return Outcome::Failed(format!("it cannot be asked: {error}")),
    };
    let stream = match tokio::time::timeout(PATIENCE, socket.connect(ask.to)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Outcome::Refused(error.to_string());
        }
        Ok(Err(error)) => return Outcome::Failed(error.to_string()),
        Err(_) => return Outcome::Failed(format!("no answer within {PATIENCE:?}")),
    };
    let left = stream.local_addr().map_err(DataplaneError::Socket).and_then(|local| {
        tracked.lock().unwrap_or_else(PoisonError::into_inner).leaves_as(local, ask.to)
    });
    match left {
        Ok(Some(from)) if from == ask.from => Outcome::CameBack,
        // Our table was not there: what answered was asked by this host.
        Ok(_) => Outcome::NotAsked,
        Err(error) => Outcome::Failed(format!("it cannot be told: {}", chain(&error))),
    }
}

/// A socket with this mark, at a port of its own. The kernel opens its connection by acknowledging
/// a moment later, and by then it is gone, by a reset: a server's own system knows of it, the
/// server does not, so that it logs nothing, and counts nothing against the client whose address
/// this is.
/// Nor is the port taken any longer.
fn socket(to: SocketAddr, mark: u32, ports: &[u16]) -> io::Result<TcpSocket> {
    let (socket, any) = match to {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    };
    setsockopt(&socket, sockopt::Mark, &mark)?;
    SockRef::from(&socket).set_tcp_quickack(false)?;
    socket.set_zero_linger()?;
    let bind = |port: &u16| socket.bind(SocketAddr::new(any, *port)).is_ok();
    if !ports.iter().any(bind) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    Ok(socket)
}
