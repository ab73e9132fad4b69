//! Finding an edited, dropped or reordered record.

use std::borrow::Cow;

use crate::record::Record;
use crate::state::follows;
use crate::token::{Digest, Token};

/// What was found to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many records.
    pub records: u64,
    /// The token of the newest.
    pub head: Token,
    /// The digest of the newest: it speaks for all of them.
    pub digest: Digest,
}

/// The first record that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {token}: {what}")]
pub struct AuditError {
    /// Where: the number that the store gives the record.
    pub token: Token,
    /// What is wrong there.
    pub what: AuditProblem,
}

/// What is wrong with a record of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditProblem {
    /// Its bytes are no record of this version, or not as they were written.
    #[error("its bytes are not those of a record")]
    Bytes,
    /// It is stored under another number than it says.
    #[error("it says that it is record {0}")]
    Number(Token),
    /// Its number does not follow the one before: records were dropped, added or reordered.
    #[error("it does not follow record {0}; records are missing or out of order")]
    Order(Token),
    /// It names another parent than the record before it: one of the two was edited.
    #[error("it does not link to the record before it; that one or this one was edited")]
    Parent,
    /// It is the last record, and its digest is not the head that was kept apart.
    #[error("it is the last record, but the head kept apart is {head} with digest {digest}")]
    Head {
        /// The head kept apart.
        head: Token,
        /// Its digest.
        digest: Digest,
    },
}

/// Walks a whole log, each record with the number that the store gives it, in order.
///
/// # Errors
/// The first record that is not what was written. An edit of the last record shows only against a
/// head that was kept apart: [`Verified::against`].
pub fn verify<'a>(
    records: impl Iterator<Item = (Token, Cow<'a, [u8]>)>,
) -> Result<Verified, AuditError> {
    let mut so_far = Verified { records: 0, head: Token::START, digest: Digest::ZERO };
    for (token, bytes) in records {
        let bad = |what| AuditError { token, what };
        let record = Record::decode(&bytes).map_err(|_| bad(AuditProblem::Bytes))?;
        if record.encode() != *bytes {
            return Err(bad(AuditProblem::Bytes));
        }
        if record.token != token {
            return Err(bad(AuditProblem::Number(record.token)));
        }
        if !follows(so_far.head, &record) {
            return Err(bad(AuditProblem::Order(so_far.head)));
        }
        if record.parent != so_far.digest {
            return Err(bad(AuditProblem::Parent));
        }
        so_far = Verified {
            records: so_far.records.saturating_add(1),
            head: token,
            digest: Digest::of(&bytes),
        };
    }
    Ok(so_far)
}

impl Verified {
    /// Compares with a head that was kept apart: a checkpoint's, a backup's, or one written down.
    ///
    /// # Errors
    /// The log ends in another record than it did then.
    pub fn against(self, head: Token, digest: Digest) -> Result<Self, AuditError> {
        if (self.head, self.digest) == (head, digest) {
            return Ok(self);
        }
        Err(AuditError { token: self.head, what: AuditProblem::Head { head, digest } })
    }
}
