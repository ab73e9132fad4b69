//! The doors that are rendered for: those that somebody comes by, and for a while those that
//! somebody came by.

mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use xds::join::MachineName;
use xds::render::Door;

use self::held::{Held, PER_MACHINE, Shared};

pub(super) use self::held::Coming;

/// The most doors that are rendered for and show every service: each costs the listeners of every
/// service, and every change of them again.
const DOORS_MAX: usize = 256;

/// The most doors that are rendered for and show some services alone, as many as there may be sets
/// of services that VMs with an Envoy are limited to. Each costs its own tables of a few services,
/// and of what changes an entry in each that has it: the encoding is that of all. Where all of them
/// have one service, a new weight of it costs 11 ms of CPU rather than 2
/// (`xds/examples/weights.rs`, of 10 000 services), beside the 200 ms that sending it to 5 000
/// streams takes. They take no other door's room.
const LIMITED_MAX: usize = 500;

/// How long a door is rendered for after the last client has gone that came by it: longer than
/// hosts take to restart, so that who comes back finds its tables.
const KEPT: Duration = Duration::from_secs(600);

/// The most doors, and the most machines, that are remembered as told of.
const TOLD_MAX: usize = 100;

/// How many doors of this kind are rendered for at most.
const fn most(limited: bool) -> usize {
    if limited { LIMITED_MAX } else { DOORS_MAX }
}

const fn is_limited(door: &Door) -> bool {
    door.limit.is_some()
}

/// Which doors are rendered for.
#[derive(Debug, Default)]
pub(super) struct Doors {
    rendered: BTreeSet<Door>,
    /// Of `rendered`: since when nobody has come by it.
    unused: BTreeMap<Door, Duration>,
    /// By which somebody comes and for which there is no room; at most one for each client.
    waiting: BTreeSet<Door>,
    /// Of `waiting`: those that the log has.
    told: BTreeSet<Door>,
    /// What each machine has of all that.
    held: Held,
    /// The machines over their share that the log has.
    told_machines: BTreeSet<MachineName>,
}

impl Doors {
    /// Those that are rendered for.
    pub(super) const fn rendered(&self) -> &BTreeSet<Door> {
        &self.rendered
    }

