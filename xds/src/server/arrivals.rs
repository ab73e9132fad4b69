//! The turns of new connections. Nobody is known yet when one comes, so what is shared out is
//! shared by source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::pace::Bucket;

/// The most sources that are told apart. Others wait with all who wait.
const SOURCES_MAX: usize = 4_096;

/// For how long a source counts that came: who found no room among those that wait to be accepted
/// comes again after one, three and seven seconds (RFC 6298).
const COME: Duration = Duration::from_secs(10);

/// How many seconds' connections one source may have in advance while no other comes: all that a
/// controller takes, twice, where all are behind one address.
const ALONE: u32 = 10;

/// Permits for connections, and who took them.
#[derive(Debug)]
pub(super) struct Arrivals {
    all: Bucket,
    per_second: u32,
    /// Those that took any a moment ago.
    by_source: HashMap<IpAddr, Taken>,
    /// The source that came last and when, and the last other one.
    newest: [Option<(IpAddr, Duration)>; 2],
}

/// What a source may still take.
#[derive(Debug)]
struct Taken {
    /// While others come, per second and at once: half.
    among: Bucket,
    /// While it comes alone: as much in the long run, and more at once.
    alone: Bucket,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is its turn.
    Now,
    /// It is its turn after this.
    In(Duration),
    /// Its source took its share: it is closed at once, so that nobody waits behind it.
    Never,
}

impl Arrivals {
    pub(super) fn new(per_second: u32) -> Self {
        let all = Bucket::new(per_second, per_second);
        Self { all, per_second, by_source: HashMap::new(), newest: [None; 2] }
    }

    /// Takes a permit for a connection from there; `None`: from this machine.
    pub(super) fn take(&mut self, source: Option<IpAddr>, now: Duration) -> Turn {
        let wait = self.all.take(now).err();
        let Some(source) = source else { return wait.map_or(Turn::Now, Turn::In) };
        let others_come = self.comes(source, now);
        let Some(wait) = wait else {
            if let Some(taken) = self.taken(source, now) {
                // Where nobody waits it may take more.
                let _ = taken.among.take(now);
                let _ = taken.alone.take(now);
            }
            return Turn::Now;
        };
        let is_over = self.by_source.get(&source).is_some_and(|taken| {
            let share = if others_come { &taken.among } else { &taken.alone };
            !share.has_one(now)
        });
        if is_over { Turn::Never } else { Turn::In(wait) }
    }

    /// Notes who comes. Whether others came a while ago.
    fn comes(&mut self, source: IpAddr, now: Duration) -> bool {
        let [last, before] = self.newest;
        let other = if last.is_some_and(|(last, _)| last == source) { before } else { last };
        self.newest = [Some((source, now)), other];
        other.is_some_and(|(_, at)| at.saturating_add(COME) > now)
    }

    fn taken(&mut self, source: IpAddr, now: Duration) -> Option<&mut Taken> {
        if self.by_source.len() >= SOURCES_MAX && !self.by_source.contains_key(&source) {
            self.by_source.retain(|_, taken| !taken.is_nothing(now));
            if self.by_source.len() >= SOURCES_MAX {
                return None;
            }
        }
        let (share, in_advance) =
            ((self.per_second / 2).max(1), self.per_second.saturating_mul(ALONE));
        Some(self.by_source.entry(source).or_insert_with(|| Taken {
            among: Bucket::new(share, share),
            alone: Bucket::new(share, in_advance),
        }))
    }
}

impl Taken {
    fn is_nothing(&self, now: Duration) -> bool {
        self.among.is_full(now) && self.alone.is_full(now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};

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
        for ms in 1_000..10_010 {
            assert!(matches!(arrivals.take(ONE, at(ms)), Turn::Now | Turn::Never), "{ms}");
        }
        assert!(matches!(arrivals.take(ONE, at(10_010)), Turn::Now | Turn::In(_)));
    }

    /// A loop that accepts as the server does, with what waits before it.
    struct Loop {
        arrivals: Arrivals,
        now: Duration,
        /// Who waits to be accepted.
        backlog: VecDeque<Comer>,
        /// Those that found no room there.
        dropped: Vec<Comer>,
        /// Those that were closed on, and when.
        closed: Vec<(Comer, Duration)>,
        /// Those that were let in, and when.
        taken: Vec<(Comer, Duration)>,
    }

    #[derive(Clone, Copy)]
    struct Comer {
        number: u64,
        source: Option<IpAddr>,
        since: Duration,
    }

    impl Loop {
        fn new() -> Self {
            Self {
                arrivals: Arrivals::new(RATE),
                now: at(0),
                backlog: VecDeque::new(),
                dropped: Vec::new(),
                closed: Vec::new(),
                taken: Vec::new(),
            }
        }

