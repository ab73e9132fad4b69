//! What came back, and what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plan::ServiceId;
use plan::split::Side;

use super::wanted::{Ask, Wanted};

/// What was proved. Times are durations since any moment that stays the same.
#[derive(Clone, Debug, Default)]
pub struct Proofs {
    of: BTreeMap<Ask, Proof>,
}

/// Why, until everything was asked.
pub(crate) const NOT_YET: &str = "the way back is not proved yet";

/// How asking went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer came back.
    CameBack,
    /// It did not, in these words.
    Failed(String),
    /// Nobody listens there now, in these words: what was proved stays so until it is old, as a
    /// server that starts anew shall not see other addresses for that.
    Refused(String),
    /// Our rules did not stand: nothing was asked.
    NotAsked,
}

#[derive(Clone, Debug)]
struct Proof {
    /// When it was last asked.
    asked: Duration,
    /// When it last came back; `None`: never.
    came: Option<Duration>,
    /// How often it came back since it last failed.
    running: u32,
    /// How it last failed, for as long as it counts as failed.
    failed: Option<String>,
    /// The last time said nothing.
    missed: bool,
}

impl Proof {
    /// How long it is left alone after it was asked.
    const fn pause(&self) -> Duration {
        let is_rising = self.failed.is_some() && self.running > 0;
        if is_rising || self.missed { Proofs::SOON } else { Proofs::EVERY }
    }
}

/// What follows from the proofs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// For [`crate::rules::Host::returns`].
    pub returns: BTreeSet<(ServiceId, Side)>,
    /// For [`crate::rules::Host::unproved`]: why the others are not among them.
    pub unproved: BTreeMap<(ServiceId, Side), String>,
}

impl Proofs {
    /// Each is asked again after so long: a lost way back is noticed in this time and the patience
    /// for an answer. An endpoint hears from every VM, so it is not asked more often.
    pub const EVERY: Duration = Duration::from_secs(10);
    /// After so long, what came back after it failed and does not count yet, or was not asked.
    pub const SOON: Duration = Duration::from_secs(2);
    /// The most that are asked at a time. Where none of [`Wanted::ASKS_MAX`] answers, asking all of
    /// them takes a minute and a half.
    pub const AT_ONCE: usize = 32;
    /// An older proof is none: longer than that.
    pub const OLD: Duration = Duration::from_secs(130);
    /// What failed must come back so often, one after the other, before it counts: a way that comes
    /// and goes is masqueraded.
    const AGAIN: u32 = 3;

    /// Forgets what nobody wants proved.
    pub fn keep(&mut self, wanted: &Wanted) {
        let asks = wanted.asks();
        self.of.retain(|ask, _| asks.contains(ask));
    }

    /// What is to be asked now: what was never asked, then what was not for longest.
    pub fn next(&self, wanted: &Wanted, now: Duration) -> Vec<Ask> {
        let asked = |ask: &Ask| self.of.get(ask).map(|proof| proof.asked);
        let rest = |proof: &Proof| now.saturating_sub(proof.asked) >= proof.pause();
        let due = |ask: &Ask| self.of.get(ask).is_none_or(rest);
        let mut asks: Vec<Ask> = wanted.asks().into_iter().filter(due).collect();
        asks.sort_by_key(asked);
        asks.truncate(Self::AT_ONCE);
        asks
    }

    /// Takes up how asking went.
    pub fn answered(&mut self, ask: Ask, outcome: Outcome, now: Duration) {
        let new = Proof { asked: now, came: None, running: 0, failed: None, missed: false };
        let proof = self.of.entry(ask).or_insert(new);
        let is_neutral = match outcome {
            Outcome::CameBack | Outcome::Failed(_) => false,
            Outcome::Refused(_) => proof.came.is_some() && proof.failed.is_none(),
            Outcome::NotAsked => true,
        };
        proof.missed = is_neutral;
        proof.asked = now;
        match outcome {
            _ if is_neutral => {}
            Outcome::CameBack => {
                proof.came = Some(now);
                proof.running = proof.running.saturating_add(1);
                if proof.running >= Self::AGAIN {
                    proof.failed = None;
                }
            }
            Outcome::Failed(why) | Outcome::Refused(why) => {
                proof.running = 0;
                proof.failed = Some(why);
            }
            Outcome::NotAsked => {}
        }
    }

    /// Which sides are proved: those of which everything is.
    pub fn judge(&self, wanted: &Wanted, now: Duration) -> Judged {
        let mut judged = Judged::default();
        for (side, asks) in &wanted.sides {
            let why = match asks {
                Ok(asks) => asks.iter().find_map(|ask| self.missing(*ask, now)),
                Err(why) => Some(why.to_string()),
            };
            match why {
                None => {
                    judged.returns.insert(side.clone());
                }
                Some(why) => {
                    judged.unproved.insert(side.clone(), why);
                }
            }
        }
        judged
    }

    /// Why this is not proved.
    fn missing(&self, Ask { from, to }: Ask, now: Duration) -> Option<String> {
        let proof = self.of.get(&Ask { from, to });
        if let Some(why) = proof.and_then(|proof| proof.failed.as_ref()) {
            return Some(format!("{to} does not answer {from} by way of this host: {why}"));
        }
        let Some(came) = proof.and_then(|proof| proof.came) else {
            // In the same words until all were asked: the rules change once.
            return Some(NOT_YET.to_owned());
        };
        let old = now.saturating_sub(came) > Self::OLD;
        old.then(|| format!("{to} did not answer {from} for too long"))
    }
}
