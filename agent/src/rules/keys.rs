//! Which service each destination belongs to.

use std::collections::{BTreeMap, BTreeSet};

use crate::rules::local::Local;
use crate::rules::table::{Family, Key};

/// Every destination that the rules take hold of.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    pub(super) held: BTreeMap<Key, Held>,
    /// Logical destinations of two services: the second is not in `held`.
    pub(super) twice: Vec<(Key, usize, usize)>,
    /// Own destinations that belong to several services, so that none catches there.
    pub(super) shared: Vec<(Key, usize)>,
}

/// Whose a destination is, by the place in the list of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Where old applications send to.
    Logical(usize),
    /// An address of this host, which serves the legacy side.
    Own(usize),
}

impl Keys {
    pub(super) fn of(services: &[Local<'_>]) -> Self {
        let mut keys = Self::default();
        for (at, service) in services.iter().enumerate() {
            for key in service.keys() {
                match keys.held.get(&key) {
                    Some(Held::Logical(first) | Held::Own(first)) => {
                        keys.twice.push((key, *first, at));
                    }
                    None => {
                        keys.held.insert(key, Held::Logical(at));
                    }
                }
            }
        }
        let mut own: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        for (at, service) in services.iter().enumerate() {
            for key in service.own_keys() {
                own.entry(key).or_default().push(at);
            }
        }
        for (key, services) in own {
            match services.as_slice() {
                [at] if !keys.held.contains_key(&key) => {
                    keys.held.insert(key, Held::Own(*at));
                }
                several => keys.shared.extend(several.iter().map(|at| (key, *at))),
            }
        }
        keys
    }

    /// Of each of `services`, the families of the own destinations where it catches.
    pub(super) fn families(&self, services: usize) -> Vec<BTreeSet<Family>> {
        let mut families = vec![BTreeSet::new(); services];
        for (key, held) in &self.held {
            if let Held::Own(at) = held
                && let Some(of) = families.get_mut(*at)
            {
                of.insert(Family::of(key.address));
            }
        }
        families
    }

    /// The place of the service that has this destination, or of the first of several.
    pub(super) fn holder(&self, key: Key) -> Option<usize> {
        let shared = || self.shared.iter().find(|(of, _)| *of == key).map(|(_, at)| *at);
        match self.held.get(&key) {
            Some(Held::Logical(at) | Held::Own(at)) => Some(*at),
            None => shared(),
        }
    }
}
