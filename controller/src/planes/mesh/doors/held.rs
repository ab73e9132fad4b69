//! Which doors each machine has: few, so that the certificate of one does not fill the room that
//! is there for all of them.

use std::collections::{BTreeMap, BTreeSet};

use xds::join::MachineName;
use xds::render::Door;

/// The most doors that one machine is rendered: its proxy has one, with its identity or without,
/// and so has that proxy at the address that it had before, or another one beside it.
pub(super) const PER_MACHINE: usize = 4;

/// By which door somebody comes, and which machine that is; `None`: machines are not known.
pub(in crate::planes::mesh) type Coming<'a> = (Option<&'a MachineName>, Door);

/// What each machine comes by, or was the last to come by.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Those that it comes by no more first, then the longest used.
    by_machine: BTreeMap<MachineName, Vec<Door>>,
    /// A door of each machine that comes by more than it may.
    over: BTreeMap<MachineName, Door>,
}

/// What comes of who comes.
#[derive(Debug)]
pub(super) struct Shared {
    /// The doors that somebody comes by who may.
    pub(super) used: BTreeSet<Door>,
    /// Doors of machines that have others in place of them; nobody else has them.
    pub(super) given_up: BTreeSet<Door>,
}

impl Held {
    /// These come and no others, those who have come for longest first.
    pub(super) fn share(&mut self, coming: &[Coming<'_>]) -> Shared {
        let mut used = BTreeSet::new();
        let mut wanted: BTreeMap<&MachineName, Vec<&Door>> = BTreeMap::new();
        for (machine, door) in coming {
            match machine {
                Some(machine) => wanted.entry(machine).or_default().push(door),
                None if used.contains(door) => {}
                None => drop(used.insert(door.clone())),
            }
        }
        let mut given_up = BTreeSet::new();
        self.over.clear();
        for (machine, doors) in &wanted {
            let held = self.by_machine.remove(*machine).unwrap_or_default();
            let (mut held, mut idle): (Vec<Door>, Vec<Door>) =
                held.into_iter().partition(|door| doors.contains(&door));
            for door in doors {
                if held.contains(door) {
                    continue;
                }
                if held.len() >= PER_MACHINE {
                    self.over.insert((*machine).clone(), (*door).clone());
                    break;
                }
                held.push((*door).clone());
            }
            let too_many = (held.len() + idle.len()).saturating_sub(PER_MACHINE);
            given_up.extend(idle.drain(..too_many.min(idle.len())));
            used.extend(
                held.iter().filter(|door| !used.contains(door)).cloned().collect::<Vec<_>>(),
            );
            idle.append(&mut held);
            self.by_machine.insert((*machine).clone(), idle);
        }
        self.by_machine.retain(|machine, held| {
            let own = wanted.get(machine);
            let comes_by = |door: &Door| own.is_some_and(|doors| doors.contains(&door));
            // Others come by it: it is theirs then.
            held.retain(|door| !used.contains(door) || comes_by(door));
            if !given_up.is_empty() {
                for door in held.iter() {
                    given_up.remove(door);
                }
            }
            !held.is_empty()
        });
        given_up.retain(|door| !used.contains(door));
        Shared { used, given_up }
    }

    /// Forgets what is not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&Door) -> bool) {
        self.by_machine.retain(|_, held| {
            held.retain(&is_there);
            !held.is_empty()
        });
    }

    /// The machines that come by more doors than they may, and one of these doors.
    pub(super) const fn over(&self) -> &BTreeMap<MachineName, Door> {
        &self.over
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use xds::render::Role;

    use super::*;

    fn door(n: usize) -> Door {
        let port = u16::try_from(n).unwrap();
        let capture = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Door { capture, ..Door::of(Role::Sidecar) }
    }

    fn coming(machine: &MachineName, doors: impl IntoIterator<Item = usize>) -> Vec<Coming<'_>> {
        doors.into_iter().map(|n| (Some(machine), door(n))).collect()
    }

    fn some(doors: impl IntoIterator<Item = usize>) -> BTreeSet<Door> {
        doors.into_iter().map(door).collect()
    }

    #[test]
    fn a_machine_has_few_and_keeps_those_it_has() {
        let one = "vm-1".parse().unwrap();
        let mut held = Held::default();
        assert_eq!(held.share(&coming(&one, [9])).used, some([9]));
        let shared = held.share(&coming(&one, (0..500).chain([9])));
        assert_eq!((shared.used, shared.given_up), (some([9, 0, 1, 2]), some([])));
        assert_eq!(held.over().keys().collect::<Vec<_>>(), [&one]);
        // Whoever comes in other order takes nothing from what is there.
        assert_eq!(held.share(&coming(&one, (0..500).rev())).used, some([9, 0, 1, 2]));
        assert_eq!(held.share(&coming(&one, [9])).used, some([9]));
        assert!(held.over().is_empty());
    }

    #[test]
    fn one_that_comes_by_another_each_time_gives_up_the_ones_before() {
        let one = "vm-1".parse().unwrap();
        let mut held = Held::default();
        for n in 0..100 {
            let Shared { used, given_up } = held.share(&coming(&one, [n]));
            let old = n.checked_sub(PER_MACHINE);
            assert_eq!((used, given_up), (some([n]), some(old)));
        }
    }

    #[test]
    fn what_others_have_is_theirs() {
        let (one, two) = ("vm-1".parse().unwrap(), "vm-2".parse().unwrap());
        let mut held = Held::default();
        let both = [coming(&one, [0]), coming(&two, [0])].concat();
        assert_eq!(held.share(&both).used, some([0]));
        // It does not count for who has left it, and is not given up by it.
        for n in 1..20 {
            let now = [coming(&one, [n]), coming(&two, [0])].concat();
            let given_up = held.share(&now).given_up;
            assert!(!given_up.contains(&door(0)));
        }
        // The last who came by it still has it.
        let given_up = held.share(&coming(&one, [20])).given_up;
        assert_eq!(given_up, some([16]));
        assert!(held.by_machine.get(&two).is_some_and(|doors| *doors == [door(0)]));
        held.keep(|known| *known != door(0));
        assert!(!held.by_machine.contains_key(&two));
    }

    #[test]
    fn where_machines_are_not_known_all_is_used() {
        let mut held = Held::default();
        let nobody: Vec<Coming<'_>> = (0..500).map(|n| (None, door(n))).collect();
        assert_eq!(held.share(&nobody).used, some(0..500));
        assert!(held.by_machine.is_empty() && held.over().is_empty());
    }
}
