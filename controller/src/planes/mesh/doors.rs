//! The doors that are rendered for: those that somebody comes by, and for a while those that
//! somebody came by.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use xds::render::Door;

/// The most doors that are rendered for and show every service: each costs the listeners of every
/// service, and every change of them again.
const DOORS_MAX: usize = 256;

/// The most doors that are rendered for and show some services alone, as many as there may be sets
/// of services that VMs with an Envoy are limited to. Each costs its own tables of a few services,
/// and of what changes an entry in each that has it: the encoding is that of all. Where all of them
/// have one service, a new weight of it costs some three times what it costs without them
/// (`xds/examples/weights.rs`, of 10 000 services), which is still less than that may cost. They
/// take no other door's room.
const LIMITED_MAX: usize = 500;

/// How long a door is rendered for after the last client has gone that came by it: longer than
/// hosts take to restart, so that who comes back finds its tables.
const KEPT: Duration = Duration::from_secs(600);

/// The most doors that are remembered as told of.
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
}

impl Doors {
    /// Those that are rendered for.
    pub(super) const fn rendered(&self) -> &BTreeSet<Door> {
        &self.rendered
    }

    /// Somebody comes by each of these, and by no other. Whether others are rendered for now.
    pub(super) fn used(&mut self, used: BTreeSet<Door>, now: Duration) -> bool {
        self.unused.retain(|door, _| !used.contains(door));
        for door in self.rendered.difference(&used) {
            self.unused.entry(door.clone()).or_insert(now);
        }
        self.waiting = used.difference(&self.rendered).cloned().collect();
        self.admit()
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
        !over.is_empty() | self.admit()
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

    /// Tells of doors for which there is no room, once each.
    pub(super) fn tell(&mut self) {
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

    #[test]
    fn a_door_is_forgotten_a_while_after_the_last_who_came_by_it() {
        let mut known = Doors::default();
        assert!(known.used(doors([1, 2]), at(0)));
        assert_eq!(known.due(), None);
        assert!(!known.used(doors([1]), at(10)));
        assert!(!known.used(doors([]), at(20)));
        assert_eq!(known.due(), Some(at(610)));
        // It has come back in time, and goes again.
        assert!(!known.used(doors([2]), at(500)));
        assert!(!known.used(doors([]), at(600)));
        assert!(!known.pass(at(619)));
        assert!(known.pass(at(620)));
        assert_eq!((known.rendered(), known.due()), (&doors([2]), Some(at(1_200))));
        assert!(known.pass(at(1_200)));
        assert_eq!((known.rendered(), known.due()), (&doors([]), None));
        assert!(known.used(doors([1]), at(1_300)), "rendered for anew");
    }

    #[test]
    fn who_finds_no_room_is_told_of_once_and_let_in_when_there_is_some() {
        let mut known = Doors::default();
        assert!(known.used(doors(0..DOORS_MAX), at(0)));
        assert_eq!(known.news(), []);
        let (one, two) = (DOORS_MAX, DOORS_MAX + 1);
        assert!(!known.used(doors(0..=two), at(1)));
        assert_eq!(known.news(), [door(one), door(two)]);
        assert!(!known.used(doors(0..=two), at(2)));
        assert_eq!(known.news(), [], "told already");
        // Unused ones make room at once, the longest unused first.
        assert!(known.used(doors(1..=one), at(3)));
        assert_eq!(*known.rendered(), doors(1..=one));
        assert!(!known.used(doors(2..=one), at(4)));
        assert!(!known.used(doors(3..=one), at(5)));
        assert!(known.used(doors(3..=two), at(6)));
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
        assert!(known.used(limits.clone(), at(0)));
        assert_eq!(known.rendered().len(), LIMITED_MAX);
        assert_eq!(known.news().len(), 1);
        let all = limits.union(&doors(0..DOORS_MAX)).cloned().collect();
        assert!(known.used(all, at(1)));
        assert!(doors(0..DOORS_MAX).is_subset(known.rendered()), "the others' room is there");
        assert_eq!(known.rendered().len(), LIMITED_MAX + DOORS_MAX);
        // One that is not used makes room for one of its kind alone.
        let mut rest: BTreeSet<Door> = limits.union(&doors(1..=DOORS_MAX)).cloned().collect();
        assert!(known.used(rest.clone(), at(2)));
        assert!(doors(1..=DOORS_MAX).is_subset(known.rendered()));
        let waits = limits.difference(known.rendered()).next().unwrap().clone();
        rest.remove(limits.intersection(known.rendered()).next().unwrap());
        assert!(known.used(rest, at(3)));
        assert!(known.rendered().contains(&waits));
    }

    #[test]
    fn the_log_has_only_so_many() {
        let mut known = Doors::default();
        known.used(doors(0..DOORS_MAX + 2 * TOLD_MAX), at(0));
        assert_eq!(known.news().len(), TOLD_MAX);
        known.used(doors(0..DOORS_MAX + 3 * TOLD_MAX), at(1));
        assert_eq!(known.news(), []);
    }
}
