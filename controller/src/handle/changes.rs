//! Watching for changes, not too often.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::handle::Shown;

/// The shortest time between two changes that one watcher is told of: 10 a second.
const PERIOD: Duration = Duration::from_millis(100);

/// Tells when something changed that readers can see; at most ten times a second, and the last
/// change is never lost.
#[derive(Clone, Debug)]
pub struct Changes {
    shown: watch::Receiver<Arc<Shown>>,
    told: Option<Instant>,
}

impl Changes {
    pub(crate) const fn new(shown: watch::Receiver<Arc<Shown>>) -> Self {
        Self { shown, told: None }
    }

    /// The number of the present moment. It rises with every change and starts again with the
    /// process.
    pub fn number(&self) -> u64 {
        self.shown.borrow().number
    }

    /// Waits for a change after the one told last; its number. `None`: the controller has stopped.
    /// Safe to drop: a change that was waited for is then told by the next call.
    pub async fn next(&mut self) -> Option<u64> {
        if let Some(told) = self.told {
            tokio::time::sleep_until(told + PERIOD).await;
        }
        self.shown.changed().await.ok()?;
        self.told = Some(Instant::now());
        Some(self.shown.borrow_and_update().number)
    }
}
