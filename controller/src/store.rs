//! The log, the blobs and the cells: everything that a controller keeps.
//!
//! One trait, several stores. All of them pass one conformance suite.
//!
//! - **The log** is append-only. A batch goes in whole, and only where its first record follows the
//!   head. The chain of digests is checked whenever records are read.
//! - **Blobs** are bytes by their SHA-256: zone texts. They are never changed nor removed.
//! - **Cells** are small values outside the log, each with a version, written by compare-and-set.

pub mod conformance;

mod audit;
mod backup;
mod chain;
mod directory;
mod memory;
mod reserve;
mod restore;
mod sqlite;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use plan::{Digest, Record, Token};

pub use self::audit::VerifyError;
pub use self::backup::{Backup, BackupError};
pub use self::directory::{Directory, DirectoryError, Owner};
pub use self::memory::{Fault, Memory};
pub use self::reserve::RESERVE_BYTES;
pub use self::restore::{RestoreError, Restored, restore};
pub use self::sqlite::{OpenError, Sqlite};

/// A checkpoint is due when so many records follow the newest one: a start then reads about this
/// many records, some tens of milliseconds.
pub const CHECKPOINT_EVERY: u64 = 1_000;

/// The most bytes of a blob. The longest zone text that the API takes.
pub const BLOB_BYTES_MAX: usize = 256 << 20;

/// The most bytes of a cell. Cells hold keys, tokens and lists of sinks: 10 000 sinks fit.
pub const CELL_BYTES_MAX: usize = 4 << 20;

/// The most rows of one [`Store::rows`], so that no reader holds up a writer for long.
pub const ROWS_MAX: usize = 1_000;

/// What a controller keeps, and the only way to it.
///
/// Every call reaches the durable medium; nothing is answered from a cache. Dropping a future does
/// not undo what it began.
pub trait Store: Send + Sync + fmt::Debug {
    /// Checks the store and reads what is needed to start: the newest valid checkpoint and every
    /// record after it, their chain checked. Begins with a [`reload`](Self::reload) if one is due.
    fn load(&self) -> BoxFuture<'_, Result<Loaded, StoreError>>;

    /// The token and digest of the newest record.
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>>;

    /// Appends all of `batch`, durably, or nothing. `Ok` means durable.
    ///
    /// After [`AppendError::Unknown`] every call but `load` and `reload` fails with
    /// [`StoreError::ReloadFirst`].
    fn append<'a>(
        &'a self,
        batch: &'a [Record],
        urgency: Urgency,
    ) -> BoxFuture<'a, Result<(), AppendError>>;

    /// After an unknown outcome: opens the medium anew, makes sure that what it reads there will
    /// stay, and says what the head is. Whoever appended then looks for its record.
    fn reload(&self) -> BoxFuture<'_, Result<Head, StoreError>>;

    /// Stored rows after `after`, oldest first, unchecked: at most `limit`, [`ROWS_MAX`] or about
    /// 4 MiB, whichever is least, yet one at least if there is one. None: `after` is the head.
    fn rows(&self, after: Token, limit: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>>;

    /// Records that other controllers append after `after`, in order, without a gap. Own records
    /// may be among them. Never yields where nobody else can write; when it ends, watch again.
    fn watch(&self, after: Token) -> BoxStream<'static, Record>;

    /// Keeps the state at `head`, so that a start need not read older records. Those stay.
    fn checkpoint(&self, head: Head, bytes: Arc<[u8]>) -> BoxFuture<'_, Result<(), WriteError>>;

    /// The blob with this digest, checked; `None`: there is none.
    fn blob(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>>;

    /// Keeps a blob durably. Once more is as good as once.
    fn put_blob(&self, bytes: Arc<[u8]>) -> BoxFuture<'_, Result<Digest, WriteError>>;

    /// The digests of all blobs, in order.
    fn blobs(&self) -> BoxFuture<'_, Result<Vec<Digest>, StoreError>>;

    /// The cell of this name, checked; `None`: it was never written.
    fn cell<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Cell>, StoreError>>;

    /// Writes the cell if its version is still `expected` (`None`: never written), durably. The new
    /// version.
    fn swap_cell<'a>(
        &'a self,
        name: &'a str,
        expected: Option<u64>,
        bytes: &'a [u8],
    ) -> BoxFuture<'a, Result<u64, SwapError>>;

    /// The names of all cells, in order.
    fn cells(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;

    /// Whether the reserve that a rollback may use on a full disk is in place. While it is not,
    /// ordinary writes fail with `Full`.
    fn reserve_held(&self) -> bool;
}

/// How much an append matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// On a full disk it fails with [`AppendError::Full`].
    Ordinary,
    /// A rollback. On a full disk it gives up the reserve and tries once more.
    Rollback,
}

