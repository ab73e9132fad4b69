//! What the store's thread does: it owns the directory, the file and the reserve.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use plan::{Digest, Record, Token};

use super::{Database, Failure, OpenError, Sqlite};
use crate::store::directory::Directory;
use crate::store::reserve::Reserve;
use crate::store::{
    AppendError, Cell, Checkpoint, Head, Loaded, ROWS_MAX, Row, StoreError, SwapError, Urgency,
    WriteError,
};

/// The owner of everything in a data directory.
#[derive(Debug)]
pub(super) struct Keeper {
    medium: Medium,
    path: PathBuf,
    reserve: Reserve,
    _directory: Directory,
}

/// How far the file can be trusted.
#[derive(Debug)]
enum Medium {
    /// In use.
    Open(Database),
    /// Left after an error whose outcome is known; the next call opens it anew.
    Closed,
    /// Left after an error whose outcome is not known; the caller has to reload.
    Unknown,
}

impl Keeper {
    pub(super) fn open(directory: Directory) -> Result<Self, OpenError> {
        let path = directory.path().join(Sqlite::FILE);
        let database = Database::open(&path)?;
        let reserve = Reserve::open(directory.path());
        Ok(Self { medium: Medium::Open(database), path, reserve, _directory: directory })
    }

    pub(super) fn reserve_flag(&self) -> Arc<AtomicBool> {
        self.reserve.flag()
    }

    pub(super) fn load(&mut self) -> Result<Loaded, StoreError> {
        if matches!(self.medium, Medium::Unknown) {
            self.reload()?;
        }
        let database = self.database()?;
        database.check()?;
        let head = database.head()?;
        database.check_cells()?;
        let checkpoint = valid_checkpoint(database)?;
        let from = checkpoint.as_ref().map_or(Head::START, |point| point.head);
        let tail = tail(database, from, head)?;
        Ok(Loaded { checkpoint, tail, head })
    }

    pub(super) fn reload(&mut self) -> Result<Head, StoreError> {
        // The old connection goes first: it may hold the lock.
        self.medium = Medium::Unknown;
        let database = self.reopen()?;
        database.prove()?;
        let head = database.head()?;
        self.medium = Medium::Open(database);
        Ok(head)
    }

    pub(super) fn head(&mut self) -> Result<Head, StoreError> {
        self.database()?.head()
    }

    pub(super) fn rows(&mut self, after: Token, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.database()?.rows(after.revision, limit)
    }

    pub(super) fn append(&mut self, rows: &[Row], urgency: Urgency) -> Result<(), AppendError> {
        if urgency == Urgency::Ordinary {
            self.database()?;
            if !self.reserve.ensure() {
                return Err(AppendError::Full);
            }
            return self.attempt(rows);
        }
        match self.attempt(rows) {
            Err(AppendError::Full) if self.reserve.free() => self.attempt(rows),
            other => other,
        }
    }

    fn attempt(&mut self, rows: &[Row]) -> Result<(), AppendError> {
        match self.database()?.append(rows) {
            Ok(()) => Ok(()),
            Err(Failure::Stale) => Err(AppendError::Stale { head: self.head()?.token }),
            Err(Failure::Full) => Err(AppendError::Full),
            Err(Failure::Failed(error)) => {
                self.medium = Medium::Closed;
                Err(error.into())
            }
            Err(Failure::Commit { refused: true, .. }) => self.look_for(rows),
            Err(Failure::Commit { refused: false, .. }) => {
                self.medium = Medium::Unknown;
                Err(AppendError::Unknown)
            }
        }
    }

    /// The medium refused a write, but no sync failed: what the file says now is what is there.
    fn look_for(&mut self, rows: &[Row]) -> Result<(), AppendError> {
        self.medium = Medium::Unknown;
        let unknown = |_| AppendError::Unknown;
        let database = self.reopen().map_err(unknown)?;
        let head = database.head().map_err(unknown)?;
        self.medium = Medium::Open(database);
        match rows.last().map(Row::head) {
            Some(wanted) if wanted == head => Ok(()),
            Some(_) | None => Err(AppendError::Full),
        }
    }

    pub(super) fn put_checkpoint(&mut self, point: &Checkpoint) -> Result<(), WriteError> {
        let outcome = self.room()?.put_checkpoint(point);
        self.again(outcome)
    }

    pub(super) fn blob_size(&mut self, digest: &Digest) -> Result<Option<usize>, StoreError> {
        self.database()?.blob_size(digest)
    }

    pub(super) fn piece(&mut self, digest: &Digest, number: u32) -> Result<Vec<u8>, StoreError> {
        self.database()?.piece(digest, number)
    }

