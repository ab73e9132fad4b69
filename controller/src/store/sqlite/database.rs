//! One open SQLite file: every statement is here.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plan::{Digest, Token};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Row as SqlRow, TransactionBehavior,
};

use super::schema;
use super::{OpenError, signed};
use crate::store::{Checkpoint, Corrupt, Head, ROWS_MAX, Row, StoreError, directory};

mod blobs;
mod cells;

/// Another program may look into the file at the moment of a start; so long a start waits for it.
const BUSY: Duration = Duration::from_secs(2);

/// About so many bytes of rows are read at once.
const PAGE_BYTES: usize = 4 << 20;

/// How many checkpoints are kept: the newest, and one more in case the newest is damaged.
const CHECKPOINTS_KEPT: i64 = 2;

/// An open file with its settings.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
}

/// A write did not happen, or may not have happened.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was written; the caller's condition does not hold.
    Stale,
    /// Nothing was written: no space. The file stays usable.
    Full,
    /// Nothing was written.
    Failed(StoreError),
    /// The commit failed; only reading the file anew tells whether it was written.
    Commit {
        /// The medium refused a write, rather than a sync.
        refused: bool,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl Database {
    /// Opens the file, or makes it. The caller holds the directory.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Unusable { file: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(unusable)?;
        let fresh = file.metadata().map_err(unusable)?.len() == 0;
        drop(file);
        directory::sync(directory::parent(path)).map_err(unusable)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut database = Self::connect(path, flags)?;
        database.own().map_err(|error| database.open_error(error))?;
        if fresh {
            schema::create(&mut database.connection, &Head::START)
                .map_err(|error| database.open_error(error))?;
        }
        database.identify()?;
        Ok(database)
    }

    /// Opens a file that nobody writes, a backup, without changing it.
    pub(crate) fn read(path: &Path) -> Result<Self, OpenError> {
        let database = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        database.identify()?;
        Ok(database)
    }

    /// Looks into a file exactly as it is: a journal beside it is left alone and not applied.
    pub(crate) fn peek(path: &Path) -> Result<Self, OpenError> {
        // In an address these three have a meaning of their own.
        let name = path.to_string_lossy().replace('%', "%25").replace('?', "%3f");
        let address = format!("file:{}?immutable=1", name.replace('#', "%23"));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let database = Self::connect(Path::new(&address), flags)?;
        database.identify()?;
        Ok(database)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, OpenError> {
        let wrong = |source| OpenError::Sqlite { file: path.to_owned(), source };
        let connection = Connection::open_with_flags(path, flags).map_err(wrong)?;
        let database = Self { connection, path: path.to_owned() };
        database.set().map_err(|error| database.open_error(error))?;
        Ok(database)
    }

    /// Settings that do not touch the file.
    fn set(&self) -> rusqlite::Result<()> {
        let pragma = |name, value| self.connection.pragma_update(None, name, value);
        self.connection.busy_timeout(BUSY)?;
        pragma("trusted_schema", "OFF")?;
        pragma("cell_size_check", "ON")?;
        pragma("mmap_size", "0")?;
        pragma("foreign_keys", "ON")?;
        pragma("temp_store", "MEMORY")
    }

    /// Settings of the one writer. Ends holding the file's lock.
    fn own(&self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        self.connection.pragma_update(None, "synchronous", "EXTRA")?;
        self.connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        self.connection.pragma_update(None, "journal_mode", "DELETE")?;
        // While running, the journal stays in place; a long one gives its space back.
        self.connection.pragma_update(None, "journal_size_limit", 1 << 20)
    }

    fn identify(&self) -> Result<(), OpenError> {
        let pragma = |name| {
            let value = self.connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
            value.map_err(|error| self.open_error(error))
        };
        let file = self.path.clone();
        if pragma("application_id")? != schema::APPLICATION_ID {
            return Err(OpenError::Foreign { file });
        }
        match pragma("user_version")? {
            schema::VERSION => Ok(()),
            found => Err(OpenError::Version { file, found }),
        }
    }

    /// Writes, so that whatever an earlier connection left half synced is settled on the medium.
    ///
    /// After a failed sync the system may show bytes that the medium does not have. The journal and
    /// its end are written and synced anew here; if that succeeds, what is read now will stay.
    pub(crate) fn prove(&self) -> Result<(), StoreError> {
        let sql = "UPDATE proof SET count = count + 1";
        self.connection.execute(sql, ()).map(drop).map_err(|error| self.error("write", error))
    }

    /// SQLite's own check of the whole file, then of the tables and triggers.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let sql = "PRAGMA quick_check(1)";
        let found: String = self
            .connection
            .query_row(sql, (), |row| row.get(0))
            .map_err(|error| self.error("check the file", error))?;
        if found != "ok" {
            return Err(self.corrupt(found).into());
        }
        match schema::difference(&self.connection).map_err(|error| self.error("read", error))? {
            Some(what) => Err(self.corrupt(what).into()),
            None => Ok(()),
        }
    }

    /// The head as it is stored, which is the last row of the log.
    pub(crate) fn head(&self) -> Result<Head, StoreError> {
        let sql = "SELECT incarnation, revision, digest FROM head";
        let head = self.one(sql, |row| Ok(Head { token: token(row)?, digest: digest(row, 2)? }))?;
        let head = head.ok_or_else(|| self.corrupt("the head is missing".to_owned()))?;
        let sql = "SELECT incarnation, revision, digest FROM log ORDER BY revision DESC LIMIT 1";
        let last = self.one(sql, |row| Ok(Head { token: token(row)?, digest: digest(row, 2)? }))?;
        let last = last.unwrap_or(Head::START);
        if head == last {
            return Ok(head);
        }
        let what = if head.token == last.token {
            format!("record {} is the last, but not the one of the head; it was edited", last.token)
        } else {
            format!("the log ends with record {}, its head is {}", last.token, head.token)
        };
        Err(self.corrupt(what).into())
    }

    /// Rows after `after` by revision; see [`crate::store::Store::rows`].
    pub(crate) fn rows(&self, after: u64, limit: usize) -> Result<Vec<Row>, StoreError> {
        let sql = "SELECT incarnation, revision, parent, digest, bytes FROM log \
                   WHERE revision > ?1 ORDER BY revision LIMIT ?2";
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut found = statement.query((signed(after), count(limit)))?;
            let (mut rows, mut size) = (Vec::new(), 0);
            while let Some(row) = found.next()? {
                let row = Row {
                    token: token(row)?,
                    parent: digest(row, 2)?,
                    digest: digest(row, 3)?,
                    bytes: row.get(4)?,
                };
                size += row.bytes.len();
                rows.push(row);
                if size >= PAGE_BYTES {
                    break;
                }
            }
            Ok(rows)
        };
        read().map_err(|error| self.error("read the log", error))
    }

    /// All rows, oldest first, a page at a time.
    pub(crate) fn all_rows(&self) -> impl Iterator<Item = Result<Row, StoreError>> {
        let mut after = 0;
        let mut page = Vec::new().into_iter();
        std::iter::from_fn(move || {
            if page.len() == 0 {
                match self.rows(after, ROWS_MAX) {
                    Ok(rows) => page = rows.into_iter(),
                    Err(error) => return Some(Err(error)),
                }
            }
            let row: Row = page.next()?;
            after = row.token.revision;
            Some(Ok(row))
        })
    }

    /// Appends rows that follow each other, if the first follows the head.
    pub(crate) fn append(&mut self, rows: &[Row]) -> Result<(), Failure> {
        let head = self.head().map_err(Failure::Failed)?;
        if rows.first().is_some_and(|first| !head.admits(first.token, first.parent)) {
            return Err(Failure::Stale);
        }
        self.write(|connection| {
            let sql = "INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut insert = connection.prepare_cached(sql)?;
            for Row { token, parent, digest, bytes } in rows {
                let revision = signed(token.revision);
                insert.execute((
                    revision,
                    token.incarnation,
                    parent.bytes(),
                    digest.bytes(),
                    bytes,
                ))?;
            }
            let Some(Head { token, digest }) = rows.last().map(Row::head) else { return Ok(()) };
            let sql = "UPDATE head SET incarnation = ?1, revision = ?2, digest = ?3";
            let mut head = connection.prepare_cached(sql)?;
            head.execute((token.incarnation, signed(token.revision), digest.bytes())).map(drop)
        })
    }

    /// Checkpoints, newest first, that are whole; whether they belong to the log is for the caller.
    pub(crate) fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError> {
        let sql = "SELECT incarnation, revision, digest, bytes, sum FROM checkpoint \
                   ORDER BY revision DESC";
        let found = self.all(sql, |row| {
            let head = Head { token: token(row)?, digest: digest(row, 2)? };
            Ok((Checkpoint { head, bytes: row.get(3)? }, digest(row, 4)?))
        })?;
        let whole = found.into_iter().filter(|(point, sum)| checkpoint_sum(point) == *sum);
        Ok(whole.map(|(point, _)| point).collect())
    }

    /// Keeps a checkpoint, and the one before it.
    pub(crate) fn put_checkpoint(&mut self, point: &Checkpoint) -> Result<(), Failure> {
        let Head { token, digest } = point.head;
        let revision = signed(token.revision);
        let sum = checkpoint_sum(point);
        let rows = self.rows(token.revision.saturating_sub(1), 1).map_err(Failure::Failed)?;
        if rows.first().map(Row::head) != Some(point.head) {
            let what = format!("a checkpoint at {token}, which is not in the log");
            return Err(Failure::Failed(StoreError::Invalid(what)));
        }
        self.write(|connection| {
            connection.execute(
                "INSERT OR REPLACE INTO checkpoint VALUES (?1, ?2, ?3, ?4, ?5)",
                (revision, token.incarnation, digest.bytes(), &point.bytes, sum.bytes()),
            )?;
            let sql = "DELETE FROM checkpoint WHERE revision NOT IN \
                       (SELECT revision FROM checkpoint ORDER BY revision DESC LIMIT ?1)";
            connection.execute(sql, [CHECKPOINTS_KEPT]).map(drop)
        })
    }

    /// Brings the journal to the file and the file to the medium, for a file that is handed over.
    pub(crate) fn close(self) -> Result<(), StoreError> {
        let path = self.path;
        self.connection.close().map_err(|(_, error)| medium(&path, "close it", error))
    }

    /// A file that only counts once it is complete may be written without waiting for the medium.
    pub(crate) fn write_unsynced(&self) -> Result<(), StoreError> {
        let set = self.connection.pragma_update(None, "synchronous", "OFF");
        set.map_err(|error| self.error("set it up", error))
    }

    /// This file is damaged in this way.
    pub(crate) fn corrupt(&self, what: String) -> Corrupt {
        Corrupt { file: self.path.clone(), what }
    }

    fn write(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), Failure> {
        let path = &self.path;
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(|error| failure(path, error))?;
        work(&transaction).map_err(|error| failure(path, error))?;
        transaction.commit().map_err(|source| {
            let refused = is_full(&source) || extended(&source) == Some(SQLITE_IOERR_WRITE);
            Failure::Commit { refused, source }
        })
    }

    fn one<T>(
        &self,
        sql: &str,
        read: impl FnOnce(&SqlRow<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let query = || self.connection.prepare_cached(sql)?.query_row((), read).optional();
        query().map_err(|error| self.error("read the log", error))
    }

    fn all<T>(
        &self,
        sql: &str,
        read: impl FnMut(&SqlRow<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let query = || -> rusqlite::Result<Vec<T>> {
            self.connection.prepare_cached(sql)?.query_map((), read)?.collect()
        };
        query().map_err(|error| self.error("read it", error))
    }

    fn error(&self, doing: &'static str, error: rusqlite::Error) -> StoreError {
        medium(&self.path, doing, error)
    }

    fn open_error(&self, error: rusqlite::Error) -> OpenError {
        let file = self.path.clone();
        if is_full(&error) {
            return OpenError::Full { file };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => OpenError::Foreign { file },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Busy { file },
            Some(_) | None => match medium(&file, "open it", error) {
                StoreError::Corrupt(corrupt) => OpenError::Corrupt(corrupt),
                other @ (StoreError::Medium { .. }
                | StoreError::Invalid(_)
                | StoreError::ReloadFirst
                | StoreError::Stopped) => OpenError::Store(other),
            },
        }
    }
}

/// Extended result code: the system refused a write for another reason than a full disk, such as a
/// quota or a limit on the size of files.
const SQLITE_IOERR_WRITE: i32 = 778;

fn extended(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

fn failure(path: &Path, error: rusqlite::Error) -> Failure {
    if is_full(&error) || extended(&error) == Some(SQLITE_IOERR_WRITE) {
        return Failure::Full;
    }
    Failure::Failed(medium(path, "write", error))
}

/// What SQLite says about a file, sorted into damage and a medium that fails.
pub(crate) fn medium(path: &Path, doing: &'static str, error: rusqlite::Error) -> StoreError {
    let damaged = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    );
    let mistyped = error.sqlite_error_code().is_none();
    if damaged || mistyped {
        return Corrupt { file: path.to_owned(), what: error.to_string() }.into();
    }
    StoreError::Medium { file: path.to_owned(), doing, source: Box::new(error) }
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn token(row: &SqlRow<'_>) -> rusqlite::Result<Token> {
    Ok(Token { incarnation: row.get(0)?, revision: unsigned(row, 1)? })
}

fn digest(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get::<_, [u8; 32]>(column).map(Digest::from)
}

fn unsigned(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn checkpoint_sum(point: &Checkpoint) -> Digest {
    let Checkpoint { head: Head { token, digest }, bytes } = point;
    Digest::of(&[format!("checkpoint {token} {digest} ").as_bytes(), bytes].concat())
}
