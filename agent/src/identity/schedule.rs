//! When to ask for the next certificate. No clock and no random numbers of its own.
//!
//! A certificate is renewed at half its life, give or take a tenth, so that machines that joined
//! together do not all come together. Where that fails it is tried again, ever more seldom, for as
//! long as the controller would answer: up to a week after the certificate has expired.

use std::time::Duration;

use plan::Timestamp;
use xds::join::GRACE;

/// The first pause after a failure, at the most.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// Every pause, at the most.
const PAUSE_MOST: Duration = Duration::from_secs(150);

/// The schedule of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    renew: Timestamp,
    not_after: Timestamp,
    failures: u32,
    /// When it last failed, and how long to wait since then.
    failed: Option<(Timestamp, Duration)>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing for so long.
    Wait(Duration),
    /// Ask for the next certificate.
    Ask,
    /// No controller renews it any more: join again.
    Lost,
}

impl Schedule {
    /// For a certificate that is valid from one moment to the other; `random` is 64 random bits.
    pub fn new(not_before: Timestamp, not_after: Timestamp, random: u64) -> Self {
        let half = not_after.since(not_before) / 2;
        let spread = draw(half / 5, random);
        let renew = not_before.after(half.saturating_sub(half / 10).saturating_add(spread));
        Self { renew, not_after, failures: 0, failed: None }
    }

    /// What to do now.
    pub fn step(&self, now: Timestamp) -> Step {
        if now > self.not_after.after(GRACE) {
            return Step::Lost;
        }
        if now < self.renew {
            return Step::Wait(self.renew.since(now));
        }
        match self.failed {
            // A clock that went back says nothing of how long ago it was.
            Some((at, pause)) if now >= at && now.since(at) < pause => {
                Step::Wait(pause.saturating_sub(now.since(at)))
            }
            Some(_) | None => Step::Ask,
        }
    }

    /// It could not be had; `settled` where asking again soon would change nothing.
    pub fn failed(&mut self, now: Timestamp, settled: bool, random: u64) {
        let doubled =
            PAUSE_FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(16);
        let most = if settled { PAUSE_MOST } else { doubled.min(PAUSE_MOST) };
        let half = most / 2;
        self.failed = Some((now, half.saturating_add(draw(half, random))));
    }

    /// When it is renewed.
    pub const fn renew(&self) -> Timestamp {
        self.renew
    }
}

/// Something below this.
fn draw(below: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(below.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random % nanos.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn at(hours: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000).after(Duration::from_secs(hours * 3_600))
    }

    proptest! {
        #[test]
        fn a_day_is_renewed_at_half_give_or_take_a_tenth(random: u64) {
            let schedule = Schedule::new(at(0), at(24), random);
            let after = schedule.renew().since(at(0));
            prop_assert!(after >= DAY / 2 * 9 / 10 && after <= DAY / 2 * 11 / 10, "{:?}", after);
            prop_assert_eq!(schedule.step(at(0)), Step::Wait(after));
            prop_assert_eq!(schedule.step(at(14)), Step::Ask);
        }

        #[test]
        fn pauses_grow_within_bounds(random: u64) {
            let mut schedule = Schedule::new(at(0), at(24), 0);
            let mut longest = Duration::ZERO;
            for failures in 0..40_u32 {
                schedule.failed(at(14), false, random);
                let Step::Wait(pause) = schedule.step(at(14)) else { panic!("it waits") };
                let most = PAUSE_FIRST * 2_u32.pow(failures.min(12));
                prop_assert!(pause <= most.min(PAUSE_MOST) && pause >= most.min(PAUSE_MOST) / 2);
                longest = longest.max(pause);
            }
            prop_assert!(longest >= PAUSE_MOST / 2);
            prop_assert_eq!(schedule.step(at(14).after(PAUSE_MOST)), Step::Ask);
        }
    }

    #[test]
    fn it_goes_on_for_a_week_after_the_end() {
        let mut schedule = Schedule::new(at(0), at(24), 7);
        schedule.failed(at(24), false, 3);
        for (hours, step) in [
            (25, Step::Ask),
            (24 + 7 * 24, Step::Ask),
            (24 + 7 * 24 + 1, Step::Lost),
            (25, Step::Ask),
        ] {
            assert_eq!(schedule.step(at(hours)), step, "{hours} h");
        }
    }

    #[test]
    fn a_clock_that_goes_back_holds_nothing_up() {
        let mut schedule = Schedule::new(at(0), at(24), 7);
        schedule.failed(at(20), true, 3);
        assert!(matches!(schedule.step(at(20)), Step::Wait(pause) if pause >= PAUSE_MOST / 2));
        assert_eq!(schedule.step(at(19)), Step::Ask);
    }
}
