//! The controller itself: its receivers, its log, its health.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use plan::SinkId;

use super::answer::{Forgotten, Verified};
use super::body::Json;
use super::call::{Asked, Caller, Named, Nothing};
use super::peer::Peer;
use super::problem::{Code, Failure};
use super::reload::{self, Reloaded};
use super::request::Plain;
use super::{Api, backup as copy};
use crate::handle::{Info, Stage};
use crate::identity;

/// `DELETE /v1/sinks/{id}`
pub(crate) async fn forget(
    State(api): State<Arc<Api>>,
    Named(id): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Answer<Forgotten>, Failure> {
    let forgotten = SinkId::new(&id);
    api.handle.forget(forgotten.clone()).await?;
    Ok(Answer(Forgotten { forgotten }))
}

/// `GET /v1/audit/verify`
pub(crate) async fn verify(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Answer<Verified>, Failure> {
    let verified = api.handle.audit_verify().await?;
    Ok(Answer(Verified {
        records: verified.records,
        head: verified.head,
        digest: verified.digest.to_string(),
    }))
}

/// `POST /v1/reload`
pub(crate) async fn reload(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    Json(body): Json<Plain>,
) -> Result<Answer<Reloaded>, Failure> {
    reload::reload(&api, caller, body).await.map(Answer)
}

/// `POST /v1/backup`
pub(crate) async fn backup(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
    Extension(peer): Extension<Peer>,
    caller: Caller,
    Json(Plain { reason }): Json<Plain>,
) -> Result<Response, Failure> {
    if matches!(peer, Peer::Tcp(_)) && identity::has_key(api.handle.shared.store.as_ref()).await? {
        // By loopback every user of this host could ask for it.
        let words = "a backup of this controller has the key of the machines' CA in it, so it is \
                     given out on the unix socket alone: crossfade.sock in the data directory \
                     (CROSSFADE_SERVER=unix:DIR/crossfade.sock)";
        return Err(Failure::new(Code::SocketOnly, words));
    }
    // The log is not changed, so the audit is the process's own.
    let reason = reason.map_or_else(String::new, String::from);
    tracing::info!(actor = %caller.actor(), reason, "backup");
    copy::send(&api).await
}

/// `GET /v1/info`
pub(crate) async fn info(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Answer<Info> {
    Answer(api.handle.info())
}

/// `GET /openapi.json`
pub(crate) async fn openapi(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let media = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, media)], api.document.clone())
}

/// `GET /healthz`
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
pub(crate) async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Failure> {
    let stage = *api.handle.stage().borrow();
    match stage {
        Stage::Ready if !*api.stop.borrow() => Ok("ready\n"),
        Stage::Starting => Err(Failure::new(Code::NotReady, "the server is starting")),
        Stage::Ready | Stage::Stopping => {
            Err(Failure::new(Code::NotReady, "the server is stopping"))
        }
    }
}
