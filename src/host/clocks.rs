//! Why no controller is reached, where that is a matter of time: a certificate is valid by a clock,
//! and a handshake that fails by one says little of it. Whoever answers is asked for its time.

use std::sync::Arc;
use std::time::Duration;

use agent::identity::{CallError, Identity, time};
use controller::clock::Clock;
use tokio::sync::watch;

use crate::identity::Standing;

/// How soon after somebody answered they are asked again: as long as the longest pause between
/// attempts to follow.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// How soon after nobody did.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Why nobody is followed.
#[derive(Clone)]
pub(super) struct Why {
    /// In the words of the last attempt; `None`: somebody is, or nobody was tried yet.
    away: watch::Receiver<Option<Arc<str>>>,
    /// In better ones, where it is a matter of time.
    untimely: watch::Receiver<Option<Arc<str>>>,
}

impl Why {
    /// The best words; `None`: somebody is followed, or nobody was tried yet.
    pub(super) fn words(&self) -> Option<String> {
        let (away, untimely) = (self.away.borrow(), self.untimely.borrow());
        let words = away.as_ref().map(|words| untimely.as_ref().unwrap_or(words));
        words.map(ToString::to_string)
    }
}

/// Why nobody is followed, and what finds that out until dropped. `away` is what attempts to follow
/// say.
pub(super) fn watched(
    standing: &Standing,
    controllers: &[String],
    away: watch::Receiver<Option<Arc<str>>>,
) -> (Why, impl Future<Output = ()> + use<>) {
    let (why, untimely) = watch::channel(None);
    let identity = standing.health().map(|(identity, _)| identity);
    let going_on = go_on(identity, controllers.to_vec(), away.clone(), why);
    (Why { away, untimely }, going_on)
}

/// Says in `why`, while nobody is followed, whether the clocks do not agree or the certificate has
/// expired; `None`: neither, or nobody answers.
async fn go_on(
    identity: Option<watch::Receiver<Arc<Identity>>>,
    controllers: Vec<String>,
    mut away: watch::Receiver<Option<Arc<str>>>,
    why: watch::Sender<Option<Arc<str>>>,
) {
    let Some(identity) = identity else { return std::future::pending().await };
    loop {
        if away.changed().await.is_err() {
            return std::future::pending().await;
        }
        if away.borrow_and_update().is_none() {
            why.send_replace(None);
            continue;
        }
        let newest = Arc::clone(&identity.borrow());
        let (told, pause) = ask(&controllers, &newest).await;
        if why.send_if_modified(|why| std::mem::replace(why, told.clone()) != told)
            && let Some(why) = told
        {
            tracing::error!(%why, "no controller is followed");
        }
        tokio::time::sleep(pause).await;
    }
}

async fn ask(controllers: &[String], identity: &Identity) -> (Option<Arc<str>>, Duration) {
    let clock = Clock::start();
    for controller in controllers {
        match time(controller, identity, clock.now()).await {
            Ok(now) if now >= identity.not_after => {
                let why = format!(
                    "{controller}: this machine's certificate expired at {}; it is let in again \
                     once that is renewed, which it asks for by itself",
                    identity.not_after
                );
                return (Some(why.into()), ASK_EVERY);
            }
            Err(apart @ CallError::Apart { .. }) => {
                return (Some(apart.to_string().into()), ASK_EVERY);
            }
            Ok(_) => return (None, ASK_EVERY),
            Err(_) => {}
        }
    }
    (None, TRY_EVERY)
}
