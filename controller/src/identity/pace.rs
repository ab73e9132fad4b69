//! How often one may ask for certificates.
//!
//! Nobody guesses 256 bits; these bounds keep whoever tries from using up the processor and the
//! store.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// How many calls one source may make at once, and how many a second from then on. Many machines
/// may be behind one address.
const PER_SOURCE: Rate = Rate { burst: 100, per_second: 5 };

/// The same for all sources together: each call costs two signature checks, a signature and a write
/// of the store.
const IN_ALL: Rate = Rate { burst: 500, per_second: 100 };

/// The most sources that are told apart; more share what there is for all. A source is forgotten
/// once it could make its whole burst again.
const SOURCES_MAX: usize = 4_096;

#[derive(Clone, Copy)]
struct Rate {
    burst: u32,
    per_second: u32,
}

impl Rate {
    /// How long one call takes out of the burst.
    fn step(self) -> Duration {
        Duration::from_secs(1) / self.per_second
    }

    /// Takes one call at `now`: `full_at` is when the whole burst is there again.
    fn take(self, full_at: Duration, now: Duration) -> Result<Duration, Duration> {
        let next = full_at.max(now) + self.step();
        let most = now + self.step() * self.burst;
        if next <= most { Ok(next) } else { Err(next - most) }
    }
}

/// Counts calls. Times are uptime.
#[derive(Debug, Default)]
pub(super) struct Pace {
    all: Duration,
    sources: BTreeMap<IpAddr, Duration>,
}

impl Pace {
    /// Counts a call; or how long to wait before the next one.
    pub(super) fn take(&mut self, source: IpAddr, now: Duration) -> Result<(), Duration> {
        let source = network(source);
        let full_at = self.sources.get(&source).copied().unwrap_or_default();
        let of_source = PER_SOURCE.take(full_at, now)?;
        self.all = IN_ALL.take(self.all, now)?;
        if self.sources.len() >= SOURCES_MAX {
            self.sources.retain(|_, full_at| *full_at > now);
        }
        if self.sources.len() < SOURCES_MAX || self.sources.contains_key(&source) {
            self.sources.insert(source, of_source);
        }
        Ok(())
    }
}

/// Whoever has one address of IPv6 has the whole /64.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & u128::MAX << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pace: &mut Pace, source: IpAddr, calls: u32, now: Duration) -> u32 {
        (0..calls).map(|_| u32::from(pace.take(source, now).is_ok())).sum()
    }

    #[test]
    fn one_source_does_not_use_up_what_there_is_for_all() {
        let mut pace = Pace::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Duration::from_secs(1_000);
        assert_eq!(taken(&mut pace, one, 200, start), PER_SOURCE.burst);
        assert_eq!(taken(&mut pace, other, 1, start), 1);
        let wait = pace.take(one, start).unwrap_err();
        assert_eq!(taken(&mut pace, one, 2, start + wait), 1);
        let mut hosts = (0..=255).map(|n| IpAddr::from([10, 1, 0, n]));
        let all: u32 = hosts.by_ref().map(|host| taken(&mut pace, host, 100, start)).sum();
        assert_eq!(all, IN_ALL.burst - PER_SOURCE.burst - 1 - 1);
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let mut pace = Pace::default();
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        let start = Duration::from_secs(1);
        assert_eq!(taken(&mut pace, from("2001:db8::1"), 200, start), PER_SOURCE.burst);
        assert_eq!(taken(&mut pace, from("2001:db8::2"), 1, start), 0);
        assert_eq!(taken(&mut pace, from("2001:db8:0:1::2"), 1, start), 1);
        assert_eq!(network(from("::ffff:10.0.0.1")), from("10.0.0.1"));
    }

    #[test]
    fn sources_are_bounded() {
        let mut pace = Pace::default();
        for n in 0..20_000u32 {
            let now = Duration::from_millis(u64::from(n) * 10);
            pace.take(IpAddr::from(n.to_be_bytes()), now).unwrap();
            assert!(pace.sources.len() <= SOURCES_MAX);
        }
    }
}
