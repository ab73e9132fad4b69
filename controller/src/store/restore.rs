//! Brings a backup into a data directory, offline.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use plan::state::Broken;
use plan::{Actor, Record, State, Timestamp, Token};

use super::audit::{head, walk};
use super::directory::{self, Directory, DirectoryError};
use super::sqlite::{Database, Failure, OpenError};
use super::{Head, Row, Sqlite, StoreError, VerifyError};
use crate::identity::Machines;
use crate::identity::restore::{self as machines, BOOK, CA, Cells};

/// By how much the incarnation rises beyond the backup's when a database in the directory cannot be
/// read: more restores than its log will ever have seen.
const UNREADABLE: u32 = 1_000;

/// How many databases of one second are kept apart.
const REPLACED_MAX: u32 = 100;

/// What a restore has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The newest record of the backup.
    pub from: Token,
    /// The record that the restore added.
    pub head: Token,
    /// Where the database is kept that was there before.
    pub replaced: Option<PathBuf>,
    /// What became of the backup's machines.
    pub machines: Machines,
}

/// Nothing was restored; the directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The data directory is in use or cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The backup is none, or damaged.
    #[error(transparent)]
    Backup(#[from] OpenError),
    /// The backup's log is not as it was written.
    #[error("{}: damaged; choose another backup", file.display())]
    Verify {
        /// The backup.
        file: PathBuf,
        /// What is wrong.
        #[source]
        source: VerifyError,
    },
    /// The backup's records do not make a state.
    #[error("{}: damaged; choose another backup", file.display())]
    Broken {
        /// The backup.
        file: PathBuf,
        /// What is wrong.
        #[source]
        source: Broken,
    },
    /// Copying or moving fails.
    #[error("{}: cannot {doing}", file.display())]
    Files {
        /// The file.
        file: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// There is no room for the database.
    #[error("{}: no space is left for it", file.display())]
    Full {
        /// The file.
        file: PathBuf,
    },
    /// The incarnations are used up.
    #[error("the incarnation cannot rise any further")]
    Incarnation,
    /// The copy cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes `backup` the database of `data`, one incarnation above both the backup and any database in
/// the directory; every plan waits for an operator. A database that was there is kept aside.
///
/// # Errors
/// The directory is in use, the backup is damaged, or copying fails. Nothing is changed then.
pub fn restore(
    backup: &Path,
    data: &Path,
    actor: &Actor,
    now: Timestamp,
) -> Result<Restored, RestoreError> {
    let directory = Directory::take(data)?;
    let state = read(backup)?;
    let present = incarnation(directory.path(), state.token().incarnation)?;
    let mut record = state.restore(actor, now);
    let above = present.checked_add(1).ok_or(RestoreError::Incarnation)?;
    record.token.incarnation = record.token.incarnation.max(above);
    let copy = directory.path().join(format!("{}.restoring", Sqlite::FILE));
    let kept = kept(&directory.path().join(Sqlite::FILE));
    let made = fill(backup, &copy, &record, |cells| machines::machines(cells, kept.as_ref(), now));
    let replaced = made.and_then(|machines| {
        exchange(directory.path(), &copy, now).map(|replaced| (replaced, machines))
    });
    let _ = std::fs::remove_file(&copy);
    let (replaced, machines) = replaced?;
    Ok(Restored { from: state.token(), head: record.token, replaced, machines })
}

/// The machines of the database that is there; `None` where they cannot be read.
fn kept(present: &Path) -> Option<Cells> {
    // As it is: a journal beside it belongs to it, and goes with it.
    Database::peek(present).ok().and_then(|database| cells(&database).ok())
}

fn cells(database: &Database) -> Result<Cells, StoreError> {
    let cell = |name| database.cell(name).map(|cell| cell.map(|(_, bytes)| bytes));
    Ok(Cells { ca: cell(CA)?, book: cell(BOOK)? })
}

/// The state that the backup's log makes, everything checked.
fn read(backup: &Path) -> Result<State, RestoreError> {
    let verify = |source| RestoreError::Verify { file: backup.to_owned(), source };
    let broken = |source| RestoreError::Broken { file: backup.to_owned(), source };
    let database = Database::read(backup)?;
    database.check()?;
    let verified = walk(database.all_rows()).map_err(verify)?;
    let stored = database.head()?;
    let mut at = Head::START;
    let mut state = State::empty();
    for row in database.all_rows() {
        let row = row?;
        let record = row.follow(&at).map_err(|what| StoreError::from(database.corrupt(what)))?;
        state = state.apply(&record).map_err(broken)?;
        at = row.head();
    }
    if stored != head(&verified) || stored != at {
        return Err(StoreError::from(database.corrupt("its head is wrong".to_owned())).into());
    }
    database.check_cells()?;
    database.check_blobs()?;
    Ok(state)
}

/// The highest incarnation of any database in the directory; where one cannot be read, far above
/// the backup's.
fn incarnation(directory: &Path, backup: u32) -> Result<u32, RestoreError> {
    let files =
        |source| RestoreError::Files { file: directory.to_owned(), doing: "list it", source };
    let far = || backup.saturating_add(UNREADABLE);
    let mut highest = 0;
    for entry in std::fs::read_dir(directory).map_err(files)? {
        let path = entry.map_err(files)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(Sqlite::FILE) || name.ends_with("-journal") {
            continue;
        }
        if path.metadata().is_ok_and(|file| file.len() == 0) {
            continue;
        }
        let head = Database::peek(&path).ok().and_then(|database| database.head().ok());
        let found = head.map_or_else(far, |head| head.token.incarnation);
        highest = highest.max(found);
    }
    Ok(highest)
}

/// Makes the new database beside the old one: the backup, one record, and the machines as they are
/// to come up.
fn fill(
    backup: &Path,
    copy: &Path,
    record: &Record,
    decide: impl FnOnce(&Cells) -> (Option<Vec<u8>>, Machines),
) -> Result<Machines, RestoreError> {
    let files = |doing| move |source| RestoreError::Files { file: copy.to_owned(), doing, source };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut to = options.open(copy).map_err(files("make it"))?;
    let mut from = File::open(backup).map_err(files("read the backup"))?;
    io::copy(&mut from, &mut to).map_err(files("copy the backup to it"))?;
    to.sync_all().map_err(files("sync it"))?;
    let mut database = Database::open(copy)?;
    let failed = |failure| match failure {
        Failure::Full | Failure::Commit { refused: true, .. } => {
            RestoreError::Full { file: copy.to_owned() }
        }
        Failure::Failed(error) => error.into(),
        Failure::Stale => StoreError::Invalid("the backup changed while it was read".into()).into(),
        Failure::Commit { source, .. } => {
            let source = Box::new(source);
            StoreError::Medium { file: copy.to_owned(), doing: "write to it", source }.into()
        }
    };
    database.append(&[Row::of(record)]).map_err(failed)?;
    let (bytes, machines) = decide(&cells(&database)?);
    if let Some(bytes) = bytes {
        let version = database.cell(BOOK)?.map(|(version, _)| version);
        database.swap_cell(BOOK, version, &bytes).map_err(failed)?;
    }
    database.close()?;
    Ok(machines)
}

/// Puts the new database in place of the old one, which stays under another name. At every moment
/// one of them is there.
fn exchange(
    directory: &Path,
    copy: &Path,
    now: Timestamp,
) -> Result<Option<PathBuf>, RestoreError> {
    let present = directory.join(Sqlite::FILE);
    let files = |doing| {
        let file = present.clone();
        move |source| RestoreError::Files { file, doing, source }
    };
    let replaced = match present.symlink_metadata() {
        Ok(_) => Some(keep(&present, now).map_err(files("keep it under another name"))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(files("look at it")(error)),
    };
    std::fs::rename(copy, &present).map_err(files("put the restored one in its place"))?;
    directory::sync(directory).map_err(files("sync its directory"))?;
    Ok(replaced)
}

/// Links the file, and moves its journal: that must never meet another database.
fn keep(present: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let date = now.to_string().replace(':', "-");
    for number in 0..REPLACED_MAX {
        let suffix = if number == 0 { String::new() } else { format!(".{number}") };
        let aside = present.with_file_name(format!("{}.replaced-{date}{suffix}", Sqlite::FILE));
        match std::fs::hard_link(present, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(_) => {
                std::fs::copy(present, &aside).and_then(|_| File::open(&aside)?.sync_all())?
            }
        }
        match std::fs::rename(journal(present), journal(&aside)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => return Ok(aside),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn journal(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-journal");
    name.into()
}
