//! Foreign names over UDP: one socket per query and upstream, both directions byte for byte.
//!
//! A query stays in the kernel's queue until it is answered from memory or handed on: a process
//! that is killed between answers it again when it is back, from the same socket, and the client
//! takes the first answer. One that is with an upstream when the process is killed is lost, as it
//! may be with any server; its client asks again.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use dns::Transport;
use dns::wire::Query;
use tokio::time::sleep;

use super::QUERY_MAX;
use super::incoming::Incoming;
use super::race::Race;
use super::world::{Place, Verdict, World};
use crate::names::answers::servfail;

/// Queries taken up before other tasks have their turn.
const BATCH: usize = 32;

/// Pause after an error of receiving, so that a socket that only fails costs no processor.
const FAULT_PAUSE: Duration = Duration::from_millis(100);

/// Serves one UDP socket for ever.
pub(super) async fn serve(world: Rc<World>, socket: Rc<Incoming>) {
    // One octet more than allowed tells a longer query from one of just this length.
    let mut room = vec![0; QUERY_MAX + 1];
    let mut out = Vec::new();
    loop {
        let Ok(mut came) = socket.comes().await else {
            sleep(FAULT_PAUSE).await;
            continue;
        };
        for turn in 1..=BATCH {
            match came.take(|socket| socket.peek_from(&mut room)) {
                Some(Ok((length, client))) => {
                    let query = room.get(..length).unwrap_or_default();
                    datagram(&world, &socket, query, client, &mut out);
                    // Nobody else reads this socket: it is the one that was looked at.
                    let _ = socket.socket().recv_from(&mut []);
                }
                None => break,
                Some(Err(error)) => {
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
    socket: &Rc<Incoming>,
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
            let race = Race::start(world.clone(), query.into());
            tokio::task::spawn_local(relay(world.clone(), socket.clone(), race, client, place));
        }
    }
}

/// Sends at once or not at all, as the network does with datagrams.
fn send(world: &World, socket: &Incoming, answer: &[u8], client: SocketAddr) {
    if socket.socket().send_to(answer, client).is_err() {
        world.meter().unsent.add();
    }
}

/// Its sockets are closed after the client has its answer.
async fn relay(
    world: Rc<World>,
    socket: Rc<Incoming>,
    mut race: Race,
    client: SocketAddr,
    place: Place,
) {
    let answer = tokio::select! {
        answer = race.run() => answer,
        () = place.is_lost() => None,
    };
    if let Some(answer) = answer {
        world.meter().forwarded.add();
        return send(&world, &socket, &answer, client);
    }
    world.meter().failed.add();
    let mut out = Vec::new();
    if let Some(query) = Query::parse(race.query()) {
        servfail(&query, &mut out);
        send(&world, &socket, &out, client);
    }
}
