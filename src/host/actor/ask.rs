//! What is asked of the actor, and the ways to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::rules;
use bytes::Bytes;
use plan::ServiceId;
use tokio::sync::{mpsc, oneshot};
use xds::follow::{Applied, Held, Item, Sink};
use xds::{Name, TypeUrl};

use crate::following;
use crate::host::world::World;

/// What is asked of the actor.
pub(in crate::host) enum Ask {
    /// Put this in force.
    Apply { held: Arc<Held>, named: Vec<Name>, done: oneshot::Sender<Applied> },
    /// Is it in force now?
    Applied { done: oneshot::Sender<Applied> },
    /// Close the TCP flows of these services on the side that lost.
    Drain { services: Vec<ServiceId>, done: oneshot::Sender<Drained> },
    /// Other addresses are this host's, or Envoy came or went.
    Host(Box<rules::Host>),
}

/// What was closed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::host) struct Drained {
    /// Of these services.
    pub(in crate::host) closed: Vec<ServiceId>,
    /// Connections of these are left alone on legacy: nobody but the program there closes them.
    pub(in crate::host) left: Vec<ServiceId>,
}

/// The pump's way to the actor. Tables are judged here, beside those of other plans.
pub(in crate::host) struct Following {
    pub(in crate::host) asks: mpsc::Sender<Ask>,
    pub(in crate::host) world: Shared,
}

/// What is held, for those who judge and for the one who changes it.
#[derive(Clone, Debug)]
pub(in crate::host) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(in crate::host) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// Whoever panicked while holding it left it whole: it is changed by assignments.
    pub(in crate::host) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Following {
    fn check(
        &mut self,
        _: &TypeUrl,
        name: &str,
        body: &Bytes,
        held: Option<&Item>,
    ) -> Result<(), String> {
        self.world.lock().check(name, body, held)
    }

    async fn apply(&mut self, held: &Arc<Held>, named: &[Name]) -> Applied {
        let (held, named) = (Arc::clone(held), named.to_vec());
        following::ask(&self.asks, |done| Ask::Apply { held, named, done }).await
    }

    async fn applied(&mut self, _: &TypeUrl) -> Applied {
        following::ask(&self.asks, |done| Ask::Applied { done }).await
    }
}
