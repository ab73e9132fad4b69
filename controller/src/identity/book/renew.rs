//! The next certificate for the last one, and who is let in.

use std::net::IpAddr;

use plan::{Digest, Timestamp};
use xds::join::{Kind, MachineName};

use super::{Agent, Book, End, EndKind, Grant, Held, issue_time};
use crate::identity::{GRACE, OLDER_MAX, OVERLAP, SKEW_MAX, Serial};

/// A certificate that somebody showed: of our CA, and the key was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub name: MachineName,
    /// What it says.
    pub held: Held,
}

/// A machine that wants its next certificate. It has proved that it has both keys.
#[derive(Clone, Copy, Debug)]
pub struct Renewal<'a> {
    /// The last certificate.
    pub shown: &'a Shown,
    /// From where it calls.
    pub source: IpAddr,
    /// The SHA-256 of the new public key.
    pub key: Digest,
    /// The number for the new certificate.
    pub serial: Serial,
    /// When.
    pub now: Timestamp,
}

/// Why somebody with a certificate of ours is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// No machine of this name is known.
    #[error("no machine called `{name}` is known here; join it again with a new token")]
    Unknown {
        /// The name.
        name: MachineName,
    },
    /// Its key is in two places.
    #[error(
        "`{name}` was frozen at {at}: {why}. Find out which machine is yours, then join it again \
         with a new token"
    )]
    Frozen {
        /// The name.
        name: MachineName,
        /// Since when.
        at: Timestamp,
        /// In words.
        why: String,
    },
    /// An operator wanted it so.
    #[error("`{name}` was revoked at {at}; join it again with a new token")]
    Revoked {
        /// The name.
        name: MachineName,
        /// Since when.
        at: Timestamp,
    },
    /// Another machine has the name now.
    #[error("another machine has joined as `{name}` at {at}")]
    Replaced {
        /// The name.
        name: MachineName,
        /// When.
        at: Timestamp,
    },
    /// It is not what it was certified as.
    #[error("`{name}` is known here as {is}, and the certificate is of {shown}; join it again")]
    Kind {
        /// The name.
        name: MachineName,
        /// What it is.
        is: Kind,
        /// What the certificate says.
        shown: Kind,
    },
    /// The certificate has ended.
    #[error("the certificate of `{name}` expired at {at}; renew it")]
    Expired {
        /// The name.
        name: MachineName,
        /// When.
        at: Timestamp,
    },
    /// There is a newer certificate.
    #[error("the certificate of `{name}` was renewed at {at}; connect with the new one")]
    Renewed {
        /// The name.
        name: MachineName,
        /// When.
        at: Timestamp,
    },
}

/// Why there is no next certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewRefused {
    /// It would not be let in either.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// The certificate ended too long ago.
    #[error(
        "the certificate of `{name}` expired at {at}, too long ago to be renewed; join the machine \
         again with a new token"
    )]
    TooLate {
        /// The name.
        name: MachineName,
        /// When it ended.
        at: Timestamp,
    },
    /// This very call found that the key is in two places.
    #[error(
        "`{name}` is frozen: {why}. Find out which machine is yours, then join it again with a new \
         token"
    )]
    Cloned {
        /// The name.
        name: MachineName,
        /// In words.
        why: String,
    },
    /// The new key is an old one.
    #[error("a renewal needs a new key")]
    OldKey,
    /// So many renewals that their certificates begin in the future, or that more of them are good
    /// than are kept.
    #[error("renewed too often; wait until earlier certificates have ended")]
    TooOften,
}

