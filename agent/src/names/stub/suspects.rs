//! Which upstreams ask us: what each was asked to find out, and who did. Pure: time is given.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::names::upstream::UPSTREAMS_MAX;

/// How long such a question may go round: longer than any resolver waits.
const ROUND: usize = 10;

/// Most questions that are known: of every upstream, once a second as long as one may go round.
const PROBES_MAX: usize = UPSTREAMS_MAX * (ROUND + 2);

/// How long an upstream is left out after its question came round last: two more have not.
pub(super) const LEFT_OUT: Duration = Duration::from_secs(ROUND as u64 + 2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    probes: VecDeque<(Vec<u8>, SocketAddr)>,
    /// And when a question to it came round last.
    looping: BTreeMap<SocketAddr, Instant>,
}

/// Whose question came round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CameRound {
    pub(super) server: SocketAddr,
    /// It was not left out before.
    pub(super) is_new: bool,
}

impl Suspects {
    /// An upstream is asked for this name, which nobody else can know.
    pub(super) fn asked(&mut self, name: Vec<u8>, server: SocketAddr) {
        if self.probes.len() >= PROBES_MAX {
            self.probes.pop_front();
        }
        self.probes.push_back((name, server));
    }

    /// Somebody asks us for this name; `None`: it is none of those.
    pub(super) fn came(&mut self, name: &[u8], now: Instant) -> Option<CameRound> {
        let server = self.probes.iter().find(|(asked, _)| asked == name)?.1;
        let is_new = self.looping.insert(server, now).is_none();
        Some(CameRound { server, is_new })
    }

    /// Forgets who is asked no more, and those whose questions come round no more; the latter.
    pub(super) fn settle(&mut self, servers: &[SocketAddr], now: Instant) -> Vec<SocketAddr> {
        self.probes.retain(|(_, server)| servers.contains(server));
        self.looping.retain(|server, _| servers.contains(server));
        let ended = |came: &Instant| now.duration_since(*came) > LEFT_OUT;
        let cleared: Vec<SocketAddr> = self
            .looping
            .iter()
            .filter(|(_, came)| ended(came))
            .map(|(server, _)| *server)
            .collect();
        self.looping.retain(|_, came| !ended(came));
        cleared
    }

    /// Whether this one is left out.
    pub(super) fn is_looping(&self, server: SocketAddr) -> bool {
        self.looping.contains_key(&server)
    }

    /// Those that are left out.
    pub(super) fn looping(&self) -> Vec<SocketAddr> {
        self.looping.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_us_is_left_out_while_it_does() {
        let [one, other]: [SocketAddr; 2] =
            ["10.0.0.2:53", "10.0.0.3:53"].map(|text| text.parse().unwrap());
        let both = [one, other];
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut suspects = Suspects::default();
        suspects.asked(b"a".to_vec(), one);
        suspects.asked(b"b".to_vec(), other);
        assert_eq!(suspects.came(b"c", at(0)), None);
        assert_eq!(suspects.came(b"a", at(0)), Some(CameRound { server: one, is_new: true }));
        assert_eq!(suspects.came(b"a", at(5)), Some(CameRound { server: one, is_new: false }));
        assert_eq!(suspects.settle(&both, at(5 + LEFT_OUT.as_secs())), []);
        assert_eq!(suspects.looping(), [one]);
        // Its questions come round no more.
        assert_eq!(suspects.settle(&both, at(6 + LEFT_OUT.as_secs())), [one]);
        assert!(!suspects.is_looping(one));
        // Once more, and then nobody asks it.
        suspects.came(b"a", at(60)).unwrap();
        assert_eq!(suspects.settle(&[other], at(60)), []);
        assert_eq!(suspects.looping(), []);
        assert_eq!(suspects.came(b"a", at(60)), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut suspects = Suspects::default();
        for round in 0..1_000_u32 {
            suspects.asked(round.to_be_bytes().to_vec(), "10.0.0.2:53".parse().unwrap());
        }
        assert_eq!(suspects.probes.len(), PROBES_MAX);
        let last = 999_u32.to_be_bytes();
        assert!(suspects.came(&last, Instant::now()).is_some());
    }
}
