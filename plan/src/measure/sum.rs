//! Adding up what several receivers of one plane counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Count, Counts, Load, Names, Note, Stragglers, Traffic};
use crate::name::ServiceId;

impl Counts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            services: merged(self.services, &other.services, Count::plus),
            stragglers: merged(self.stragglers, &other.stragglers, Stragglers::plus),
            names: self.names.plus(other.names),
            notes: merged(self.notes, &other.notes, Note::plus),
        }
    }
}

impl Names {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            answered: self.answered.saturating_add(other.answered),
            forwarded: self.forwarded.saturating_add(other.forwarded),
            failed: self.failed.saturating_add(other.failed),
            dropped: self.dropped.saturating_add(other.dropped),
        }
    }
}

/// Both maps; where both have a service, their sum.
fn merged<T: Clone>(
    one: Arc<BTreeMap<ServiceId, T>>,
    other: &Arc<BTreeMap<ServiceId, T>>,
    plus: impl Fn(&T, &T) -> T,
) -> Arc<BTreeMap<ServiceId, T>> {
    if one.is_empty() {
        return Arc::clone(other);
    }
    if other.is_empty() {
        return one;
    }
    let mut sums = one.as_ref().clone();
    for (id, value) in other.iter() {
        let sum = sums.get(id).map_or_else(|| value.clone(), |sum| plus(sum, value));
        sums.insert(id.clone(), sum);
    }
    Arc::new(sums)
}

impl Count {
    /// Both together. A client key that both saw counts twice: keys cannot be told apart any more.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            legacy: self.legacy.saturating_add(other.legacy),
            target: self.target.saturating_add(other.target),
            events: self.events.saturating_add(other.events),
            keys: self.keys.saturating_add(other.keys),
            largest: self.largest.max(other.largest),
            squares: self.squares.saturating_add(other.squares),
            old_until: self.old_until.max(other.old_until),
            traffic: match (self.traffic, other.traffic) {
                (Some(a), Some(b)) => Some(a.plus(b)),
                (traffic, None) | (None, traffic) => traffic,
            },
        }
    }
}

impl Traffic {
    fn plus(self, other: Self) -> Self {
        Self {
            legacy: self.legacy.plus(other.legacy),
            target: self.target.plus(other.target),
            seconds: self.seconds.max(other.seconds),
        }
    }
}

impl Load {
    const fn plus(self, other: Self) -> Self {
        Self {
            errors: self.errors.saturating_add(other.errors),
            in_progress: self.in_progress.saturating_add(other.in_progress),
        }
    }
}