        /// One comes, after all who came before.
        fn come(&mut self, source: Option<IpAddr>, number: u64, since: Duration) {
            self.until(since);
            let comer = Comer { number, source, since };
            match self.backlog.len() < BACKLOG {
                true => self.backlog.push_back(comer),
                false => self.dropped.push(comer),
            }
        }

        fn until(&mut self, when: Duration) {
            while self.now <= when
                && let Some(comer) = self.backlog.front().copied()
            {
                self.now = self.now.max(comer.since);
                let turn = self.arrivals.take(comer.source, self.now);
                if let Turn::In(wait) = turn {
                    // Nobody else is accepted meanwhile.
                    self.now += wait;
                    continue;
                }
                self.backlog.pop_front();
                let list = if turn == Turn::Now { &mut self.taken } else { &mut self.closed };
                list.push((comer, self.now));
                self.now += ACCEPT;
            }
        }
    }

    /// As the server has them.
    const RATE: u32 = crate::server::Limits::ARRIVALS_PER_SECOND;
    const BACKLOG: usize = 4_096;
    /// What accepting one costs.
    const ACCEPT: Duration = Duration::from_micros(30);

    #[test]
    fn who_floods_holds_nobody_up() {
        let mut server = Loop::new();
        // Ten thousand a second from one source, one a second from another.
        for n in 0..100_000 {
            let now = at(0) + Duration::from_micros(100 * n);
            if n % 10_000 == 5_000 {
                server.come(TWO, n, now);
            }
            server.come(ONE, n, now);
        }
        server.until(at(20_000));
        let good: Vec<_> = server.taken.iter().filter(|(it, _)| it.source == TWO).collect();
        let waited: Vec<Duration> = good.iter().map(|(it, when)| *when - it.since).collect();
        assert_eq!(waited.len(), 10, "{waited:?}");
        // Before the first is accepted, those who wait are not known to keep anybody out.
        assert!(waited[..2].iter().all(|it| *it < Duration::from_secs(3)), "{waited:?}");
        assert!(waited[2..].iter().all(|it| *it < Duration::from_millis(10)), "{waited:?}");
    }

    #[test]
    fn who_floods_alone_has_all_and_at_last_leaves_room() {
        let mut server = Loop::new();
        for n in 0..400_000 {
            server.come(ONE, n, at(0) + Duration::from_micros(100 * n));
        }
        assert!(server.taken.len() > 79_000, "{}", server.taken.len());
        assert!(server.backlog.len() < 10, "{}", server.backlog.len());
    }

    /// How long it takes until all proxies are in that are behind one address and come at once:
    /// each comes again after a while, as Envoy does, where it was closed on. Another source comes
    /// each second or not.
    fn all_are_in(others: bool) -> Duration {
        const PROXIES: u64 = 5_000;
        let mut server = Loop::new();
        let mut tries = vec![0_u32; usize::try_from(PROXIES).unwrap()];
        let mut waiting: BTreeSet<(Duration, u64)> = (0..PROXIES).map(|n| (at(0), n)).collect();
        if others {
            waiting.extend((0..20).map(|second| (at(1_000 * second), PROXIES)));
        }
        let mut random = 7_u64;
        while let Some((when, n)) = waiting.pop_first() {
            server.come(if n < PROXIES { ONE } else { TWO }, n, when);
            server.until(waiting.first().map_or(at(60_000), |(when, _)| *when));
            // A packet that found no room is sent again after a second at first.
            let dropped = server.dropped.drain(..).map(|it| (it, it.since, 1_000, 1));
            let closed = server.closed.drain(..).map(|(it, when)| (it, when, 0, 500));
            for (comer, when, least, most) in dropped.chain(closed).collect::<Vec<_>>() {
                let Some(tries) = tries.get_mut(usize::try_from(comer.number).unwrap()) else {
                    continue;
                };
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let wait = (least << *tries) + (random >> 33) % (most << *tries);
                *tries += 1;
                waiting.insert((when + Duration::from_millis(wait), comer.number));
            }
        }
        let proxies = server.taken.iter().filter(|(it, _)| it.source == ONE);
        assert_eq!(proxies.clone().count(), tries.len());
        proxies.map(|(_, when)| *when).max().unwrap() - at(0)
    }

    #[test]
    fn all_who_are_behind_one_address_come_back_soon() {
        let alone = all_are_in(false);
        assert!(alone < Duration::from_secs(3), "{alone:?}");
        let among = all_are_in(true);
        assert!(among < Duration::from_secs(10), "{among:?}");
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
