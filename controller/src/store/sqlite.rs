//! The embedded store: one SQLite file, one connection, one thread.
//!
//! At rest everything is in `crossfade.db`. While it runs, a journal lies beside it; a process that
//! dies leaves it there and the next start rolls back what was not committed.

mod database;
mod keeper;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt};
use plan::{Digest, Record, Token};
use tokio::sync::{mpsc, oneshot};

use self::keeper::Keeper;
use super::directory::{Directory, DirectoryError};
use super::{
    AppendError, BLOB_BYTES_MAX, CELL_BYTES_MAX, Cell, Checkpoint, Corrupt, Head, Loaded, ROWS_MAX,
    Row, Store, StoreError, SwapError, Urgency, WriteError, chain,
};

pub(super) use self::database::{Database, Failure};

/// How many calls wait for the thread. Callers beyond that wait to get in; each call takes some
/// milliseconds, so that a rollback never waits long.
const QUEUE: usize = 16;

/// Blobs are written in parts of so many bytes, so that a rollback waits for one part at most.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// The embedded store. When the last clone is dropped, what was asked is done, the file is closed
/// and the directory is free again.
#[derive(Clone, Debug)]
pub struct Sqlite {
    thread: Arc<Thread>,
    path: PathBuf,
    reserve: Arc<AtomicBool>,
}

/// The thread and the way to it.
#[derive(Debug)]
struct Thread {
    jobs: Option<mpsc::Sender<Job>>,
    handle: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Without a sender the thread ends, after at most `QUEUE` short jobs.
        self.jobs = None;
        if let Some(handle) = self.handle.take() {
            // Whoever waited for an answer of a thread that panicked was told `Stopped`.
            let _ = handle.join();
        }
    }
}

/// What the thread is asked to do.
struct Job(Box<dyn FnOnce(&mut Keeper) + Send>);

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file cannot be opened.
    #[error("{}: cannot open it for reading and writing", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// SQLite cannot open the file.
    #[error("{}: cannot open it", file.display())]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Another program has the file open.
    #[error("{}: another program is using it; end that program", file.display())]
    Busy {
        /// The file.
        file: PathBuf,
    },
    /// It is no file of ours, or its first bytes are damaged.
    #[error(
        "{}: not a Crossfade database, or damaged at its start; move it away, or bring back a \
         backup with `crossfade restore FILE`",
        file.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// Another version of the program wrote it, or a byte of its header is damaged.
    #[error(
        "{}: layout {found}, but this program knows layout {}; run the version that wrote it, or \
         bring back a backup with `crossfade restore FILE`",
        file.display(),
        schema::VERSION
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// The layout of the file.
        found: i32,
    },
    /// There is no space to begin.
    #[error("{}: no space is left to make it; free some and start again", file.display())]
    Full {
        /// The file.
        file: PathBuf,
    },
    /// The file is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The medium fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Sqlite {
    /// The name of the file in the data directory.
    pub const FILE: &'static str = "crossfade.db";

    /// Opens the store in this data directory, or makes it. Its contents are checked by
    /// [`Store::load`].
    ///
    /// # Errors
    /// The directory is in use or not writable, or the file is none of ours.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let directory = Directory::take(directory)?;
        let path = directory.path().join(Self::FILE);
        let mut keeper = Keeper::open(directory)?;
        let reserve = keeper.reserve_flag();
        let (jobs, mut waiting) = mpsc::channel::<Job>(QUEUE);
        let run = move || {
            while let Some(Job(job)) = waiting.blocking_recv() {
                job(&mut keeper);
            }
        };
        let spawned = std::thread::Builder::new().name("store".to_owned()).spawn(run);
        match spawned {
            Ok(handle) => {
                let thread = Thread { jobs: Some(jobs), handle: Some(handle) };
                Ok(Self { thread: Arc::new(thread), path, reserve })
            }
            Err(source) => Err(StoreError::Medium {
                file: path,
                doing: "start its thread",
                source: Box::new(source),
            }
            .into()),
        }
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keeper) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job(Box::new(move |keeper| {
            // The caller may have gone; what it asked is done all the same.
            let _ = reply.send(work(keeper));
        }));
        let jobs = self.thread.jobs.as_ref().ok_or(StoreError::Stopped)?;
        jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)
    }

    async fn put_pieces(&self, bytes: Arc<[u8]>) -> Result<Digest, WriteError> {
        if bytes.len() > BLOB_BYTES_MAX {
            let what = format!("a blob of {} bytes; at most {BLOB_BYTES_MAX}", bytes.len());
            return Err(StoreError::Invalid(what).into());
        }
        let digest = Digest::of(&bytes);
        if self.call(move |keeper| keeper.blob_size(&digest)).await??.is_some() {
            return Ok(digest);
        }
        let size = bytes.len();
        for (number, start) in (0u32..).zip((0..size).step_by(PIECE_BYTES)) {
            let bytes = Arc::clone(&bytes);
            let end = size.min(start + PIECE_BYTES);
            let put = move |keeper: &mut Keeper| {
                keeper.put_piece(&digest, number, bytes.get(start..end).unwrap_or_default())
            };
            self.call(put).await??;
        }
        self.call(move |keeper| keeper.put_blob(&digest, size)).await??;
        Ok(digest)
    }

    async fn pieces(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(size) = self.call(move |keeper| keeper.blob_size(&digest)).await?? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        for (number, _) in (0u32..).zip((0..size.min(BLOB_BYTES_MAX)).step_by(PIECE_BYTES)) {
            bytes.extend(self.call(move |keeper| keeper.piece(&digest, number)).await??);
        }
        if bytes.len() == size && Digest::of(&bytes) == digest {
            return Ok(Some(bytes));
        }
        let what = format!("the blob {digest} does not have its digest");
        Err(Corrupt { file: self.path.clone(), what }.into())
    }
}

