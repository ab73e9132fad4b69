//! The service manager is told that this process is well, and kills it where it is not told so.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

use crate::verbs::chain;

/// Told often enough by whoever is at work.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// `None`: nobody watches.
    every: Option<Duration>,
    told: Option<Instant>,
}

impl Watchdog {
    /// That of the service manager, where there is one.
    pub(super) fn of_manager() -> Self {
        // Told late now and then, it is in time all the same.
        Self { every: sd_notify::watchdog_enabled().map(|within| within / 3), told: None }
    }

    /// Nobody watches.
    #[cfg(test)]
    pub(super) const fn nobody() -> Self {
        Self { every: None, told: None }
    }

    /// Whoever calls is at work.
    pub(super) fn tell(&mut self) {
        let Some(every) = self.every else { return };
        if self.told.is_some_and(|told| told.elapsed() < every) {
            return;
        }
        self.told = Some(Instant::now());
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::debug!(why = %chain(&error), "the watchdog was not told");
        }
    }

    /// Tells it until dropped, while a host is taken out and no actor runs: that is tried until it
    /// is done, and a helper may take its time.
    pub(super) async fn tell_always(mut self) {
        let Some(every) = self.every else { return std::future::pending().await };
        let mut tick = tokio::time::interval(every);
        loop {
            tick.tick().await;
            self.told = None;
            self.tell();
        }
    }
}
