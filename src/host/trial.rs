//! A join is on trial until the operator says that the host is well: who lost the controller or the
//! way into the host cannot say so, and the join undoes itself.

use std::path::Path;
use std::time::Duration;

use controller::clock::Clock;
use tokio::sync::watch;
use xds::follow::Link;

use crate::host::files::{self, Settings};
use crate::verbs::chain;

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
    if tokio::time::timeout(left(directory), confirmed).await.is_ok() {
        tracing::info!("the join is confirmed");
        return std::future::pending().await;
    }
    if links.borrow().is_none() {
        "no controller is reached, and nobody confirmed the join"
    } else {
        "nobody confirmed the join"
    }
}

/// How long the trial still lasts: counted from the first start, over restarts of the agent.
fn left(directory: &Path) -> Duration {
    let now = Clock::start().now();
    let end = files::trial(directory).unwrap_or_else(|| {
        let end = now.after(TRIAL);
        if let Err(error) = files::put_trial(directory, end) {
            tracing::warn!(why = %chain(&error), "a restart begins the trial anew");
        }
        end
    });
    let millis = u64::try_from(end.millis().saturating_sub(now.millis())).unwrap_or(0);
    // A clock that was set back lengthens nothing.
    Duration::from_millis(millis).min(TRIAL)
}
