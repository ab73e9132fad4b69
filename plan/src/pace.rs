//! When a plan may move by itself: bakes, settling and old TTLs, counted over uptime.
