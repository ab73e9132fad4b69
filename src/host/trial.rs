//! A join is on trial until the operator says that the host is well: who lost the controller or the
//! way into the host cannot say so, and the join undoes itself.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use xds::follow::Link;

use crate::host::files::{self, Settings};

/// How long a join is on trial.
pub(crate) const TRIAL: Duration = Duration::from_secs(60);
/// How often it is looked whether the operator has spoken.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Waits for the end of a trial that was lost, and says why; for ever where there is none, or it
/// was won.
pub(super) async fn lost(
    directory: &Path,
    settings: &Settings,
    links: watch::Receiver<Option<Link>>,
) -> &'static str {
    if !settings.joined || files::is_confirmed(directory) {
        return std::future::pending().await;
    }
    tracing::warn!(
        seconds = TRIAL.as_secs(),
        "this join undoes itself unless confirmed: crossfade agent confirm"
    );
    let confirmed = async {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        while !files::is_confirmed(directory) {
            tick.tick().await;
        }
    };
    if tokio::time::timeout(TRIAL, confirmed).await.is_ok() {
        tracing::info!("the join is confirmed");
        return std::future::pending().await;
    }
    if links.borrow().is_none() {
        "no controller is reached, and nobody confirmed the join"
    } else {
        "nobody confirmed the join"
    }
}
