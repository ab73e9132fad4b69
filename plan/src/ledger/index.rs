//! Who keeps which plan, found without asking every sink.
//!
//! A plane of 5 000 sinks says how it stands many times a second, and each time almost all of them
//! are as they were: the same `Arc`. Only those that changed cost more than comparing a pointer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Sink, SinkId};
use crate::name::PlanName;
use crate::token::Token;

/// The sinks of one standing, by the plans that they keep.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// How many sinks every plan expects.
    everywhere: usize,
    /// Those of them that are away, and so keep every plan.
    away: BTreeMap<SinkId, Arc<Sink>>,
    /// Those of them that draw a side for every request.
    unsticky: BTreeMap<SinkId, Arc<Sink>>,
    /// Shared, since a ledger is cloned for every reader.
    plans: BTreeMap<PlanName, Arc<OfPlan>>,
}

/// The sinks of one plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfPlan {
    /// How many sinks expect it by name.
    named: usize,
    /// Those that are away, owe the plan something or refused something of it; without those that
    /// every plan expects and that are merely away.
    late: BTreeMap<SinkId, Arc<Sink>>,
    /// The tokens that those which owe the plan something have, each with how many have it.
    owing: BTreeMap<Token, usize>,
    /// Those of `named` that draw a side for every request.
    unsticky: BTreeMap<SinkId, Arc<Sink>>,
}

impl Index {
    /// Takes `new` in place of `old`, which this is the index of. A pointer compared for each sink,
    /// O(its plans) for each that came, went or changed.
    pub(super) fn replace(&mut self, old: &[Arc<Sink>], new: &[Arc<Sink>]) {
        let (mut came, mut gone) = (Vec::new(), Vec::new());
        let (mut before, mut after) = (old.iter().peekable(), new.iter().peekable());
        loop {
            match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(was), Some(is)) if Arc::ptr_eq(was, is) => {
                    before.next();
                    after.next();
                }
                (Some(was), Some(is)) if was.id == is.id => {
                    if was != is && !self.only_owes_otherwise(was, is) {
                        gone.extend(before.peek().copied());
                        came.extend(after.peek().copied());
                    }
                    before.next();
                    after.next();
                }
                (Some(was), Some(is)) if was.id < is.id => gone.extend(before.next()),
                (_, Some(_)) => came.extend(after.next()),
                (Some(_), None) => gone.extend(before.next()),
            }
        }
        // All that went first: the lists may not be sorted, and one may stand elsewhere now.
        gone.into_iter().for_each(|sink| self.take(sink));
        came.into_iter().for_each(|sink| self.put(sink));
    }

    /// Takes up a sink that differs from before in what it owes or refused alone: what an ack does.
    /// The plans that it keeps neither before nor after are not touched.
    fn only_owes_otherwise(&mut self, was: &Arc<Sink>, is: &Arc<Sink>) -> bool {
        let same = !was.is_away()
            && !is.is_away()
            && was.plans == is.plans
            && (&was.kind, &was.version) == (&is.kind, &is.version);
        if !same || is.plans.is_none() || is.draws_anew() {
            return false;
        }
        let plans: BTreeSet<&PlanName> = was.concerns().chain(is.concerns()).collect();
        for plan in plans {
            if was.expected_by(plan) {
                self.take_from(plan, was);
            }
            if is.expected_by(plan) {
                self.put_into(plan, is);
            }
        }
        true
    }

    fn put(&mut self, sink: &Arc<Sink>) {
        if sink.plans.is_some() {
            sink.named().for_each(|plan| self.put_into(plan, sink));
            return;
        }
        self.everywhere += 1;
        if sink.is_away() {
            self.away.insert(sink.id.clone(), Arc::clone(sink));
        }
        if sink.draws_anew() {
            self.unsticky.insert(sink.id.clone(), Arc::clone(sink));
        }
        let plans: BTreeSet<&PlanName> = sink.concerns().collect();
        plans.into_iter().for_each(|plan| self.put_into(plan, sink));
    }

    fn take(&mut self, sink: &Sink) {
        if sink.plans.is_some() {
            sink.named().for_each(|plan| self.take_from(plan, sink));
            return;
        }
        self.everywhere = self.everywhere.saturating_sub(1);
        self.away.remove(&sink.id);
        self.unsticky.remove(&sink.id);
        let plans: BTreeSet<&PlanName> = sink.concerns().collect();
        plans.into_iter().for_each(|plan| self.take_from(plan, sink));
    }

    fn put_into(&mut self, plan: &PlanName, sink: &Arc<Sink>) {
        let there = match self.plans.get_mut(plan) {
            Some(there) => there,
            None => self.plans.entry(plan.clone()).or_default(),
        };
        let there = Arc::make_mut(there);
        if sink.plans.is_some() {
            there.named += 1;
            if sink.draws_anew() {
                there.unsticky.insert(sink.id.clone(), Arc::clone(sink));
            }
        }
        if !sink.holds_all(plan) {
            there.late.insert(sink.id.clone(), Arc::clone(sink));
        }
        if sink.owes(plan) {
            *there.owing.entry(sink.acked).or_default() += 1;
        }
    }

    fn take_from(&mut self, plan: &PlanName, sink: &Sink) {
        let Some(there) = self.plans.get_mut(plan) else { return };
        let there = Arc::make_mut(there);
        if sink.plans.is_some() {
            there.named = there.named.saturating_sub(1);
            there.unsticky.remove(&sink.id);
        }
        there.late.remove(&sink.id);
        if sink.owes(plan)
            && let Some(count) = there.owing.get_mut(&sink.acked)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                there.owing.remove(&sink.acked);
            }
        }
        if *there == OfPlan::default() {
            self.plans.remove(plan);
        }
    }

    /// How many sinks `plan` expects.
    pub(super) fn expected(&self, plan: &PlanName) -> usize {
        self.everywhere + self.plans.get(plan).map_or(0, |there| there.named)
    }

    /// Whether any sink keeps `plan`.
    pub(super) fn is_kept(&self, plan: &PlanName) -> bool {
        !self.away.is_empty() || self.plans.get(plan).is_some_and(|there| !there.late.is_empty())
    }

    /// The sinks that keep `plan`: that are away, owe it something or refused something of it.
    pub(super) fn late(&self, plan: &PlanName) -> impl Iterator<Item = &Arc<Sink>> {
        let there = self.plans.get(plan);
        let named = move |id: &SinkId| there.is_some_and(|there| there.late.contains_key(id));
        let away = self.away.iter().filter(move |(id, _)| !named(id)).map(|(_, sink)| sink);
        there.into_iter().flat_map(|there| there.late.values()).chain(away)
    }

    /// What those that owe `plan` something have, and whether there are any that owe it nothing.
    pub(super) fn have(&self, plan: &PlanName) -> (impl Iterator<Item = Token>, bool) {
        let owing = self.plans.get(plan).map(|there| &there.owing);
        let many: usize = owing.map_or(0, |owing| owing.values().sum());
        (owing.into_iter().flat_map(|owing| owing.keys().copied()), self.expected(plan) > many)
    }

    /// The sinks that `plan` expects and that draw a side for every request.
    pub(super) fn unsticky(&self, plan: &PlanName) -> impl Iterator<Item = &Arc<Sink>> {
        let named = self.plans.get(plan).into_iter().flat_map(|there| there.unsticky.values());
        self.unsticky.values().chain(named)
    }
}
