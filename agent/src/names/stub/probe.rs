//! Loops: an upstream that, by a way nobody configured knowingly, asks us.
//!
//! Each upstream is asked now and then for a name that nobody else can know. Who sees that name
//! come in knows where it went round, and asks that upstream no more until such names come round
//! no more.

use std::rc::Rc;
use std::time::Duration;

use dns::wire::{HEADER, Name, Query};
use tokio::time::{Instant, sleep, sleep_until};

use super::race::connect;
use super::world::World;

/// The parent of names that are asked to find loops; nobody answers them.
const PARENT: &str = "loop.crossfade.internal.";

/// How often all are asked: one that begins to ask us later is found by then at the latest.
const EVERY: Duration = Duration::from_secs(30);

/// How often while one is left out, and the second time, as a datagram may be lost.
const SOON: Duration = Duration::from_secs(5);

/// The pause after each time, however much looks like a loop.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks every upstream for ever, at once whenever they change or something looks like a loop. Ends
/// with the stub.
pub(super) async fn watch(world: Rc<World>) {
    let mut asked = world.shared.asked.clone();
    let mut is_first = true;
    loop {
        let upstreams = asked.borrow_and_update().clone();
        world.settle(upstreams.servers());
        for server in upstreams.servers() {
            let bits = u128::from(world.draw.next()) << 64 | u128::from(world.draw.next());
            let Ok(name) = Name::from_text(&format!("{bits:032x}.{PARENT}")) else { continue };
            let name = name.as_wire();
            world.suspects.borrow_mut().asked(name.to_vec(), *server);
            let id = world.draw.next().to_be_bytes();
            if let Ok(socket) = connect(*server, world.shared.mark) {
                // One that cannot be reached does not ask us.
                let _ = socket.send(&question(id.first_chunk().unwrap_or(&[0, 0]), name));
            }
        }
        let sent = Instant::now();
        let is_calm = !is_first && world.suspects.borrow().looping().is_empty();
        let next = sent + if is_calm { EVERY } else { SOON };
        is_first = false;
        sleep(PAUSE).await;
        tokio::select! {
            changed = asked.changed() => match changed {
                Ok(()) => is_first = true,
                Err(_) => return,
            },
            () = world.suspicion.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}

/// A plain query of type A in class IN that asks for recursion.
fn question(id: &[u8; 2], name: &[u8]) -> Vec<u8> {
    let mut query = Vec::with_capacity(HEADER + name.len() + 4);
    query.extend_from_slice(id);
    query.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    query.extend_from_slice(name);
    query.extend_from_slice(&[0, 1, 0, 1]);
    query
}

impl World {
    /// Whether this question is one that we asked, and so came round.
    pub(super) fn is_own_probe(&self, query: &Query<'_>) -> bool {
        let Some(question) = &query.question else { return false };
        let came = self.suspects.borrow_mut().came(question.name.bytes(), Instant::now());
        let Some(came) = came else { return false };
        if came.is_new {
            let server = came.server;
            self.meter().loops.add();
            self.tell_looping();
            tracing::error!(%server, "this name server asks us; it is left out while it does");
            // What was found is asked about again, soon.
            self.suspicion.notify_one();
        }
        true
    }

    /// Forgets those that ask us no more.
    fn settle(&self, servers: &[std::net::SocketAddr]) {
        let cleared = self.suspects.borrow_mut().settle(servers, Instant::now());
        for server in cleared {
            tracing::warn!(%server, "this name server asks us no more; it is asked again");
        }
        self.tell_looping();
    }

    fn tell_looping(&self) {
        let looping = self.suspects.borrow().looping();
        if **self.shared.looping.load() != looping {
            self.shared.looping.store(looping.into());
        }
    }
}
