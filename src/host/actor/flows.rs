//! What becomes of flows when splits and endpoints change.

use std::collections::BTreeSet;
use std::sync::Arc;

use agent::dataplane::Forget;
use agent::rules::{self, Compiled, Key, Mark, Transport};
use plan::snapshot::Service;
use plan::spec::Protocol;
use plan::{ServiceId, Side, Split};

use super::known::Moved;
use super::{Actor, Drained};
use crate::verbs::chain;

impl Actor {
    /// Takes up that other leaves are in force: what is to be done about flows is done by
    /// [`Actor::settle`], when whoever waits for the rules has been told.
    pub(super) fn moved(&mut self, compiled: &Compiled, leaves: &[Arc<Service>]) {
        let counted = self.kernel.counted().ok();
        let (marks, held) = {
            let world = self.world.lock();
            (world.marks.clone(), world.held())
        };
        let now = self.clock.now();
        let state = &mut self.state;
        if let Some(counted) = &counted {
            state.known.see(&state.counted, counted);
        }
        state.counted.clone_from(&compiled.counted);
        let read = (&state.counted, counted.as_ref());
        let both = (leaves, &*state.leaves);
        let moves = state.known.moved(both, read, |id| held.contains(id), now);
        state.unkept |= moves.unkept;
        for Moved { id, sides, older } in moves.all {
            let leaf = leaves.binary_search_by(|leaf| leaf.id.cmp(&id)).ok();
            let leaf = leaf.and_then(|at| leaves.get(at));
            let Some(mark) = marks.of(&id) else { continue };
            if leaf.is_some_and(|leaf| !has_datagrams(leaf)) {
                continue;
            }
            state.due.marked.extend(sides.into_iter().map(|side| (mark, side)));
            if let Some(leaf) = leaf.filter(|_| older) {
                let full = leaf.serving.split() == Split::TARGET;
                state.due.older.extend(keys(compiled, &id, full));
            }
        }
        state.leaves = leaves.to_vec();
        state.read = counted;
    }

    /// Datagrams of a side that lost, or to an endpoint that is gone, go the new way. When that is
    /// done it is written down.
    pub(super) fn settle(&mut self) {
        let due = std::mem::take(&mut self.state.due);
        self.kernel.forget(&due);
        if std::mem::take(&mut self.state.unkept)
            && let Err(error) = self.state.known.put(&self.directory)
        {
            tracing::error!(why = %chain(&error), "what is known of flows cannot be kept");
        }
    }

    /// Closes what is left on the side that lost, where one has.
    pub(super) fn drain_all(&mut self, services: Vec<ServiceId>) -> Drained {
        let mut drained = Drained::default();
        for id in services {
            let Some(lost) = self.lost(&id) else { continue };
            let (mark, is_left) = {
                let world = self.world.lock();
                let leaf = self.state.leaves.iter().find(|leaf| leaf.id == id);
                let tcp = Some(Transport::Tcp);
                let stays = |leaf: &Arc<Service>| rules::legacy_stays(leaf, &world.host, tcp);
                (world.marks.of(&id), lost == Side::Legacy && leaf.is_some_and(stays))
            };
            let Some(mark) = mark else { continue };
            self.kernel.forget(&closed([(mark, lost)]));
            let list = if is_left { &mut drained.left } else { &mut drained.closed };
            list.push(id);
        }
        drained
    }

    /// The side that has lost; `None`: no such service, or it is on both.
    fn lost(&self, id: &ServiceId) -> Option<Side> {
        let leaf = self.state.leaves.iter().find(|leaf| leaf.id == *id)?;
        match leaf.serving.split() {
            Split::LEGACY => Some(Side::Target),
            Split::TARGET => Some(Side::Legacy),
            _ => None,
        }
    }

    /// Closes what the plan wants closed by now.
    pub(super) fn drain_due(&mut self) {
        let due = self.state.known.due(self.clock.now());
        self.state.unkept |= !due.is_empty();
        if due.is_empty() {
            return;
        }
        let marks = self.world.lock().marks.clone();
        let marked = due.into_iter().filter_map(|(id, lost)| Some((marks.of(&id)?, lost)));
        self.kernel.forget(&closed(marked));
    }
}

/// All flows of these.
fn closed(marked: impl IntoIterator<Item = (Mark, Side)>) -> Forget {
    Forget { marked: marked.into_iter().collect(), connections: true, ..Forget::default() }
}

/// Whether datagrams are among what it serves.
pub(super) fn has_datagrams(leaf: &Service) -> bool {
    leaf.spec.ports.iter().any(|port| port.protocol == Protocol::Udp)
}

/// Where datagrams of a service are sent to; those to the host's own address where they are caught
/// by now.
fn keys(compiled: &Compiled, id: &ServiceId, full: bool) -> BTreeSet<Key> {
    let (logical, own) = (format!("in/{id}"), format!("catch/{id}"));
    let is_its = |chain: &str| chain == logical || (full && chain == own);
    let maps = compiled.table.dispatch.values().flat_map(|map| &map.chains);
    let its = maps.filter(|(key, chain)| key.transport == Transport::Udp && is_its(chain.as_str()));
    its.map(|(key, _)| *key).collect()
}
