//! `crossfade sinks`: every receiver; and `sinks forget`.

use controller::api::answer::Sinks as Listed;
use serde_json::Value;

use super::{Context, Exit, Failure};
use crate::cli::{Output, Sinks, SinksVerb, page, tree};
use crate::client::encode;

/// Lists, or forgets some.
pub(crate) async fn run(args: &Sinks, context: &Context) -> Result<Exit, Failure> {
    match &args.verb {
        None => list(context).await,
        Some(SinksVerb::Forget { ids }) => forget(ids, context).await,
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Listed { sinks } = context.client.get("/v1/sinks").await?;
    if context.output == Output::Json {
        page::json(&sinks)?;
        return Ok(Exit::Done);
    }
    let mut table =
        page::Table::new(&["SINK", "PLANE", "KIND", "STATE", "ACKED", "LAG", "LAST REFUSAL"]);
    for sink in &sinks {
        let state = match (sink.connected, sink.since, sink.left) {
            (true, Some(since), _) => format!("since {}", tree::clock(since)),
            (true, None, _) => "connected".to_owned(),
            (false, _, Some(left)) => {
                context.paint.bad(&format!("away since {}", tree::clock(left)))
            }
            (false, _, None) => context.paint.bad("away"),
        };
        let refusal = sink.nack.as_ref().map_or_else(String::new, |nack| {
            context.paint.bad(&format!("{}: {}", nack.token, nack.detail))
        });
        table.row(vec![
            sink.id.to_string(),
            sink.plane.to_string(),
            sink.kind.clone(),
            state,
            sink.acked.to_string(),
            sink.lag.to_string(),
            refusal,
        ]);
    }
    page::print(&table.text())?;
    Ok(Exit::Done)
}

/// One after the other; the first that is refused ends it.
async fn forget(ids: &[String], context: &Context) -> Result<Exit, Failure> {
    for id in ids {
        let path = format!("/v1/sinks/{}", encode(id));
        let answer: Value = context.client.delete(&path, &[]).await?;
        match context.output {
            Output::Json => page::json(&answer)?,
            Output::Text => page::print(&format!("{id} is expected no more\n"))?,
        }
    }
    Ok(Exit::Done)
}
