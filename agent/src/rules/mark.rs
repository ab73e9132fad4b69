//! Flow marks: which service and side a flow belongs to, in 14 bits of its conntrack mark.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::split::Side;
use plan::{ServiceId, name::NameError};
use serde::{Deserialize, Serialize};

/// The bits of a flow's mark that are ours; whoever shares the mark keeps the rest.
pub const MASK: u32 = 0x3fff;
/// The side: set for target.
pub const SIDE: u32 = 0x0001;
/// The service's index.
pub const INDEX: u32 = 0x1ffe;
/// Leaves with an address of this host.
pub const MASQUERADE: u32 = 0x2000;
/// A new flow that break-glass holds: our table leaves it alone. Index 0 is no service's, and
/// nobody else writes just this.
pub const HELD: u32 = SIDE | MASQUERADE;

/// The index of each service. An index is given once and kept with the agent's state, so that the
/// marks of flows mean the same after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, u16>", into = "BTreeMap<String, u16>")]
pub struct Marks(Arc<BTreeMap<ServiceId, Mark>>);

/// A service's place in flow marks: 1 to 4 095.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    index: u16,
}

/// More services than indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{services} services have a logical address and {} fit into the mark of a flow",
    Marks::SERVICES_MAX
)]
pub struct Full {
    services: usize,
}

/// Marks that cannot have been written by [`Marks`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarksError {
    /// No name of a service.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The index does not fit.
    #[error("`{service}` has the index {index}, which is not 1 to {}", Marks::SERVICES_MAX)]
    Index {
        /// Whose.
        service: String,
        /// What it says.
        index: u16,
    },
    /// Two services cannot be told apart.
    #[error("`{0}` has the index of another service")]
    Twice(String),
}

impl Mark {
    /// The value under [`MASK`].
    pub fn value(self, side: Side, masquerade: bool) -> u32 {
        let side = if side == Side::Target { SIDE } else { 0 };
        let masquerade = if masquerade { MASQUERADE } else { 0 };
        (u32::from(self.index) << 1) | side | masquerade
    }
}

impl Marks {
    /// 12 bits, but for index 0, which flows that are not ours have.
    pub const SERVICES_MAX: usize = 4095;

    /// The same with an index for each of `ids`. Services that went keep theirs, so that their last
    /// flows are not taken for another's, until the room is needed.
    ///
    /// # Errors
    /// There are more than [`Self::SERVICES_MAX`].
    pub fn assign<'a>(&self, ids: impl Iterator<Item = &'a ServiceId>) -> Result<Self, Full> {
        let ids: BTreeSet<&ServiceId> = ids.collect();
        if ids.len() > Self::SERVICES_MAX {
            return Err(Full { services: ids.len() });
        }
        let missing = ids.iter().filter(|id| !self.0.contains_key(**id)).count();
        if missing == 0 {
            return Ok(self.clone());
        }
        let mut next = BTreeMap::clone(&self.0);
        if next.len() + missing > Self::SERVICES_MAX {
            next.retain(|id, _| ids.contains(id));
        }
        let used: BTreeSet<u16> = next.values().map(|mark| mark.index).collect();
        let mut free = (1..).filter(|index| !used.contains(index));
        for id in ids {
            if !next.contains_key(id)
                && let Some(index) = free.next()
            {
                next.insert(id.clone(), Mark { index });
            }
        }
        Ok(Self(Arc::new(next)))
    }

    /// That of one service.
    pub fn of(&self, id: &ServiceId) -> Option<Mark> {
        self.0.get(id).copied()
    }

    /// Those of all services, of such as went too.
    pub fn all(&self) -> impl Iterator<Item = (&ServiceId, Mark)> {
        self.0.iter().map(|(id, mark)| (id, *mark))
    }

    /// The service and side that a flow's mark says; `None`: not one of ours.
    #[cfg(test)]
    pub(crate) fn read(&self, value: u32) -> Option<(&ServiceId, Side)> {
        let index = (value & INDEX) >> 1;
        let (id, _) = self.0.iter().find(|(_, mark)| u32::from(mark.index) == index)?;
        Some((id, if value & SIDE == 0 { Side::Legacy } else { Side::Target }))
    }
}

impl TryFrom<BTreeMap<String, u16>> for Marks {
    type Error = MarksError;

    fn try_from(written: BTreeMap<String, u16>) -> Result<Self, MarksError> {
        let (mut marks, mut used) = (BTreeMap::new(), BTreeSet::new());
        for (service, index) in written {
            if index == 0 || usize::from(index) > Self::SERVICES_MAX {
                return Err(MarksError::Index { service, index });
            }
            if !used.insert(index) {
                return Err(MarksError::Twice(service));
            }
            marks.insert(service.parse()?, Mark { index });
        }
        Ok(Self(Arc::new(marks)))
    }
}

impl From<Marks> for BTreeMap<String, u16> {
    fn from(marks: Marks) -> Self {
        marks.0.iter().map(|(id, mark)| (id.to_string(), mark.index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<usize>) -> Vec<ServiceId> {
        range.map(|at| format!("shop/s{at:04}").parse().unwrap()).collect()
    }

    #[test]
    fn an_index_is_kept() {
        let first = Marks::default().assign(ids(0..3).iter()).unwrap();
        let second = first.assign(ids(2..5).iter()).unwrap();
        for id in ids(0..3) {
            assert_eq!(second.of(&id), first.of(&id), "{id}");
        }
        let distinct: BTreeSet<Mark> = second.0.values().copied().collect();
        assert_eq!(distinct.len(), 5);
        let written = serde_json::to_string(&second).unwrap();
        assert_eq!(serde_json::from_str::<Marks>(&written).unwrap(), second);
    }

    #[test]
    fn room_is_made_only_when_needed() {
        let full = Marks::default().assign(ids(0..4095).iter()).unwrap();
        let kept = full.of(&ids(7..8)[0]);
        let next = full.assign(ids(7..9).iter().chain(&ids(5000..5001))).unwrap();
        assert_eq!((next.0.len(), next.of(&ids(7..8)[0])), (3, kept));
        let error = full.assign(ids(0..4096).iter()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "4096 services have a logical address and 4095 fit into the mark of a flow"
        );
    }

    #[test]
    fn a_mark_says_service_and_side() {
        let marks = Marks::default().assign(ids(0..4095).iter()).unwrap();
        for id in [&ids(0..1)[0], &ids(4094..4095)[0]] {
            for side in [Side::Legacy, Side::Target] {
                for masquerade in [false, true] {
                    let value = marks.of(id).unwrap().value(side, masquerade);
                    assert_eq!(value & !MASK, 0);
                    assert_eq!(value & MASQUERADE != 0, masquerade);
                    assert_eq!(marks.read(value | 0x4000), Some((id, side)));
                }
            }
        }
        assert_eq!(marks.read(1), None);
    }

    #[test]
    fn marks_that_cannot_be() {
        for (text, words) in [
            (r#"{"shop/a":0}"#, "`shop/a` has the index 0, which is not 1 to 4095"),
            (r#"{"shop/a":4096}"#, "`shop/a` has the index 4096, which is not 1 to 4095"),
            (r#"{"shop/a":1,"shop/b":1}"#, "`shop/b` has the index of another service"),
            (r#"{"shop":1}"#, "`shop` is no service: write it plan/service"),
        ] {
            let error = serde_json::from_str::<Marks>(text).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