    pub(super) fn put_piece(
        &mut self,
        digest: &Digest,
        number: u32,
        bytes: &[u8],
    ) -> Result<(), WriteError> {
        let outcome = self.room()?.put_piece(digest, number, bytes);
        self.again(outcome)
    }

    pub(super) fn put_blob(&mut self, digest: &Digest, size: usize) -> Result<(), WriteError> {
        let outcome = self.room()?.put_blob(digest, size);
        self.again(outcome)
    }

    pub(super) fn blobs(&mut self) -> Result<Vec<Digest>, StoreError> {
        self.database()?.blobs()
    }

    pub(super) fn cell(&mut self, name: &str) -> Result<Option<Cell>, StoreError> {
        let found = self.database()?.cell(name)?;
        Ok(found.map(|(version, bytes)| Cell { version, bytes }))
    }

    pub(super) fn swap_cell(
        &mut self,
        name: &str,
        expected: Option<u64>,
        bytes: &[u8],
    ) -> Result<u64, SwapError> {
        self.database()?;
        if !self.reserve.ensure() {
            return Err(SwapError::Full);
        }
        match self.database()?.swap_cell(name, expected, bytes) {
            Ok(version) => Ok(version),
            Err(Failure::Stale) => {
                let version = self.database()?.cell(name)?.map(|(version, _)| version);
                Err(SwapError::Moved { version })
            }
            Err(Failure::Full) => Err(SwapError::Full),
            Err(Failure::Failed(error)) => {
                self.medium = Medium::Closed;
                Err(error.into())
            }
            Err(Failure::Commit { .. }) => {
                self.medium = Medium::Unknown;
                Err(SwapError::Unknown)
            }
        }
    }

    pub(super) fn cells(&mut self) -> Result<Vec<String>, StoreError> {
        self.database()?.cells()
    }

    /// The file for an ordinary write, which needs the reserve in place.
    fn room(&mut self) -> Result<&mut Database, WriteError> {
        self.database()?;
        if !self.reserve.ensure() {
            return Err(WriteError::Full);
        }
        Ok(self.database()?)
    }

    /// The outcome of a write that may be done again, whatever became of it.
    fn again(&mut self, outcome: Result<(), Failure>) -> Result<(), WriteError> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Failure::Full | Failure::Stale) => Err(WriteError::Full),
            Err(Failure::Failed(error)) => {
                self.medium = Medium::Closed;
                Err(error.into())
            }
            Err(Failure::Commit { refused, source }) => {
                self.medium = Medium::Closed;
                if refused {
                    return Err(WriteError::Full);
                }
                Err(super::database::medium(&self.path, "write", source).into())
            }
        }
    }

    fn database(&mut self) -> Result<&mut Database, StoreError> {
        if matches!(self.medium, Medium::Closed) {
            let database = self.reopen()?;
            database.prove()?;
            self.medium = Medium::Open(database);
        }
        match &mut self.medium {
            Medium::Open(database) => Ok(database),
            Medium::Closed | Medium::Unknown => Err(StoreError::ReloadFirst),
        }
    }

    fn reopen(&self) -> Result<Database, StoreError> {
        Database::open(&self.path).map_err(|error| match error {
            OpenError::Store(error) => error,
            OpenError::Corrupt(corrupt) => corrupt.into(),
            other @ (OpenError::Directory(_)
            | OpenError::Unusable { .. }
            | OpenError::Sqlite { .. }
            | OpenError::Busy { .. }
            | OpenError::Foreign { .. }
            | OpenError::Version { .. }
            | OpenError::Full { .. }) => StoreError::Medium {
                file: self.path.clone(),
                doing: "open it again",
                source: Box::new(other),
            },
        })
    }
}

/// The newest checkpoint that is whole and belongs to the log.
fn valid_checkpoint(database: &Database) -> Result<Option<Checkpoint>, StoreError> {
    for point in database.checkpoints()? {
        let rows = database.rows(point.head.token.revision.saturating_sub(1), 1)?;
        if rows.first().map(Row::head) == Some(point.head) {
            return Ok(Some(point));
        }
    }
    Ok(None)
}

/// Every record after `from`, up to `head`, checked.
fn tail(database: &Database, from: Head, head: Head) -> Result<Vec<Record>, StoreError> {
    let (mut at, mut records) = (from, Vec::new());
    while at != head {
        let rows = database.rows(at.token.revision, ROWS_MAX)?;
        if rows.is_empty() {
            let what = format!("the records after {} are missing", at.token);
            return Err(database.corrupt(what).into());
        }
        for row in rows {
            records.push(row.follow(&at).map_err(|what| database.corrupt(what))?);
            at = row.head();
        }
    }
    Ok(records)
}
