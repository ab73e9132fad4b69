//! Adding up what several receivers of one plane counted.

use std::sync::Arc;

use super::{Count, Counts, Load, Traffic};

impl Counts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        if self.services.is_empty() {
            return other.clone();
        }
        if other.services.is_empty() {
            return self;
        }
        let mut services = self.services.as_ref().clone();
        for (id, count) in other.services.iter() {
            let sum = services.entry(id.clone()).or_default();
            *sum = sum.plus(count);
        }
        Self { services: Arc::new(services) }
    }
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
