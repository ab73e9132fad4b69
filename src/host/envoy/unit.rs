//! The Envoy of an agent that is not root: it has a user and a unit of its own
//! (`crossfade-envoy.service`), where this program keeps it running. The agent says what to run,
//! and where the two meet, in a file that systemd waits for (`crossfade-envoy.path`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Shown;
use super::place::{Place, RUNTIME};
use super::process;
use super::supervise::{Settled, Start, Supervisor};
use crate::disk;
use crate::serve::stopped;
use crate::verbs::Failure;

/// What the agent says, beside the places.
const TOLD: &str = "envoy.json";
/// How often it is looked whether that is still said.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the agent says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    /// The program.
    pub(super) program: PathBuf,
    /// Where it meets the agent.
    place: PathBuf,
}

/// Says it, for all to read.
pub(super) fn tell(place: &Place, program: &Path) -> Result<(), Failure> {
    let told = Told { program: program.to_owned(), place: place.directory().to_owned() };
    disk::put(Path::new(RUNTIME), TOLD, &told)?;
    let path = Path::new(RUNTIME).join(TOLD);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .map_err(|source| Failure::File { what: "open", path, source })
}

/// What was said.
pub(super) fn told() -> io::Result<Told> {
    Ok(serde_json::from_slice(&fs::read(Path::new(RUNTIME).join(TOLD))?)?)
}

/// Keeps it running, as this process's user, until the agent takes back what it said. Told to stop,
/// it leaves Envoy running.
pub(super) async fn run() -> Result<(), Failure> {
    let told = told().map_err(|source| Failure::File {
        what: "read",
        path: Path::new(RUNTIME).join(TOLD),
        source,
    })?;
    let place = Place::at(told.place);
    // What it is fed, the agent knows, and goes by when it sends calls to it.
    let settled = Settled(Box::new(|| true));
    let supervisor = Supervisor::new(place.clone(), Start::Told, settled);
    let shown = watch::Sender::new(Shown::default());
    tokio::select! {
        stopped = stopped() => return stopped,
        () = supervisor.keep(&shown) => {}
        () = taken_back(&place) => tracing::info!("the agent wants no Envoy any more"),
    }
    process::end(&place).await;
    Ok(())
}

/// Until this place is none that the agent says.
async fn taken_back(place: &Place) {
    while is_said(place) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_said(place: &Place) -> bool {
    told().is_ok_and(|told| told.place == place.directory())
}

/// Takes back what was said of this place: its unit ends Envoy, and starts none.
pub(super) fn take_back(place: &Place) {
    if !is_said(place) {
        return;
    }
    if let Err(error) = fs::remove_file(Path::new(RUNTIME).join(TOLD)) {
        tracing::warn!(%error, "the unit of Envoy still has it started");
    }
}
