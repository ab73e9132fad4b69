//! Everything that comes in beside rollbacks and the store's answers, each door in its turn.

use std::fmt;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use plan::{Observation, Record, Token};
use tokio::sync::mpsc;

use crate::core::Input;
use crate::handle::{ForgetKnock, Knock};

/// How long after a store's watch has ended it is watched again.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// The doors. None is preferred, so that a rush at one does not close the others.
pub(super) struct Doors {
    pub(super) ordinary: mpsc::Receiver<Knock>,
    pub(super) observed: mpsc::Receiver<Observation>,
    pub(super) forget: mpsc::Receiver<ForgetKnock>,
    pub(super) said: mpsc::Receiver<Input>,
    /// What others append; `None`: the watch has ended.
    pub(super) moved: Option<BoxStream<'static, Record>>,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors").finish_non_exhaustive()
    }
}

/// What came in.
#[derive(Debug)]
pub(super) enum Event {
    Ask(Knock),
    Observed(Observation),
    Forget(ForgetKnock),
    Said(Input),
    Moved(Token),
    WatchEnded,
}

impl Doors {
    /// The next that comes in. Safe to drop: nothing is taken before it returns.
    pub(super) async fn next(&mut self) -> Event {
        let Self { ordinary, observed, forget, said, moved } = self;
        tokio::select! {
            Some(knock) = ordinary.recv() => Event::Ask(knock),
            Some(observation) = observed.recv() => Event::Observed(observation),
            Some(knock) = forget.recv() => Event::Forget(knock),
            Some(input) = said.recv() => Event::Said(input),
            event = next_moved(moved) => event,
        }
    }
}

async fn next_moved(moved: &mut Option<BoxStream<'static, Record>>) -> Event {
    if let Some(watch) = moved {
        if let Some(record) = watch.next().await {
            return Event::Moved(record.token);
        }
        *moved = None;
    }
    tokio::time::sleep(WATCH_AGAIN).await;
    Event::WatchEnded
}
