//! `crossfade history`: who did what to a plan, when and why.

use controller::handle::History as Page;
use plan::view::Entry;

use super::{Context, Exit, Failure};
use crate::cli::{History, Output, page, tree};

/// The most entries that the API gives at once.
const PAGE_MAX: usize = 1_000;

/// Prints the newest entries, oldest first.
pub(crate) async fn run(args: &History, context: &Context) -> Result<Exit, Failure> {
    let entries = newest(args, context).await?;
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

/// As many as were asked for, page by page, oldest first.
async fn newest(args: &History, context: &Context) -> Result<Vec<Entry>, Failure> {
    let wanted = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut found: Vec<Entry> = Vec::new();
    let mut before = String::new();
    loop {
        let limit = wanted.saturating_sub(found.len()).clamp(1, PAGE_MAX);
        let path = format!("/v1/plans/{}/history?limit={limit}{before}", args.plan);
        let page: Page = context.client.get(&path).await?;
        found.extend(page.entries);
        match page.before {
            Some(revision) if found.len() < wanted => before = format!("&before={revision}"),
            Some(_) | None => break,
        }
    }
    found.truncate(wanted);
    found.reverse();
    Ok(found)
}
