//! Who may join and who has which certificate. Pure: time and random bytes are arguments.
//!
//! A [`Book`] is kept whole in one cell of the store, so that a token is used up and its machine's
//! record written in one step, whatever the number of controllers.

mod cell;
mod enrol;
mod renew;
mod restore;
mod revoked;
mod sweep;
mod tokens;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use plan::{Digest, ServiceId, Timestamp};
use serde::{Deserialize, Serialize};
use xds::join::{Kind, MachineName};

pub use self::cell::{CellError, HeldError};
pub use self::enrol::{EnrolRefused, Enrolment};
pub use self::renew::{NotAdmitted, RenewRefused, Renewal, Shown};
pub use self::revoked::{Older, OlderError, TakenBack};
pub use self::tokens::{Ask, TokenRefused};
use super::{GRACE, LIFE, SKEW_MAX, Serial};

/// Tokens and machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    tokens: BTreeMap<MachineName, Token>,
    /// Tokens that were used or withdrawn, oldest first: to be told apart from those that never
    /// were, and to answer again whose answer was lost.
    spent: Vec<Spent>,
    agents: BTreeMap<MachineName, Agent>,
    /// Certificates of machines whose names others have now, for as long as they may be shown.
    ended: Vec<revoked::Ended>,
    /// As [`Book::list`].
    list: Option<u64>,
}

/// A token that waits to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    secret: Digest,
    /// What it will be certified as.
    #[serde(default, skip_serializing_if = "Kind::is_agent")]
    pub kind: Kind,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is worth nothing.
    pub expires: Timestamp,
    /// What its machine may see; empty: everything that is for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceId>,
    /// From where it can be used; `None`: from anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpNet>,
    /// Whether it may take the name of a machine that is there.
    #[serde(default)]
    pub replace: bool,
    /// Who made it.
    pub by: String,
}

/// A token that can be used no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Spent {
    secret: Digest,
    name: MachineName,
    at: Timestamp,
    /// When the token would have expired.
    expires: Timestamp,
    /// The certificate that it was used for; `None`: it was withdrawn.
    used: Option<Serial>,
}

/// A machine that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// What it is certified as.
    #[serde(default, skip_serializing_if = "Kind::is_agent")]
    pub kind: Kind,
    /// What it may see; empty: everything that is for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceId>,
    /// When it joined. Certificates of its name made before were another's.
    pub joined: Timestamp,
    /// From where it had its certificate.
    pub from: IpAddr,
    /// Its certificate.
    pub current: Held,
    /// The one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Held>,
    /// Those before, for as long as they may be shown: all are taken back together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<Older>,
    /// Why it is not let in, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// What is known of a certificate. Kept as one short text: there are two for every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Held {
    /// Its number.
    pub serial: Serial,
    /// The SHA-256 of its public key (SubjectPublicKeyInfo in DER).
    pub key: Digest,
    /// When it was made, in whole seconds. No two of a name were made in one.
    pub issued: Timestamp,
}

impl Held {
    /// When it ends.
    pub fn expires(&self) -> Timestamp {
        self.issued.after(LIFE)
    }
}

/// Why a machine is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Which kind.
    pub kind: EndKind,
    /// Since when.
    pub at: Timestamp,
    /// In words.
    pub why: String,
}

/// The kinds of end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndKind {
    /// Its key seems to be in two places.
    Frozen,
    /// An operator wanted it so.
    Revoked,
}

/// A certificate to be made. The same grant always makes the same certificate, but for the CA's
/// signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// For what.
    pub kind: Kind,
    /// For whom.
    pub name: MachineName,
    /// Its number.
    pub serial: Serial,
    /// From when on it is good.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Whether it was made before: its answer was lost.
    pub again: bool,
}

impl Grant {
    fn of(kind: &Kind, name: &MachineName, held: &Held, again: bool) -> Self {
        Self {
            kind: kind.clone(),
            name: name.clone(),
            serial: held.serial,
            not_before: earlier(held.issued, SKEW_MAX),
            not_after: held.expires(),
            again,
        }
    }
}

/// There is no machine of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no machine is called `{0}`")]
pub struct UnknownAgent(pub MachineName);

impl Book {
    /// The tokens that wait, by the names they are for. Expired ones may be among them.
    pub fn tokens(&self) -> impl Iterator<Item = (&MachineName, &Token)> {
        self.tokens.iter()
    }

    /// The machines, sorted by name.
    pub fn agents(&self) -> impl Iterator<Item = (&MachineName, &Agent)> {
        self.agents.iter()
    }

    /// The machine of this name.
    pub fn agent(&self, name: &MachineName) -> Option<&Agent> {
        self.agents.get(name)
    }

    /// Lets the machine in no more, and takes back the token for its name if one waits. What it
    /// was, and whether that is new.
    ///
    /// # Errors
    /// There is no machine of this name.
    pub fn revoke(
        &mut self,
        name: &MachineName,
        why: &str,
        now: Timestamp,
    ) -> Result<(Kind, bool), UnknownAgent> {
        let agent = self.agents.get_mut(name).ok_or_else(|| UnknownAgent(name.clone()))?;
        let is_new = !matches!(&agent.end, Some(end) if end.kind == EndKind::Revoked);
        if is_new {
            agent.end = Some(End { kind: EndKind::Revoked, at: now, why: why.to_owned() });
        }
        let kind = agent.kind.clone();
        if is_new {
            self.relist(now);
        }
        self.withdraw(name, now);
        Ok((kind, is_new))
    }

    /// Lets the machine in no more until an operator has looked: its key is in two places.
    pub(super) fn freeze(&mut self, name: &MachineName, why: &str, now: Timestamp) {
        if let Some(agent) = self.agents.get_mut(name).filter(|agent| agent.end.is_none()) {
            agent.end = Some(End { kind: EndKind::Frozen, at: now, why: why.to_owned() });
        }
    }

    /// Whether somebody may be refused by this book who was let in by `older`.
    pub fn refuses_more_than(&self, older: &Self) -> bool {
        older.agents.iter().any(|(name, was)| match self.agents.get(name) {
            None => true,
            Some(is) => is.end != was.end || is.joined != was.joined,
        })
    }
}

impl Agent {
    /// Whether it can do without a new token.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.end.is_none() && now < self.current.expires().after(GRACE)
    }
}

/// A moment before another.
pub(super) fn earlier(moment: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(moment.millis().saturating_sub(by))
}

/// When the next certificate of a name is made: now in whole seconds, yet after `last`.
fn issue_time(now: Timestamp, last: Option<Timestamp>) -> Timestamp {
    let second = now.millis().div_euclid(1_000).saturating_mul(1_000);
    let after = last.map_or(i64::MIN, |last| last.millis().saturating_add(1_000));
    Timestamp::from_millis(second.max(after))
}

#[cfg(test)]
mod tests;
