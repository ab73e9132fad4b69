//! `crossfade sinks`: every receiver; and `sinks forget`.

use controller::api::answer::Sinks as Listed;
use serde_json::Value;

use super::{Context, Exit, Failure};
use crate::cli::{Output, Sinks, SinksVerb, page, tree};
use crate::client::encode;

/// The most characters of a refusal in the list.
const WORDS_MAX: usize = 200;

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
            context.paint.bad(&format!("{}: {}", nack.token, on_a_line(&nack.detail)))
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

/// The beginning of a sink's own words: proxies quote whole resources. JSON has all of them.
fn on_a_line(words: &str) -> String {
    let mut chars = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = chars.by_ref().take(WORDS_MAX).collect();
    if chars.next().is_some() {
        line.push_str(" … (--output json has it all)");
    }
    line
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stays_on_its_line() {
        assert_eq!(on_a_line("no\nsuch\tcluster"), "no such cluster");
        let long = "ä".repeat(WORDS_MAX + 1);
        let line = on_a_line(&long);
        assert_eq!(line, format!("{} … (--output json has it all)", "ä".repeat(WORDS_MAX)));
        assert_eq!(on_a_line(&long[..2 * WORDS_MAX]), "ä".repeat(WORDS_MAX));
    }
}