/// What a start reads.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The newest valid checkpoint, if there is one.
    pub checkpoint: Option<Checkpoint>,
    /// Every record after it, or every record. The chain is checked.
    pub tail: Vec<Record>,
    /// The token and digest of the newest record.
    pub head: Head,
}

/// A state as [`plan::State`] wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The record after which it was taken.
    pub head: Head,
    /// The state's own bytes.
    pub bytes: Vec<u8>,
}

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The token of the newest record; [`Token::START`] for an empty log.
    pub token: Token,
    /// Its digest; [`Digest::ZERO`] for an empty log.
    pub digest: Digest,
}

impl Head {
    /// The head of an empty log.
    pub const START: Self = Self { token: Token::START, digest: Digest::ZERO };

    /// The head once `record` is in.
    pub fn of(record: &Record) -> Self {
        Self { token: record.token, digest: record.digest() }
    }

    /// Whether `record` is a next record: the revision is one more, the incarnation does not fall,
    /// the parent is this digest.
    pub fn precedes(&self, record: &Record) -> bool {
        self.admits(record.token, record.parent)
    }

    fn admits(&self, token: Token, parent: Digest) -> bool {
        self.token.revision.checked_add(1) == Some(token.revision)
            && self.token.incarnation <= token.incarnation
            && self.digest == parent
    }
}

/// One record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number, as stored beside the bytes.
    pub token: Token,
    /// The digest of the row before, as stored beside the bytes.
    pub parent: Digest,
    /// The digest of the bytes, as stored beside them.
    pub digest: Digest,
    /// [`Record::encode`].
    pub bytes: Vec<u8>,
}

/// A value outside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Raised by one with every write; the first is 1.
    pub version: u64,
    /// The value.
    pub bytes: Vec<u8>,
}

/// A store does not do what it was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bytes are not what was once written.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The medium fails.
    #[error("{}: cannot {doing}", file.display())]
    Medium {
        /// The file or address.
        file: PathBuf,
        /// What was tried, in words.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The records of a batch do not follow each other, or a value is too large. A fault of the
    /// caller.
    #[error("refused by the store: {0}")]
    Invalid(String),
    /// The outcome of a write is unknown: call [`Store::reload`] first.
    #[error("the outcome of an earlier write is not known yet; the log has to be read again first")]
    ReloadFirst,
    /// The store's thread has ended.
    #[error("the store has stopped")]
    Stopped,
}

/// Stored bytes are not what was once written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: {what}; stop the controller and bring back a backup with `crossfade restore FILE`",
    file.display()
)]
pub struct Corrupt {
    /// The file or address.
    pub file: PathBuf,
    /// What is wrong, with the token where there is one.
    pub what: String,
}

/// An append did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The batch does not follow the head: somebody else was faster. Nothing was written.
    #[error("the log has moved on to {head}")]
    Stale {
        /// The present head.
        head: Token,
    },
    /// It may be written or not: reload and look.
    #[error("the store cannot say whether the records were written")]
    Unknown,
    /// No space is left. Nothing was written.
    #[error("no space is left in the data directory")]
    Full,
    /// Nothing was written.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// A blob or a checkpoint was not written. Trying again is safe.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No space is left.
    #[error("no space is left in the data directory")]
    Full,
    /// The store fails.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// A cell was not written.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The version is another one. Nothing was written.
    #[error("the cell has changed meanwhile")]
    Moved {
        /// The present version.
        version: Option<u64>,
    },
    /// It may be written or not: reload and look.
    #[error("the store cannot say whether the cell was written")]
    Unknown,
    /// No space is left. Nothing was written.
    #[error("no space is left in the data directory")]
    Full,
    /// Nothing was written.
    #[error(transparent)]
    Failed(#[from] StoreError),
}
