//! The one file here that reads the wall clock, and the source of uptime.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plan::Timestamp;
use tokio::time::Instant;

/// The wall clock, and how long this controller has run.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose uptime begins now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The wall clock. It may jump; nothing is ordered by it.
    #[expect(clippy::disallowed_methods, reason = "the pump's clock")]
    pub fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        Timestamp::from_millis(millis)
    }

    /// Time since the start, on a clock that never jumps.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The moment at which the uptime was nothing.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// The moment at which the uptime will be this.
    pub(crate) fn at(&self, uptime: Duration) -> Instant {
        self.started + uptime
    }
}
