//! `crossfade reload`: reads again the files that `serve` was given.

use controller::api::reload::Reloaded;
use serde_json::json;

use super::{Context, Exit, Failure};
use crate::cli::{Output, ReloadArgs, page};

/// Reloads and says which plans changed and which were skipped.
pub(crate) async fn run(args: &ReloadArgs, context: &Context) -> Result<Exit, Failure> {
    let body = json!({ "reason": args.reason }).to_string().into_bytes();
    let post = hyper::Method::POST;
    let reloaded: Reloaded =
        context.client.send(post, "/v1/reload", &[], "application/json", body).await?;
    if context.output == Output::Json {
        page::json(&reloaded)?;
        return Ok(Exit::Done);
    }
    // Where nothing changed, the answer names the plans that were read.
    let changed = reloaded.done.plans.iter().filter(|_| reloaded.done.changed);
    let changed: Vec<&str> = changed.map(|plan| plan.plan.as_str()).collect();
    let mut text = match changed.as_slice() {
        [] => "no zone changed\n".to_owned(),
        changed => format!("zones changed: {}\n", changed.join(", ")),
    };
    for note in &reloaded.done.notes {
        text.push_str(&format!("{note}\n"));
    }
    let skipped: Vec<&str> = reloaded.skipped.iter().map(|plan| plan.as_str()).collect();
    if !skipped.is_empty() {
        let skipped = skipped.join(", ");
        text.push_str(&format!("skipped, came by the API: {skipped}; use crossfade apply\n"));
    }
    page::print(&text)?;
    Ok(Exit::Done)
}
