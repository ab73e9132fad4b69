//! What proxies did, added up by service and side since the split last changed.
//!
//! A report covers an interval that has passed. It counts once the whole of its interval lies after
//! the moment at which the change had arrived everywhere, so that what is shown as measured was
//! done under the split it is shown beside.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use plan::measure::Traffic;
use plan::{Count, Counts, PlanName, ServiceId, Side};
use xds::lrs::ClusterLoad;

use crate::planes::mesh::between::Change;

/// The most gauges of requests under way that are kept: one for each proxy and cluster that has
/// any.
const GAUGES_MAX: usize = 1_000_000;

/// What all proxies did.
#[derive(Debug, Default)]
pub(super) struct Load {
    services: BTreeMap<ServiceId, Tally>,
    /// Services whose reports do not count yet.
    waiting: BTreeSet<ServiceId>,
    gauges: usize,
}

/// What all proxies did with one service.
#[derive(Debug, Default)]
struct Tally {
    /// From when reports count; `None`: the change has not arrived everywhere.
    from: Option<Duration>,
    /// The end of the last report that was counted.
    until: Duration,
    legacy: Done,
    target: Done,
}

#[derive(Debug, Default)]
struct Done {
    issued: u64,
    errors: u64,
    /// By node.
    in_progress: HashMap<Arc<str>, Gauge>,
}

/// What one node had under way, as its newest stream of reports says.
#[derive(Clone, Copy, Debug)]
struct Gauge {
    stream: u64,
    requests: u64,
}

impl Load {
    /// Takes up a change of a leaf: what was counted under another split is void.
    pub(super) fn changed(&mut self, change: &Change<'_>) {
        let Some(leaf) = change.after else {
            let gone = change.before.and_then(|was| self.services.remove(&was.id));
            self.gauges -= gone.map_or(0, |tally| tally.gauges());
            return;
        };
        let split = leaf.serving.split();
        if change.before.is_some_and(|was| was.serving.split() == split) {
            return;
        }
        let tally = self.services.entry(leaf.id.clone()).or_default();
        tally.from = None;
        tally.legacy.void();
        tally.target.void();
        self.waiting.insert(leaf.id.clone());
    }

    /// From now on reports of services count to which everything has arrived, where they did not
    /// yet.
    pub(super) fn arrived(&mut self, now: Duration, owed: impl Fn(&PlanName) -> bool) {
        let services = &mut self.services;
        self.waiting.retain(|id| {
            let Some(tally) = services.get_mut(id) else { return false };
            if owed(&id.plan) {
                return true;
            }
            tally.from = Some(now);
            tally.until = now;
            false
        });
    }

    /// Takes up what a proxy did in the interval that ends now, as it says on this stream.
    pub(super) fn report(
        &mut self,
        (node, stream): (&Arc<str>, u64),
        clusters: &[ClusterLoad],
        now: Duration,
    ) {
        for load in clusters {
            let Some((service, side)) = xds::render::side_of(&load.cluster) else { continue };
            let Some(tally) = self.services.get_mut(&service) else { continue };
            let whole = tally.from.is_some_and(|from| now.saturating_sub(load.period) >= from);
            let done = match side {
                Side::Legacy => &mut tally.legacy,
                Side::Target => &mut tally.target,
            };
            if whole {
                done.issued = done.issued.saturating_add(load.issued);
                done.errors = done.errors.saturating_add(load.errors);
                tally.until = now;
            }
            let known = done.in_progress.get(node);
            if known.is_some_and(|gauge| gauge.stream > stream) {
                continue;
            }
            if load.in_progress == 0 {
                self.gauges -= usize::from(done.in_progress.remove(node).is_some());
            } else if known.is_some() || self.gauges < GAUGES_MAX {
                let gauge = Gauge { stream, requests: load.in_progress };
                let new = done.in_progress.insert(Arc::clone(node), gauge).is_none();
                self.gauges += usize::from(new);
            }
        }
    }

    /// A stream of reports has ended: what its proxy had under way is not known any more, but for
    /// what it has said on a newer one.
    pub(super) fn gone(&mut self, node: &Arc<str>, stream: u64) {
        for tally in self.services.values_mut() {
            for done in [&mut tally.legacy, &mut tally.target] {
                if done.in_progress.get(node).is_some_and(|gauge| gauge.stream <= stream) {
                    done.in_progress.remove(node);
                    self.gauges -= 1;
                }
            }
        }
    }

    /// As the ledger's other half takes it.
    pub(super) fn counts(&self) -> Counts {
        let counted = self.services.iter().filter(|(_, tally)| tally.any());
        Counts {
            services: Arc::new(counted.map(|(id, tally)| (id.clone(), tally.count())).collect()),
            ..Counts::default()
        }
    }
}

impl Tally {
    fn gauges(&self) -> usize {
        self.legacy.in_progress.len() + self.target.in_progress.len()
    }

