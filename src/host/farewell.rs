//! Telling the controller that this host goes for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How long a last report may take to be made.
const SAID_WITHIN: Duration = Duration::from_secs(1);
/// How long it then has on its way, before the process ends.
const SENT_WITHIN: Duration = Duration::from_millis(200);

/// Said by one who leaves, heard by whoever makes reports.
#[derive(Clone, Debug, Default)]
pub(super) struct Farewell(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    leaving: AtomicBool,
    said: Notify,
    /// Rung when a report is to be made at once.
    report: Arc<Notify>,
}

impl Farewell {
    /// Rings `report` when it is time.
    pub(super) fn by(report: Arc<Notify>) -> Self {
        Self(Arc::new(Shared { report, ..Shared::default() }))
    }

    /// Has the next report say it; whether one did.
    pub(super) async fn say(&self) -> bool {
        self.0.leaving.store(true, Ordering::Release);
        self.0.report.notify_one();
        let said = tokio::time::timeout(SAID_WITHIN, self.0.said.notified()).await.is_ok();
        tokio::time::sleep(SENT_WITHIN).await;
        said
    }

    /// Whether this report is to say it.
    pub(super) fn is_due(&self) -> bool {
        let leaving = self.0.leaving.load(Ordering::Acquire);
        if leaving {
            self.0.said.notify_one();
        }
        leaving
    }
}
