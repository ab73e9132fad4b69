//! What becomes of flows when splits change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::rules::Transport;
use plan::snapshot::Service;
use plan::{ServiceId, Side, Split};
use tokio::time::Instant;

use super::Actor;

impl Actor {
    /// Takes up that splits are others now: datagrams of the side that lost go the new way at once,
    /// and connections are closed when the plan says.
    pub(super) fn moved(&mut self, leaves: &[Arc<Service>]) {
        let counts = self.kernel.counted().unwrap_or_default();
        let marks = self.world.lock().marks.clone();
        let state = &mut self.state;
        let known: BTreeSet<&ServiceId> = leaves.iter().map(|leaf| &leaf.id).collect();
        state.baselines.keep(|id| known.contains(id));
        state.drains.retain(|id, _| known.contains(id));
        for leaf in leaves {
            let at = state.leaves.binary_search_by(|old| old.id.cmp(&leaf.id));
            let old = at.ok().and_then(|at| state.leaves.get(at)).cloned();
            if old.as_ref().is_none_or(|old| old.since != leaf.since) {
                state.baselines.begin(leaf, state.counted.get(&leaf.id), &counts);
            }
            let (Some(old), Some(mark)) = (old, marks.of(&leaf.id)) else { continue };
            let (was, is) = (old.serving.split(), leaf.serving.split());
            if was == is {
                continue;
            }
            let lost = if is < was { Side::Target } else { Side::Legacy };
            self.kernel.flush(mark, lost, Some(Transport::Udp));
            state.drains.remove(&leaf.id);
            let exact = is == Split::LEGACY || is == Split::TARGET;
            if let Some(after) = leaf.drain.filter(|_| exact) {
                state.drains.insert(leaf.id.clone(), (Instant::now() + after, lost));
            }
        }
        state.leaves = leaves.to_vec();
    }

    /// Closes what is left on the side that lost; `false`: no such service, or it is on both.
    pub(super) fn drain(&mut self, id: &ServiceId) -> bool {
        let leaf = self.state.leaves.iter().find(|leaf| leaf.id == *id);
        let lost = match leaf.map(|leaf| leaf.serving.split()) {
            Some(Split::LEGACY) => Side::Target,
            Some(Split::TARGET) => Side::Legacy,
            Some(_) | None => return false,
        };
        let Some(mark) = self.world.lock().marks.of(id) else { return false };
        self.kernel.flush(mark, lost, None);
        true
    }

    /// Closes what the plan wants closed by now.
    pub(super) fn drain_due(&mut self, now: Instant) {
        let drains = std::mem::take(&mut self.state.drains);
        let (due, later): (BTreeMap<_, _>, _) =
            drains.into_iter().partition(|(_, (at, _))| *at <= now);
        self.state.drains = later;
        for (id, (_, lost)) in due {
            let mark = self.world.lock().marks.of(&id);
            if let Some(mark) = mark {
                self.kernel.flush(mark, lost, None);
            }
        }
    }
}
