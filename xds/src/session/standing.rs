//! How far a stream is.

use std::collections::BTreeSet;
use std::sync::Arc;

use plan::{PlanName, Token};

use crate::session::watch::Watch;
use crate::session::{Progress, Refused};
use crate::table::Tables;

/// Brings progress up to date. What has not changed stays the same allocation.
pub(super) fn refresh(progress: &mut Progress, watches: &[Watch], tables: &Tables) {
    progress.seen = tables.generation();
    if watches.is_empty() {
        return;
    }
    if !watches.iter().any(Watch::lags) {
        progress.acked = tables.token();
        if !progress.owes.is_empty() {
            progress.owes = Arc::default();
        }
        progress.refused = None;
        return;
    }
    let due = || watches.iter().flat_map(Watch::exceptions);
    progress.acked = due().map(|due| due.through).fold(tables.token(), Token::min);
    let owes: BTreeSet<&PlanName> = due().flat_map(|due| due.plans.iter()).collect();
    if !owes.iter().copied().eq(progress.owes.iter()) {
        progress.owes = Arc::new(owes.into_iter().cloned().collect());
    }
    let refused = watches.iter().flat_map(|watch| watch.denied.values());
    let refused: Option<&Arc<Refused>> =
        refused.map(|denied| &denied.refused).max_by_key(|refused| refused.at);
    progress.refused = refused.cloned();
}

/// Adds plans that a stream has something of.
pub(super) fn add_plans<'a>(progress: &mut Progress, plans: impl Iterator<Item = &'a PlanName>) {
    for plan in plans {
        if !progress.plans.contains(plan) {
            Arc::make_mut(&mut progress.plans).insert(plan.clone());
        }
    }
}
