//! What each machine has of the streams of reports: whoever has a certificate keeps nobody out who
//! has another.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xds::client::Identity;
use xds::join::MachineName;

/// The most streams of reports of one machine: as many as it may have connections. An agent has one
/// and a relay has one, made anew each second at most while the old ones are not noticed to be
/// gone.
const STREAMS_MAX: usize = xds::server::Limits::CONNECTIONS_PER_IDENTITY;

/// The most machines of which the log tells.
const TOLD_MAX: usize = 100;

/// The streams of all machines that are known to be somebody.
#[derive(Clone, Debug, Default)]
pub(super) struct Machines {
    shared: Arc<Mutex<Counted>>,
}

#[derive(Debug, Default)]
struct Counted {
    streams: HashMap<Arc<Identity>, usize>,
    told: BTreeSet<MachineName>,
}

/// The place of a stream; leaves when dropped.
#[derive(Debug)]
pub(super) struct Place {
    machines: Machines,
    who: Arc<Identity>,
}

impl Machines {
    /// A place for one more stream; `None` where it has as many as it may have.
    pub(super) fn begin(&self, who: &Arc<Identity>) -> Option<Place> {
        let mut counted = self.lock();
        let streams = counted.streams.entry(Arc::clone(who)).or_default();
        if *streams >= STREAMS_MAX {
            return None;
        }
        *streams += 1;
        Some(Place { machines: self.clone(), who: Arc::clone(who) })
    }

    /// Tells the log, once of each machine.
    pub(super) fn tell(&self, who: &Identity, what: &dyn fmt::Display) {
        let mut counted = self.lock();
        if counted.told.len() < TOLD_MAX && counted.told.insert(who.name.clone()) {
            tracing::warn!(machine = %who.name, %what, "reports of a machine are not taken");
        }
    }

    /// Whoever panicked while holding it left whole values behind.
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// As [`Machines::tell`], of the machine whose it is.
    pub(super) fn tell(&self, what: &dyn fmt::Display) {
        self.machines.tell(&self.who, what);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counted = self.machines.lock();
        let Some(streams) = counted.streams.get_mut(&self.who) else { return };
        *streams = streams.saturating_sub(1);
        if *streams == 0 {
            counted.streams.remove(&self.who);
        }
    }
}

#[cfg(test)]
mod tests {
    use xds::join::Kind;

    use super::*;

    #[test]
    fn one_has_its_share_and_takes_nobody_elses() {
        let [one, two] = ["vm-1", "vm-2"]
            .map(|name| Arc::new(Identity { kind: Kind::Agent, name: name.parse().unwrap() }));
        let machines = Machines::default();
        let mut places: Vec<Place> =
            std::iter::from_fn(|| machines.begin(&one)).take(1_000).collect();
        assert_eq!(places.len(), STREAMS_MAX);
        let other = machines.begin(&two);
        assert!(other.is_some());
        drop(places.pop());
        assert!(machines.begin(&one).is_some(), "a place is given back");
        drop((places, other));
        assert!(machines.lock().streams.is_empty());
    }
}
