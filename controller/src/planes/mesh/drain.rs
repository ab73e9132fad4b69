//! When what is left on the side that lost is closed: so long after the split came to exactly 0 or
//! 100 %, where the plan asks for it.
//!
//! Counted from when this process saw it move there. After a restart nothing is closed again:
//! whatever was left was closed before, or is left in peace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use plan::snapshot::Service;
use plan::{ServiceId, Split};

use crate::planes::mesh::between::Change;

/// Which services are drained, and which will be.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// When it is time.
    due: BTreeMap<ServiceId, Duration>,
    drained: BTreeSet<ServiceId>,
}

impl Drain {
    /// Takes up a change of a leaf.
    pub(super) fn changed(&mut self, change: &Change<'_>, now: Duration) {
        let Some(id) = change.before.or(change.after).map(|leaf| &leaf.id) else { return };
        let split = |leaf: Option<&Arc<Service>>| leaf.map(|leaf| leaf.serving.split());
        let (was, is) = (split(change.before), split(change.after));
        let after = change.after.and_then(|leaf| leaf.drain);
        if was == is && after.is_some() {
            return;
        }
        self.due.remove(id);
        self.drained.remove(id);
        let exact = is == Some(Split::LEGACY) || is == Some(Split::TARGET);
        if let Some(after) = after.filter(|_| exact && was.is_some()) {
            self.due.insert(id.clone(), now.saturating_add(after));
        }
    }

    /// When the next service is to be drained.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due.values().min().copied()
    }

    /// Drains what is due; whether that was anything.
    pub(super) fn pass(&mut self, now: Duration) -> bool {
        let before = self.drained.len();
        let drained = &mut self.drained;
        self.due.retain(|id, due| {
            let waits = *due > now;
            if !waits {
                drained.insert(id.clone());
            }
            waits
        });
        self.drained.len() > before
    }

    /// The services whose losing side has nothing left.
    pub(super) const fn drained(&self) -> &BTreeSet<ServiceId> {
        &self.drained
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use plan::Snapshot;

    use super::*;
    use crate::planes::mesh::{between, world};

    /// The fixture's snapshot at this split, drained after so long.
    fn at(bp: u16, drain: Option<u64>) -> Snapshot {
        let mut snapshot = world::snapshot_at(bp);
        let services = snapshot.services.iter().map(|leaf| {
            let drain = drain.map(Duration::from_secs);
            Arc::new(Service { drain, ..leaf.as_ref().clone() })
        });
        snapshot.services = services.collect();
        snapshot
    }

    #[test]
    fn what_is_left_is_closed_some_time_after_exactly_0_or_100_and_opened_before_it_is_used() {
        struct Case {
            moves: &'static [(u16, Option<u64>)],
            /// When the service is drained after the last of them, which happens at 1 000 s.
            drained: Option<u64>,
        }
        let cases = [
            Case { moves: &[(0, Some(30))], drained: None },
            Case { moves: &[(0, Some(30)), (5_000, Some(30))], drained: None },
            Case { moves: &[(5_000, Some(30)), (10_000, Some(30))], drained: Some(1_030) },
            Case { moves: &[(5_000, Some(30)), (0, Some(30))], drained: Some(1_030) },
            Case { moves: &[(5_000, None), (0, None)], drained: None },
            Case {
                moves: &[(0, None), (5_000, Some(5)), (10_000, Some(5)), (0, Some(5))],
                drained: Some(1_005),
            },
        ];
        for case in cases {
            let mut drain = Drain::default();
            let mut before = Snapshot::empty();
            for (n, (bp, after)) in case.moves.iter().enumerate() {
                let now = if n + 1 == case.moves.len() { 1_000 } else { 0 };
                let snapshot = at(*bp, *after);
                for change in between::changes(&before, &snapshot) {
                    drain.changed(&change, Duration::from_secs(now));
                }
                before = snapshot;
            }
            assert_eq!(drain.due(), case.drained.map(Duration::from_secs), "{:?}", case.moves);
            if let Some(due) = drain.due() {
                assert!(!drain.pass(due - Duration::from_nanos(1)));
                assert!(drain.pass(due));
                assert_eq!(drain.drained().len(), before.services.len());
                // Back again: nothing is drained any more, before anything is sent there.
                let back = at(5_000, Some(30));
                for change in between::changes(&before, &back) {
                    drain.changed(&change, due);
                }
                assert!(drain.drained().is_empty() && drain.due().is_none());
            }
        }
    }
}
