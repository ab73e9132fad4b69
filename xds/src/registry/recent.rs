//! Which plans changed after a statement of the tables.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use plan::PlanName;

use crate::table::{Generation, Tables};

/// The plans that recent statements changed.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// Oldest first; at most [`Recent::KEPT`].
    entries: VecDeque<(Generation, Arc<BTreeSet<PlanName>>)>,
    /// Everything after this is in `entries`.
    floor: Generation,
    /// Every plan that changed and is in some table or in `entries`, and some that are no more.
    all: Arc<BTreeSet<PlanName>>,
    /// How many of `all` there were when those that are no more were last forgotten.
    swept: usize,
}

impl Recent {
    /// A stream that is further behind than so many statements counts as owing every plan.
    const KEPT: usize = 1_024;

    /// So many plans that are no more are kept beside as many as there are: looking for them costs
    /// O(tables).
    const SLACK: usize = 1_024;

    /// Remembers what the statement that these tables are changed.
    pub(crate) fn add(&mut self, tables: &Tables, plans: BTreeSet<PlanName>) {
        let generation = tables.generation();
        if !plans.is_subset(&self.all) {
            Arc::make_mut(&mut self.all).extend(plans.iter().cloned());
        }
        self.entries.push_back((generation, Arc::new(plans)));
        if self.entries.len() > Self::KEPT
            && let Some((oldest, _)) = self.entries.pop_front()
        {
            self.floor = oldest;
        }
        if self.all.len() > self.swept.saturating_mul(2).saturating_add(Self::SLACK) {
            self.sweep(tables);
        }
    }

    /// Forgets plans that are no more: nobody asks who owes them.
    fn sweep(&mut self, tables: &Tables) {
        let resources = tables.iter().flat_map(|(_, _, table)| table.iter());
        let there = resources.flat_map(|resource| resource.plans.iter());
        let recent = self.entries.iter().flat_map(|(_, plans)| plans.iter());
        // By reference first: most are named many times.
        let kept: BTreeSet<&PlanName> = there.chain(recent).collect();
        self.swept = kept.len();
        self.all = Arc::new(kept.into_iter().cloned().collect());
    }

    /// The plans that changed after `seen`: those, or more.
    pub(crate) fn since(&self, seen: Generation) -> Arc<BTreeSet<PlanName>> {
        if seen < self.floor {
            return Arc::clone(&self.all);
        }
        let mut after = self.entries.iter().rev().take_while(|(generation, _)| *generation > seen);
        match (after.next(), after.next()) {
            (None, _) => Arc::default(),
            (Some((_, only)), None) => Arc::clone(only),
            (Some((_, first)), Some((_, second))) => {
                let rest = after.flat_map(|(_, plans)| plans.iter());
                Arc::new(first.iter().chain(second.iter()).chain(rest).cloned().collect())
            }
        }
    }
}

/// What one statement changed.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// The plans that it touches.
    pub(crate) plans: BTreeSet<PlanName>,
    /// Resources that came or changed, by their encodings: each was encoded once for it.
    pub(crate) resources: usize,
}

/// Compares tables with those before: O(tables + changed).
pub(crate) fn changed(before: &Tables, after: &Tables) -> Changed {
    let mut sum = Changed::default();
    let mut encoded = HashSet::new();
    let since = before.generation();
    for (_, _, table) in after.iter().filter(|(_, _, table)| table.changed() > since) {
        let changes = table.changes(since);
        // Tables for few have what is encoded for all.
        let news = changes.changed.iter().filter(|new| new.changed > since);
        encoded.extend(news.map(|new| Arc::as_ptr(&new.encoded)));
        let changed = changes.changed.iter().map(|resource| &resource.plans);
        let gone = changes.gone.iter().map(|gone| &gone.plans);
        for plan in changed.chain(gone).flat_map(|plans| plans.iter()) {
            if !sum.plans.contains(plan) {
                sum.plans.insert(plan.clone());
            }
        }
    }
    sum.resources = encoded.len();
    sum
}
