//! A join is on trial until the operator says that the host is well: who lost the controller or the
//! way into the host cannot say so, and the join undoes itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use controller::clock::Clock;
use plan::Timestamp;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use xds::follow::Link;

use crate::host::descriptors;
use crate::host::farewell::Farewell;
use crate::host::files::{self, Settings};
use crate::host::kernel::Kernel;
use crate::host::leave::{self, Left};
use crate::host::watchdog::Watchdog;
use crate::serve::stopped;
use crate::verbs::{Exit, Failure, chain};

/// How long a join is on trial.
pub(crate) const TRIAL: Duration = Duration::from_secs(60);
/// How often it is looked whether the operator has spoken.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long after something could not be put back it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A trial that was lost.
pub(super) struct Lost {
    why: &'static str,
    /// Whether the controller was told.
    told: bool,
}

/// When the join undoes itself, while it is on trial and that is known.
pub(super) fn ends(directory: &Path, settings: &Settings) -> Option<Timestamp> {
    let on_trial = settings.joined && !files::is_confirmed(directory);
    if on_trial { files::trial(directory) } else { None }
}

/// Whether the trial was lost before this start: then nothing is put in force any more.
pub(crate) fn is_over(directory: &Path, settings: &Settings) -> bool {
    ends(directory, settings).is_some_and(|end| end <= Clock::start().now())
}

/// Writes down when a trial ends, before anything of the join is put in force: whoever kills the
/// process does not lengthen it. Counted from the first start, over restarts of the agent.
pub(crate) fn begin(directory: &Path, settings: &Settings) {
    if settings.joined && !files::is_confirmed(directory) {
        left(directory);
    }
}

/// Waits for the end of a trial that was lost, as a task of its own: nothing that is put in force,
/// and nobody who waits, holds it up.
pub(super) fn watched(
    directory: &Path,
    settings: &Settings,
    links: &watch::Sender<Option<Link>>,
    farewell: Farewell,
) -> JoinHandle<Lost> {
    tokio::spawn(lost(directory.to_owned(), settings.clone(), links.subscribe(), farewell))
}

/// Says why it was lost, here and to the controller; for ever silent where there is no trial, or it
/// was won.
async fn lost(
    directory: PathBuf,
    settings: Settings,
    links: watch::Receiver<Option<Link>>,
    farewell: Farewell,
) -> Lost {
    let directory = directory.as_path();
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
    let linked = links.borrow().is_some();
    let why = if linked {
        "nobody confirmed the join"
    } else {
        "no controller is reached, and nobody confirmed the join"
    };
    Lost { why, told: linked && farewell.say().await }
}

/// How long the trial still lasts.
fn left(directory: &Path) -> Duration {
    let now = Clock::start().now();
    let end = files::trial(directory).unwrap_or_else(|| {
        let end = now.after(TRIAL);
        if let Err(error) = files::put_trial(directory, end) {
            tracing::warn!(why = %chain(&error), "a restart begins the trial anew");
        }
        end
    });
    // A clock that was set back lengthens nothing.
    end.since(now).min(TRIAL)
}

/// Goes on with what another process of this agent has begun, or did not get to.
pub(super) const fn begun() -> Lost {
    Lost { why: "nobody confirmed the join", told: false }
}

/// Takes the host out again, in the directory that this process has. What could not be put back is
/// tried again, by who is started after this one too: only when nothing is left is the host as it
/// was, and this one that has not joined.
pub(super) async fn undo(
    directory: &Path,
    settings: &Settings,
    mut kernel: Result<Kernel, String>,
    lost: Lost,
) -> Result<Exit, Failure> {
    let Lost { why, told } = lost;
    tracing::error!(why, "the join undoes itself");
    let mut watching = JoinSet::new();
    watching.spawn(Watchdog::of_manager().tell_always());
    let mut before: Option<Vec<String>> = None;
    let left = loop {
        let name = Some(settings.name.clone());
        let mut left = Left { name, told, ..Left::default() };
        leave::take_off(directory, &mut kernel, &mut left).await;
        if left.failed.is_empty() || before.as_ref() != Some(&left.failed) {
            leave::clear(directory, &mut left);
        }
        if left.failed.is_empty() {
            break left;
        }
        if before.as_ref() != Some(&left.failed) {
            let failed = left.failed.join("; ");
            tracing::error!(%failed, "not everything was put back; it is tried again and again");
        }
        before = Some(left.failed);
        tokio::select! {
            stopped = stopped() => return stopped.map(|()| Exit::Done),
            () = tokio::time::sleep(AGAIN_AFTER) => {}
        }
    };
    descriptors::forget();
    Err(Failure::Failed(ended(why, &left, &settings.name)))
}

fn ended(why: &str, left: &Left, name: &str) -> String {
    for kept in &left.kept {
        tracing::warn!(%kept, "left as others made it");
    }
    let but = if left.kept.is_empty() { "" } else { " but for what others changed" };
    let heard = if left.told {
        String::new()
    } else {
        format!(
            "the controller does not know; run there `crossfade revoke {name}` and `crossfade \
             sinks forget {name}`; "
        )
    };
    format!(
        "{why}: the host is as it was before{but}; {heard}for another try run `crossfade token \
         create {name} --replace` at the controller and join again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_at_its_end() {
        let heard = ended("why", &Left { told: true, ..Left::default() }, "vm-1");
        assert!(heard.contains("as it was before;") && !heard.contains("revoke"), "{heard}");
        let kept = Left { kept: vec!["x".to_owned()], ..Left::default() };
        let unheard = ended("why", &kept, "vm-1");
        for words in ["but for what others", "revoke vm-1", "sinks forget vm-1", "join again"] {
            assert!(unheard.contains(words), "{unheard}");
        }
    }
}
