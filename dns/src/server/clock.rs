//! The server's clock: the only place in this crate that reads the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970; 0 while the machine's clock is before that.
pub(super) fn unix_seconds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is the pump's clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
