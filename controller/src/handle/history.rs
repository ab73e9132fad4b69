//! Pages of the log, newest first.

use plan::view::{self, Entry};
use plan::{PlanName, Record, Token};
use serde::{Deserialize, Serialize};

use crate::handle::Handle;
use crate::handle::log::ReadError;
use crate::store::{ROWS_MAX, Row, StoreError};

/// The most entries of a page.
pub const ENTRIES_MAX: usize = 1_000;

/// The most records that are read for one page. A plan that is rarely touched then takes several
/// pages, some of them empty, instead of one that holds up other readers.
pub const SCAN_MAX: u64 = 10_000;

/// Which part of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Entries older than this revision; `None`: the newest.
    pub before: Option<u64>,
    /// At most so many, [`ENTRIES_MAX`] at most.
    pub limit: usize,
}

/// A page of the history, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct History {
    /// The entries, newest first.
    pub entries: Vec<Entry>,
    /// What to ask as `before` for older ones; `null`: there are none.
    pub before: Option<u64>,
}

impl Handle {
    /// What was done to this plan, or to all of them, newest first.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn history(&self, plan: Option<&PlanName>, page: Page) -> Result<History, ReadError> {
        let head = self.state().token();
        let end = head.revision.saturating_add(1);
        let mut before = page.before.unwrap_or(end).min(end);
        let limit = page.limit.clamp(1, ENTRIES_MAX);
        let oldest = before.saturating_sub(SCAN_MAX);
        let mut entries = Vec::new();
        while before > 1 && before > oldest && entries.len() < limit {
            let from = before.saturating_sub(CHUNK).max(1);
            let chunk = self.rows_between(from, before, head.incarnation).await?;
            for row in chunk.iter().rev() {
                let record = Record::decode(&row.bytes)
                    .map_err(|_| ReadError::Record { token: row.token })?;
                before = row.token.revision;
                let entry = view::history(&record);
                if plan.is_none_or(|plan| entry.plans.contains(plan)) {
                    entries.push(entry);
                }
                if entries.len() == limit {
                    break;
                }
            }
            before = before.min(if entries.len() == limit { before } else { from });
        }
        Ok(History { entries, before: (before > 1).then_some(before) })
    }

    /// The rows with revisions `from..before`, oldest first.
    async fn rows_between(
        &self,
        from: u64,
        before: u64,
        incarnation: u32,
    ) -> Result<Vec<Row>, ReadError> {
        let mut rows: Vec<Row> = Vec::new();
        // Revisions never repeat over incarnations, so the place before `from` is found from the
        // present incarnation downwards.
        let mut after = self.place_before(from, incarnation).await?;
        loop {
            let page = self.shared.store.rows(after, ROWS_MAX).await?;
            let Some(last) = page.last() else { return Ok(rows) };
            after = last.token;
            let wanted = |row: &Row| (from..before).contains(&row.token.revision);
            rows.extend(page.into_iter().filter(wanted));
            if after.revision.saturating_add(1) >= before {
                return Ok(rows);
            }
        }
    }

    /// The token of the record before revision `from`, or one that sorts right before it.
    pub(super) async fn place_before(
        &self,
        from: u64,
        incarnation: u32,
    ) -> Result<Token, StoreError> {
        let revision = from.saturating_sub(1);
        for incarnation in (1..=incarnation).rev() {
            let place = Token { incarnation, revision };
            let next = self.shared.store.rows(place, 1).await?;
            if next.first().is_some_and(|row| row.token.revision == from) {
                return Ok(place);
            }
        }
        Ok(Token::START)
    }
}

/// How many records are read at a time.
const CHUNK: u64 = 500;
