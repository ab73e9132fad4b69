//! What one transaction must do to make a table of another.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::rules::table::{Chain, Dispatch, Key, Name, Table};

#[cfg(test)]
mod tests;

/// One part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Everything anew: the table's name or what stands beside it changed.
    Replace,
    /// A counter that was not there.
    AddCounter(Name),
    /// A set of stragglers that was not there.
    AddStragglers(Name),
    /// An empty map that was not there.
    AddDispatch(Name),
    /// A chain that was not there, without its rules: others may lead there.
    AddChain(Name),
    /// The rules of a chain instead of those that it has.
    PutChain(Name),
    /// Elements that go from a map; those whose chain changed come again.
    DropElements(Name, Vec<Key>),
    /// Elements that come into a map.
    AddElements(Name, Vec<Key>),
    /// A chain to which nothing leads any more.
    DropChain(Name),
    /// A map that no rule uses any more.
    DropDispatch(Name),
    /// A set that no rule uses any more.
    DropStragglers(Name),
    /// A counter that no rule uses any more.
    DropCounter(Name),
}

/// The changes from `old` to `new`, in an order in which each finds what it needs: what is added
/// first, then rules, then what is dropped. Nothing where they are equal.
pub fn diff(old: &Table, new: &Table) -> Vec<Change> {
    if old.name != new.name || old.comment != new.comment {
        return vec![Change::Replace];
    }
    // A chain that is called elsewhere now, or a map or set of another shape, is another one.
    let chain = |a: &Arc<Chain>, b: &Arc<Chain>| Arc::ptr_eq(a, b) || a.hook == b.hook;
    let map = |a: &Dispatch, b: &Dispatch| a.family == b.family;
    let sets = |(name, set)| old.stragglers.get(name).is_none_or(|was| was == set);
    if !stay(&old.chains, &new.chains, chain)
        || !stay(&old.dispatch, &new.dispatch, map)
        || !new.stragglers.iter().all(sets)
    {
        return vec![Change::Replace];
    }
    let mut changes = Vec::new();
    changes.extend(new.counters.difference(&old.counters).cloned().map(Change::AddCounter));
    changes.extend(missing(&new.stragglers, &old.stragglers).map(Change::AddStragglers));
    changes.extend(missing(&new.dispatch, &old.dispatch).map(Change::AddDispatch));
    changes.extend(missing(&new.chains, &old.chains).map(Change::AddChain));
    for (name, chain) in &new.chains {
        let same = match old.chains.get(name) {
            Some(old) => Arc::ptr_eq(old, chain) || old.rules == chain.rules,
            None => chain.rules.is_empty(),
        };
        if !same {
            changes.push(Change::PutChain(name.clone()));
        }
    }
    elements(old, new, &mut changes);
    changes.extend(missing(&old.chains, &new.chains).map(Change::DropChain));
    changes.extend(missing(&old.dispatch, &new.dispatch).map(Change::DropDispatch));
    changes.extend(missing(&old.stragglers, &new.stragglers).map(Change::DropStragglers));
    changes.extend(old.counters.difference(&new.counters).cloned().map(Change::DropCounter));
    changes
}

/// Whether all that are in both are the same thing.
fn stay<T>(
    old: &BTreeMap<Name, T>,
    new: &BTreeMap<Name, T>,
    same: impl Fn(&T, &T) -> bool,
) -> bool {
    new.iter().all(|(name, new)| old.get(name).is_none_or(|old| same(old, new)))
}

/// The names in `these` that are not in `those`.
fn missing<'a, T, U>(
    these: &'a BTreeMap<Name, T>,
    those: &'a BTreeMap<Name, U>,
) -> impl Iterator<Item = Name> + 'a {
    these.keys().filter(|name| !those.contains_key(*name)).cloned()
}

fn elements(old: &Table, new: &Table, changes: &mut Vec<Change>) {
    let none = BTreeMap::new();
    for (name, map) in &new.dispatch {
        let was = old.dispatch.get(name).map_or(&none, |map| &map.chains);
        let differ = |a: &BTreeMap<Key, Name>, b: &BTreeMap<Key, Name>| -> Vec<Key> {
            let gone = a.iter().filter(|(key, chain)| b.get(*key) != Some(*chain));
            gone.map(|(key, _)| *key).collect()
        };
        let (drop, add) = (differ(was, &map.chains), differ(&map.chains, was));
        if !drop.is_empty() {
            changes.push(Change::DropElements(name.clone(), drop));
        }
        if !add.is_empty() {
            changes.push(Change::AddElements(name.clone(), add));
        }
    }
    // The elements of a map that goes lead to chains that may go too.
    for (name, map) in old.dispatch.iter().filter(|(name, _)| !new.dispatch.contains_key(*name)) {
        if !map.chains.is_empty() {
            let keys = map.chains.keys().copied().collect();
            changes.push(Change::DropElements(name.clone(), keys));
        }
    }
}
