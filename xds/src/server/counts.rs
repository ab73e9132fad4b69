//! What a server counts.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a server counted since it began, and what it has now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections now.
    pub connections: u64,
    /// Discovery streams now.
    pub streams: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Discovery streams that were opened.
    pub opened: u64,
    /// Connections that had to wait for their turn.
    pub delayed: u64,
    /// Streams that were told to come again later, and connections that were closed, for want of
    /// room.
    pub refused: u64,
    /// Clients that were dropped because they did not read.
    pub stalled: u64,
    /// Requests.
    pub requests: u64,
    /// Requests that acked a response.
    pub acks: u64,
    /// Requests that refused a response.
    pub nacks: u64,
    /// Responses.
    pub responses: u64,
    /// Resources in responses.
    pub resources: u64,
    /// Bytes of responses, before HTTP/2 and TLS.
    pub bytes: u64,
    /// Resources that were encoded for what was published: one for each that changed, whatever the
    /// number of streams.
    pub encodings: u64,
    /// Bad input, by kind.
    pub bad: BTreeMap<&'static str, u64>,
}

/// The numbers themselves.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: Counter,
    pub(super) opened: Counter,
    pub(super) delayed: Counter,
    pub(super) refused: Counter,
    pub(super) stalled: Counter,
    pub(super) requests: Counter,
    pub(super) acks: Counter,
    pub(super) nacks: Counter,
    pub(super) responses: Counter,
    pub(super) resources: Counter,
    pub(super) bytes: Counter,
    bad: [Counter; Bad::ALL.len()],
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Kinds of bad input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bad {
    /// Accepting a connection failed.
    Accept,
    /// A TLS handshake failed or took too long.
    Handshake,
    /// What came was no HTTP/2, or broke its rules.
    Http,
    /// A connection opened no stream.
    Idle,
    /// A stream sent no request, or half of one.
    Silent,
    /// A message was too long, compressed, or not of its type.
    Message,
    /// A request that can never be right.
    Request,
    /// Over a limit of a stream.
    Limit,
    /// More requests than a stream may send.
    Flood,
    /// More streams or connections than there is room for.
    Crowd,
    /// A client that does not read.
    Stalled,
    /// A client that is nobody who is known, or not any more.
    Stranger,
    /// More connections or streams than one identity may have.
    Share,
}

impl Bad {
    const ALL: [Self; 13] = [
        Self::Accept,
        Self::Handshake,
        Self::Http,
        Self::Idle,
        Self::Silent,
        Self::Message,
        Self::Request,
        Self::Limit,
        Self::Flood,
        Self::Crowd,
        Self::Stalled,
        Self::Stranger,
        Self::Share,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Handshake => "handshake",
            Self::Http => "http",
            Self::Idle => "idle",
            Self::Silent => "silent",
            Self::Message => "message",
            Self::Request => "request",
            Self::Limit => "limit",
            Self::Flood => "flood",
            Self::Crowd => "crowd",
            Self::Stalled => "stalled",
            Self::Stranger => "stranger",
            Self::Share => "share",
        }
    }
}

impl Counters {
    pub(super) fn bad(&self, bad: Bad) {
        let place = Bad::ALL.iter().zip(&self.bad).find(|(kind, _)| **kind == bad);
        if let Some((_, counter)) = place {
            counter.add(1);
        }
    }

    pub(super) fn read(&self) -> Counts {
        let bad = Bad::ALL.iter().zip(&self.bad);
        Counts {
            accepted: self.accepted.value(),
            opened: self.opened.value(),
            delayed: self.delayed.value(),
            refused: self.refused.value(),
            stalled: self.stalled.value(),
            requests: self.requests.value(),
            acks: self.acks.value(),
            nacks: self.nacks.value(),
            responses: self.responses.value(),
            resources: self.resources.value(),
            bytes: self.bytes.value(),
            bad: bad.map(|(kind, counter)| (kind.name(), counter.value())).collect(),
            ..Counts::default()
        }
    }
}

/// Tells the log of each kind of bad input once per address and hour.
#[derive(Debug, Default)]
pub(super) struct Notices {
    told: Mutex<HashMap<(IpAddr, Bad), Duration>>,
}

impl Notices {
    /// Addresses and kinds that are remembered. More are counted and not told.
    const MAX: usize = 1_024;
    /// After how long the same is told again.
    const AGAIN: Duration = Duration::from_secs(3_600);

    pub(super) fn tell(&self, bad: Bad, peer: SocketAddr, now: Duration, what: &dyn fmt::Display) {
        if self.is_news(bad, peer.ip(), now) {
            let kind = bad.name();
            tracing::warn!(kind, %peer, "{what} (told once an hour; counted each time)");
        }
    }

    fn is_news(&self, bad: Bad, peer: IpAddr, now: Duration) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at: &Duration| now < at.saturating_add(Self::AGAIN);
        if told.get(&(peer, bad)).is_some_and(fresh) {
            return false;
        }
        if told.len() >= Self::MAX {
            told.retain(|_, at| fresh(at));
        }
        if told.len() >= Self::MAX {
            return false;
        }
        told.insert((peer, bad), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_hears_of_a_kind_and_peer_once_an_hour() {
        let notices = Notices::default();
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Duration::from_secs(5);
        assert!(notices.is_news(Bad::Http, one, start));
        assert!(!notices.is_news(Bad::Http, one, start));
        assert!(notices.is_news(Bad::Message, one, start));
        assert!(notices.is_news(Bad::Http, two, start));
        assert!(notices.is_news(Bad::Http, one, start + Notices::AGAIN));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let notices = Notices::default();
        let address = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        let news = (0..2 * Notices::MAX)
            .filter(|n| notices.is_news(Bad::Http, address(*n), Duration::ZERO))
            .count();
        assert_eq!(news, Notices::MAX);
        assert!(notices.is_news(Bad::Http, address(0), Notices::AGAIN));
    }

    #[test]
    fn every_kind_is_counted() {
        let counters = Counters::default();
        for bad in Bad::ALL {
            counters.bad(bad);
        }
        let counts = counters.read();
        assert_eq!(counts.bad.len(), Bad::ALL.len());
        assert!(counts.bad.values().all(|count| *count == 1));
    }
}
