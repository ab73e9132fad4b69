//! The Envoy beside the agent: fed from here, kept running, and sent this host's own calls while it
//! is well.
//!
//! | part | does |
//! |---|---|
//! | [`place`] | where its sockets are, and as whom it runs |
//! | [`process`] | starting, finding and ending it |
//! | [`ready`] | asking whether it is well, and having its port |
//! | [`supervise`] | keeping it running, and telling the rules |
//! | [`mod@unit`] | the same for one with a user and a unit of its own |
//!
//! It goes on without the agent, which finds it again. What feeds it keeps on disk what was
//! followed, so that it starts with no controller.

mod place;
mod process;
mod ready;
mod supervise;
mod unit;

use std::path::Path;
use std::time::Duration;

use agent::rules::{Capture, Host};
use plan::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use xds::render::{Door, SDS};

use self::place::Place;
use self::supervise::{Settled, Start, Supervisor};
use crate::following;
use crate::host::actor::{Ask, Shared};
use crate::host::files::{self, Settings};
use crate::identity::Standing;
use crate::relay::part::{self, Part};
use crate::serve::log;
use crate::verbs::{Failure, chain};

/// Where it keeps what is relayed, in the agent's directory.
pub(crate) const DIRECTORY: &str = "envoy";

/// What it is called behind the agent's relay part.
const NODE: &str = "proxy";

/// What the unit's own process logs: as an agent does.
const LOGGED: &str = "info";
/// How long an agent that stops waits until the rules do without Envoy.
const RELEASE_WITHIN: Duration = Duration::from_secs(1);

/// How the Envoy beside the agent is.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// What of this host's own calls it takes; `None`: it is not well.
    capture: Option<Capture>,
    pid: Option<i32>,
    /// Since when it is well, as this agent saw it.
    since: Option<Timestamp>,
    why_not: Option<String>,
    last_end: Option<(Timestamp, String)>,
}

/// The same for people.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnvoyStatus {
    /// Whether it is well, and takes this host's own calls.
    pub(crate) well: bool,
    /// Its process; `null`: none runs.
    pub(crate) pid: Option<i32>,
    /// Since when it is well; `null`: it is not, or was already when the agent started.
    pub(crate) since: Option<Timestamp>,
    /// Why it is not well; `null`: it is.
    pub(crate) trouble: Option<String>,
    /// How the one before it ended; `null`: none has since the agent started.
    pub(crate) last_end: Option<String>,
    /// When that was.
    pub(crate) ended_at: Option<Timestamp>,
}

impl From<Shown> for EnvoyStatus {
    fn from(shown: Shown) -> Self {
        let Shown { capture, pid, since, why_not, last_end } = shown;
        let (ended_at, last_end) = last_end.unzip();
        let well = capture.is_some();
        let not_yet = || (!well).then(|| "it was not asked yet".to_owned());
        Self { well, pid, since, trouble: why_not.or_else(not_yet), last_end, ended_at }
    }
}

/// The Envoy beside the agent, if there is to be one.
pub(super) struct Beside {
    shown: watch::Sender<Shown>,
    is_wanted: bool,
    parts: Option<Box<Parts>>,
    /// Where one may run that was begun otherwise: without Envoy, or as another user.
    elsewhere: Vec<Place>,
}

struct Parts {
    relay: Part,
    supervisor: Supervisor,
}

impl Beside {
    /// Makes ready what feeds it, and looks whether it runs. Where it cannot be had, this is told
    /// and the host does without: the rules need no Envoy.
    pub(super) fn begin(directory: &Path, settings: &Settings, standing: &Standing) -> Self {
        let mut shown = Shown::default();
        let parts = match Parts::open(directory, settings, standing) {
            Ok(parts) => parts,
            Err(failure) => {
                let why = chain(&failure);
                tracing::error!(%why, "there is no Envoy beside this agent");
                shown.why_not = Some(why);
                None
            }
        };
        shown.capture = parts.as_ref().and_then(|parts| parts.supervisor.adopted());
        let here = parts.as_ref().map(|parts| parts.supervisor.directory());
        let is_elsewhere = |place: &Place| Some(place.directory()) != here;
        let elsewhere = Place::all_of(directory).into_iter().filter(is_elsewhere).collect();
        let is_wanted = settings.envoy.is_some();
        let shown = watch::Sender::new(shown);
        Self { shown, is_wanted, parts: parts.map(Box::new), elsewhere }
    }

