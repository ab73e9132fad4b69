//! From what the kernel holds to what it shall hold: the messages of one transaction.
//!
//! Chains are filled anew as a whole, each at one moment for packets: who enters it before sees the
//! old rules to their end, who enters later the new ones. Counters and sets of stragglers stay.

use std::collections::BTreeSet;

use super::Ownership;
use super::encode::{Messages, element, object, rule};
use super::error::DataplaneError;
use super::held::Held;
use crate::rules::{Action, Chain, Name, Rule, Table};

/// How a table is brought to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// What differs is changed.
    Step,
    /// As [`How::Step`], but chains that are no longer used stay, empty.
    StepWithoutDrops,
    /// The table is taken away and made anew, in one transaction.
    Anew,
}

/// Writes what turns `held` into `table`; nothing, if they are the same.
pub(super) fn write(to: &mut Messages, held: &Held, table: &Table, how: How, best: Ownership) {
    let nothing = Held::nothing(table);
    let held = match how {
        How::Anew => {
            object::drop_table(to, &table.name);
            &nothing
        }
        How::Step | How::StepWithoutDrops => held,
    };
    let changes = Changes { old: &held.table, new: table, written: held.written };
    if how != How::Anew && changes.is_empty() {
        return;
    }
    object::table(to, &table.name, &table.comment, best);
    changes.write_new_parts(to);
    changes.write_dropped_elements(to);
    changes.write_rules(to);
    changes.write_new_elements(to);
    changes.write_dropped_parts(to, how == How::StepWithoutDrops);
}

/// Whether `held` can become `table` by steps: nothing of one name changes its shape.
pub(super) fn can_step(held: &Held, table: &Table) -> bool {
    let old = &held.table;
    let chains = old.chains.iter().all(|(name, chain)| {
        table.chains.get(name).is_none_or(|new| new.hook == chain.hook)
    });
    let maps = old.dispatch.iter().all(|(name, map)| {
        !table.stragglers.contains_key(name)
            && table.dispatch.get(name).is_none_or(|new| new.family == map.family)
    });
    let sets = old.stragglers.iter().all(|(name, set)| {
        !table.dispatch.contains_key(name)
            && table.stragglers.get(name).is_none_or(|new| {
                let prefix = if held.written { set.prefix } else { new.prefix };
                *new == crate::rules::Stragglers { prefix, ..*set }
            })
    });
    !held.strange && chains && maps && sets
}

/// Whether all that rules and maps name is there.
pub(super) fn check(table: &Table) -> Result<(), DataplaneError> {
    let dangling = |name: &Name| Err(DataplaneError::Dangling(name.to_string()));
    let actions = table.chains.values().flat_map(|chain| &chain.rules).flat_map(|it| &it.actions);
    for action in actions {
        let (name, there) = match action {
            Action::Count(name) => (name, table.counters.contains(name)),
            Action::Note(name) => (name, table.stragglers.contains_key(name)),
            Action::Goto(name) | Action::Jump(name) => (name, table.chains.contains_key(name)),
            Action::Dispatch(name) => (name, table.dispatch.contains_key(name)),
            Action::MarkFlow { .. }
            | Action::Translate(_)
            | Action::Redirect(_)
            | Action::Masquerade
            | Action::Return
            | Action::Accept => continue,
        };
        if !there {
            return dangling(name);
        }
    }
    let targets = table.dispatch.values().flat_map(|map| map.chains.values());
    for name in targets {
        if !table.chains.contains_key(name) {
            return dangling(name);
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Changes<'a> {
    old: &'a Table,
    new: &'a Table,
    /// The old rules are known.
    written: bool,
}

impl<'a> Changes<'a> {
    fn is_empty(&self) -> bool {
        self.written
            && self.old.chains == self.new.chains
            && self.old.dispatch == self.new.dispatch
            && self.old.stragglers == self.new.stragglers
            && self.old.counters == self.new.counters
    }

    fn write_new_parts(&self, to: &mut Messages) {
        let table = &self.new.name;
        for name in self.new.counters.difference(&self.old.counters) {
            object::counter(to, table, name);
        }
        let mut ids = 1_u32..;
        for (name, set) in &self.new.stragglers {
            if !self.old.stragglers.contains_key(name) {
                object::stragglers(to, table, name, set, ids.next().unwrap_or_default());
            }
        }
        for (name, map) in &self.new.dispatch {
            if !self.old.dispatch.contains_key(name) {
                object::dispatch(to, table, name, map, ids.next().unwrap_or_default());
            }
        }
        for (name, chain) in &self.new.chains {
            if !self.old.chains.contains_key(name) {
                object::chain(to, table, name, chain);
            }
        }
    }

    fn write_dropped_elements(&self, to: &mut Messages) {
        for (name, old) in &self.old.dispatch {
            let new = self.new.dispatch.get(name);
            let gone = old.chains.iter().filter(|(key, chain)| {
                new.is_none_or(|new| new.chains.get(key) != Some(chain))
            });
            let gone: Vec<_> = gone.map(|(key, _)| *key).collect();
            element::remove(to, &self.new.name, name, &gone);
        }
    }

    fn write_rules(&self, to: &mut Messages) {
        let refilled: BTreeSet<&Name> = self
            .old
            .chains
            .iter()
            .filter(|(name, old)| self.is_refilled(name, old))
            .map(|(name, _)| name)
            .collect();
        for name in &refilled {
            object::flush_chain(to, &self.new.name, name);
        }
        for (name, chain) in &self.new.chains {
            if self.old.chains.contains_key(name) && !refilled.contains(name) {
                continue;
            }
            for it in &chain.rules {
                rule::append(to, self.new, name, it);
            }
        }
    }

    /// Whether a chain that stands must lose its rules.
    fn is_refilled(&self, name: &Name, old: &Chain) -> bool {
        let none: &[Rule] = &[];
        let rules = self.new.chains.get(name).map_or(none, |new| &new.rules);
        !self.written || old.rules != rules
    }

    fn write_new_elements(&self, to: &mut Messages) {
        for (name, new) in &self.new.dispatch {
            let old = self.old.dispatch.get(name);
            let added = new.chains.iter().filter(|(key, chain)| {
                old.is_none_or(|old| old.chains.get(key) != Some(chain))
            });
            let added: Vec<_> = added.map(|(key, chain)| (*key, chain)).collect();
            element::add(to, &self.new.name, name, &added);
        }
    }

    fn write_dropped_parts(&self, to: &mut Messages, chains_stay: bool) {
        let table = &self.new.name;
        for name in self.old.chains.keys().filter(|_| !chains_stay) {
            if !self.new.chains.contains_key(name) {
                object::drop_chain(to, table, name);
            }
        }
        for name in self.old.dispatch.keys().chain(self.old.stragglers.keys()) {
            let stays =
                self.new.dispatch.contains_key(name) || self.new.stragglers.contains_key(name);
            if !stays {
                object::drop_set(to, table, name);
            }
        }
        for name in self.old.counters.difference(&self.new.counters) {
            object::drop_counter(to, table, name);
        }
    }
}

/// Writes the removal of chains that `held` has and `table` has not.
pub(super) fn drop_chains(to: &mut Messages, held: &Held, table: &Table) {
    for name in held.table.chains.keys().filter(|name| !table.chains.contains_key(name)) {
        object::drop_chain(to, &table.name, name);
    }
}
