//! Reading the whole log.

use std::borrow::Cow;

use plan::record::{self, AuditError, Verified};
use plan::{Digest, Token};
use tokio::sync::mpsc;

use crate::handle::Handle;
use crate::store::{Head, ROWS_MAX, Row, StoreError};

/// The log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store fails.
    #[error("the log cannot be read")]
    Store(#[from] StoreError),
    /// Stored bytes are no record.
    #[error("record {token} cannot be read; run `crossfade audit verify`")]
    Record {
        /// Its number.
        token: Token,
    },
    /// The reader was stopped: the process ends.
    #[error("the controller is stopping")]
    Stopped,
}

/// The log is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum AuditFailure {
    /// A record is not what was written.
    #[error(transparent)]
    Found(#[from] AuditError),
    /// The digest that the store keeps beside a record is another one.
    #[error("record {token}: the digest kept beside it is not that of its bytes")]
    Beside {
        /// Its number.
        token: Token,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Handle {
    /// Walks the whole log as it is stored and compares it with the state in force.
    ///
    /// # Errors
    /// The first record that is not what was written, or the log cannot be read.
    pub async fn audit_verify(&self) -> Result<Verified, AuditFailure> {
        // The head in force now: records that come later are read too but need not be there.
        let state = self.state();
        let anchor = Head { token: state.token(), digest: state.digest() };
        let (sender, receiver) = mpsc::channel::<Vec<Row>>(2);
        let walk = tokio::task::spawn_blocking(move || verify(receiver, anchor));
        let read = self.send_rows(sender).await;
        let walked = walk.await.map_err(|_| ReadError::Stopped)?;
        // A fault found in what was read says more than that reading stopped.
        let verified = walked?;
        read?;
        Ok(verified)
    }

    async fn send_rows(&self, sender: mpsc::Sender<Vec<Row>>) -> Result<(), ReadError> {
        let mut after = Token::START;
        loop {
            let rows = self.shared.store.rows(after, ROWS_MAX).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.token;
            if sender.send(rows).await.is_err() {
                // The walk ended early: it found a fault.
                return Ok(());
            }
        }
    }
}

fn verify(mut pages: mpsc::Receiver<Vec<Row>>, anchor: Head) -> Result<Verified, AuditFailure> {
    let mut beside = None;
    let mut reached = (anchor == Head::START).then_some(anchor);
    let rows = std::iter::from_fn(|| pages.blocking_recv()).flatten().map(|row| {
        let digest = Digest::of(&row.bytes);
        if beside.is_none() && digest != row.digest {
            beside = Some(row.token);
        }
        if row.token == anchor.token {
            reached = Some(Head { token: row.token, digest });
        }
        (row.token, Cow::Owned(row.bytes))
    });
    let verified = record::verify(rows)?;
    if let Some(token) = beside {
        return Err(AuditFailure::Beside { token });
    }
    match reached {
        Some(head) if head == anchor => Ok(verified),
        // Cut off before the head in force, or another record stands there.
        Some(_) | None => Err(verified.against(anchor.token, anchor.digest).map_or_else(
            AuditFailure::Found,
            |_| AuditFailure::Beside { token: anchor.token },
        )),
    }
}
