//! From what the kernel holds to what it shall hold: the messages of one transaction.
//!
//! Chains are filled anew as a whole, each at one moment for packets: who enters it before sees the
//! old rules to their end, who enters later the new ones. Counters and sets of stragglers stay.

use std::sync::Arc;

use super::encode::{Messages, element, object, rule};
use super::error::DataplaneError;
use super::held::{self, Held};
use crate::rules::diff::{Change, diff};
use crate::rules::{Action, Name, Table};

/// How a table is brought to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// There is none.
    First,
    /// What stands is taken away and made anew, in one transaction.
    Anew,
    /// What differs is changed.
    Steps(Vec<Change>),
    /// As [`How::Steps`], but chains that are no longer used stay, empty.
    StepsWithoutDrops(Vec<Change>),
}

/// The steps from what is held to `table`; `None`: it cannot be done by steps, because something of
/// one name changes its shape.
pub(super) fn steps(held: &Held, table: &Table) -> Option<Vec<Change>> {
    if let Some(changes) = refilled(held, table) {
        return Some(changes);
    }
    let changes = diff(&held.seen_as(table), table);
    let strange = held.strange
        || held.table.stragglers.keys().any(|name| table.dispatch.contains_key(name))
        || held.table.dispatch.keys().any(|name| table.stragglers.contains_key(name));
    (!strange && !changes.contains(&Change::Replace)).then_some(changes)
}

/// The steps where only rules differ, which is most often so: one walk over both tables, which does
/// not look into what they share.
fn refilled(held: &Held, table: &Table) -> Option<Vec<Change>> {
    let old = &held.table;
    let same = held.written
        && !held.strange
        && old.chains.len() == table.chains.len()
        && old.counters == table.counters
        && old.stragglers == table.stragglers
        && old.dispatch == table.dispatch;
    if !same {
        return None;
    }
    let mut changes = Vec::new();
    for ((name, new), (was, old)) in table.chains.iter().zip(&old.chains) {
        if name != was {
            return None;
        }
        if Arc::ptr_eq(new, old) {
            continue;
        }
        if new.hook != old.hook {
            return None;
        }
        if new.rules != old.rules {
            changes.push(Change::PutChain(name.clone()));
        }
    }
    Some(changes)
}

/// Writes what brings `table`, which has these flags then; nothing, if nothing differs.
pub(super) fn write(to: &mut Messages, table: &Table, how: &How, flags: u32) {
    let whole;
    let changes = match how {
        How::First | How::Anew => {
            whole = diff(&held::empty(table), table);
            &whole
        }
        How::Steps(changes) | How::StepsWithoutDrops(changes) if changes.is_empty() => return,
        How::Steps(changes) | How::StepsWithoutDrops(changes) => changes,
    };
    if *how == How::Anew {
        object::drop_table(to, &table.name);
    }
    object::table(to, &table.name, &table.comment, flags);
    // What leads to a chain that goes must be gone before it.
    for change in changes {
        if let Change::DropChain(name) = change {
            object::flush_chain(to, &table.name, name);
        }
    }
    let stays = |change: &Change| {
        matches!((how, change), (How::StepsWithoutDrops(_), Change::DropChain(_)))
    };
    for (change, id) in changes.iter().filter(|change| !stays(change)).zip(1..) {
        write_change(to, table, change, id);
    }
}

/// Writes the removal of chains that stayed after [`How::StepsWithoutDrops`].
pub(super) fn write_drops(to: &mut Messages, table: &Table, changes: &[Change]) {
    for change in changes {
        if let Change::DropChain(name) = change {
            object::drop_chain(to, &table.name, name);
        }
    }
}

/// Writes one part; `id` tells sets of one transaction apart.
fn write_change(to: &mut Messages, table: &Table, change: &Change, id: u32) {
    let of = &table.name;
    match change {
        // Asked before: see `steps`.
        Change::Replace => (),
        Change::AddCounter(name) => object::counter(to, of, name),
        Change::AddStragglers(name) => {
            if let Some(set) = table.stragglers.get(name) {
                object::stragglers(to, of, name, set, id);
            }
        }
        Change::AddDispatch(name) => {
            if let Some(map) = table.dispatch.get(name) {
                object::dispatch(to, of, name, map, id);
            }
        }
        Change::AddChain(name) => {
            if let Some(chain) = table.chains.get(name) {
                object::chain(to, of, name, chain);
            }
        }
        Change::PutChain(name) => {
            object::flush_chain(to, of, name);
            for it in table.chains.get(name).map(|chain| &chain.rules).into_iter().flatten() {
                rule::append(to, table, name, it);
            }
        }
        Change::DropElements(name, keys) => element::remove(to, of, name, keys),
        Change::AddElements(name, keys) => {
            let Some(map) = table.dispatch.get(name) else { return };
            let pairs = keys.iter().filter_map(|key| Some((*key, map.chains.get(key)?)));
            element::add(to, of, name, &pairs.collect::<Vec<_>>());
        }
        Change::DropChain(name) => object::drop_chain(to, of, name),
        Change::DropDispatch(name) | Change::DropStragglers(name) => {
            object::drop_set(to, of, name);
        }
        Change::DropCounter(name) => object::drop_counter(to, of, name),
    }
}

/// Whether all is there that is named: by chains that are put, where nothing else changes; else by
/// the whole table.
pub(super) fn check(table: &Table, how: &How) -> Result<(), DataplaneError> {
    let put = |change: &Change| {
        if let Change::PutChain(name) = change { Some(name.clone()) } else { None }
    };
    let only: Option<Vec<Name>> = match how {
        How::First | How::Anew => None,
        How::Steps(changes) | How::StepsWithoutDrops(changes) => changes.iter().map(put).collect(),
    };
    let chains: Vec<_> = match &only {
        Some(names) => names.iter().filter_map(|name| table.chains.get(name)).collect(),
        None => table.chains.values().collect(),
    };
    let rules = chains.into_iter();
    let dangling = |name: &Name| Err(DataplaneError::Dangling(name.to_string()));
    for action in rules.flat_map(|chain| &chain.rules).flat_map(|it| &it.actions) {
        let (name, there) = match action {
            Action::Count(name) => (name, table.counters.contains(name)),
            Action::Note(name) => (name, table.stragglers.contains_key(name)),
            Action::Goto(name) | Action::Jump(name) => (name, table.chains.contains_key(name)),
            Action::Dispatch(name) => (name, table.dispatch.contains_key(name)),
            Action::MarkFlow { .. }
            | Action::Translate(_)
            | Action::Redirect(_)
            | Action::Masquerade
            | Action::LeaveAs(_)
            | Action::Return
            | Action::Accept => continue,
        };
        if !there {
            return dangling(name);
        }
    }
    if only.is_some() {
        return Ok(());
    }
    let targets = table.dispatch.values().flat_map(|map| map.chains.values());
    for name in targets {
        if !table.chains.contains_key(name) {
            return dangling(name);
        }
    }
    Ok(())
}