    /// Somebody comes by each of these, and by no other; who has come for longest is first. Whether
    /// others are rendered for now.
    pub(super) fn used(&mut self, coming: &[Coming<'_>], now: Duration) -> bool {
        let Shared { used, given_up } = self.held.share(coming);
        let mut changed = false;
        for door in &given_up {
            self.unused.remove(door);
            changed |= self.rendered.remove(door);
        }
        self.unused.retain(|door, _| !used.contains(door));
        for door in self.rendered.difference(&used) {
            self.unused.entry(door.clone()).or_insert(now);
        }
        self.waiting = used.difference(&self.rendered).cloned().collect();
        changed |= self.admit();
        self.forget_held();
        changed
    }

    /// When a door is to be forgotten.
    pub(super) fn due(&self) -> Option<Duration> {
        self.unused.values().min().map(|since| since.saturating_add(KEPT))
    }

    /// Forgets the doors whose time is over. Whether others are rendered for now.
    pub(super) fn pass(&mut self, now: Duration) -> bool {
        let over = self.unused.extract_if(.., |_, since| since.saturating_add(KEPT) <= now);
        let over: Vec<Door> = over.map(|(door, _)| door).collect();
        for door in &over {
            self.rendered.remove(door);
        }
        let changed = !over.is_empty() | self.admit();
        self.forget_held();
        changed
    }

    fn forget_held(&mut self) {
        let (rendered, waiting) = (&self.rendered, &self.waiting);
        self.held.keep(|door| rendered.contains(door) || waiting.contains(door));
    }

    /// Lets those in that wait, in place of those that were unused for longest if need be.
    fn admit(&mut self) -> bool {
        let mut changed = false;
        for limited in [false, true] {
            let here = self.rendered.iter().filter(|door| is_limited(door) == limited).count();
            let mut room = most(limited).saturating_sub(here);
            let of_kind = self.waiting.iter().filter(|door| is_limited(door) == limited);
            for door in of_kind.cloned().collect::<Vec<_>>() {
                if room == 0 && !self.forget_longest(limited) {
                    break;
                }
                room = room.saturating_sub(1);
                self.waiting.remove(&door);
                self.rendered.insert(door);
                changed = true;
            }
        }
        self.told.retain(|door| self.waiting.contains(door));
        changed
    }

    /// Forgets the door of this kind that was unused for longest; whether there is one.
    fn forget_longest(&mut self, limited: bool) -> bool {
        let unused = self.unused.iter().filter(|(door, _)| is_limited(door) == limited);
        let longest = unused.min_by_key(|(_, since)| **since).map(|(door, _)| door.clone());
        let Some(longest) = longest else { return false };
        self.unused.remove(&longest);
        self.rendered.remove(&longest)
    }

    /// Tells of doors for which there is no room, and of machines that have their share, once each.
    pub(super) fn tell(&mut self) {
        for (machine, door) in self.machines_over() {
            tracing::warn!(
                %machine,
                role = door.role.as_str(),
                bind = ?door.bind,
                capture = ?door.capture,
                most = PER_MACHINE,
                "proxies of this machine get nothing: they differ in crossfade.role, bind, \
                 gateway, capture or identity from more others of it than one machine may have; \
                 give them the same values"
            );
        }
        for door in self.news() {
            if is_limited(&door) {
                tracing::warn!(
                    most = LIMITED_MAX,
                    "Envoys of VMs with these services get nothing, and the kernels there split \
                     their calls: too many VMs are limited to other services than others; make \
                     their tokens for the same --services, or for none, and these are served when \
                     others have gone"
                );
                continue;
            }
            tracing::warn!(
                role = door.role.as_str(),
                bind = ?door.bind,
                gateway = door.gateway.as_ref().map(plan::ServiceName::as_str),
                capture = ?door.capture,
                identified = door.identified,
                most = DOORS_MAX,
                "clients of this kind get nothing: too many kinds of proxies differ in \
                 crossfade.role, bind, gateway, capture or identity; give proxies the same values, \
                 or leave them out, and this kind is served when another has gone"
            );
        }
    }

    fn machines_over(&mut self) -> Vec<(MachineName, Door)> {
        let over = self.held.over();
        self.told_machines.retain(|machine| over.contains_key(machine));
        let room = TOLD_MAX.saturating_sub(self.told_machines.len());
        let new = over.iter().filter(|(machine, _)| !self.told_machines.contains(*machine));
        let new: Vec<_> = new.take(room).map(|(name, door)| (name.clone(), door.clone())).collect();
        self.told_machines.extend(new.iter().map(|(machine, _)| machine.clone()));
        new
    }

    fn news(&mut self) -> Vec<Door> {
        let room = TOLD_MAX.saturating_sub(self.told.len());
        let news: Vec<Door> = self.waiting.difference(&self.told).take(room).cloned().collect();
        self.told.extend(news.iter().cloned());
        news
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use xds::render::Role;

    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn door(n: usize) -> Door {
        let bind = IpAddr::V4(Ipv4Addr::from(u32::try_from(n).unwrap()));
        Door { bind: Some(bind), ..Door::of(Role::Gateway) }
    }

    fn doors(which: impl IntoIterator<Item = usize>) -> BTreeSet<Door> {
        which.into_iter().map(door).collect()
    }

    /// Nobody knows whose they are.
    fn used(known: &mut Doors, doors: BTreeSet<Door>, now: Duration) -> bool {
        let coming: Vec<Coming<'_>> = doors.into_iter().map(|door| (None, door)).collect();
        known.used(&coming, now)
    }

    #[test]
    fn a_door_is_forgotten_a_while_after_the_last_who_came_by_it() {
        let mut known = Doors::default();
        assert!(used(&mut known, doors([1, 2]), at(0)));
        assert_eq!(known.due(), None);
        assert!(!used(&mut known, doors([1]), at(10)));
        assert!(!used(&mut known, doors([]), at(20)));
        assert_eq!(known.due(), Some(at(610)));
        // It has come back in time, and goes again.
        assert!(!used(&mut known, doors([2]), at(500)));
        assert!(!used(&mut known, doors([]), at(600)));
        assert!(!known.pass(at(619)));
        assert!(known.pass(at(620)));
        assert_eq!((known.rendered(), known.due()), (&doors([2]), Some(at(1_200))));
        assert!(known.pass(at(1_200)));
        assert_eq!((known.rendered(), known.due()), (&doors([]), None));
        assert!(used(&mut known, doors([1]), at(1_300)), "rendered for anew");
    }

    #[test]
    fn who_finds_no_room_is_told_of_once_and_let_in_when_there_is_some() {
        let mut known = Doors::default();
        assert!(used(&mut known, doors(0..DOORS_MAX), at(0)));
        assert_eq!(known.news(), []);
        let (one, two) = (DOORS_MAX, DOORS_MAX + 1);
        assert!(!used(&mut known, doors(0..=two), at(1)));
        assert_eq!(known.news(), [door(one), door(two)]);
        assert!(!used(&mut known, doors(0..=two), at(2)));
        assert_eq!(known.news(), [], "told already");
        // Unused ones make room at once, the longest unused first.
        assert!(used(&mut known, doors(1..=one), at(3)));
        assert_eq!(*known.rendered(), doors(1..=one));
        assert!(!used(&mut known, doors(2..=one), at(4)));
        assert!(!used(&mut known, doors(3..=one), at(5)));
        assert!(used(&mut known, doors(3..=two), at(6)));
        assert_eq!(*known.rendered(), doors(2..=two));
        assert_eq!(known.news(), []);
    }

    fn limited(n: usize) -> Door {
        let service = format!("shop/s{n}").parse().unwrap();
        let limit = xds::render::Limit::to(std::sync::Arc::new([service].into()));
        Door { limit, ..Door::of(Role::Sidecar) }
    }

    #[test]
    fn those_that_show_some_services_take_no_others_room() {
        let mut known = Doors::default();
        let limits: BTreeSet<Door> = (0..=LIMITED_MAX).map(limited).collect();
        assert!(used(&mut known, limits.clone(), at(0)));
        assert_eq!(known.rendered().len(), LIMITED_MAX);
        assert_eq!(known.news().len(), 1);
        let all = limits.union(&doors(0..DOORS_MAX)).cloned().collect();
        assert!(used(&mut known, all, at(1)));
        assert!(doors(0..DOORS_MAX).is_subset(known.rendered()), "the others' room is there");
        assert_eq!(known.rendered().len(), LIMITED_MAX + DOORS_MAX);
        // One that is not used makes room for one of its kind alone.
        let mut rest: BTreeSet<Door> = limits.union(&doors(1..=DOORS_MAX)).cloned().collect();
        assert!(used(&mut known, rest.clone(), at(2)));
        assert!(doors(1..=DOORS_MAX).is_subset(known.rendered()));
        let waits = limits.difference(known.rendered()).next().unwrap().clone();
        rest.remove(limits.intersection(known.rendered()).next().unwrap());
        assert!(used(&mut known, rest, at(3)));
        assert!(known.rendered().contains(&waits));
    }

    #[test]
    fn the_log_has_only_so_many() {
        let mut known = Doors::default();
        used(&mut known, doors(0..DOORS_MAX + 2 * TOLD_MAX), at(0));
        assert_eq!(known.news().len(), TOLD_MAX);
        used(&mut known, doors(0..DOORS_MAX + 3 * TOLD_MAX), at(1));
        assert_eq!(known.news(), []);
    }

    /// A machine of this number comes by these.
    fn machine(n: usize) -> MachineName {
        format!("vm-{n}").parse().unwrap()
    }

    #[test]
    fn one_machine_fills_no_room_of_others() {
        let mut known = Doors::default();
        let (bad, good) = (machine(0), machine(1));
        // The other restarts meanwhile.
        known.used(&[(Some(&good), door(9_999))], at(0));
        known.used(&[], at(1));
        let all: Vec<Coming<'_>> = (0..500).map(|n| (Some(&bad), door(n))).collect();
        assert!(known.used(&all, at(2)));
        assert_eq!(*known.rendered(), doors((0..PER_MACHINE).chain([9_999])));
        assert_eq!(known.machines_over(), [(bad.clone(), door(PER_MACHINE))]);
        known.used(&all, at(3));
        assert_eq!(known.machines_over(), [], "told already");
        // One after the other, each for a moment.
        for n in 0..2 * DOORS_MAX {
            known.used(&[(Some(&bad), door(n))], at(4));
            assert!(known.rendered().len() <= PER_MACHINE + 1);
        }
        assert!(known.rendered().contains(&door(9_999)));
        assert!(!known.used(&[(Some(&good), door(9_999))], at(500)), "its tables are there");
        assert!(known.pass(at(2_000)));
        assert_eq!(*known.rendered(), doors([9_999]));
        assert!(known.used(&all, at(2_001)), "what was forgotten does not count");
        assert_eq!(known.rendered().len(), PER_MACHINE + 1);
    }

    #[test]
    fn ten_thousand_machines_by_one_door_have_one() {
        let mut known = Doors::default();
        let machines: Vec<MachineName> = (0..10_000).map(machine).collect();
        let all: Vec<Coming<'_>> = machines.iter().map(|it| (Some(it), door(1))).collect();
        assert!(known.used(&all, at(0)));
        assert!(!known.used(&all[..5_000], at(1)));
        assert!(!known.used(&[], at(2)));
        assert_eq!(known.rendered().len(), 1);
        assert!(known.pass(at(1_000)));
        assert!(!known.used(&[], at(1_001)));
    }
}
