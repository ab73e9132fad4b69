//! `crossfade history`: who did what to a plan, when and why.

use controller::handle::History as Page;

use super::{Context, Exit, Failure};
use crate::cli::{History, Output, page, tree};

/// Prints the newest entries, oldest first.
pub(crate) async fn run(args: &History, context: &Context) -> Result<Exit, Failure> {
    let path = format!("/v1/plans/{}/history?limit={}", args.plan, args.limit);
    let Page { mut entries, .. } = context.client.get(&path).await?;
    entries.reverse();
    if context.output == Output::Json {
        page::json(&entries)?;
        return Ok(Exit::Done);
    }
    let mut table = page::Table::new(&["REVISION", "WHEN", "WHO", "WHAT", "WHY"]);
    for entry in &entries {
        let who = entry.actor.as_ref().map_or_else(|| "the plan".to_owned(), ToString::to_string);
        let what = match entry.notes.as_slice() {
            [] => entry.what.clone(),
            notes => format!("{} ({})", entry.what, notes.join("; ")),
        };
        let why = entry.reason.clone().unwrap_or_default();
        let revision = format!("{}.{}", entry.incarnation, entry.revision);
        table.row(vec![revision, tree::clock(entry.at), who, what, why]);
    }
    page::print(&table.text())?;
    Ok(Exit::Done)
}
