//! When somebody else writes `/etc/resolv.conf` too: write ours again, but do not fight.
//!
//! Pure: time comes as an argument.

use std::collections::VecDeque;
use std::time::Duration;

/// Changes by others within [`FIGHT`] after which they win: one who answers every write of ours
/// would else keep both of us busy for ever.
pub const TRAMPLES_MAX: usize = 10;

/// The time in which so many changes are a fight.
pub const FIGHT: Duration = Duration::from_secs(5);

/// Remembers what others did to the file.
#[derive(Debug, Default)]
pub struct Trample {
    times: VecDeque<Duration>,
    has_given_up: bool,
}

/// What to do about the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It is as we wrote it.
    Nothing,
    /// Somebody changed it: write it again.
    Reapply,
    /// Too many changes: leave it as it is now, and tell. Said once.
    GiveUp,
    /// It was given up before.
    Leave,
}

impl Trample {
    /// Judges the file as found at `now`, a time since any fixed moment; None: it is gone.
    pub fn judge(&mut self, now: Duration, found: Option<&[u8]>, ours: &[u8]) -> Act {
        if self.has_given_up {
            return Act::Leave;
        }
        if found == Some(ours) {
            return Act::Nothing;
        }
        let begin = now.saturating_sub(FIGHT);
        while self.times.front().is_some_and(|time| *time < begin) {
            self.times.pop_front();
        }
        if self.times.len() >= TRAMPLES_MAX {
            self.has_given_up = true;
            self.times.clear();
            return Act::GiveUp;
        }
        self.times.push_back(now);
        Act::Reapply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_written_again() {
        let mut trample = Trample::default();
        let at = Duration::from_secs;
        assert_eq!(trample.judge(at(0), Some(b"ours"), b"ours"), Act::Nothing);
        assert_eq!(trample.judge(at(1), Some(b"ours\n"), b"ours"), Act::Reapply);
        assert_eq!(trample.judge(at(2), None, b"ours"), Act::Reapply);
        assert_eq!(trample.judge(at(3), Some(b"ours"), b"ours"), Act::Nothing);
    }

    #[test]
    fn a_fight_ends_after_ten_in_five_seconds() {
        struct Case {
            step_ms: u64,
            tramples: u64,
            gives_up_at: Option<u64>,
        }
        for Case { step_ms, tramples, gives_up_at } in [
            Case { step_ms: 1, tramples: 30, gives_up_at: Some(10) },
            Case { step_ms: 500, tramples: 30, gives_up_at: Some(10) },
            Case { step_ms: 501, tramples: 1_000, gives_up_at: None },
            Case { step_ms: 1, tramples: 10, gives_up_at: None },
        ] {
            let mut trample = Trample::default();
            let acts = (0..tramples)
                .map(|at| trample.judge(Duration::from_millis(at * step_ms), None, b"ours"));
            let acts: Vec<Act> = acts.collect();
            let gave_up = acts.iter().position(|act| *act == Act::GiveUp);
            assert_eq!(gave_up, gives_up_at.map(|at| usize::try_from(at).unwrap()), "{step_ms}");
            let after = acts.iter().skip(gave_up.map_or(acts.len(), |at| at + 1));
            assert!(after.clone().all(|act| *act == Act::Leave), "{acts:?}");
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut trample = Trample::default();
        for second in 0..1_000 {
            trample.judge(Duration::from_secs(second), None, b"");
            assert!(trample.times.len() <= TRAMPLES_MAX);
        }
    }
}
