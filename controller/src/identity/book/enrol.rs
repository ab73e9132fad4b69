//! A first certificate for a token.

use std::net::IpAddr;

use ipnet::IpNet;
use plan::{Digest, Timestamp};
use xds::join::{Kind, MachineName};

use super::{Agent, Book, Grant, Held, Spent, Token, issue_time};
use crate::identity::{AGENTS_MAX, ENDED_MAX, Serial};

/// A machine that wants to join. It has proved that it has the key.
#[derive(Clone, Copy, Debug)]
pub struct Enrolment<'a> {
    /// The digest of its token's secret.
    pub secret: Digest,
    /// What its token says it is called.
    pub name: &'a MachineName,
    /// What its token says it is.
    pub kind: &'a Kind,
    /// From where it calls.
    pub source: IpAddr,
    /// The SHA-256 of its public key.
    pub key: Digest,
    /// The number for its certificate.
    pub serial: Serial,
    /// When.
    pub now: Timestamp,
}

/// Why a machine does not join. Says no more than who has the token may know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolRefused {
    /// No such token was ever made, or long ago.
    #[error("this token is not known here; have a new one made with `crossfade token create`")]
    Unknown,
    /// It was used.
    #[error(
        "this token was used already at {at}; have a new one made, and if nobody of yours used it, \
         revoke the machine"
    )]
    Used {
        /// When.
        at: Timestamp,
    },
    /// An operator took it back.
    #[error("this token was withdrawn at {at}; have a new one made")]
    Withdrawn {
        /// When.
        at: Timestamp,
    },
    /// Its time is over.
    #[error("this token expired at {at}; have a new one made")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// It is for another network.
    #[error(
        "the controller sees this machine as {source_address}, and the token may not be used from \
         there"
    )]
    Source {
        /// From where it was used.
        source_address: IpAddr,
        /// From where it may be used. Whoever has the token is not told.
        allowed: IpNet,
    },
    /// A machine of this name joined after the token was made.
    #[error("a machine called `{name}` has joined already; have a token made with --replace")]
    Live {
        /// The name.
        name: MachineName,
    },
    /// One of another kind did.
    #[error("`{name}` has joined already, as {is}; have a token made for another name")]
    Kind {
        /// The name.
        name: MachineName,
        /// What has the name.
        is: Kind,
    },
    /// The key was that of an earlier certificate.
    #[error("the key was used before; make a new one")]
    OldKey,
    /// Too many certificates wait for their end.
    #[error(
        "machines with {ENDED_MAX} certificates had their names taken over within a day, the most \
         that can; try again later"
    )]
    TooMany,
    /// Too many machines.
    #[error("{AGENTS_MAX} machines have joined, the most that can")]
    Full,
}

impl Book {
    /// Uses the token up and notes the machine. The same key with the same token is granted the
    /// same certificate again: its answer was lost.
    ///
    /// # Errors
    /// As [`EnrolRefused`] says; then the token is as good as before.
    pub fn enrol(&mut self, enrolment: Enrolment<'_>) -> Result<Grant, EnrolRefused> {
        let Enrolment { secret, name, kind, source, key, serial, now } = enrolment;
        self.sweep(now);
        let waiting = self.tokens.iter().find(|(_, token)| token.secret == secret);
        let Some((_, token)) = waiting.filter(|(owner, it)| (*owner, &it.kind) == (name, kind))
        else {
            return self.enrol_again(&enrolment);
        };
        if now >= token.expires {
            return Err(EnrolRefused::Expired { at: token.expires });
        }
        let source = source.to_canonical();
        if let Some(allowed) = token.from.filter(|allowed| !allowed.contains(&source)) {
            return Err(EnrolRefused::Source { source_address: source, allowed });
        }
        let known = self.agents.get(name);
        match known.filter(|agent| agent.is_live(now)) {
            Some(Agent { kind: is, .. }) if is != kind => {
                return Err(EnrolRefused::Kind { name: name.clone(), is: is.clone() });
            }
            Some(_) if !token.replace => {
                return Err(EnrolRefused::Live { name: name.clone() });
            }
            Some(_) | None => {}
        }
        if known.is_none() && self.agents.len() >= AGENTS_MAX {
            return Err(EnrolRefused::Full);
        }
        if known.is_some_and(|agent| agent.had(key)) {
            return Err(EnrolRefused::OldKey);
        }
        let joined = issue_time(now, known.map(|agent| agent.current.issued));
        let known = known.cloned();
        let current = Held { serial, key, issued: joined };
        let Token { kind, expires, services, .. } = token.clone();
        let grant = Grant::of(&kind, name, &current, false);
        self.take_name(known.as_ref(), now)?;
        let (previous, older, end) = (None, Vec::new(), None);
        let agent = Agent { kind, services, joined, from: source, current, previous, older, end };
        self.tokens.remove(name);
        self.agents.insert(name.clone(), agent);
        self.spend(Spent { secret, name: name.clone(), at: now, expires, used: Some(serial) });
        Ok(grant)
    }

    /// Whether a token with this secret was made, and is not forgotten.
    pub fn has_token(&self, secret: Digest) -> bool {
        self.tokens.values().any(|token| token.secret == secret)
            || self.spent.iter().any(|spent| spent.secret == secret)
    }

    /// The token does not wait: the same answer again, or the reason.
    fn enrol_again(&self, enrolment: &Enrolment<'_>) -> Result<Grant, EnrolRefused> {
        let Enrolment { secret, name, kind, key, now, .. } = *enrolment;
        let spent = self.spent.iter().rev().find(|spent| spent.secret == secret);
        let spent = spent.filter(|spent| spent.name == *name).ok_or(EnrolRefused::Unknown)?;
        let Some(serial) = spent.used else {
            return Err(EnrolRefused::Withdrawn { at: spent.at });
        };
        let agent = self.agents.get(name).filter(|agent| agent.end.is_none());
        let agent = agent.filter(|agent| agent.kind == *kind);
        let held = agent.map(|agent| agent.current);
        match held.filter(|held| held.serial == serial && held.key == key && now < spent.expires) {
            Some(held) => Ok(Grant::of(kind, name, &held, true)),
            None => Err(EnrolRefused::Used { at: spent.at }),
        }
    }
}

impl Agent {
    /// Whether this was one of its last keys.
    pub(super) fn had(&self, key: Digest) -> bool {
        self.current.key == key || self.previous.is_some_and(|held| held.key == key)
    }
}
