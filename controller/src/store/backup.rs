//! A whole copy of a store in one SQLite file, taken while it works.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plan::{Digest, Token};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::audit::{head, walk};
use super::sqlite::{Database, Failure, OpenError, PIECE_BYTES};
use super::{Cell, Head, ROWS_MAX, Row, Store, StoreError, VerifyError, directory};

/// How many parts wait to be written; each has some MiB, a blob at most its limit.
const PARTS: usize = 2;

/// A backup that was taken and read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The file.
    pub path: PathBuf,
    /// How many records are in it.
    pub records: u64,
    /// The newest of them.
    pub head: Token,
    /// The digest that speaks for all of them.
    pub digest: Digest,
    /// The size of the file in bytes.
    pub bytes: u64,
}

/// No backup was made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file is there already.
    #[error("{}: exists already; choose another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("{}: cannot {doing}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// No space is left for it.
    #[error("{}: no space is left for the backup", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The copy cannot be opened as a database.
    #[error("the backup cannot be opened")]
    Open(#[from] OpenError),
    /// What was read from the store, or from the copy again, is not as it was written.
    #[error("the backup was given up")]
    Verify(#[from] VerifyError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What goes into the copy.
enum Part {
    Rows(Vec<Row>),
    Blob(Vec<u8>),
    Cell(String, Cell),
}

impl dyn Store + '_ {
    /// Writes a backup to the new file `to`: every record up to the present head, all blobs, all
    /// cells. It is read again and checked before it gets its name. Appends go on meanwhile.
    ///
    /// # Errors
    /// The file exists or cannot be written, or the store or the copy is damaged. Nothing is left.
    pub async fn backup(&self, to: &Path) -> Result<Backup, BackupError> {
        let until = self.head().await?;
        let partial = Partial::create(to)?;
        let (parts, waiting) = mpsc::channel(PARTS);
        let path = Arc::new(partial);
        let writing = Arc::clone(&path);
        let writer = tokio::task::spawn_blocking(move || write(&writing.path, waiting));
        let sent = send(self, until, &parts).await;
        drop(parts);
        joined(writer).await?;
        sent?;
        let to = to.to_owned();
        joined(tokio::task::spawn_blocking(move || finish(&path.path, &to, until))).await
    }
}

async fn joined<T>(task: JoinHandle<Result<T, BackupError>>) -> Result<T, BackupError> {
    task.await.map_err(|_| StoreError::Stopped)?
}

/// A file that is not complete yet. Removed when dropped; by then it has its own name, or failed.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn create(to: &Path) -> Result<Self, BackupError> {
        let unusable =
            |doing| move |source| BackupError::Unusable { path: to.to_owned(), doing, source };
        if to.symlink_metadata().is_ok() {
            return Err(BackupError::Exists { path: to.to_owned() });
        }
        let name = to.file_name().ok_or_else(|| io::ErrorKind::InvalidInput.into());
        let name = name.map_err(unusable("use this name"))?.to_string_lossy();
        let path = to.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(&path).map_err(unusable("make it"))?;
        Ok(Self { path })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn send(
    store: &(dyn Store + '_),
    until: Head,
    parts: &mpsc::Sender<Part>,
) -> Result<(), StoreError> {
    // When nobody receives any more, the writer has failed and says why.
    let mut after = Token::START;
    while after != until.token {
        let mut rows = store.rows(after, ROWS_MAX).await?;
        rows.retain(|row| row.token.revision <= until.token.revision);
        let Some(last) = rows.last() else { break };
        after = last.token;
        if parts.send(Part::Rows(rows)).await.is_err() {
            return Ok(());
        }
    }
    for digest in store.blobs().await? {
        let Some(bytes) = store.blob(digest).await? else { continue };
        if parts.send(Part::Blob(bytes)).await.is_err() {
            return Ok(());
        }
    }
    for name in store.cells().await? {
        let Some(cell) = store.cell(&name).await? else { continue };
        if parts.send(Part::Cell(name, cell)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn write(path: &Path, mut parts: mpsc::Receiver<Part>) -> Result<(), BackupError> {
    let mut database = Database::open(path)?;
    // The file counts once it is complete and synced as a whole.
    database.write_unsynced()?;
    while let Some(part) = parts.blocking_recv() {
        let written = match part {
            Part::Rows(rows) => database.append(&rows),
            Part::Blob(bytes) => put_blob(&mut database, &bytes),
            Part::Cell(name, cell) => database.put_cell(&name, cell.version, &cell.bytes),
        };
        written.map_err(|failure| gave_up(path, failure))?;
    }
    Ok(database.close()?)
}

fn put_blob(database: &mut Database, bytes: &[u8]) -> Result<(), Failure> {
    let digest = Digest::of(bytes);
    for (number, piece) in (0..).zip(bytes.chunks(PIECE_BYTES)) {
        database.put_piece(&digest, number, piece)?;
    }
    database.put_blob(&digest, bytes.len())
}

fn gave_up(path: &Path, failure: Failure) -> BackupError {
    match failure {
        Failure::Full | Failure::Commit { refused: true, .. } => {
            BackupError::Full { path: path.to_owned() }
        }
        Failure::Failed(error) => error.into(),
        Failure::Commit { refused: false, source } => StoreError::Medium {
            file: path.to_owned(),
            doing: "write it",
            source: Box::new(source),
        }
        .into(),
        // The store's rows do not follow each other.
        Failure::Stale => {
            let what = "the store's records do not follow each other; run `crossfade audit verify`";
            StoreError::Invalid(what.to_owned()).into()
        }
    }
}

/// Reads the copy again, then gives it its name.
fn finish(partial: &Path, to: &Path, until: Head) -> Result<Backup, BackupError> {
    let unusable =
        |doing| move |source| BackupError::Unusable { path: to.to_owned(), doing, source };
    let file = File::open(partial).map_err(unusable("open it again"))?;
    file.sync_all().map_err(unusable("sync it"))?;
    let bytes = file.metadata().map_err(unusable("look at it"))?.len();
    let copy = Database::read(partial)?;
    copy.check()?;
    let verified = walk(copy.all_rows())?;
    let verified = verified.against(until.token, until.digest).map_err(VerifyError::from)?;
    if copy.head()? != head(&verified) {
        return Err(StoreError::from(copy.corrupt("its head is wrong".to_owned())).into());
    }
    copy.close()?;
    name(partial, to).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            return BackupError::Exists { path: to.to_owned() };
        }
        unusable("give it its name")(source)
    })?;
    directory::sync(directory::parent(to)).map_err(unusable("sync its directory"))?;
    let path = to.to_owned();
    Ok(Backup {
        path,
        records: verified.records,
        head: verified.head,
        digest: verified.digest,
        bytes,
    })
}

/// Gives a file its name without ever replacing another one, where the file system has links.
fn name(partial: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(partial, to) {
        Ok(()) => std::fs::remove_file(partial),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => std::fs::rename(partial, to),
    }
}