impl Book {
    /// Whether somebody who shows this certificate is let in.
    ///
    /// # Errors
    /// As [`NotAdmitted`] says.
    pub fn admit(&self, shown: &Shown, now: Timestamp) -> Result<&Agent, NotAdmitted> {
        let Shown { name, held, .. } = shown;
        let agent = self.standing(shown)?;
        let at = held.expires();
        if now >= at {
            return Err(NotAdmitted::Expired { name: name.clone(), at });
        }
        // One made after ours: this book is a moment, or a restored backup, behind.
        if held.serial == agent.current.serial || held.issued > agent.current.issued {
            return Ok(agent);
        }
        let is_previous = agent.previous.is_some_and(|previous| previous.serial == held.serial);
        let renewed = agent.current.issued;
        if is_previous && now < renewed.after(OVERLAP) {
            return Ok(agent);
        }
        Err(NotAdmitted::Renewed { name: name.clone(), at: renewed })
    }

    /// Notes the next certificate. The same new key again is granted the same certificate again:
    /// its answer was lost. Another new key from a certificate that was renewed freezes the name.
    ///
    /// # Errors
    /// As [`RenewRefused`] says. The book may have changed.
    pub fn renew(&mut self, renewal: Renewal<'_>) -> Result<Grant, RenewRefused> {
        let Renewal { shown: Shown { kind, name, held }, source, key, serial, now } = renewal;
        self.sweep(now);
        let agent = self.standing(renewal.shown)?;
        if now >= held.expires().after(GRACE) {
            return Err(RenewRefused::TooLate { name: name.clone(), at: held.expires() });
        }
        let current = agent.current;
        if held.serial == current.serial || held.issued > current.issued {
            if held.key == key || agent.had(key) {
                return Err(RenewRefused::OldKey);
            }
            let issued = issue_time(now, Some(held.issued));
            // Each is kept until it ends, to be taken back.
            if issued > now.after(SKEW_MAX) || agent.older.len() >= OLDER_MAX {
                return Err(RenewRefused::TooOften);
            }
            let next = Held { serial, key, issued };
            if let Some(agent) = self.agents.get_mut(name) {
                agent.push_out(held);
                agent.previous = Some(*held);
                agent.current = next;
                agent.from = source.to_canonical();
            }
            return Ok(Grant::of(kind, name, &next, false));
        }
        let is_previous = agent.previous.is_some_and(|previous| previous.serial == held.serial);
        if is_previous && key == current.key {
            return Ok(Grant::of(kind, name, &current, true));
        }
        let why = format!(
            "certificate {} was renewed at {} from {} and once more from {}, with another key",
            held.serial.short(),
            current.issued,
            agent.from,
            source.to_canonical(),
        );
        self.freeze(name, &why, now);
        Err(RenewRefused::Cloned { name: name.clone(), why })
    }

    /// Whether this certificate, as it says, is one of the two newest of its machine.
    pub fn holds(&self, shown: &Shown) -> bool {
        self.agents.get(&shown.name).is_some_and(|agent| {
            let held = [Some(agent.current), agent.previous];
            held.into_iter().flatten().any(|held| held.serial == shown.held.serial)
        })
    }

    /// The machine of this certificate, if nothing is against its name.
    fn standing(&self, shown: &Shown) -> Result<&Agent, NotAdmitted> {
        let Shown { kind, name, .. } = shown;
        let agent = self.agents.get(name);
        let agent = agent.ok_or_else(|| NotAdmitted::Unknown { name: name.clone() })?;
        if shown.held.issued < agent.joined {
            return Err(NotAdmitted::Replaced { name: name.clone(), at: agent.joined });
        }
        if agent.kind != *kind {
            let (name, is, shown) = (name.clone(), agent.kind.clone(), kind.clone());
            return Err(NotAdmitted::Kind { name, is, shown });
        }
        match &agent.end {
            None => Ok(agent),
            Some(End { kind: EndKind::Frozen, at, why }) => {
                Err(NotAdmitted::Frozen { name: name.clone(), at: *at, why: why.clone() })
            }
            Some(End { kind: EndKind::Revoked, at, .. }) => {
                Err(NotAdmitted::Revoked { name: name.clone(), at: *at })
            }
        }
    }
}
