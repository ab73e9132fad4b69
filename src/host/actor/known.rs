//! What is known of the flows of each service: what was counted since it last changed, and what is
//! still to be done about those of a side that lost. It is kept over restarts, written down when
//! that was done: what a process that was killed has left undone is done by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use agent::rules;
use plan::endpoint::{Endpoint, Pool};
use plan::snapshot::Service;
use plan::{ServiceId, Side, Split, Timestamp, Token};
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::host::kernel::Counted;
use crate::verbs::{Failure, chain};

/// The file.
const KEPT: &str = "flows.json";

/// Every service that is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::host) struct Known(BTreeMap<ServiceId, One>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct One {
    /// When it last changed.
    since: Token,
    split: Split,
    legacy: BTreeSet<Endpoint>,
    target: BTreeSet<Endpoint>,
    tallies: Tallies,
    /// What is to be closed later.
    drain: Option<Drain>,
    /// No rule is about it now: its plan cannot be in force here, or it went and is still to be
    /// drained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    at: Timestamp,
    lost: Side,
}

/// What counters say of a service, by what they count; `None`: nothing is known of them.
type Read = [Option<u64>; 4];

/// A counter, from when the service last changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meter {
    /// What it stood at; `None`: it could not be read yet.
    at: Option<u64>,
    /// What came since.
    came: u64,
}

impl Meter {
    /// It stands at this now; `true`: that is not just more than before, as it was made anew
    /// meanwhile or is read for the first time.
    const fn see(&mut self, now: u64) -> bool {
        let risen = match self.at {
            Some(at) => now.checked_sub(at),
            None => None,
        };
        self.came = self.came.saturating_add(match (self.at, risen) {
            (_, Some(risen)) => risen,
            (Some(_), None) => now,
            // How much of it came before nobody knows.
            (None, None) => 0,
        });
        self.at = Some(now);
        risen.is_none()
    }
}

/// Legacy, target, caught, and legacy by the rules of break-glass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Tallies([Meter; 4]);

/// Flows of a service since it last changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::host) struct Flows {
    pub(in crate::host) legacy: u64,
    pub(in crate::host) target: u64,
    pub(in crate::host) caught: u64,
}

/// A service whose datagrams are to be decided anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) id: ServiceId,
    /// On these sides.
    pub(super) sides: BTreeSet<Side>,
    /// Also those that are older than the service's rules, which go to legacy.
    pub(super) older: bool,
}

/// What is to be done when other services are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    pub(super) all: Vec<Moved>,
    /// Something else is known than what was written down.
    pub(super) unkept: bool,
}

/// What the counters of a service say.
fn read(names: Option<&rules::Counted>, counted: Option<&Counted>) -> Read {
    let Some(counted) = counted else { return [None; 4] };
    let Some(names) = names else { return [Some(0); 4] };
    let of = |name: &rules::Name| counted.flows.get(name).copied().unwrap_or(0);
    let [caught, glass] = [
        names.caught.as_ref().map_or(0, of),
        // It has the same name there.
        counted.glass.get(&names.legacy).copied().unwrap_or(0),
    ];
    [of(&names.legacy), of(&names.target), caught, glass].map(Some)
}

fn endpoints(pool: Option<&Pool>) -> BTreeSet<Endpoint> {
    pool.into_iter().flat_map(|pool| pool.serving.iter().copied()).collect()
}

impl One {
    fn of(leaf: &Service, read: Read) -> Self {
        Self {
            since: leaf.since,
            split: leaf.serving.split(),
            legacy: endpoints(leaf.serving.legacy()),
            target: endpoints(leaf.serving.target()),
            tallies: Tallies(read.map(|at| Meter { at, came: 0 })),
            drain: None,
            out: false,
        }
    }

    /// No rule is about it from now on: what was sent to target goes where it is sent to. Its
    /// counters went with the rules.
    fn goes_out(&mut self, id: &ServiceId) -> Moved {
        self.out = true;
        let Tallies(meters) = &mut self.tallies;
        meters.iter_mut().for_each(|meter| meter.at = Some(0));
        Moved { id: id.clone(), sides: BTreeSet::from([Side::Target]), older: false }
    }

    /// Whether it says the same, but for what was counted: that is added up from what stands in the
    /// kernel.
    fn says_what(&self, other: &Self) -> bool {
        let Self { since, split, legacy, target, tallies: _, drain, out } = self;
        *since == other.since
            && *split == other.split
            && *legacy == other.legacy
            && *target == other.target
            && *drain == other.drain
            && *out == other.out
    }

