//! Reading the whole log.

use std::path::Path;

use plan::Token;
use plan::record::Verified;

use crate::handle::Handle;
use crate::store::{Backup, BackupError, StoreError, VerifyError};

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
    /// The store's thread has ended: the process stops.
    #[error("the controller is stopping")]
    Stopped,
}

/// The log is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum AuditFailure {
    /// A record, a blob or a cell is not what was written.
    #[error(transparent)]
    Found(VerifyError),
    /// The log is whole in itself, but beside the one that this controller goes by.
    #[error("record {token} is not the one that this controller goes by; the log was exchanged")]
    Beside {
        /// The newest record that the controller goes by.
        token: Token,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<VerifyError> for AuditFailure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Store(StoreError::Stopped) => Self::Read(ReadError::Stopped),
            error @ (VerifyError::Chain(_)
            | VerifyError::Row { .. }
            | VerifyError::Store(StoreError::Corrupt(_))) => Self::Found(error),
            VerifyError::Store(error) => Self::Read(ReadError::Store(error)),
        }
    }
}

impl Handle {
    /// Walks the whole log as it is stored and compares it with the state in force.
    ///
    /// # Errors
    /// The first thing that is not what was written, or the log cannot be read.
    pub async fn audit_verify(&self) -> Result<Verified, AuditFailure> {
        let state = self.state();
        let store = self.shared.store.as_ref();
        let verified = store.verify().await?;
        let token = state.token();
        if token == Token::START {
            return Ok(verified);
        }
        let before = self.place_before(token.revision, token.incarnation).await;
        let rows = store.rows(before.map_err(ReadError::Store)?, 1).await;
        let same = rows
            .map_err(ReadError::Store)?
            .first()
            .is_some_and(|row| row.token == token && row.digest == state.digest());
        if same { Ok(verified) } else { Err(AuditFailure::Beside { token }) }
    }

    /// Writes a backup of the log, the zone texts and the cells to a new file, and reads it again.
    /// Commands go on meanwhile.
    ///
    /// # Errors
    /// The file exists or cannot be written, or the store is damaged. Nothing is left then.
    pub async fn backup(&self, to: &Path) -> Result<Backup, BackupError> {
        self.shared.store.as_ref().backup(to).await
    }
}
