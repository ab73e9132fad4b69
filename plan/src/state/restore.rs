//! Coming up from a backup.

use crate::command::Actor;
use crate::record::{CauseSummary, Put, Record};
use crate::state::State;
use crate::time::Timestamp;
use crate::token::Token;

impl State {
    /// The record that a restore from backup begins with: a higher incarnation, so that no sink
    /// takes this log for the one it knew, and every plan waits for an operator.
    pub fn restore(&self, actor: &Actor, now: Timestamp) -> Record {
        let waits = |plan: &_| Put::Restored { plan: Clone::clone(plan), waits: true };
        Record {
            token: Token {
                incarnation: self.token.incarnation.saturating_add(1),
                revision: self.token.revision.saturating_add(1),
            },
            parent: self.digest,
            at: now,
            cause: CauseSummary::Restored { actor: actor.clone(), from: self.token },
            key: None,
            puts: self.plans.keys().map(waits).collect(),
        }
    }
}
