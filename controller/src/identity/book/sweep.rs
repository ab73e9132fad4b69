//! Forgetting what nobody needs any more.

use std::time::Duration;

use plan::Timestamp;

use super::{Book, Spent};
use crate::identity::GRACE;

/// The most spent tokens that are remembered; the oldest go first.
const SPENT_MAX: usize = 1_000;

/// How long a token is remembered after its end, so that whoever comes late is told why.
const SPENT_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// How long a machine is shown after it could last renew its certificate.
const GONE_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

impl Book {
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.tokens.retain(|_, token| now < token.expires.after(SPENT_KEPT));
        self.spent.retain(|spent| now < spent.expires.max(spent.at).after(SPENT_KEPT));
        // A frozen or revoked one counts too: no certificate of its name is good any more by then.
        self.agents.retain(|_, agent| now < agent.current.expires().after(GRACE + GONE_KEPT));
        self.sweep_ended(now);
    }

    pub(super) fn spend(&mut self, spent: Spent) {
        if self.spent.len() >= SPENT_MAX {
            self.spent.drain(..=self.spent.len() - SPENT_MAX);
        }
        self.spent.push(spent);
    }
}
