//! Observations wait a moment, so that a burst of them is one record.

use std::collections::BTreeMap;
use std::time::Duration;

use plan::{Observation, ServiceId, Side};

/// How long the first of a burst waits for the others.
pub(super) const COALESCE: Duration = Duration::from_millis(50);

/// What was seen and is not committed yet: the latest of each service and side.
#[derive(Debug, Default)]
pub(super) struct Observed {
    latest: BTreeMap<(ServiceId, Side), Observation>,
    /// The uptime from which on they are committed; `None`: there are none.
    due: Option<Duration>,
}

impl Observed {
    /// Takes up an observation; an older one of the same service and side is dropped.
    pub(super) fn add(&mut self, observation: Observation, uptime: Duration) {
        self.latest.insert(key(&observation), observation);
        self.due.get_or_insert_with(|| uptime.saturating_add(COALESCE));
    }

    /// Puts back what could not be committed, unless something newer was seen meanwhile.
    pub(super) fn put_back(&mut self, seen: Vec<Observation>, due: Duration) {
        for observation in seen {
            self.latest.entry(key(&observation)).or_insert(observation);
        }
        self.due = Some(self.due.map_or(due, |already| already.max(due)));
    }

    /// All of them, once they are due.
    pub(super) fn take_due(&mut self, uptime: Duration) -> Option<Vec<Observation>> {
        self.due.filter(|due| *due <= uptime)?;
        self.due = None;
        Some(std::mem::take(&mut self.latest).into_values().collect())
    }

    /// When they are due.
    pub(super) const fn due(&self) -> Option<Duration> {
        self.due
    }
}

fn key(observation: &Observation) -> (ServiceId, Side) {
    match observation {
        Observation::Health { service, side, .. } => (service.clone(), *side),
    }
}
