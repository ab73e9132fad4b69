//! Changes wait a moment for others, so that a burst of them is one push. What lowers a split does
//! not wait.

use std::time::Duration;

use plan::snapshot::Motion;

use crate::planes::mesh::between::Change;

/// How long nothing must change before what did is pushed.
const QUIET: Duration = Duration::from_millis(10);

/// The longest that a change waits for others.
const LONGEST: Duration = Duration::from_millis(50);

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// When the first change that waits came, and the last.
    waiting: Option<(Duration, Duration)>,
    urgent: bool,
}

impl Quiet {
    /// Something changed.
    pub(super) fn changed(&mut self, now: Duration, urgent: bool) {
        let first = self.waiting.map_or(now, |(first, _)| first);
        self.waiting = Some((first, now));
        self.urgent |= urgent;
    }

    /// When what waits is to be pushed; `None`: nothing waits.
    pub(super) fn due(&self) -> Option<Duration> {
        let (first, last) = self.waiting?;
        if self.urgent {
            return Some(first);
        }
        Some(last.saturating_add(QUIET).min(first.saturating_add(LONGEST)))
    }

    /// It is pushed. Whether that is urgent.
    pub(super) fn take(&mut self) -> bool {
        self.waiting = None;
        std::mem::take(&mut self.urgent)
    }
}

/// Whether anybody is taken back by this change: that must not wait.
pub(super) fn takes_back(change: &Change<'_>) -> bool {
    let (Some(was), Some(is)) = (change.before, change.after) else { return false };
    is.serving.split() < was.serving.split()
        || (is.motion == Motion::RolledBack && was.motion != Motion::RolledBack)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn changes_wait_for_others_but_not_for_long_and_rollbacks_not_at_all() {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.due(), None);
        quiet.changed(ms(100), false);
        assert_eq!(quiet.due(), Some(ms(110)));
        quiet.changed(ms(108), false);
        assert_eq!(quiet.due(), Some(ms(118)));
        quiet.changed(ms(149), false);
        assert_eq!(quiet.due(), Some(ms(150)));
        quiet.changed(ms(149), true);
        assert_eq!(quiet.due(), Some(ms(100)));
        assert!(quiet.take());
        assert_eq!(quiet.due(), None);
        quiet.changed(ms(200), false);
        assert!(!quiet.take());
    }
}
