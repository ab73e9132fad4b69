//! Connections on which nobody is known, and their calls: they have a share of what there is, and
//! each source a share of that, so that whoever has no certificate keeps nobody out who has one.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::limits::Limits;
use super::shared::Line;

/// How long a connection stays at least where others want its place: handshakes take less, and who
/// only holds places makes room for who comes.
const STAYS: Duration = Duration::from_secs(2);

/// The connections on which nobody is known, oldest first.
#[derive(Default)]
pub(super) struct Strangers {
    lines: BTreeMap<u64, Arc<Line>>,
}

impl Strangers {
    /// Whether there is room for one more from there; cuts an old one for it if need be.
    pub(super) fn make_room(&mut self, peer: SocketAddr, limits: &Limits, now: Duration) -> bool {
        let source = source(peer);
        let of_source = || self.lines.values().filter(|line| line.source() == source);
        let share = limits.strangers_per_source;
        let fits = self.lines.len() < share || of_source().count() < share;
        if fits && self.lines.len() < limits.strangers {
            return true;
        }
        // A source that has its share makes room itself.
        let oldest = self.lines.iter().find(|(_, line)| fits || line.source() == source);
        let oldest = oldest.filter(|(_, line)| line.since().saturating_add(STAYS) <= now);
        let Some(key) = oldest.map(|(key, _)| *key) else { return false };
        self.remove(key).inspect(|line| line.cut());
        true
    }

    pub(super) fn insert(&mut self, line: &Arc<Line>) {
        self.lines.insert(line.key, Arc::clone(line));
    }

    pub(super) fn remove(&mut self, key: u64) -> Option<Arc<Line>> {
        self.lines.remove(&key)
    }

    /// Those that came before `since`.
    pub(super) fn older(&self, since: Duration) -> Vec<Arc<Line>> {
        self.lines.values().take_while(|line| line.since() < since).cloned().collect()
    }
}

/// How many calls are answered on such connections, by source. A source without any is not in it.
#[derive(Debug, Default)]
pub(super) struct Calls {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

impl Calls {
    /// Takes a place, if there is one.
    pub(super) fn take(&mut self, source: IpAddr, limits: &Limits) -> bool {
        let of_source = self.by_source.get(&source).copied().unwrap_or(0);
        if self.all >= limits.stranger_calls || of_source >= limits.stranger_calls_per_source {
            return false;
        }
        self.all += 1;
        self.by_source.insert(source, of_source + 1);
        true
    }

    /// Gives one back that was taken.
    pub(super) fn give(&mut self, source: IpAddr) {
        self.all = self.all.saturating_sub(1);
        if let Some(count) = self.by_source.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

/// Whoever has one address of IPv6 has the whole /64.
pub(super) fn source(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & u128::MAX << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn from(text: &str) -> SocketAddr {
        format!("{text}:1").parse().unwrap()
    }

    #[test]
    fn old_strangers_make_room_and_young_ones_stay() {
        let limits = Limits { strangers: 3, strangers_per_source: 2, ..Limits::default() };
        let mut strangers = Strangers::default();
        let mut come = |key, peer, now| {
            let comes = strangers.make_room(from(peer), &limits, now);
            let line = Arc::new(Line::new(key, from(peer), now, true));
            if comes {
                strangers.insert(&line);
            }
            (comes, line)
        };
        let (_, a) = come(1, "10.0.0.1", at(0));
        let (_, b) = come(2, "10.0.0.1", at(0));
        assert!(!come(3, "10.0.0.1", at(1)).0, "its share is taken by young ones");
        let (_, c) = come(4, "10.0.0.2", at(1));
        assert!(!come(5, "10.0.0.3", at(1)).0, "all is taken by young ones");
        assert!(come(6, "10.0.0.3", at(2)).0, "the oldest of all makes room");
        assert_eq!([&a, &b, &c].map(|line| line.is_cut()), [true, false, false]);
        assert!(come(7, "10.0.0.2", at(3)).0);
        assert_eq!([&b, &c].map(|line| line.is_cut()), [true, false]);
        assert!(come(8, "10.0.0.2", at(3)).0, "a source that has its share makes room itself");
        assert!(c.is_cut());
        assert_eq!(strangers.older(at(3)).len(), 1);
    }

    #[test]
    fn calls_of_one_source_leave_room_for_others() {
        let limits =
            Limits { stranger_calls: 3, stranger_calls_per_source: 2, ..Limits::default() };
        let mut calls = Calls::default();
        let [one, two, three] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|it| source(from(it)));
        let taken = [one, one, one, two, three].map(|source| calls.take(source, &limits));
        assert_eq!(taken, [true, true, false, true, false]);
        calls.give(two);
        assert!(calls.take(three, &limits));
        [one, one, three].into_iter().for_each(|source| calls.give(source));
        assert_eq!((calls.all, calls.by_source.len()), (0, 0));
        assert_eq!(source(from("[2001:db8::1]")), source(from("[2001:db8::2]")));
    }
}
