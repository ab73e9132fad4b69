//! What receivers of our own report, put together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use plan::measure::{Names, Note, Stragglers};
use plan::{Count, Counts, Nack, PlanName, Plane, ServiceId, Sink, SinkId, Snapshot, Split};

use crate::clock::Clock;
use crate::planes::reports::{Behind, Report, Said};

/// The most receivers whose last report is kept.
const NODES_MAX: usize = 10_000;
/// The most services, sinks and overrides that are kept, of all reports: some 300 MB.
const PARTS_MAX: usize = 1_000_000;

/// The last report of each receiver that is connected.
#[derive(Debug, Default)]
pub(super) struct Reported {
    nodes: HashMap<Arc<str>, Report>,
    parts: usize,
}

impl Reported {
    /// Takes up a report in place of the one before. What is newly in force is logged.
    pub(super) fn take(&mut self, said: Said) {
        let id = Arc::clone(&said.client.id);
        let Some(report) = said.report else {
            self.parts -= self.nodes.remove(&id).map_or(0, |gone| gone.parts());
            return;
        };
        let before = self.nodes.get(&id);
        for found in &report.overrides {
            if before.is_none_or(|before| !before.overrides.contains(found)) {
                tracing::warn!(sink = %id, what = %found, "break-glass is in force");
            }
        }
        for ended in before.into_iter().flat_map(|before| &before.overrides) {
            if !report.overrides.contains(ended) {
                tracing::info!(sink = %id, what = %ended, "break-glass has ended");
            }
        }
        let parts = self.parts - before.map_or(0, Report::parts) + report.parts();
        let has_room = before.is_some() || self.nodes.len() < NODES_MAX;
        if has_room && parts <= PARTS_MAX {
            self.parts = parts;
            self.nodes.insert(id, report);
        }
    }

    /// The clients of relays, as sinks that the plans expect which their relay has.
    pub(super) fn behind<'a>(
        &'a self,
        clock: Clock,
        plans_of: impl Fn(&str) -> Option<BTreeSet<PlanName>> + 'a,
    ) -> impl Iterator<Item = Sink> + 'a {
        self.nodes.iter().flat_map(move |(relay, report)| {
            let plans = plans_of(relay).unwrap_or_default();
            report.sinks.iter().map(move |behind| sink(relay, behind, plans.clone(), clock))
        })
    }

    /// What they counted in a plane, under the splits that this snapshot has.
    ///
    /// Client keys that were seen at several receivers count at each: keys cannot be told apart
    /// from here.
    pub(super) fn counts(&self, plane: Plane, snapshot: &Snapshot) -> Counts {
        let mut services: BTreeMap<ServiceId, Count> = BTreeMap::new();
        for report in self.nodes.values() {
            for (_, id, since, count) in report.counts.iter().filter(|(p, ..)| *p == plane) {
                let now = snapshot.service(id).map(|leaf| leaf.since);
                if now != Some(*since) {
                    continue;
                }
                let sum = services.entry(id.clone()).or_default();
                *sum = sum.plus(count);
            }
        }
        let names = self.nodes.values().filter(|_| plane == Plane::Host).map(|report| report.names);
        Counts {
            services: Arc::new(services),
            stragglers: self.stragglers(plane, snapshot),
            names: names.fold(Names::default(), Names::plus),
            notes: self.notes(plane),
        }
    }
}

impl Reported {
    /// Who still reaches legacy VMs of services that are at exactly 100 %: agents see that.
    fn stragglers(
        &self,
        plane: Plane,
        snapshot: &Snapshot,
    ) -> Arc<BTreeMap<ServiceId, Stragglers>> {
        let mut sums: BTreeMap<ServiceId, Stragglers> = BTreeMap::new();
        let reports = self.nodes.values().filter(|_| plane == Plane::Host);
        for (id, seen) in reports.flat_map(|report| &report.stragglers) {
            let split = snapshot.service(id).map(|leaf| leaf.serving.split());
            if split != Some(Split::TARGET) {
                continue;
            }
            let sum = sums.entry(id.clone()).or_default();
            *sum = sum.plus(seen);
        }
        Arc::new(sums)
    }

    /// What agents do otherwise than the plan asks.
    fn notes(&self, plane: Plane) -> Arc<BTreeMap<ServiceId, BTreeSet<Note>>> {
        let mut notes: BTreeMap<ServiceId, BTreeSet<Note>> = BTreeMap::new();
        for (sink, report) in self.nodes.iter().filter(|_| plane == Plane::Host) {
            for (id, words) in &report.notes {
                let note = Note { sink: Arc::clone(sink), words: Arc::clone(words) };
                note.list(notes.entry(id.clone()).or_default());
            }
        }
        Arc::new(notes)
    }
}

fn sink(relay: &str, behind: &Behind, plans: BTreeSet<PlanName>, clock: Clock) -> Sink {
    let ago = |length: std::time::Duration| {
        let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        plan::Timestamp::from_millis(clock.now().millis().saturating_sub(millis))
    };
    Sink {
        id: SinkId::new(&format!("{relay}/{}", behind.id)),
        plane: Plane::Mesh,
        kind: behind.agent.to_ascii_lowercase(),
        version: behind.version.clone(),
        plans: Some(plans),
        since: Some(ago(behind.connected)),
        left: None,
        acked: behind.acked,
        owes: behind.owes.clone(),
        nack: behind.nack.as_ref().map(|(token, plans, detail, age)| Nack {
            token: *token,
            plans: plans.clone(),
            detail: detail.clone(),
            at: ago(*age),
        }),
    }
}
