//! Streams by what they see and whose they are. Plain state.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::hub::Slot;
use crate::client::{Client, Identity, View};

/// All kinds of clients that are connected; as many as there are streams at most.
#[derive(Default)]
pub(super) struct Kinds {
    /// The streams of each by key, so the first one is the oldest; none is empty.
    kinds: HashMap<Kind, BTreeMap<u64, Arc<Client>>>,
    changed: bool,
}

/// Who sees the same, and is the same machine where machines are known.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    view: View,
    machine: Option<Arc<Identity>>,
}

impl Kind {
    fn of(slot: &Slot) -> Option<(Self, &Arc<Client>)> {
        let (client, view) = (slot.client()?, slot.view()?);
        Some((Self { view: view.clone(), machine: client.identity.clone() }, client))
    }
}

impl Kinds {
    pub(super) fn join(&mut self, slot: &Slot) {
        let Some((kind, client)) = Kind::of(slot) else { return };
        let streams = self.kinds.entry(kind).or_default();
        self.changed |= streams.is_empty();
        streams.insert(slot.key, Arc::clone(client));
    }

    pub(super) fn leave(&mut self, slot: &Slot) {
        let Some((kind, _)) = Kind::of(slot) else { return };
        let Some(streams) = self.kinds.get_mut(&kind) else { return };
        // What is told of the kind is told by its oldest stream: it may not speak for it any more.
        self.changed |= streams.first_key_value().is_some_and(|(key, _)| *key == slot.key);
        streams.remove(&slot.key);
        if streams.is_empty() {
            self.kinds.remove(&kind);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there is something to tell.
    pub(super) const fn is_stale(&self) -> bool {
        self.changed
    }

    /// The oldest client of each kind, the oldest of all first: O(kinds).
    pub(super) fn tell(&mut self) -> Arc<[Arc<Client>]> {
        self.changed = false;
        let oldest = self.kinds.values().filter_map(BTreeMap::first_key_value);
        let mut oldest: Vec<(u64, &Arc<Client>)> = oldest.map(|(key, it)| (*key, it)).collect();
        oldest.sort_unstable_by_key(|(key, _)| *key);
        oldest.into_iter().map(|(_, client)| Arc::clone(client)).collect()
    }
}
