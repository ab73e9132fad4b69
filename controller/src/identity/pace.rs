//! How often one may ask for certificates.
//!
//! Nobody guesses 256 bits; these bounds keep whoever tries from using up the processor and the
//! store. Who comes with a token that is known, or has proved that he is a machine, has a budget of
//! his own: whatever others send from the same network, or from anywhere, takes nothing of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use plan::Digest;
use xds::join::MachineName;

/// How many calls one source may make of which nothing is known, at once and a second from then on.
/// Many machines may be behind one address.
const PER_SOURCE: Rate = Rate { burst: 100, per_second: 5 };

/// The same for all sources together: each may read the store.
const SOURCES: Rate = Rate { burst: 500, per_second: 100 };

/// How often one token may be tried: it is used once, and again where an answer was lost.
const PER_TOKEN: Rate = Rate { burst: 20, per_second: 1 };

/// The same for all tokens together: each costs two signature checks, a signature and a write of
/// the store.
const TOKENS: Rate = Rate { burst: 500, per_second: 100 };

/// How often one machine may renew: it does so twice a day, and again where an answer was lost.
const PER_MACHINE: Rate = Rate { burst: 20, per_second: 1 };

/// The same for all machines together, as for tokens.
const MACHINES: Rate = Rate { burst: 500, per_second: 100 };

/// The most of a kind that are told apart; more share what there is for all. One is forgotten once
/// it could make its whole burst again.
const KNOWN_MAX: usize = 4_096;

#[derive(Clone, Copy, Debug)]
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

/// Counts calls, each kind by itself. Times are uptime; errors say how long to wait.
#[derive(Debug)]
pub(super) struct Paces {
    sources: Pace<IpAddr>,
    tokens: Pace<Digest>,
    machines: Pace<MachineName>,
}

impl Default for Paces {
    fn default() -> Self {
        Self {
            sources: Pace::new(PER_SOURCE, SOURCES),
            tokens: Pace::new(PER_TOKEN, TOKENS),
            machines: Pace::new(PER_MACHINE, MACHINES),
        }
    }
}

impl Paces {
    /// Counts a call from there of which nothing is known.
    pub(super) fn stranger(&mut self, source: IpAddr, now: Duration) -> Result<(), Duration> {
        self.sources.take(network(source), now)
    }

    /// Counts a call with a token that was made here, by the digest of its secret.
    pub(super) fn token(&mut self, secret: Digest, now: Duration) -> Result<(), Duration> {
        self.tokens.take(secret, now)
    }

    /// Counts a call of a machine that has proved to be it.
    pub(super) fn machine(&mut self, name: &MachineName, now: Duration) -> Result<(), Duration> {
        self.machines.take(name.clone(), now)
    }
}

/// Counts calls of one kind.
#[derive(Debug)]
struct Pace<K> {
    each: Rate,
    in_all: Rate,
    all: Duration,
    known: BTreeMap<K, Duration>,
}

impl<K: Ord> Pace<K> {
    const fn new(each: Rate, in_all: Rate) -> Self {
        Self { each, in_all, all: Duration::ZERO, known: BTreeMap::new() }
    }

    /// Counts a call; or how long to wait before the next one.
    fn take(&mut self, who: K, now: Duration) -> Result<(), Duration> {
        let full_at = self.known.get(&who).copied().unwrap_or_default();
        let next = self.each.take(full_at, now)?;
        self.all = self.in_all.take(self.all, now)?;
        if self.known.len() >= KNOWN_MAX {
            self.known.retain(|_, full_at| *full_at > now);
        }
        if self.known.len() < KNOWN_MAX || self.known.contains_key(&who) {
            self.known.insert(who, next);
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

    fn taken(paces: &mut Paces, source: IpAddr, calls: u32, now: Duration) -> u32 {
        (0..calls).map(|_| u32::from(paces.stranger(source, now).is_ok())).sum()
    }

    #[test]
    fn one_source_does_not_use_up_what_there_is_for_all() {
        let mut paces = Paces::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Duration::from_secs(1_000);
        assert_eq!(taken(&mut paces, one, 200, start), PER_SOURCE.burst);
        assert_eq!(taken(&mut paces, other, 1, start), 1);
        let wait = paces.stranger(one, start).unwrap_err();
        assert_eq!(taken(&mut paces, one, 2, start + wait), 1);
        let mut hosts = (0..=255).map(|n| IpAddr::from([10, 1, 0, n]));
        let all: u32 = hosts.by_ref().map(|host| taken(&mut paces, host, 100, start)).sum();
        assert_eq!(all, SOURCES.burst - PER_SOURCE.burst - 1 - 1);
    }

    #[test]
    fn strangers_take_nothing_from_who_is_known() {
        let mut paces = Paces::default();
        let start = Duration::from_secs(1_000);
        for n in 0..=255 {
            taken(&mut paces, IpAddr::from([10, 1, 0, n]), 200, start);
        }
        let token = Digest::of(b"a token");
        let machine = "vm-1".parse().unwrap();
        let tried = (0..100).filter(|_| paces.token(token, start).is_ok()).count();
        assert_eq!(tried, PER_TOKEN.burst as usize);
        assert_eq!(paces.token(Digest::of(b"another"), start), Ok(()));
        let renewed = (0..100).filter(|_| paces.machine(&machine, start).is_ok()).count();
        assert_eq!(renewed, PER_MACHINE.burst as usize);
        assert_eq!(paces.machine(&"vm-2".parse().unwrap(), start), Ok(()));
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let mut paces = Paces::default();
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        let start = Duration::from_secs(1);
        assert_eq!(taken(&mut paces, from("2001:db8::1"), 200, start), PER_SOURCE.burst);
        assert_eq!(taken(&mut paces, from("2001:db8::2"), 1, start), 0);
        assert_eq!(taken(&mut paces, from("2001:db8:0:1::2"), 1, start), 1);
        assert_eq!(network(from("::ffff:10.0.0.1")), from("10.0.0.1"));
    }

    #[test]
    fn sources_are_bounded() {
        let mut paces = Paces::default();
        for n in 0..20_000u32 {
            let now = Duration::from_millis(u64::from(n) * 10);
            paces.stranger(IpAddr::from(n.to_be_bytes()), now).unwrap();
            assert!(paces.sources.known.len() <= KNOWN_MAX);
        }
    }
}
