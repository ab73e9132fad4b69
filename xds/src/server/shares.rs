//! What each identity has of connections and streams: whoever has a certificate keeps nobody out
//! who has another.
//!
//! A connection over the share of its identity stays among those on which nobody is known: there is
//! a bound for those, and they make room for who comes. Its calls are refused with words.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::limits::Limits;
use super::pace::Bucket;
use crate::client::Identity;

/// The shares of all identities that have anything, or had a moment ago.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_identity: HashMap<Arc<Identity>, Share>,
}

#[derive(Debug)]
struct Share {
    connections: usize,
    streams: usize,
    openings: Bucket,
}

/// Why an identity gets no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Over {
    name: String,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Connections(usize),
    Streams(usize),
    Openings { wait: Duration },
}

impl Over {
    /// After how long there is more, where that is known.
    pub(super) const fn wait(&self) -> Duration {
        match self.what {
            What::Connections(_) | What::Streams(_) => Duration::ZERO,
            What::Openings { wait } => wait,
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.what {
            What::Connections(most) => write!(
                f,
                "`{name}` has {most} connections, the most that one machine may have; end some, \
                 and if they are not its own, revoke it: crossfade revoke {name}"
            ),
            What::Streams(most) => write!(
                f,
                "`{name}` has {most} streams, the most that one machine may have; end some, and \
                 if they are not its own, revoke it: crossfade revoke {name}"
            ),
            What::Openings { .. } => {
                write!(f, "`{name}` opens streams faster than one machine may; open them later")
            }
        }
    }
}

impl Shares {
    /// Takes a place for a connection.
    ///
    /// # Errors
    /// All of its places are taken.
    pub(super) fn connect(&mut self, who: &Arc<Identity>, limits: &Limits) -> Result<(), Over> {
        let share = self.share(who, limits);
        let most = limits.connections_per_identity;
        if share.connections >= most {
            return Err(over(who, What::Connections(most)));
        }
        share.connections += 1;
        Ok(())
    }

    /// Gives back a connection's place that was taken.
    pub(super) fn disconnect(&mut self, who: &Arc<Identity>) {
        if let Some(share) = self.by_identity.get_mut(who) {
            share.connections = share.connections.saturating_sub(1);
        }
    }

    /// Takes a place for a stream of any service.
    ///
    /// # Errors
    /// All of its places are taken, or it comes too fast.
    pub(super) fn open(
        &mut self,
        who: &Arc<Identity>,
        limits: &Limits,
        now: Duration,
    ) -> Result<(), Over> {
        let share = self.share(who, limits);
        let most = limits.streams_per_identity;
        if share.streams >= most {
            return Err(over(who, What::Streams(most)));
        }
        share.openings.take(now).map_err(|wait| over(who, What::Openings { wait }))?;
        share.streams += 1;
        Ok(())
    }

    /// A stream that had a place was not opened: it does not count as one that came.
    pub(super) fn not_opened(&mut self, who: &Arc<Identity>) {
        if let Some(share) = self.by_identity.get_mut(who) {
            share.openings.give_back();
        }
    }

    /// Gives back a stream's place that was taken.
    pub(super) fn close(&mut self, who: &Arc<Identity>) {
        if let Some(share) = self.by_identity.get_mut(who) {
            share.streams = share.streams.saturating_sub(1);
        }
    }

    /// Forgets those who have nothing and have had nothing for a while.
    pub(super) fn forget(&mut self, now: Duration) {
        self.by_identity.retain(|_, share| {
            share.connections > 0 || share.streams > 0 || !share.openings.is_full(now)
        });
    }

    fn share(&mut self, who: &Arc<Identity>, limits: &Limits) -> &mut Share {
        self.by_identity.entry(Arc::clone(who)).or_insert_with(|| {
            let burst = u32::try_from(limits.streams_per_identity).unwrap_or(u32::MAX);
            let openings = Bucket::new(limits.openings_per_identity, burst);
            Share { connections: 0, streams: 0, openings }
        })
    }
}

fn over(who: &Identity, what: What) -> Over {
    Over { name: who.name.to_string(), what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::Kind;

    fn who(name: &str) -> Arc<Identity> {
        Arc::new(Identity { kind: Kind::Agent, name: name.parse().unwrap() })
    }

    fn limits() -> Limits {
        Limits {
            connections_per_identity: 2,
            streams_per_identity: 3,
            openings_per_identity: 10,
            ..Limits::default()
        }
    }

    #[test]
    fn one_has_its_share_and_takes_nobody_elses() {
        let (mut shares, limits, now) = (Shares::default(), limits(), Duration::ZERO);
        let [one, two] = ["vm-1", "vm-2"].map(who);
        let taken = [&one, &one, &one, &two].map(|who| shares.connect(who, &limits).is_ok());
        assert_eq!(taken, [true, true, false, true]);
        let taken: Vec<bool> =
            (0..4).map(|_| shares.open(&one, &limits, now).is_ok()).chain([true]).collect();
        assert_eq!(taken[..4], [true, true, true, false]);
        assert_eq!(shares.open(&two, &limits, now), Ok(()));
        shares.disconnect(&one);
        shares.close(&one);
        assert_eq!(shares.connect(&one, &limits), Ok(()));
        let later = Duration::from_secs(1);
        assert_eq!(shares.open(&one, &limits, later), Ok(()));
    }

    #[test]
    fn what_finds_no_room_among_all_costs_no_opening() {
        let (mut shares, limits, one) = (Shares::default(), limits(), who("vm-1"));
        let now = Duration::from_secs(7);
        for _ in 0..1_000 {
            shares.open(&one, &limits, now).unwrap();
            shares.not_opened(&one);
            shares.close(&one);
        }
        let opened = (0..10).filter(|_| {
            let opened = shares.open(&one, &limits, now).is_ok();
            shares.close(&one);
            opened
        });
        assert_eq!(opened.count(), 3, "its burst, and no more");
    }

    /// However often it connects anew.
    #[test]
    fn who_opens_without_end_is_slowed_down() {
        let (mut shares, limits) = (Shares::default(), limits());
        let (one, two) = (who("vm-1"), who("vm-2"));
        let at = |ms: u64| Duration::from_secs(7) + Duration::from_millis(ms);
        let mut opened = 0;
        for ms in 0..1_000 {
            shares.connect(&one, &limits).unwrap();
            if let Err(over) = shares.open(&one, &limits, at(ms)) {
                assert!(over.wait() > Duration::ZERO, "{over}");
            } else {
                opened += 1;
                shares.close(&one);
            }
            shares.disconnect(&one);
            shares.forget(at(ms));
        }
        assert_eq!(opened, 3 + 9, "its burst, and ten a second");
        assert_eq!(shares.open(&two, &limits, at(999)), Ok(()));
        shares.close(&two);
        shares.forget(at(60_000));
        assert!(shares.by_identity.is_empty(), "{shares:?}");
    }
}
