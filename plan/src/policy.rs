//! Limits on raising: the largest step, and windows in which nothing rises. And how what is left on
//! the side that lost ends.

mod cron;
#[cfg(test)]
mod tests;
mod zone;

use std::fmt;
use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time};
use serde::{Deserialize, Serialize};

use crate::split::Split;
use crate::time::Timestamp;

pub use self::cron::{Cron, CronError};
pub use self::zone::{TimeZone, TimeZoneError};

/// Limits on raising, of which lowering has none; and the end of what is left on the side that
/// lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The most that one revision may raise a service.
    pub max_step: Option<Split>,
    /// Windows in which nothing rises.
    pub freeze: Vec<Freeze>,
    /// How long after a service came to exactly 0 or 100 % what is left on the side that lost is
    /// closed; `None`: nothing is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Duration>,
}

/// A recurring window in which nothing rises.
///
/// It begins whenever the clock of `tz` shows a minute of `cron`, and lasts for so much time that
/// passes, whatever the clock does meanwhile. A minute that the clock skips in spring begins it at
/// the moment of the skip; a minute that comes twice in autumn begins it twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// When it begins.
    pub cron: Cron,
    /// How long it lasts: a second to [`Freeze::LASTS_MAX`].
    pub lasts: Duration,
    /// Where the clock hangs.
    pub tz: TimeZone,
}

impl fmt::Display for Freeze {
    /// `0 18 * * FRI for 62h in Asia/Shanghai`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {} in {}", self.cron, crate::file::duration::text(self.lasts), self.tz)
    }
}

impl Policy {
    /// The shortest drain: sinks need a moment to take up the last move.
    pub const DRAIN_MIN: Duration = Duration::from_secs(1);
    /// The longest drain: a week outlasts every connection that anyone waits for.
    pub const DRAIN_MAX: Duration = Duration::from_secs(7 * 86_400);

    /// How many windows that follow one another without a gap are joined: a freeze whose end is
    /// farther away is told with the end of the last of these.
    const JOINED_MAX: usize = 1_000;

    /// The freeze that holds at `now`, with the moment from which nothing is frozen. Of several
    /// that hold, the one whose present window ends last.
    pub fn frozen(&self, now: Timestamp) -> Option<(&Freeze, Timestamp)> {
        let holds = self.freeze.iter().filter_map(|freeze| Some((freeze, freeze.ends(now)?)));
        let (freeze, mut ends) = holds.max_by_key(|(_, ends)| *ends)?;
        for _ in 0..Self::JOINED_MAX {
            let later = self.freeze.iter().filter_map(|freeze| freeze.ends(ends)).max();
            match later {
                Some(later) if later > ends => ends = later,
                Some(_) | None => break,
            }
        }
        Some((freeze, ends))
    }
}

impl Freeze {
    /// The longest: a leap year.
    pub const LASTS_MAX: Duration = Duration::from_secs(366 * 86_400);

    /// When the youngest window that holds at `now` ends. A window holds from its beginning up to,
    /// but not at, its end.
    fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        let now_exact = jiff::Timestamp::from_millisecond(now.millis()).ok()?;
        let begins = self.last_beginning(now_exact)?;
        let ends = Timestamp::from_millis(begins.as_millisecond()).after(self.lasts);
        (ends > now).then_some(ends)
    }

    /// The last beginning at or before `now`, looking back as far as a window that still holds can
    /// have begun.
    fn last_beginning(&self, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let zone = self.tz.rules();
        let lasts = jiff::SignedDuration::try_from(self.lasts).ok()?;
        let earliest = now.checked_sub(lasts).unwrap_or(jiff::Timestamp::MIN);
        // A zone that once skipped a day, and a window that begins as it ends: a day more is
        // enough.
        let first = zone.to_datetime(earliest).date().checked_sub(1.day()).unwrap_or(Date::MIN);
        let mut date = zone.to_datetime(now).date();
        loop {
            if self.cron.fits(date)
                && let Some(begins) = self.last_beginning_on(date, now)
            {
                return Some(begins);
            }
            date = date.yesterday().ok().filter(|date| *date >= first)?;
        }
    }

    /// The last beginning on this date of the zone's clock, at or before `now`.
    fn last_beginning_on(&self, date: Date, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let zone = self.tz.rules();
        let midnight = date.to_datetime(Time::midnight());
        let next = date.tomorrow().ok()?.to_datetime(Time::midnight());
        let offset = |at: DateTime| zone.to_ambiguous_timestamp(at).offset();
        let moments = self.cron.minutes().filter_map(|minute| {
            let time =
                Time::new(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0);
            zone::moment(zone, date.to_datetime(time.ok()?), now)
        });
        if offset(midnight) == offset(next) {
            // The clock runs evenly on this date: the first that has come is the last.
            moments.take(1).next()
        } else {
            moments.max()
        }
    }
}
