//! What the kernel holds, as far as it is known.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::decode::{self, ChainFound, ElementFound, SetFound};
use super::encode::Verb;
use super::encode::object::number;
use super::error::DataplaneError;
use super::socket::Socket;
use crate::rules::{Chain, Change, Dispatch, Family, Hook, Name, Rule, Stragglers, Table};

/// What the kernel holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Its table; rules and prefixes are right only if `written` says so.
    pub(super) table: Table,
    /// The table is just what we wrote; else it was read, and rules cannot be read.
    pub(super) written: bool,
    /// Something stands there that we never write: the table must be made anew.
    pub(super) strange: bool,
}

impl Held {
    /// What we wrote.
    pub(super) fn written(table: &Table) -> Self {
        Self { table: table.clone(), written: true, strange: false }
    }

    /// Reads what stands in the kernel under `name`.
    pub(super) fn read(socket: &mut Socket, name: &Name) -> Result<Self, DataplaneError> {
        let mut held = Self { table: bare(name), written: false, strange: false };
        for chain in chains(socket, name)? {
            held.add_chain(chain);
        }
        for set in sets(socket, name)? {
            let elements = if set.map { elements(socket, name, &set.name)? } else { Vec::new() };
            held.add_set(set, elements);
        }
        for counter in counters(socket, name)? {
            match Name::new(&counter.name) {
                Ok(name) => drop(held.table.counters.insert(name)),
                Err(_) => held.strange = true,
            }
        }
        Ok(held)
    }

    /// The table held, as one to be compared with `table`: a comment cannot be changed and need not
    /// be, prefixes are not read, and rules that were not read are no rules of `table`.
    pub(super) fn seen_as(&self, table: &Table) -> Cow<'_, Table> {
        if self.written && self.table.comment == table.comment {
            return Cow::Borrowed(&self.table);
        }
        let mut seen = self.table.clone();
        seen.comment = table.comment.clone();
        if self.written {
            return Cow::Owned(seen);
        }
        for (name, set) in &mut seen.stragglers {
            set.prefix = table.stragglers.get(name).map_or(0, |new| new.prefix);
        }
        for chain in seen.chains.values_mut() {
            Arc::make_mut(chain).rules = vec![Rule::default()];
        }
        Cow::Owned(seen)
    }

    /// Becomes `table`, to which `changes` lead from here; most often they are few, and the table
    /// is large.
    pub(super) fn follow(&mut self, table: &Table, changes: &[Change]) {
        let few = changes.iter().all(|change| matches!(change, Change::PutChain(_)));
        if !few || !self.written || self.table.comment != table.comment {
            *self = Self::written(table);
            return;
        }
        for change in changes {
            if let Change::PutChain(name) = change
                && let Some(chain) = table.chains.get(name)
            {
                self.table.chains.insert(name.clone(), Arc::clone(chain));
            }
        }
    }

    fn add_chain(&mut self, found: ChainFound) {
        let hook = match found.hook {
            None => None,
            Some((hook, priority)) => {
                let hooks = [Hook::Prerouting, Hook::Output, Hook::Postrouting];
                let Some(hook) = hooks.into_iter().find(|it| number(*it) == hook) else {
                    self.strange = true;
                    return;
                };
                Some((hook, priority))
            }
        };
        match Name::new(&found.name) {
            Ok(name) => {
                self.table.chains.insert(name, Arc::new(Chain { hook, rules: Vec::new() }));
            }
            Err(_) => self.strange = true,
        }
    }

    fn add_set(&mut self, found: SetFound, elements: Vec<ElementFound>) {
        let family = match (found.map, found.key_length) {
            (true, 12) | (false, 4) => Family::V4,
            (true, 24) | (false, 16) => Family::V6,
            _ => {
                self.strange = true;
                return;
            }
        };
        let Ok(name) = Name::new(&found.name) else {
            self.strange = true;
            return;
        };
        if found.map {
            let pairs = elements.into_iter().map(|element| {
                let chain = Name::new(element.chain.as_deref().unwrap_or_default()).ok()?;
                Some((decode::key(&element.key)?, chain))
            });
            match pairs.collect() {
                Some(chains) => drop(self.table.dispatch.insert(name, Dispatch { family, chains })),
                None => self.strange = true,
            }
        } else {
            let timeout_seconds = u32::try_from(found.timeout_ms / 1_000).unwrap_or(u32::MAX);
            let set = Stragglers { family, prefix: 0, size: found.size, timeout_seconds };
            self.table.stragglers.insert(name, set);
        }
    }
}