    /// What takes this host's own calls.
    pub(super) fn capture(&self) -> Option<Capture> {
        self.shown.borrow().capture
    }

    /// How it is, if there is to be one.
    pub(super) fn shown(&self) -> watch::Receiver<Shown> {
        self.shown.subscribe()
    }

    /// For `agent status`.
    pub(super) fn status(&self) -> Option<watch::Receiver<Shown>> {
        self.is_wanted.then(|| self.shown())
    }

    /// Feeds it and keeps it running.
    pub(super) async fn go_on(self) {
        let Self { shown, parts, elsewhere, .. } = self;
        for place in elsewhere {
            unit::take_back(&place);
            if process::end(&place).await {
                tracing::warn!("an Envoy that ran otherwise than it is to was ended");
            }
        }
        let Some(parts) = parts else { return std::future::pending().await };
        let Parts { relay, supervisor } = *parts;
        let relaying = Box::pin(relay.run(std::future::pending()));
        let why = tokio::select! {
            relayed = relaying => match relayed {
                Err(failure) => chain(&failure),
                Ok(()) => "it is not fed any more".to_owned(),
            },
            () = supervisor.keep(&shown) => "it is not watched any more".to_owned(),
        };
        tracing::error!(%why, "Envoy is left alone");
        shown.send_modify(|shown| (shown.capture, shown.why_not) = (None, Some(why)));
        // The rules go on without it.
        std::future::pending().await
    }
}

impl Shown {
    /// What of this host's own calls it takes.
    pub(super) const fn capture(&self) -> Option<Capture> {
        self.capture
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
        let start = if place.is_by_unit() {
            unit::tell(&place, &envoy.program)?;
            Start::ByUnit
        } else {
            Start::Here(envoy.program.clone())
        };
        let supervisor = Supervisor::new(place, start, settled);
        Ok(Some(Self { relay, supervisor }))
    }
}

/// Brings the rules to do without Envoy, as the last that an agent does that stops: nobody would
/// see that Envoy is unwell.
pub(super) async fn release(asks: &mpsc::Sender<Ask>, world: &Shared) {
    let host = world.lock().host.clone();
    if host.capture.is_none() {
        return;
    }
    let without = async {
        // The actor goes only with the process.
        let _ = asks.send(Ask::Host(Box::new(Host { capture: None, ..host }))).await;
        following::ask(asks, |done| Ask::Applied { done }).await
    };
    if tokio::time::timeout(RELEASE_WITHIN, without).await.is_err() {
        tracing::warn!("this host's own calls are still sent to Envoy, which nobody watches");
    }
}

/// Whether an Envoy can run as this user beside the agent of this directory.
pub(crate) fn check(directory: &Path, user: &str) -> Result<(), Failure> {
    place::check(directory, user)
}

/// The number of a user that an Envoy can run as.
pub(crate) fn user(name: &str) -> Option<u32> {
    place::number(name)
}

/// Keeps the Envoy running that an agent without root has asked for.
pub(crate) async fn keep() -> Result<(), Failure> {
    let _log = log::begin(LOGGED, None)?;
    unit::run().await
}

/// Ends the Envoy of an agent that leaves, and removes what was made for it outside of the agent's
/// directory; whether one ran.
pub(super) async fn end(directory: &Path) -> Result<bool, Failure> {
    let mut ended = false;
    for place in Place::all_of(directory) {
        unit::take_back(&place);
        ended |= process::end(&place).await;
        place.remove()?;
    }
    // Another agent may have its own there.
    let _ = std::fs::remove_dir(place::RUNTIME);
    Ok(ended)
}
