//! The Envoy beside the agent: fed from here, kept running, and sent this host's own calls while it
//! is well.
//!
//! | part | does |
//! |---|---|
//! | [`place`] | where its sockets are, and as whom it runs |
//! | [`process`] | starting, finding and ending it |
//! | [`ready`] | asking whether it is well |
//! | [`supervise`] | keeping it running, and telling the rules |
//!
//! It goes on without the agent, which finds it again. What feeds it keeps on disk what was
//! followed, so that it starts with no controller.

mod place;
mod process;
mod ready;
mod supervise;

use std::path::Path;

use agent::rules::Capture;
use tokio::sync::watch;
use xds::render::{Door, SDS};

use self::place::Place;
use self::supervise::{Settled, Supervisor};
use crate::host::files::{self, Settings};
use crate::identity::Standing;
use crate::relay::part::{self, Part};
use crate::verbs::{Failure, chain};

/// Where it keeps what is relayed, in the agent's directory.
pub(crate) const DIRECTORY: &str = "envoy";

/// What it is called behind the agent's relay part.
const NODE: &str = "proxy";

/// The Envoy beside the agent, if there is to be one.
pub(super) struct Beside {
    capture: watch::Sender<Option<Capture>>,
    parts: Option<Box<Parts>>,
}

struct Parts {
    relay: Part,
    supervisor: Supervisor,
}

impl Beside {
    /// Makes ready what feeds it, and looks whether it runs. Where it cannot be had, this is told
    /// and the host does without: the rules need no Envoy.
    pub(super) fn begin(directory: &Path, settings: &Settings, standing: &Standing) -> Self {
        let parts = match Parts::open(directory, settings, standing) {
            Ok(parts) => parts,
            Err(failure) => {
                tracing::error!(why = %chain(&failure), "there is no Envoy beside this agent");
                None
            }
        };
        let capture = parts.as_ref().and_then(|parts| parts.supervisor.adopted());
        Self { capture: watch::channel(capture).0, parts: parts.map(Box::new) }
    }

    /// What takes this host's own calls.
    pub(super) fn capture(&self) -> watch::Receiver<Option<Capture>> {
        self.capture.subscribe()
    }

    /// Feeds it and keeps it running.
    pub(super) async fn go_on(self) {
        let Self { capture, parts } = self;
        let Some(parts) = parts else { return std::future::pending().await };
        let Parts { relay, supervisor } = *parts;
        let relaying = Box::pin(relay.run(std::future::pending()));
        tokio::select! {
            relayed = relaying => if let Err(failure) = relayed {
                tracing::error!(why = %chain(&failure), "Envoy is not fed any more");
            },
            () = supervisor.keep(&capture) => {}
        }
        capture.send_replace(None);
        // The rules go on without it.
        std::future::pending().await
    }
}

impl Parts {
    fn open(
        directory: &Path,
        settings: &Settings,
        standing: &Standing,
    ) -> Result<Option<Self>, Failure> {
        let Some(envoy) = &settings.envoy else { return Ok(None) };
        let kept = directory.join(DIRECTORY);
        files::make(&kept)?;
        let place = Place::make(directory, &envoy.user)?;
        let local = place.listen()?;
        let identity = standing.health().map(|(identity, _)| identity);
        place.put_bootstrap(NODE, identity.is_some())?;
        let mut says = vec![("role", "relay".to_owned()), ("capture", Door::CAPTURE.to_string())];
        says.extend(identity.is_some().then(|| ("identity", SDS.to_owned())));
        let relay = Part::open(part::Settings {
            name: format!("{}/envoy", settings.name),
            says,
            dial: standing.dial(&settings.controllers)?,
            directory: kept,
            listen: Vec::new(),
            local: Some(local),
            identity,
        })?;
        let settled = Settled(Box::new(relay.is_settled()));
        let supervisor = Supervisor::new(place, envoy.program.clone(), settled);
        Ok(Some(Self { relay, supervisor }))
    }
}

/// Ends the Envoy of an agent that leaves, and removes what was made for it outside of the agent's
/// directory; whether one ran.
pub(super) async fn end(directory: &Path) -> Result<bool, Failure> {
    let place = Place::of(directory);
    let ended = process::end(&place).await;
    place.remove()?;
    Ok(ended)
}
