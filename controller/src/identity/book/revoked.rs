//! Which certificates were taken back, of those that somebody may still show.
//!
//! All that are good of a machine that was revoked, and of one that another has taken the name of.
//! Not those of one that is frozen: its key is in two places, and one of them may be the machine
//! whose traffic must go on, so an operator decides. And not one that was merely renewed.

use std::str::FromStr;

use plan::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Agent, Book, EndKind, EnrolRefused, Held};
use crate::identity::{ENDED_MAX, Serial, TAKEN_BACK_KEPT};

/// A certificate that a machine had before its last two. Kept as one short text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Older {
    /// Its number.
    pub serial: Serial,
    /// When it ends.
    pub expires: Timestamp,
}

/// A certificate of a machine whose name another has now. Kept as one short text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Ended {
    pub(super) serial: Serial,
    pub(super) expires: Timestamp,
    /// When it was taken back.
    pub(super) at: Timestamp,
}

/// A certificate that was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TakenBack {
    /// Its number.
    pub serial: Serial,
    /// When.
    pub at: Timestamp,
}

impl Book {
    /// The number of the list of certificates that were taken back, which rises whenever there are
    /// more; `None`: there never was one.
    pub const fn list(&self) -> Option<u64> {
        self.list
    }

    /// The certificates that were taken back and have not ended, sorted, none twice.
    pub fn taken_back(&self, now: Timestamp) -> Vec<TakenBack> {
        let ended = self.ended.iter().filter(|ended| is_shown(ended.expires, now));
        let ended = ended.map(|Ended { serial, at, .. }| TakenBack { serial: *serial, at: *at });
        let revoked = self.agents.values().filter_map(|agent| Some((agent, agent.revoked()?)));
        let revoked = revoked.flat_map(|(agent, at)| {
            agent.shown(now).map(move |Older { serial, .. }| TakenBack { serial, at })
        });
        let mut all: Vec<TakenBack> = ended.chain(revoked).collect();
        all.sort_unstable();
        all.dedup_by_key(|taken| taken.serial);
        all
    }

    /// The list is another from now on. Numbers are the time, so that a controller which came up
    /// from a backup is not behind lists that it does not know of.
    pub fn relist(&mut self, now: Timestamp) {
        let time = u64::try_from(now.millis()).unwrap_or(0);
        self.list = Some(self.list.map_or(time, |list| list.saturating_add(1).max(time)));
    }

    /// Takes back what the machine of this name has, for another that is about to have the name.
    pub(super) fn take_name(
        &mut self,
        agent: Option<&Agent>,
        now: Timestamp,
    ) -> Result<(), EnrolRefused> {
        let Some(agent) = agent else { return Ok(()) };
        let at = agent.revoked();
        let ended = agent.shown(now).map(|Older { serial, expires }| Ended {
            serial,
            expires,
            at: at.unwrap_or(now),
        });
        let ended: Vec<Ended> = ended.collect();
        if self.ended.len().saturating_add(ended.len()) > ENDED_MAX {
            return Err(EnrolRefused::TooMany);
        }
        if at.is_none() && !ended.is_empty() {
            self.relist(now);
        }
        self.ended.extend(ended);
        Ok(())
    }

    /// Takes back what a machine has that is forgotten, as far as there is room: half of it is for
    /// names that others take.
    pub(super) fn end_all(&mut self, agent: &Agent, now: Timestamp) {
        let at = agent.revoked().unwrap_or(now);
        let room = (ENDED_MAX / 2).saturating_sub(self.ended.len());
        let ended = agent.shown(now).map(|Older { serial, expires }| Ended { serial, expires, at });
        self.ended.extend(ended.take(room));
    }

    /// Forgets what nobody can show any more.
    pub(super) fn sweep_ended(&mut self, now: Timestamp) {
        self.ended.retain(|ended| is_shown(ended.expires, now));
        for agent in self.agents.values_mut() {
            agent.older.retain(|older| is_shown(older.expires, now));
        }
    }

    /// Takes over what a newer book of the same CA has taken back.
    pub(super) fn take_over_ended(&mut self, other: &Self) {
        let known = |ended: &&Ended| !self.ended.iter().any(|ours| ours.serial == ended.serial);
        let mut new: Vec<Ended> = other.ended.iter().filter(known).copied().collect();
        // Those that end last count most.
        new.sort_by_key(|ended| std::cmp::Reverse(ended.expires));
        new.truncate(ENDED_MAX.saturating_sub(self.ended.len()));
        self.ended.extend(new);
        self.list = self.list.max(other.list);
    }
}

impl Agent {
    /// Since when it is revoked, if it is.
    fn revoked(&self) -> Option<Timestamp> {
        let end = self.end.as_ref().filter(|end| end.kind == EndKind::Revoked);
        end.map(|end| end.at)
    }

    /// All its certificates that somebody may still show.
    fn shown(&self, now: Timestamp) -> impl Iterator<Item = Older> {
        let last = [Some(self.current), self.previous].into_iter().flatten().map(Older::from);
        let all = last.chain(self.older.iter().copied());
        all.filter(move |older| is_shown(older.expires, now))
    }

    /// Notes what the next certificate pushes out of the last two: those before, and the one that
    /// counted as the last where a later one was shown.
    pub(super) fn push_out(&mut self, shown: &Held) {
        let unknown = Some(self.current).filter(|current| current.serial != shown.serial);
        self.older.extend([self.previous, unknown].into_iter().flatten().map(Older::from));
    }
}

/// Whether somebody whose clock is behind may still take a certificate that ends then.
fn is_shown(expires: Timestamp, now: Timestamp) -> bool {
    now < expires.after(TAKEN_BACK_KEPT)
}

impl From<Held> for Older {
    fn from(held: Held) -> Self {
        Self { serial: held.serial, expires: held.expires() }
    }
}

/// The text says of no certificate what is kept of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate is kept as SERIAL and times in milliseconds")]
pub struct OlderError;

/// A serial number and so many times.
fn parts<const N: usize>(text: &str) -> Result<(Serial, [Timestamp; N]), OlderError> {
    let mut parts = text.split(' ');
    let serial = parts.next().and_then(|part| Serial::from_str(part).ok()).ok_or(OlderError)?;
    let mut times = [Timestamp::from_millis(0); N];
    for time in &mut times {
        let millis = parts.next().and_then(|part| part.parse().ok()).ok_or(OlderError)?;
        *time = Timestamp::from_millis(millis);
    }
    if parts.next().is_some() { Err(OlderError) } else { Ok((serial, times)) }
}

impl TryFrom<String> for Older {
    type Error = OlderError;

    fn try_from(text: String) -> Result<Self, OlderError> {
        let (serial, [expires]) = parts(&text)?;
        Ok(Self { serial, expires })
    }
}

impl From<Older> for String {
    fn from(older: Older) -> Self {
        format!("{} {}", older.serial, older.expires.millis())
    }
}

impl TryFrom<String> for Ended {
    type Error = OlderError;

    fn try_from(text: String) -> Result<Self, OlderError> {
        let (serial, [expires, at]) = parts(&text)?;
        Ok(Self { serial, expires, at })
    }
}

impl From<Ended> for String {
    fn from(ended: Ended) -> Self {
        format!("{} {} {}", ended.serial, ended.expires.millis(), ended.at.millis())
    }
}
