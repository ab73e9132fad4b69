//! The one file of the server that knows what time it is.

use std::time::Duration;

use tokio::time::Instant;

/// How long this process has run, on a clock that never jumps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose uptime begins now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// A clock whose uptime began then, to agree with another clock of the process.
    pub const fn since(started: Instant) -> Self {
        Self { started }
    }

    /// The uptime.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The moment at which the uptime will be this.
    pub(crate) fn at(&self, uptime: Duration) -> Instant {
        self.started + uptime
    }
}
