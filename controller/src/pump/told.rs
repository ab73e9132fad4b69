//! What the process's log says of committed records. The hash-chained log is the audit; these lines
//! are for whoever reads along.

use plan::{CauseSummary, Record};

/// A line for each record; observations, which may come often, at a lower level.
pub(super) fn committed(batch: &[Record]) {
    for record in batch {
        let token = record.token;
        match &record.cause {
            CauseSummary::Operator { actor, command, reason, .. } => {
                tracing::info!(%token, %actor, %command, reason, "committed");
            }
            CauseSummary::Automation { command } => {
                tracing::info!(%token, actor = "the plan", %command, "committed");
            }
            CauseSummary::Restored { actor, from } => {
                tracing::info!(%token, %actor, %from, "restored");
            }
            CauseSummary::Observed { what } => {
                tracing::debug!(%token, seen = what.join("; "), "committed");
            }
        }
    }
}
