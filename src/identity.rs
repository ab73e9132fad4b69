//! The identity of this machine, where it has joined: as a VM's agent, or as a gateway's relay.

pub(crate) mod ticket;

use std::path::Path;
use std::sync::Arc;

use agent::identity::{Health, Identity, Keeper, Newest, Store};
use controller::clock::Clock;
use tokio::sync::watch;
use xds::follow::dial::Dial;
use xds::join::{Kind, Ticket};

use crate::following;
use crate::verbs::{Failure, chain};

/// Its directory in that of an agent or relay.
const DIRECTORY: &str = "identity";

/// Who this machine is to a controller.
pub(crate) enum Standing {
    /// Nobody: it follows in the clear.
    Nobody,
    /// Somebody.
    Somebody(Box<Keeper>),
}

/// Uses a ticket up, and keeps in `directory` what came of it: nothing, where it is refused for
/// good.
pub(crate) async fn join(ticket: &Ticket, directory: &Path) -> Result<Identity, Failure> {
    let place = directory.join(DIRECTORY);
    let is_new = place.symlink_metadata().is_err();
    let joined = join_in(ticket, directory, &place).await;
    if joined.is_err() && is_new {
        // It is empty, unless the key in it may be needed.
        let _ = std::fs::remove_dir(&place);
    }
    joined
}

async fn join_in(ticket: &Ticket, directory: &Path, place: &Path) -> Result<Identity, Failure> {
    let mut found = Store::open(place).map_err(failed)?;
    // An agent and a relay have directories of their own.
    let other = found.identity.as_ref().map(|had| &had.kind);
    if let Some(other) = other.filter(|kind| kind.is_agent() != ticket.kind.is_agent()) {
        return Err(Failure::Usage(format!(
            "{} is of {other}, which `{}` made; give another --data",
            directory.display(),
            other.join_command()
        )));
    }
    let now = Clock::start().now();
    let identity = agent::identity::enroll(ticket, &mut found.store, now).await;
    identity.map_err(|error| Failure::Failed(chain(&error)))
}

impl Standing {
    /// What join made in `directory`, which is to be kept valid by these controllers, and its
    /// newest identity. `here` is what has it: an identity of another kind is not this program's.
    pub(crate) fn of(
        directory: &Path,
        controllers: &[String],
        here: impl Fn(&Kind) -> bool,
    ) -> Result<(Self, watch::Receiver<Arc<Identity>>), Failure> {
        let found = Store::open(&directory.join(DIRECTORY)).map_err(failed)?;
        for damage in &found.damaged {
            tracing::error!(%damage, "an identity is damaged");
        }
        let Some(identity) = found.identity else {
            return Err(Failure::Failed(format!(
                "{} has joined and its identity is gone; at the controller run `crossfade token \
                 create NAME --replace` as before, and paste here what it prints",
                directory.display()
            )));
        };
        if !here(&identity.kind) {
            return Err(Failure::Usage(format!(
                "the identity in {} is of {}: {} made it, for another program",
                directory.display(),
                identity.kind,
                identity.kind.join_command()
            )));
        }
        let random = following::random()();
        let keeper = Keeper::new(found.store, identity, controllers.to_vec(), random);
        let newest = keeper.identity();
        Ok((Self::Somebody(Box::new(keeper)), newest))
    }

    /// How controllers are dialled.
    pub(crate) fn dial(&self, controllers: &[String]) -> Result<Dial, Failure> {
        let dial = match self {
            Self::Nobody => Dial::new(controllers, None),
            Self::Somebody(keeper) => {
                Dial::with_source(controllers, Arc::new(Newest(keeper.identity())))
            }
        };
        dial.map_err(|error| Failure::Usage(chain(&error)))
    }

    /// The newest identity, and how it is; `None`: there is none.
    pub(crate) fn health(
        &self,
    ) -> Option<(watch::Receiver<Arc<Identity>>, watch::Receiver<Health>)> {
        match self {
            Self::Nobody => None,
            Self::Somebody(keeper) => Some((keeper.identity(), keeper.health())),
        }
    }

    /// Keeps it valid.
    pub(crate) async fn keep(self) {
        match self {
            Self::Nobody => std::future::pending().await,
            Self::Somebody(keeper) => {
                let clock = Clock::start();
                keeper.run(move || clock.now(), following::random()).await;
            }
        }
    }
}

fn failed(error: agent::identity::StoreError) -> Failure {
    Failure::Failed(chain(&error))
}
