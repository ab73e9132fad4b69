//! Watching plans: server-sent events, each with the whole status.
//!
//! The id of an event is made of what it says, so that whoever comes back with the last one is told
//! nothing twice and misses nothing, also after a restart of the server.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use plan::{Digest, PlanName};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::answer::Statuses;
use super::call::Asked;
use super::problem::{Code, Failure};
use super::{Api, limits, reads};
use crate::handle::Changes;

/// Names the last event that a watcher saw.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Which plans are watched.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    plan: Option<PlanName>,
}

/// `GET /v1/watch`
pub(crate) async fn watch(
    State(api): State<Arc<Api>>,
    Asked(which): Asked<Which>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Failure> {
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    if let Some(plan) = &which.plan
        && api.handle.state().plan(plan).is_none()
    {
        return Err(reads::gone(&api, plan));
    }
    let Ok(seat) = Arc::clone(&api.watchers).try_acquire_owned() else {
        let most = limits::WATCHERS_MAX;
        return Err(Failure::new(Code::TooMany, format!("{most} watchers are there already")));
    };
    let (changes, stop) = (api.handle.changes(), api.stop.clone());
    let watcher = Watcher { api, plan: which.plan, last, changes, stop, ended: false, _seat: seat };
    let alive = KeepAlive::new().interval(limits::KEEP_ALIVE).text("still here");
    Ok(Sse::new(watcher.events()).keep_alive(alive))
}

/// One watcher.
struct Watcher {
    api: Arc<Api>,
    plan: Option<PlanName>,
    /// The id of the last event that it saw.
    last: Option<String>,
    changes: Changes,
    stop: watch::Receiver<bool>,
    ended: bool,
    _seat: OwnedSemaphorePermit,
}

impl Watcher {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> + Send {
        futures::stream::unfold(self, async |mut watcher: Self| {
            let event = watcher.next().await?;
            Some((Ok(event), watcher))
        })
    }

    /// The next event that says anything new; `None`: the server stops, or the plan is gone.
    async fn next(&mut self) -> Option<Event> {
        while !self.ended && !*self.stop.borrow() {
            let Some((id, text)) = self.look() else {
                self.ended = true;
                let text = r#"{"gone":true}"#;
                return Some(Event::default().event("gone").data(text));
            };
            if self.last.as_ref() != Some(&id) {
                let event = Event::default().event("status").id(id.as_str()).data(text);
                self.last = Some(id);
                return Some(event);
            }
            tokio::select! {
                change = self.changes.next() => {
                    self.ended = change.is_none();
                }
                () = tokio::time::sleep(limits::EVENT_TICK) => {}
                _ = self.stop.wait_for(|stop| *stop) => return None,
            }
        }
        None
    }

    /// The present status with its id; `None`: the plan is gone.
    fn look(&self) -> Option<(String, String)> {
        let handle = &self.api.handle;
        let text = match &self.plan {
            Some(plan) => serde_json::to_string(&handle.status(plan)?),
            None => serde_json::to_string(&Statuses { plans: handle.statuses() }),
        };
        // Text and numbers can always be written.
        let text = text.unwrap_or_default();
        let digest = Digest::of(text.as_bytes()).to_string();
        let (short, _) = digest.split_at_checked(16)?;
        Some((format!("{}-{short}", handle.state().token()), text))
    }
}