    /// What becomes of the flows of before, and what is known from now on.
    fn follow(&mut self, leaf: &Service, read: Read, now: Timestamp) -> Moved {
        let next = Self::of(leaf, read);
        let mut sides = BTreeSet::new();
        // Datagrams to an endpoint that is gone would go there for as long as they come.
        for (side, was, is) in
            [(Side::Legacy, &self.legacy, &next.legacy), (Side::Target, &self.target, &next.target)]
        {
            if !was.is_subset(is) {
                sides.insert(side);
            }
        }
        let mut drain = self.drain;
        if next.split != self.split {
            let lost = if next.split < self.split { Side::Target } else { Side::Legacy };
            sides.insert(lost);
            let exact = next.split == Split::LEGACY || next.split == Split::TARGET;
            let after = leaf.drain.filter(|_| exact);
            drain = after.map(|after| Drain { at: later(now, after), lost });
        }
        // While no rule was about it, datagrams went where they were sent to.
        let older = next.split > self.split || (self.out && next.split > Split::LEGACY);
        let tallies = if next.since == self.since { self.tallies } else { next.tallies };
        *self = Self { drain, tallies, ..next };
        Moved { id: leaf.id.clone(), sides, older }
    }
}

fn later(now: Timestamp, after: std::time::Duration) -> Timestamp {
    let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.millis().saturating_add(after))
}

impl Known {
    /// What was kept; what cannot be understood is told and begun anew.
    pub(super) fn kept(directory: &Path) -> Self {
        let kept = disk::read(directory, KEPT).unwrap_or_else(|error| {
            tracing::error!(why = %chain(&error), "flows are counted and closed anew");
            None
        });
        kept.unwrap_or_default()
    }

    /// Keeps it.
    pub(super) fn put(&self, directory: &Path) -> Result<(), Failure> {
        disk::put(directory, KEPT, self)
    }

    /// Takes up that `leaves` are in force, and no longer `before`, both sorted by id: what is
    /// equal by pointer stays as it is known. Of all others those that `may_return` are known on,
    /// and those that are still to be drained.
    pub(super) fn moved(
        &mut self,
        (leaves, before): (&[Arc<Service>], &[Arc<Service>]),
        (names, counted): (&BTreeMap<ServiceId, Arc<rules::Counted>>, Option<&Counted>),
        may_return: impl Fn(&ServiceId) -> bool,
        now: Timestamp,
    ) -> Moves {
        let mut moves = Moves::default();
        let mut before = before.iter().peekable();
        for leaf in leaves {
            while before.next_if(|old| old.id < leaf.id).is_some() {}
            let is_same = before.peek().is_some_and(|old| Arc::ptr_eq(old, leaf));
            let read = || read(names.get(&leaf.id).map(AsRef::as_ref), counted);
            let moved = match self.0.get_mut(&leaf.id) {
                Some(one) if is_same && !one.out => continue,
                Some(one) => {
                    let was = one.clone();
                    let moved = one.follow(leaf, read(), now);
                    moves.unkept |= !one.says_what(&was);
                    moved
                }
                None => {
                    let one = One::of(leaf, read());
                    let older = one.split > Split::LEGACY;
                    self.0.insert(leaf.id.clone(), one);
                    moves.unkept = true;
                    Moved { id: leaf.id.clone(), sides: BTreeSet::new(), older }
                }
            };
            if moved.older || !moved.sides.is_empty() {
                moves.all.push(moved);
            }
        }
        // All of them are known by now.
        if self.0.len() > leaves.len() {
            self.go_out(leaves, may_return, &mut moves);
        }
        moves
    }

    /// The same of those that are not among `leaves`.
    fn go_out(
        &mut self,
        leaves: &[Arc<Service>],
        may_return: impl Fn(&ServiceId) -> bool,
        moves: &mut Moves,
    ) {
        self.0.retain(|id, one| {
            if leaves.binary_search_by(|leaf| leaf.id.cmp(id)).is_ok() {
                return true;
            }
            if !one.out {
                moves.all.push(one.goes_out(id));
                moves.unkept = true;
            }
            let stays = one.drain.is_some() || may_return(id);
            moves.unkept |= !stays;
            stays
        });
    }

    /// Takes up what counters stand at; `true`: some were made anew.
    pub(super) fn see(
        &mut self,
        names: &BTreeMap<ServiceId, Arc<rules::Counted>>,
        counted: &Counted,
    ) -> bool {
        let mut anew = false;
        for (id, one) in &mut self.0 {
            let Some(names) = names.get(id) else { continue };
            let Tallies(meters) = &mut one.tallies;
            for (meter, now) in meters.iter_mut().zip(read(Some(names), Some(counted))) {
                anew |= now.is_some_and(|now| meter.see(now));
            }
        }
        anew
    }

