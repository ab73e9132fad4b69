//! What of the machines comes up from a backup: none that was ended since, where that is known.

use std::collections::BTreeSet;

use plan::{Digest, Timestamp};
use xds::join::MachineName;

use super::{Agent, Book, EndKind, Spent};
use crate::identity::AGENTS_MAX;

impl Book {
    /// Takes over what another book of the same CA has that is newer: who joined, was renewed, was
    /// frozen or revoked, and which tokens were used.
    pub fn take_over(&mut self, other: &Self) {
        for (name, theirs) in &other.agents {
            if let Some(ours) = self.agents.get_mut(name) {
                ours.take_over(theirs);
            } else if self.agents.len() < AGENTS_MAX {
                self.agents.insert(name.clone(), theirs.clone());
            }
        }
        for spent in &other.spent {
            if !self.is_spent(spent.secret) {
                self.spend(spent.clone());
            }
        }
        self.spent.sort_by_key(|spent| spent.at);
        self.take_over_ended(other);
    }

    /// Takes back every token that waits: it may have been used, or taken back, since. How many
    /// there were that were still good.
    pub fn withdraw_all(&mut self, now: Timestamp) -> usize {
        let mut good = 0;
        for (name, token) in std::mem::take(&mut self.tokens) {
            let secret = token.secret;
            if self.is_spent(secret) {
                continue;
            }
            good += usize::from(now < token.expires);
            self.spend(Spent { secret, name, at: now, expires: token.expires, used: None });
        }
        good
    }

    /// Forgets all machines but these, and all tokens that were used or withdrawn. Certificates of
    /// the machines are taken back.
    pub fn forget_but(&mut self, names: &BTreeSet<MachineName>, now: Timestamp) {
        let forgotten = self.agents.extract_if(.., |name, _| !names.contains(name));
        let forgotten: Vec<Agent> = forgotten.map(|(_, agent)| agent).collect();
        forgotten.iter().for_each(|agent| self.end_all(agent, now));
        self.spent.clear();
    }

    /// The machines that are let in.
    pub fn live(&self, now: Timestamp) -> Vec<MachineName> {
        let live = self.agents.iter().filter(|(_, agent)| agent.is_live(now));
        live.map(|(name, _)| name.clone()).collect()
    }

    fn is_spent(&self, secret: Digest) -> bool {
        self.spent.iter().any(|spent| spent.secret == secret)
    }
}

impl Agent {
    fn take_over(&mut self, theirs: &Self) {
        if theirs.joined != self.joined {
            if theirs.joined > self.joined {
                *self = theirs.clone();
            }
            return;
        }
        let is_revoked =
            |agent: &Self| agent.end.as_ref().is_some_and(|end| end.kind == EndKind::Revoked);
        if self.end.is_none() || is_revoked(theirs) && !is_revoked(self) {
            self.end.clone_from(&theirs.end);
        }
        if theirs.current.issued > self.current.issued {
            self.current = theirs.current;
            self.previous = theirs.previous;
            self.older.clone_from(&theirs.older);
            self.from = theirs.from;
        }
    }
}
