//! `crossfade rollback`: every client to legacy, now.

use serde_json::json;

use super::subject::Found;
use super::{Context, Exit, Failure, send, subject};
use crate::cli::{Change, Rollback};

/// Takes everyone back.
pub(crate) async fn run(args: Change<Rollback>, context: &Context) -> Result<Exit, Failure> {
    if args.what.all {
        return send::post("/v1/rollback", json!({}), &args.how, "rollback of all", context).await;
    }
    let found = match &args.what.subject {
        Some(subject) => subject::find(subject, context).await?,
        None => Found::Plan(subject::plan(None, "rollback", context).await?),
    };
    let (body, words) = match found.service() {
        Some(service) => {
            (json!({ "service": service }), format!("rollback of {}/{service}", found.plan()))
        }
        None => (json!({}), format!("rollback of {}", found.plan())),
    };
    let path = format!("/v1/plans/{}/rollback", found.plan());
    send::post(&path, body, &args.how, &words, context).await
}