/// Whether the kernel holds chains, rules, maps, sets and counters just as many and of the same
/// names as `table` has. Rules are counted, not read.
pub(super) fn matches(socket: &mut Socket, table: &Table) -> Result<bool, DataplaneError> {
    let found = Held::read(socket, &table.name)?;
    if found.strange {
        return Ok(false);
    }
    let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
    let mut hooks = BTreeMap::new();
    for (name, chain) in &table.chains {
        hooks.insert(name, chain.hook);
        if !chain.rules.is_empty() {
            expected.insert(name.as_str(), chain.rules.len());
        }
    }
    let found_hooks = found.table.chains.iter().map(|(name, chain)| (name, chain.hook)).collect();
    let sets = |table: &Table| -> BTreeMap<Name, Stragglers> {
        let plain =
            |(name, set): (&Name, &Stragglers)| (name.clone(), Stragglers { prefix: 0, ..*set });
        table.stragglers.iter().map(plain).collect()
    };
    if hooks != found_hooks
        || table.dispatch != found.table.dispatch
        || table.counters != found.table.counters
        || sets(table) != sets(&found.table)
    {
        return Ok(false);
    }
    let rules = rules(socket, &table.name)?;
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for chain in &rules {
        *counted.entry(chain).or_default() += 1;
    }
    Ok(counted == expected)
}

/// A table like `table` with nothing in it.
pub(super) fn empty(table: &Table) -> Table {
    Table { comment: table.comment.clone(), ..bare(&table.name) }
}

fn bare(name: &Name) -> Table {
    Table {
        name: name.clone(),
        comment: "".into(),
        counters: BTreeSet::new(),
        stragglers: BTreeMap::new(),
        dispatch: BTreeMap::new(),
        chains: BTreeMap::new(),
    }
}

fn chains(socket: &mut Socket, table: &Name) -> Result<Vec<ChainFound>, DataplaneError> {
    let table = table.as_str();
    socket.list(Verb::GetChain, |to| to.text(1, table), |it| decode::chain(it, table))
}

fn sets(socket: &mut Socket, table: &Name) -> Result<Vec<SetFound>, DataplaneError> {
    let table = table.as_str();
    socket.list(Verb::GetSet, |to| to.text(1, table), |it| decode::set(it, table))
}

/// The names of chains, once for each rule.
fn rules(socket: &mut Socket, table: &Name) -> Result<Vec<String>, DataplaneError> {
    let table = table.as_str();
    socket.list(Verb::GetRule, |to| to.text(1, table), |it| decode::rule_chain(it, table))
}

/// The counters of a table.
pub(super) fn counters(
    socket: &mut Socket,
    table: &Name,
) -> Result<Vec<decode::CounterFound>, DataplaneError> {
    let table = table.as_str();
    socket.list(Verb::GetObject, |to| to.text(1, table), |it| decode::counter(it, table))
}

/// The elements of a map or set.
pub(super) fn elements(
    socket: &mut Socket,
    table: &Name,
    set: &str,
) -> Result<Vec<ElementFound>, DataplaneError> {
    let fill = |to: &mut super::encode::Messages| {
        to.text(1, table.as_str());
        to.text(2, set);
    };
    let lists = socket.list(Verb::GetElements, fill, |it| Some(decode::elements(it)))?;
    Ok(lists.into_iter().flatten().collect())
}
