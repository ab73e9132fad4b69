//! `crossfade shift`: moves a service, or all of a plan, to a split now.

use serde_json::json;

use super::{Context, Exit, Failure, send, subject};
use crate::cli::{Change, Shift};

/// Moves it.
pub(crate) async fn run(args: Change<Shift>, context: &Context) -> Result<Exit, Failure> {
    let found = subject::find(&args.what.subject, context).await?;
    let split = args.what.split;
    let mut body =
        json!({ "splitBp": split.bp(), "override": send::overrides(&args.what.overrides) });
    let mut words = format!("shift {} to {split}", found.plan());
    if let (Some(service), Some(fields)) = (found.service(), body.as_object_mut()) {
        fields.insert("service".to_owned(), json!(service));
        words = format!("shift {}/{service} to {split}", found.plan());
    }
    let path = format!("/v1/plans/{}/shift", found.plan());
    send::post(&path, body, &args.how, &words, context).await
}
