//! The identity of this VM, where it has joined.

use std::path::Path;
use std::sync::Arc;

use agent::identity::{Health, Identity, Keeper, Newest, Store};
use controller::clock::Clock;
use tokio::sync::watch;
use xds::follow::dial::Dial;

use crate::following;
use crate::host::files::Settings;
use crate::verbs::{Failure, chain};

/// Its directory in the agent's.
pub(crate) const DIRECTORY: &str = "identity";

/// Who this VM is to a controller.
pub(super) enum Standing {
    /// Nobody: it follows loopback.
    Nobody,
    /// Somebody.
    Somebody(Box<Keeper>),
}

/// Reads the identity that join made.
pub(super) fn open(directory: &Path, settings: &Settings) -> Result<Standing, Failure> {
    if !settings.joined {
        return Ok(Standing::Nobody);
    }
    let failed = |error: agent::identity::StoreError| Failure::Failed(chain(&error));
    let found = Store::open(&directory.join(DIRECTORY)).map_err(failed)?;
    let Some(identity) = found.identity else {
        return Err(Failure::Failed(
            "this VM has joined and its identity is gone; at the controller run `crossfade token \
             create NAME --replace`, and paste here what it prints"
                .to_owned(),
        ));
    };
    let controllers = settings.controllers.clone();
    let random = following::random()();
    Ok(Standing::Somebody(Box::new(Keeper::new(found.store, identity, controllers, random))))
}

impl Standing {
    /// How controllers are dialled.
    pub(super) fn dial(&self, settings: &Settings) -> Result<Dial, Failure> {
        let dial = match self {
            Self::Nobody => Dial::new(&settings.controllers, None),
            Self::Somebody(keeper) => {
                Dial::with_source(&settings.controllers, Arc::new(Newest(keeper.identity())))
            }
        };
        dial.map_err(|error| Failure::Usage(chain(&error)))
    }

    /// How the identity is; `None`: there is none.
    pub(super) fn health(
        &self,
    ) -> Option<(watch::Receiver<Arc<Identity>>, watch::Receiver<Health>)> {
        match self {
            Self::Nobody => None,
            Self::Somebody(keeper) => Some((keeper.identity(), keeper.health())),
        }
    }

    /// Keeps the identity valid.
    pub(super) async fn keep(self) {
        match self {
            Self::Nobody => std::future::pending().await,
            Self::Somebody(keeper) => {
                let clock = Clock::start();
                keeper.run(move || clock.now(), following::random()).await;
            }
        }
    }
}
