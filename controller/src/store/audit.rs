//! Reads everything and finds what is not as it was written.

use std::borrow::Cow;

use plan::record::{AuditError, Verified, verify};
use plan::{Digest, Token};
use tokio::sync::mpsc;

use super::{Head, ROWS_MAX, Row, Store, StoreError};

/// How many pages of rows wait to be hashed.
const PAGES: usize = 2;

/// The log, a blob or a cell is not as it was written, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The chain breaks.
    #[error(transparent)]
    Chain(#[from] AuditError),
    /// A row is not what its own columns say.
    #[error("record {token}: {what}")]
    Row {
        /// The token it is stored under.
        token: Token,
        /// What is wrong.
        what: &'static str,
    },
    /// Something is damaged, or the store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl dyn Store + '_ {
    /// Checks every record from the first to the head, the head, every cell and every blob, then
    /// all that [`Store::load`] checks. Goes on while others append; they never wait long.
    ///
    /// # Errors
    /// The first thing that is not as it was written.
    pub async fn verify(&self) -> Result<Verified, VerifyError> {
        let head = self.head().await;
        let (pages, waiting) = mpsc::channel(PAGES);
        let walk = tokio::task::spawn_blocking(move || walk(Pages::new(waiting)));
        let until = head.as_ref().ok().map(|head| head.token);
        let sent = send_rows(self, until, &pages).await;
        drop(pages);
        let verified = walk.await.map_err(|_| StoreError::Stopped)??;
        sent?;
        let head = head?;
        let verified = verified.against(head.token, head.digest)?;
        for name in self.cells().await? {
            self.cell(&name).await?;
        }
        for digest in self.blobs().await? {
            self.blob(digest).await?;
        }
        self.load().await?;
        Ok(verified)
    }
}

/// Sends all rows up to and with `until`, a page at a time. Ends early when the receiver is gone.
pub(super) async fn send_rows(
    store: &(dyn Store + '_),
    until: Option<Token>,
    pages: &mpsc::Sender<Vec<Row>>,
) -> Result<(), StoreError> {
    let mut after = Token::START;
    while until != Some(after) {
        let mut rows = store.rows(after, ROWS_MAX).await?;
        if let Some(until) = until {
            rows.retain(|row| row.token.revision <= until.revision);
        }
        let Some(last) = rows.last() else { break };
        after = last.token;
        if pages.send(rows).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The rows of pages that another thread reads.
pub(super) struct Pages {
    waiting: mpsc::Receiver<Vec<Row>>,
    page: std::vec::IntoIter<Row>,
}

impl Pages {
    pub(super) fn new(waiting: mpsc::Receiver<Vec<Row>>) -> Self {
        Self { waiting, page: Vec::new().into_iter() }
    }
}

impl Iterator for Pages {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.page.next() {
                return Some(Ok(row));
            }
            self.page = self.waiting.blocking_recv()?.into_iter();
        }
    }
}

/// Walks all rows of a log: the chain, and what is stored beside each record.
pub(super) fn walk(
    rows: impl Iterator<Item = Result<Row, StoreError>>,
) -> Result<Verified, VerifyError> {
    let mut stopped = None;
    let records = rows.map_while(|row| match row.map_err(VerifyError::from).and_then(checked) {
        Ok(row) => Some((row.token, Cow::Owned(row.bytes))),
        Err(error) => {
            stopped = Some(error);
            None
        }
    });
    let verified = verify(records)?;
    stopped.map_or(Ok(verified), Err)
}

fn checked(row: Row) -> Result<Row, VerifyError> {
    let token = row.token;
    if Digest::of(&row.bytes) != row.digest {
        let what = "its bytes do not have the digest that is stored beside them; it was edited";
        return Err(VerifyError::Row { token, what });
    }
    let parent = plan::Record::decode(&row.bytes).ok().map(|record| record.parent);
    // Bytes that are no record are for the walk to name.
    if parent.is_some_and(|parent| parent != row.parent) {
        let what = "it names another parent than the one that is stored beside it; it was edited";
        return Err(VerifyError::Row { token, what });
    }
    Ok(row)
}

/// The head after these verified records.
pub(super) fn head(verified: &Verified) -> Head {
    Head { token: verified.head, digest: verified.digest }
}