    /// What is to be closed by now, once.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<(ServiceId, Side)> {
        let mut due = Vec::new();
        for (id, one) in &mut self.0 {
            if let Some(drain) = one.drain.take_if(|drain| drain.at <= now) {
                due.push((id.clone(), drain.lost));
            }
        }
        due
    }

    /// The flows of a service.
    pub(super) fn flows(&self, id: &ServiceId) -> Flows {
        let Some(one) = self.0.get(id) else { return Flows::default() };
        let Tallies([legacy, target, caught, glass]) = one.tallies;
        let legacy = legacy.came.saturating_add(glass.came);
        Flows { legacy, target: target.came, caught: caught.came }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::{held, item};
    use crate::host::world::World;

    /// The one service of a plan.
    fn leaf(bp: u16, revision: u64, drain: Option<u64>) -> Arc<Service> {
        let host = rules::Host::new("10.50.0.1".parse().unwrap());
        let mut world = World::new(host, rules::Marks::default());
        let split = Split::from_bp(bp).unwrap();
        world.take(&held([item("shop", "192.0.2.1", split, revision)]));
        let drain = drain.map(std::time::Duration::from_secs);
        Arc::new(Service { drain, ..Service::clone(&world.leaves()[0]) })
    }

    fn moves(known: &mut Known, leaf: &Arc<Service>, now: i64) -> Moves {
        let now = Timestamp::from_millis(now);
        let counted = (&BTreeMap::new(), Some(&Counted::default()));
        known.moved((std::slice::from_ref(leaf), &[]), counted, |_| false, now)
    }

    fn moved(known: &mut Known, leaf: &Arc<Service>, now: i64) -> Vec<(Vec<Side>, bool)> {
        let moved = moves(known, leaf, now).all.into_iter();
        moved.map(|one| (one.sides.into_iter().collect(), one.older)).collect()
    }

    #[test]
    fn what_is_to_be_closed_is_known_after_a_restart() {
        let directory =
            std::env::temp_dir().join(format!("crossfade-known-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut known = Known::default();
        let first = moves(&mut known, &leaf(0, 1, Some(5)), 0);
        assert_eq!(first, Moves { all: Vec::new(), unkept: true });
        assert_eq!(moved(&mut known, &leaf(5_000, 2, Some(5)), 0), [(vec![Side::Legacy], true)]);
        assert_eq!(moved(&mut known, &leaf(0, 3, Some(5)), 1_000), [(vec![Side::Target], false)]);
        known.put(&directory).unwrap();
        let mut again = Known::kept(&directory);
        assert_eq!(again, known);
        // The same once more takes nothing back.
        assert_eq!(moves(&mut again, &leaf(0, 3, Some(5)), 2_000), Moves::default());
        assert_eq!(again.due(Timestamp::from_millis(5_999)), []);
        let id: ServiceId = "shop/web".parse().unwrap();
        assert_eq!(again.due(Timestamp::from_millis(6_000)), [(id, Side::Target)]);
        assert_eq!(again.due(Timestamp::from_millis(6_000)), [], "once");
        assert_ne!(again, known);
        std::fs::write(directory.join(KEPT), "{ cut").unwrap();
        assert_eq!(Known::kept(&directory), Known::default());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_counter_that_was_made_anew_loses_nothing() {
        let mut meter = Meter { at: Some(10), came: 0 };
        assert!(!meter.see(15));
        assert!(meter.see(3));
        assert!(!meter.see(4));
        assert_eq!(meter.came, 5 + 3 + 1);
        let mut unread = Meter::default();
        assert!(unread.see(7));
        assert!(!unread.see(9));
        assert_eq!(unread.came, 2);
    }

    /// It is closed when that is due, in a plan or not.
    #[test]
    fn what_went_is_drained_all_the_same() {
        let mut known = Known::default();
        moved(&mut known, &leaf(5_000, 1, Some(5)), 0);
        moved(&mut known, &leaf(0, 2, Some(5)), 0);
        let goes = |known: &mut Known| {
            let counted = (&BTreeMap::new(), None);
            let now = Timestamp::from_millis(1);
            known.moved((&[], &[]), counted, |_| false, now).all.len()
        };
        assert_eq!((goes(&mut known), goes(&mut known)), (1, 0));
        let id: ServiceId = "shop/web".parse().unwrap();
        assert_eq!(known.due(Timestamp::from_millis(5_000)), [(id, Side::Target)]);
        assert_eq!(goes(&mut known), 0);
        assert_eq!(known, Known::default());
    }

    /// As an agent of before wrote it down.
    #[test]
    fn what_an_earlier_agent_kept_is_known() {
        let kept = r#"{"shop/web":{"since":{"incarnation":1,"revision":1},
            "split":0,"legacy":[],"target":[],
            "tallies":[{"at":1,"came":2},{"at":0,"came":0},{"at":0,"came":0},{"at":0,"came":0}],
            "drain":null}}"#;
        let known: Known = serde_json::from_str(kept).unwrap();
        assert_eq!(known.flows(&"shop/web".parse().unwrap()).legacy, 2);
        assert!(!serde_json::to_string(&known).unwrap().contains("out"));
    }
}
