//! The names that a stream subscribes to: one pointer each.

use std::collections::BTreeSet;

use crate::name::Name;
use crate::table::Table;

/// A sorted set of names.
#[derive(Debug, Default)]
pub(super) struct Names(Box<[Name]>);

impl Names {
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Name> {
        self.0.iter()
    }

    pub(super) fn contains(&self, name: &Name) -> bool {
        self.0.binary_search(name).is_ok()
    }

    /// The name of this text, shared with the table's or with the one here if there is one.
    pub(super) fn share(&self, text: &str, table: Option<&Table>) -> Name {
        if let Some(resource) = table.and_then(|table| table.get(text)) {
            return resource.name().clone();
        }
        let hash = Name::hash_of(text);
        let at = self.0.binary_search_by(|name| name.cmp_text(hash, text)).ok();
        let known = at.and_then(|at| self.0.get(at));
        known.map_or_else(|| Name::new(text), Clone::clone)
    }

    /// Adds names that are not there.
    pub(super) fn add(&mut self, names: &BTreeSet<Name>) {
        if names.iter().all(|name| self.contains(name)) {
            return;
        }
        let new: Vec<&Name> = names.iter().filter(|name| !self.contains(name)).collect();
        let mut all = Vec::with_capacity(self.0.len().saturating_add(new.len()));
        all.extend(self.0.iter().cloned());
        all.extend(new.into_iter().cloned());
        all.sort_unstable();
        self.0 = all.into();
    }

    /// Removes names.
    pub(super) fn remove(&mut self, names: &BTreeSet<Name>) {
        if names.iter().any(|name| self.contains(name)) {
            self.0 = self.0.iter().filter(|name| !names.contains(*name)).cloned().collect();
        }
    }

    /// Has these names from now on.
    pub(super) fn replace(&mut self, names: BTreeSet<Name>) {
        self.0 = names.into_iter().collect();
    }

    /// Takes the table's own copies of the names.
    pub(super) fn share_all(&mut self, table: &Table) {
        for name in &mut self.0 {
            if let Some(resource) = table.of(name) {
                *name = resource.name().clone();
            }
        }
    }
}
