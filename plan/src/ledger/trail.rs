//! Which split a service had at which token: as much as sinks that lag need.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::name::ServiceId;
use crate::snapshot::{Service, Snapshot};
use crate::split::Split;
use crate::token::Token;

/// The splits that services had, newest last.
///
/// Services whose split never changed since the first snapshot take no room. What is forgotten is
/// answered by `None`, never by a guess.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    last: Option<Arc<Snapshot>>,
    past: Arc<BTreeMap<ServiceId, VecDeque<(Token, Split)>>>,
}

impl Trail {
    /// The most splits that are kept for one service. A sink further behind than so many shifts is
    /// shown without an acked share; it holds the plan all the same.
    pub const SPLITS_MAX: usize = 16;

    pub(super) fn committed(&mut self, snapshot: &Arc<Snapshot>) {
        let Some(before) = self.last.replace(Arc::clone(snapshot)) else { return };
        for service in snapshot.services.iter() {
            let Some(old) = before.service(&service.id) else { continue };
            if !Arc::ptr_eq(old, service) {
                self.changed(old, service);
            }
        }
        let gone = |id: &ServiceId| snapshot.service(id).is_none();
        if self.past.keys().any(gone) {
            Arc::make_mut(&mut self.past).retain(|id, _| !gone(id));
        }
    }

    fn changed(&mut self, old: &Service, new: &Service) {
        let known = self.past.contains_key(&new.id);
        if !known && old.serving.split() == new.serving.split() {
            // The leaf changed in something else: what it held before is as good as it was.
            let first = (old.since, old.serving.split());
            Arc::make_mut(&mut self.past).insert(new.id.clone(), VecDeque::from([first]));
            return;
        }
        let splits = Arc::make_mut(&mut self.past).entry(new.id.clone()).or_default();
        if splits.is_empty() {
            splits.push_back((old.since, old.serving.split()));
        }
        if splits.back().is_none_or(|(_, split)| *split != new.serving.split()) {
            splits.push_back((new.since, new.serving.split()));
        }
        while splits.len() > Self::SPLITS_MAX {
            splits.pop_front();
        }
    }

    /// The split that this service had at `t`, where that is still known.
    pub fn split_at(&self, service: &ServiceId, t: Token) -> Option<Split> {
        let Some(splits) = self.past.get(service) else {
            let leaf = self.last.as_ref()?.service(service)?;
            return (leaf.since <= t).then(|| leaf.serving.split());
        };
        splits.iter().rev().find(|(from, _)| *from <= t).map(|(_, split)| *split)
    }
}
