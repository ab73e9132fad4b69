//! Loops: an upstream that, by a way nobody configured knowingly, asks us.
//!
//! Each upstream is asked once for a name that nobody else can know. Who sees that name come in
//! knows where it went round, and asks that upstream no more until the upstreams change.

use std::rc::Rc;
use std::time::Duration;

use dns::wire::{HEADER, Name, Query};
use tokio::time::sleep;

use super::relay::connect;
use super::world::World;

/// The parent of names that are asked to find loops; nobody answers them.
const PARENT: &str = "loop.crossfade.internal.";

/// How long such a question may go round: longer than any resolver waits.
const ROUND: Duration = Duration::from_secs(10);

/// How often one upstream is asked, as a datagram may be lost.
const TRIES: u32 = 2;

/// Asks every upstream whenever they change. Ends with the stub.
pub(super) async fn watch(world: Rc<World>) {
    let mut asked = world.shared.asked.clone();
    loop {
        let upstreams = asked.borrow_and_update().clone();
        let probes = upstreams.servers().iter().filter_map(|server| {
            let bits = u128::from(world.draw.next()) << 64 | u128::from(world.draw.next());
            let name = Name::from_text(&format!("{bits:032x}.{PARENT}")).ok()?;
            Some((name.as_wire().to_vec(), *server))
        });
        let probes: Vec<_> = probes.collect();
        {
            let mut suspects = world.suspects.borrow_mut();
            suspects.looping.clear();
            suspects.probes.clone_from(&probes);
        }
        for _ in 0..TRIES {
            for (name, server) in &probes {
                let id = world.draw.next().to_be_bytes();
                if let Ok(socket) = connect(*server, world.shared.mark) {
                    // One that cannot be reached does not ask us.
                    let _ = socket.send(&question(id.first_chunk().unwrap_or(&[0, 0]), name));
                }
            }
            tokio::select! {
                changed = asked.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = sleep(ROUND / TRIES) => {}
            }
        }
        if world.shared.asked.has_changed().is_err() {
            return;
        }
        if !asked.has_changed().unwrap_or_default() && asked.changed().await.is_err() {
            return;
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
        let mut suspects = self.suspects.borrow_mut();
        let probe = suspects.probes.iter().find(|(name, _)| name == question.name.bytes());
        let Some(server) = probe.map(|(_, server)| *server) else { return false };
        if suspects.looping.insert(server) {
            self.meter().loops.add();
            tracing::error!(%server, "this name server asks us; it is left out from now on");
        }
        true
    }
}
