//! The one task that changes what a replica answers: what the pump brings and what the machine's
//! own operator does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use controller::clock::Clock;
use dns::Publisher;
use plan::PlanName;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use xds::follow::{Again, Applied, Held, Item, Link, Sink};
use xds::{Name, TypeUrl};

use crate::following;
use crate::glass::{self, LOOK_EVERY, Stamp};
use crate::replica::report::Shown;
use crate::replica::state::{State, check};

/// What the pump asks.
pub(super) enum Ask {
    /// Put this in force.
    Apply { held: Arc<Held>, named: Vec<Name>, done: oneshot::Sender<Applied> },
    /// Is this type in force now?
    Applied { type_url: TypeUrl, done: oneshot::Sender<Applied> },
}

/// The pump's way to the actor.
pub(super) struct Following {
    pub(super) asks: mpsc::Sender<Ask>,
}

impl Sink for Following {
    fn check(
        &mut self,
        type_url: &TypeUrl,
        name: &str,
        body: &Bytes,
        held: Option<&Item>,
    ) -> Result<(), String> {
        check(type_url, name, body, held)
    }

    async fn apply(&mut self, held: &Arc<Held>, named: &[Name]) -> Applied {
        let (held, named) = (Arc::clone(held), named.to_vec());
        following::ask(&self.asks, |done| Ask::Apply { held, named, done }).await
    }

    async fn applied(&mut self, type_url: &TypeUrl) -> Applied {
        let type_url = type_url.clone();
        following::ask(&self.asks, |done| Ask::Applied { type_url, done }).await
    }
}

/// See the module.
pub(super) struct Actor {
    pub(super) state: State,
    pub(super) directory: PathBuf,
    pub(super) publisher: Publisher,
    pub(super) clock: Clock,
    pub(super) again: watch::Sender<Again>,
    pub(super) links: watch::Receiver<Option<Link>>,
    pub(super) shown: watch::Sender<Shown>,
}

impl Actor {
    /// Runs until nobody asks.
    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Ask>, noticed: &Notify) {
        self.publish().await;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Stamp::of(&self.directory);
        // Plans that the controller has said on this connection.
        let mut confirmed: BTreeSet<PlanName> = BTreeSet::new();
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.links.changed() => {
                    self.links.borrow_and_update();
                    confirmed.clear();
                }
                _ = look.tick() => {
                    let stamp = Stamp::of(&self.directory);
                    if stamp != seen {
                        seen = stamp;
                        self.glass_changed(noticed).await;
                    }
                }
                ask = asks.recv() => match ask {
                    Some(Ask::Apply { held, named, done }) => {
                        let applied = self.apply(&held, &named, &mut confirmed).await;
                        // The pump waits for it, or has gone.
                        let _ = done.send(applied);
                    }
                    Some(Ask::Applied { type_url, done }) => {
                        let _ = done.send(self.applied(&type_url));
                    }
                    None => return,
                },
            }
        }
    }

    async fn glass_changed(&mut self, noticed: &Notify) {
        let glass = glass::read_or_nothing(&self.directory);
        if glass.force == self.state.glass().force {
            return;
        }
        glass.log();
        tokio::task::block_in_place(|| self.state.break_glass(glass));
        self.publish().await;
        // The controller says what it wants of these plans once more, and hears what is done here.
        let names = self.state.concerned();
        self.again.send_modify(|again| *again = Again { round: again.round + 1, names });
        noticed.notify_one();
    }

    async fn apply(
        &mut self,
        held: &Held,
        named: &[Name],
        confirmed: &mut BTreeSet<PlanName>,
    ) -> Applied {
        tokio::task::block_in_place(|| {
            self.state.take(held);
            self.state.rebuild();
        });
        if held.type_url.as_str() == TypeUrl::ZONE_TABLE {
            confirmed.extend(named.iter().filter_map(|name| name.as_str().parse().ok()));
            self.dissolve(confirmed);
        }
        self.publish().await;
        self.applied(&held.type_url)
    }

    /// Ends break-glass where the controller itself says legacy by now.
    fn dissolve(&mut self, confirmed: &BTreeSet<PlanName>) {
        for service in self.state.dissolved(confirmed) {
            // The file has changed, so it is taken up as any other act is.
            glass::dissolve(&self.directory, service.as_ref(), self.clock.now());
        }
    }

    fn applied(&self, type_url: &TypeUrl) -> Applied {
        let tables = type_url.as_str() == TypeUrl::ZONE_TABLE;
        let waits = if tables { self.state.waits() } else { None };
        Applied { refused: self.state.refused(type_url), waits }
    }

    /// Returns when no thread can answer from anything older.
    async fn publish(&self) {
        self.publisher.publish(Arc::clone(self.state.catalog())).await;
        self.shown.send_replace(Shown {
            services: Arc::clone(self.state.services()),
            force: self.state.glass().force.clone(),
        });
    }
}