    fn any(&self) -> bool {
        [&self.legacy, &self.target].iter().any(|done| done.issued > 0 || done.under_way() > 0)
    }

    fn count(&self) -> Count {
        let (legacy, target) = (self.legacy.issued, self.target.issued);
        let seconds = self.from.map_or(0, |from| self.until.saturating_sub(from).as_secs());
        let traffic = Traffic { legacy: self.legacy.load(), target: self.target.load(), seconds };
        let events = legacy.saturating_add(target);
        Count { legacy, target, events, traffic: Some(traffic), ..Count::default() }
    }
}

impl Done {
    fn void(&mut self) {
        self.issued = 0;
        self.errors = 0;
    }

    fn load(&self) -> plan::measure::Load {
        plan::measure::Load { errors: self.errors, in_progress: self.under_way() }
    }

    fn under_way(&self) -> u64 {
        self.in_progress.values().fold(0, |sum, gauge| sum.saturating_add(gauge.requests))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planes::mesh::{between, world};

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn did(side: &str, issued: u64, in_progress: u64) -> ClusterLoad {
        let cluster = format!("shop/orders/http/{side}");
        ClusterLoad { cluster, issued, errors: 1, in_progress, period: at(2) }
    }

    fn orders(load: &Load) -> Option<Count> {
        let counts = load.counts();
        counts.services.iter().find(|(id, _)| id.service.as_str() == "orders").map(|(_, c)| *c)
    }

    #[test]
    fn only_intervals_wholly_after_the_change_arrived_count() {
        let (node, mut load) = (Arc::from("edge-1"), Load::default());
        let (none, quarter, half) =
            (plan::Snapshot::empty(), world::snapshot_at(2_500), world::snapshot_at(5_000));
        let take = |load: &mut Load, before, after| {
            for change in between::changes(before, after) {
                load.changed(&change);
            }
        };
        take(&mut load, &none, &quarter);
        load.report((&node, 1), &[did("target", 5, 0)], at(10));
        assert_eq!(orders(&load), None, "nobody has the split yet");
        load.arrived(at(10), |_| true);
        load.report((&node, 1), &[did("target", 5, 0)], at(13));
        assert_eq!(orders(&load), None, "somebody has not");
        load.arrived(at(20), |_| false);
        load.report((&node, 1), &[did("target", 5, 7)], at(21));
        let count = orders(&load).unwrap();
        assert_eq!((count.target, count.events), (0, 0), "the interval began before");
        assert_eq!(count.traffic.unwrap().target.in_progress, 7);
        load.report((&node, 1), &[did("target", 5, 0), did("legacy", 15, 3)], at(24));
        let count = orders(&load).unwrap();
        assert_eq!((count.legacy, count.target, count.events), (15, 5, 20));
        let traffic = count.traffic.unwrap();
        assert_eq!((traffic.legacy.errors, traffic.legacy.in_progress, traffic.seconds), (1, 3, 4));
        // Another split: what was counted is void, what is under way is not.
        take(&mut load, &quarter, &half);
        let count = orders(&load).unwrap();
        assert_eq!((count.legacy, count.target), (0, 0));
        assert_eq!(count.traffic.unwrap().legacy.in_progress, 3);
        load.gone(&node, 1);
        assert_eq!(orders(&load), None);
        take(&mut load, &half, &none);
        assert_eq!(load.gauges, 0);
    }

    #[test]
    fn what_is_under_way_is_as_the_newest_stream_says() {
        let (node, mut load) = (Arc::from("edge-1"), Load::default());
        let (none, some) = (plan::Snapshot::empty(), world::snapshot_at(2_500));
        for change in between::changes(&none, &some) {
            load.changed(&change);
        }
        let under_way = |load: &Load| {
            let traffic = orders(load).and_then(|count| count.traffic);
            traffic.map_or((0, 0), |it| (it.legacy.in_progress, it.target.in_progress))
        };
        load.report((&node, 1), &[did("target", 1, 5), did("legacy", 1, 6)], at(2));
        load.report((&node, 2), &[did("target", 1, 7)], at(4));
        assert_eq!(under_way(&load), (6, 7));
        load.report((&node, 1), &[did("target", 1, 0)], at(5));
        assert_eq!(under_way(&load), (6, 7), "the newer stream knows better");
        load.gone(&node, 1);
        assert_eq!((under_way(&load), load.gauges), ((0, 7), 1));
        load.gone(&node, 2);
        assert_eq!((under_way(&load), load.gauges), ((0, 0), 0));
    }

    #[test]
    fn what_no_plan_has_is_not_counted() {
        let mut load = Load::default();
        let foreign = ClusterLoad { cluster: "elsewhere".to_owned(), ..did("target", 9, 9) };
        load.report((&Arc::from("edge-1"), 1), &[did("target", 9, 9), foreign], at(5));
        assert_eq!((load.counts().services.len(), load.gauges), (0, 0));
    }
}
