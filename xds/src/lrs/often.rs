//! How often one stream may report. Pure: time is an argument.

use std::time::Duration;

/// How often reports are taken of one stream in the long run: twice as often as any proxy is
/// told ([`super::SHORT`]). What a relay hands on comes as often as the relay told its proxies,
/// whatever it is told itself.
const GAP: Duration = Duration::from_secs(1);

/// So many may come at once: what was held up on the way arrives together.
const TOGETHER: u32 = 8;

/// The reports of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Often {
    /// When as many may come at once as ever.
    rested: Duration,
}

impl Often {
    /// A report comes. Whether it is taken.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let rested = self.rested.max(now).saturating_add(GAP);
        let taken = rested <= now.saturating_add(GAP.saturating_mul(TOGETHER));
        if taken {
            self.rested = rested;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lrs::SHORT;

    #[test]
    fn a_stream_may_be_late_and_not_hasty() {
        let ms = Duration::from_millis;
        struct Case {
            every: Duration,
            reports: u32,
            taken: u32,
        }
        for Case { every, reports, taken } in [
            Case { every: SHORT, reports: 1_000, taken: 1_000 },
            Case { every: GAP, reports: 1_000, taken: 1_000 },
            // Eight at once, and then one a second.
            Case { every: ms(0), reports: 1_000, taken: 8 },
            Case { every: ms(10), reports: 1_001, taken: 18 },
        ] {
            let mut often = Often::default();
            let came = (0..reports).filter(|n| often.take(ms(5_000) + every * *n)).count();
            assert_eq!(came, taken as usize, "every {every:?}");
        }
    }
}
