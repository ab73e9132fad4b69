//! The turns of new connections. Nobody is known yet when one comes, so what is shared out is
//! shared by source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::pace::Bucket;

/// The most sources that are told apart. Others wait with all who wait.
const SOURCES_MAX: usize = 4_096;

/// Permits for connections, and who took them.
#[derive(Debug)]
pub(super) struct Arrivals {
    all: Bucket,
    /// What a source may take while others come, per second and at once: half.
    share: u32,
    /// Those that took any a moment ago.
    by_source: HashMap<IpAddr, Bucket>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is its turn.
    Now,
    /// It is its turn after this.
    In(Duration),
    /// Its source took its share, and others wait.
    Never,
}

impl Arrivals {
    pub(super) fn new(per_second: u32) -> Self {
        let by_source = HashMap::new();
        Self { all: Bucket::new(per_second, per_second), share: (per_second / 2).max(1), by_source }
    }

    /// Takes a permit for a connection from there; `None`: from this machine.
    pub(super) fn take(&mut self, source: Option<IpAddr>, now: Duration) -> Turn {
        let wait = self.all.take(now).err();
        let Some(source) = source else { return wait.map_or(Turn::Now, Turn::In) };
        let Some(wait) = wait else {
            if let Some(bucket) = self.bucket(source, now) {
                // Where nobody waits it may take more.
                let _ = bucket.take(now);
            }
            return Turn::Now;
        };
        let is_over = self.by_source.get(&source).is_some_and(|bucket| !bucket.has_one(now));
        if is_over && self.others_came(source, now) { Turn::Never } else { Turn::In(wait) }
    }

    fn bucket(&mut self, source: IpAddr, now: Duration) -> Option<&mut Bucket> {
        if self.by_source.len() >= SOURCES_MAX && !self.by_source.contains_key(&source) {
            self.by_source.retain(|_, bucket| !bucket.is_full(now));
            if self.by_source.len() >= SOURCES_MAX {
                return None;
            }
        }
        let share = self.share;
        Some(self.by_source.entry(source).or_insert_with(|| Bucket::new(share, share)))
    }

    fn others_came(&self, source: IpAddr, now: Duration) -> bool {
        self.by_source.iter().any(|(other, bucket)| *other != source && !bucket.is_full(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));
    const TWO: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)));

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(60_000 + ms)
    }

    #[test]
    fn who_comes_alone_has_all_and_waits() {
        let mut arrivals = Arrivals::new(100);
        let taken = (0..200).filter(|_| arrivals.take(ONE, at(0)) == Turn::Now).count();
        assert_eq!(taken, 100);
        assert_eq!(arrivals.take(ONE, at(0)), Turn::In(Duration::from_millis(10)));
        assert_eq!(arrivals.take(ONE, at(10)), Turn::Now);
    }

    #[test]
    fn who_comes_without_end_leaves_turns_to_others() {
        let mut arrivals = Arrivals::new(100);
        assert_eq!(arrivals.take(TWO, at(0)), Turn::Now);
        assert_eq!((0..99).filter(|_| arrivals.take(ONE, at(0)) == Turn::Now).count(), 99);
        assert_eq!(arrivals.take(ONE, at(0)), Turn::Never, "it took more than half, others come");
        assert_eq!(arrivals.take(TWO, at(0)), Turn::In(Duration::from_millis(10)));
        assert_eq!(arrivals.take(TWO, at(10)), Turn::Now);
        assert_eq!(arrivals.take(ONE, at(10)), Turn::Never);
        assert_eq!(arrivals.take(None, at(10)), Turn::In(Duration::from_millis(10)));
        // Nobody else has come for a while.
        for ms in 1_000..3_000 {
            arrivals.take(ONE, at(ms));
        }
        assert!(matches!(arrivals.take(ONE, at(3_000)), Turn::Now | Turn::In(_)));
    }

    #[test]
    fn sources_are_bounded() {
        let mut arrivals = Arrivals::new(100_000);
        let source = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        for n in 0..2 * SOURCES_MAX {
            assert_eq!(arrivals.take(Some(source(n)), at(0)), Turn::Now);
        }
        assert_eq!(arrivals.by_source.len(), SOURCES_MAX);
        assert_eq!(arrivals.take(Some(source(0)), at(60_000)), Turn::Now);
        assert_eq!(arrivals.take(Some(source(2 * SOURCES_MAX)), at(60_000)), Turn::Now);
        assert_eq!(arrivals.by_source.len(), 2, "those whose turn is long ago make room");
    }
}
