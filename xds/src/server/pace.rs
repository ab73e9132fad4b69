//! Token buckets. Pure: time is an argument.

use std::time::Duration;

/// A bucket of permits that fills at a constant rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Time in which one permit comes.
    interval: Duration,
    /// Permits it holds when full, as the time in which they come.
    full: Duration,
    /// The uptime at which it is, or was, full.
    full_at: Duration,
}

impl Bucket {
    /// A full bucket. A rate of 0 counts as 1.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, full: interval * burst.max(1), full_at: Duration::ZERO }
    }

    /// Whether all permits that it can hold are there.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }

    /// Whether one is there.
    pub(super) fn has_one(&self, now: Duration) -> bool {
        self.clone().take(now).is_ok()
    }

    /// Gives back a permit that was taken and not used.
    pub(super) fn give_back(&mut self) {
        self.full_at = self.full_at.saturating_sub(self.interval);
    }

    /// Takes one permit.
    ///
    /// # Errors
    /// There is none; how long until there is.
    pub(super) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        self.take_many(1, now)
    }

    /// Takes so many permits; more than fit count as a full bucket.
    ///
    /// # Errors
    /// There are not enough; how long until there are.
    pub(super) fn take_many(&mut self, permits: u32, now: Duration) -> Result<(), Duration> {
        let cost = self.interval.saturating_mul(permits).min(self.full);
        let after = self.full_at.max(now).saturating_add(cost);
        let latest = now.saturating_add(self.full);
        if after > latest {
            return Err(after - latest);
        }
        self.full_at = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(10, 3);
        let start = Duration::from_secs(7);
        let taken = (0..10).filter(|_| bucket.take(start).is_ok()).count();
        assert_eq!(taken, 3);
        assert_eq!(bucket.take(start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        assert_eq!(bucket.take(later), Ok(()));
        assert_eq!(bucket.take(later), Err(Duration::from_millis(100)));
        // A long pause fills it and no more.
        let much_later = start + Duration::from_secs(1_000);
        assert_eq!((0..10).filter(|_| bucket.take(much_later).is_ok()).count(), 3);
    }

    #[test]
    fn what_never_fits_costs_a_full_bucket() {
        let mut bucket = Bucket::new(10, 3);
        let start = Duration::from_secs(1);
        assert_eq!(bucket.take_many(1_000, start), Ok(()));
        assert_eq!(bucket.take_many(2, start), Err(Duration::from_millis(200)));
    }
}