impl Store for Sqlite {
    fn load(&self) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        async { self.call(Keeper::load).await? }.boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        async { self.call(Keeper::head).await? }.boxed()
    }

    fn append<'a>(
        &'a self,
        batch: &'a [Record],
        urgency: Urgency,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        async move {
            let rows = chain::rows(batch)?;
            if rows.is_empty() {
                return Ok(());
            }
            match self.call(move |keeper| keeper.append(&rows, urgency)).await {
                Ok(outcome) => outcome,
                // The thread may have ended with the append half done.
                Err(_) => Err(AppendError::Unknown),
            }
        }
        .boxed()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        async { self.call(Keeper::reload).await? }.boxed()
    }

    fn rows(&self, after: Token, limit: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        let limit = limit.min(ROWS_MAX);
        async move { self.call(move |keeper| keeper.rows(after, limit)).await? }.boxed()
    }

    fn watch(&self, _after: Token) -> BoxStream<'static, Record> {
        futures::stream::pending().boxed()
    }

    fn checkpoint(&self, head: Head, bytes: Arc<[u8]>) -> BoxFuture<'_, Result<(), WriteError>> {
        async move {
            let point = Checkpoint { head, bytes: bytes.to_vec() };
            self.call(move |keeper| keeper.put_checkpoint(&point)).await?
        }
        .boxed()
    }

    fn blob(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        self.pieces(digest).boxed()
    }

    fn put_blob(&self, bytes: Arc<[u8]>) -> BoxFuture<'_, Result<Digest, WriteError>> {
        self.put_pieces(bytes).boxed()
    }

    fn blobs(&self) -> BoxFuture<'_, Result<Vec<Digest>, StoreError>> {
        async { self.call(Keeper::blobs).await? }.boxed()
    }

    fn cell<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Cell>, StoreError>> {
        let name = name.to_owned();
        async move { self.call(move |keeper| keeper.cell(&name)).await? }.boxed()
    }

    fn swap_cell<'a>(
        &'a self,
        name: &'a str,
        expected: Option<u64>,
        bytes: &'a [u8],
    ) -> BoxFuture<'a, Result<u64, SwapError>> {
        async move {
            if bytes.len() > CELL_BYTES_MAX {
                let what = format!("a cell of {} bytes; at most {CELL_BYTES_MAX}", bytes.len());
                return Err(StoreError::Invalid(what).into());
            }
            let (name, bytes) = (name.to_owned(), bytes.to_vec());
            match self.call(move |keeper| keeper.swap_cell(&name, expected, &bytes)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(SwapError::Unknown),
            }
        }
        .boxed()
    }

    fn cells(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        async { self.call(Keeper::cells).await? }.boxed()
    }

    fn reserve_held(&self) -> bool {
        self.reserve.load(Ordering::Acquire)
    }
}

/// SQLite's integers have a sign; revisions stay far below its range.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
