//! When an Envoy that ended is started again.

use std::time::Duration;

/// How often it ended soon after it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    ended: u32,
}

impl Restarts {
    /// The first pause at the most.
    pub const FIRST: Duration = Duration::from_millis(200);
    /// Every pause at the most.
    pub const MOST: Duration = Duration::from_secs(10);
    /// After so long in health what was before is forgotten.
    pub const WELL: Duration = Duration::from_secs(60);

    /// It ended after it had been well for so long: how long to wait. Pauses double, and each is
    /// drawn from its upper half, so that machines that were given the same bad thing do not all
    /// start again at once.
    pub fn ended(&mut self, well_for: Duration, random: u64) -> Duration {
        if well_for >= Self::WELL {
            self.ended = 0;
        }
        let doubled = Self::FIRST.saturating_mul(1_u32.checked_shl(self.ended).unwrap_or(u32::MAX));
        self.ended = self.ended.saturating_add(1).min(16);
        let half = doubled.min(Self::MOST) / 2;
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(random % spread.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Duration = Duration::ZERO;

    #[test]
    fn pauses_double_and_are_forgotten_after_health() {
        struct Case {
            well_for: Duration,
            most: u64,
        }
        let soon = |most| Case { well_for: ZERO, most };
        let nearly = Restarts::WELL - Duration::from_millis(1);
        let cases = [
            soon(200),
            soon(400),
            soon(800),
            soon(1_600),
            Case { well_for: nearly, most: 3_200 },
            soon(6_400),
            soon(10_000),
            soon(10_000),
            Case { well_for: Restarts::WELL, most: 200 },
            soon(400),
        ];
        for random in [0, u64::MAX, 77_777_777_777] {
            let mut restarts = Restarts::default();
            for (at, Case { well_for, most }) in cases.iter().enumerate() {
                let most = Duration::from_millis(*most);
                let pause = restarts.ended(*well_for, random);
                assert!(pause >= most / 2 && pause <= most, "{at}: {pause:?} of {most:?}");
            }
        }
        let mut many = Restarts::default();
        let last = (0..1_000).map(|_| many.ended(ZERO, 0)).last();
        assert_eq!(last, Some(Restarts::MOST / 2));
    }
}
