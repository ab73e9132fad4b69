//! What a record did, for whoever asked.

use std::collections::BTreeSet;

use super::Done;
use crate::record::{CauseSummary, Put, Record};

impl Done {
    /// What this record did. Observations give no plan a new revision, so they name none.
    pub fn of(record: &Record) -> Self {
        let (numbers, notes) = match &record.cause {
            CauseSummary::Operator { notes, .. } => (true, notes.clone()),
            CauseSummary::Automation { .. } | CauseSummary::Restored { .. } => (true, Vec::new()),
            CauseSummary::Observed { .. } => (false, Vec::new()),
        };
        let named: BTreeSet<_> = record.puts.iter().filter(|_| numbers).map(Put::plan).collect();
        Self {
            token: record.token,
            plans: named.into_iter().map(|plan| (plan.clone(), record.token.revision)).collect(),
            changed: true,
            repeated: false,
            notes,
        }
    }
}
