//! A map from names that is cheap to copy and change: a fixed number of small sorted lists.

use std::sync::Arc;

use crate::name::Name;

/// How many lists. A change copies one of them and this many pointers: with 100 000 names both
/// weigh about the same.
const SHARDS: usize = 256;

/// A map from names; unchanged lists are shared with the map it was copied from.
#[derive(Clone, Debug)]
pub(super) struct Shards<T> {
    lists: Arc<[List<T>]>,
    len: usize,
}

/// Sorted by name.
#[derive(Clone, Debug)]
struct List<T>(Arc<[(Name, T)]>);

impl<T: Clone> Shards<T> {
    pub(super) fn empty() -> Self {
        let nothing = List(Arc::new([]));
        Self { lists: std::iter::repeat_n(nothing, SHARDS).collect(), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lists.iter().flat_map(|list| list.0.iter()).map(|(_, value)| value)
    }

    pub(super) fn get(&self, hash: u64, text: &str) -> Option<&T> {
        let list = &self.lists.get(shard(hash))?.0;
        let at = list.binary_search_by(|(name, _)| name.cmp_text(hash, text)).ok()?;
        list.get(at).map(|(_, value)| value)
    }

    pub(super) fn put(&mut self, name: Name, value: T) {
        let mut added = false;
        self.edit(&name.clone(), |list| {
            match list.binary_search_by(|(known, _)| known.cmp(&name)) {
                Ok(at) => {
                    if let Some(slot) = list.get_mut(at) {
                        slot.1 = value;
                    }
                }
                Err(at) => {
                    list.insert(at, (name, value));
                    added = true;
                }
            }
        });
        self.len += usize::from(added);
    }

    pub(super) fn remove(&mut self, name: &Name) -> Option<T> {
        self.get(name.hash_value(), name.as_str())?;
        let mut removed = None;
        self.edit(name, |list| {
            if let Ok(at) = list.binary_search_by(|(known, _)| known.cmp(name)) {
                removed = Some(list.remove(at).1);
            }
        });
        self.len -= usize::from(removed.is_some());
        removed
    }

    fn edit(&mut self, name: &Name, edit: impl FnOnce(&mut Vec<(Name, T)>)) {
        if let Some(slot) = Arc::make_mut(&mut self.lists).get_mut(shard(name.hash_value())) {
            let mut list = slot.0.to_vec();
            edit(&mut list);
            *slot = List(list.into());
        }
    }
}

/// The top bits choose the list; within it names are ordered by the whole hash.
fn shard(hash: u64) -> usize {
    (hash >> 56) as usize % SHARDS
}
