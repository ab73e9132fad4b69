//! What receivers do otherwise than the plan asks.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Measured;
use crate::name::ServiceId;

/// What one receiver does otherwise than the plan asks of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The receiver.
    pub sink: Arc<str>,
    /// What, and why, on one line.
    pub words: Arc<str>,
}

impl Note {
    /// The most notes that are kept of a service: a status stays small, however many VMs there are.
    pub const LISTED_MAX: usize = 100;

    /// Adds one, and keeps the first by receiver.
    pub fn list(self, among: &mut BTreeSet<Self>) {
        among.insert(self);
        if among.len() > Self::LISTED_MAX {
            among.pop_last();
        }
    }

    /// Both together.
    pub(super) fn plus(one: &BTreeSet<Self>, other: &BTreeSet<Self>) -> BTreeSet<Self> {
        one.union(other).take(Self::LISTED_MAX).cloned().collect()
    }
}

impl Measured {
    /// What receivers do otherwise than the plan asks of this service, over all planes.
    pub fn notes(&self, service: &ServiceId) -> Vec<Note> {
        let all = self.planes.values().filter_map(|counts| counts.notes.get(service));
        let sum = all.fold(BTreeSet::new(), |sum, more| Note::plus(&sum, more));
        sum.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Plane;
    use crate::measure::Counts;

    #[test]
    fn the_first_are_listed_whatever_the_order() {
        let note = |n: usize| Note { sink: format!("vm-{n:03}").into(), words: "no".into() };
        let id: ServiceId = "shop/orders".parse().unwrap();
        let (mut up, mut down) = (BTreeSet::new(), BTreeSet::new());
        (0..150).for_each(|n| note(n).list(&mut up));
        (0..150).rev().for_each(|n| note(n).list(&mut down));
        let notes = |of: BTreeSet<Note>| Arc::new(BTreeMap::from([(id.clone(), of)]));
        let counts = |of| Counts { notes: notes(of), ..Counts::default() };
        let both = counts(up.clone()).plus(&counts([note(500)].into()));
        let measured = Measured { planes: [(Plane::Host, both)].into() };
        let first: Vec<Note> = (0..100).map(note).collect();
        assert_eq!(up, down);
        assert_eq!(measured.notes(&id), first);
        assert_eq!(measured.notes(&"shop/bills".parse().unwrap()), []);
    }
}
