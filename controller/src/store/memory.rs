//! A store in memory: real semantics, no durability. For simulations and for trying things out.
//!
//! Handles made by [`Memory::another`] share one log, as several controllers share one store.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt};
use plan::{Digest, Record, Token};
use tokio::sync::{Notify, watch};

use super::{
    AppendError, BLOB_BYTES_MAX, CELL_BYTES_MAX, Cell, Checkpoint, Corrupt, Head, Loaded, ROWS_MAX,
    Row, Store, StoreError, SwapError, Urgency, WriteError, chain,
};

/// One controller's handle to a store in memory.
#[derive(Debug)]
pub struct Memory {
    shared: Arc<Shared>,
    own: Mutex<Own>,
    released: Notify,
}

/// What the next appends of one handle meet, in the order in which they were
/// [injected](Memory::inject).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `Stale` with the present head, without a look at the batch.
    Stale,
    /// `Unknown`, and the batch is in the log if it follows the head.
    UnknownWritten,
    /// `Unknown`, and the log is as before.
    UnknownLost,
    /// `Full`, once, whatever the urgency.
    Full,
    /// `Failed`, once.
    Failed,
    /// The append is carried out only after [`Memory::release`].
    Delayed,
}

#[derive(Debug)]
struct Shared {
    log: Mutex<Log>,
    length: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Log {
    rows: Vec<Row>,
    checkpoint: Option<Checkpoint>,
    blobs: BTreeMap<Digest, Arc<[u8]>>,
    cells: BTreeMap<String, Cell>,
    disk: Disk,
}

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Disk {
    /// Enough.
    #[default]
    Free,
    /// None but the reserve.
    Full,
    /// None but what the reserve held.
    Reserve,
}

/// What only this handle knows.
#[derive(Debug, Default)]
struct Own {
    faults: VecDeque<Fault>,
    unknown: bool,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        let (length, _) = watch::channel(0);
        Self::of(Arc::new(Shared { log: Mutex::default(), length }))
    }

    /// Another controller's handle to the same store. What was injected here stays here.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::of(Arc::clone(&self.shared))
    }

    /// The next append that meets no earlier fault meets this one.
    pub fn inject(&self, fault: Fault) {
        locked(&self.own).faults.push_back(fault);
    }

    /// Lets one delayed append of this handle go on: the one that waits, else the next to come.
    pub fn release(&self) {
        self.released.notify_one();
    }

    /// No room is left: ordinary writes of all handles fail with `Full`; a rollback uses the
    /// reserve.
    pub fn fill(&self) {
        self.log().disk = Disk::Full;
    }

    /// There is room again, and the reserve is in place.
    pub fn drain(&self) {
        self.log().disk = Disk::Free;
    }

    fn of(shared: Arc<Shared>) -> Self {
        Self { shared, own: Mutex::default(), released: Notify::new() }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        locked(&self.shared.log)
    }

    /// The log, unless this handle has to reload first.
    fn known(&self) -> Result<MutexGuard<'_, Log>, StoreError> {
        if locked(&self.own).unknown {
            return Err(StoreError::ReloadFirst);
        }
        Ok(self.log())
    }

    async fn append_rows(&self, batch: &[Record], urgency: Urgency) -> Result<(), AppendError> {
        let rows = chain::rows(batch)?;
        if rows.is_empty() {
            return Ok(());
        }
        drop(self.known()?);
        let mut fault = locked(&self.own).faults.pop_front();
        while fault == Some(Fault::Delayed) {
            self.released.notified().await;
            fault = locked(&self.own).faults.pop_front();
        }
        match fault {
            Some(Fault::Stale) => Err(AppendError::Stale { head: self.log().head().token }),
            Some(Fault::Full) => Err(AppendError::Full),
            Some(Fault::Failed) => Err(StoreError::Medium {
                file: place(),
                doing: "write",
                source: "a fault was injected".into(),
            }
            .into()),
            Some(Fault::UnknownLost) => {
                locked(&self.own).unknown = true;
                Err(AppendError::Unknown)
            }
            Some(Fault::UnknownWritten) => {
                // Whether it was written is what the caller has to find out.
                let _ = self.write(rows, urgency);
                locked(&self.own).unknown = true;
                Err(AppendError::Unknown)
            }
            Some(Fault::Delayed) | None => self.write(rows, urgency),
        }
    }

    fn write(&self, rows: Vec<Row>, urgency: Urgency) -> Result<(), AppendError> {
        let mut log = self.log();
        let head = log.head();
        if rows.first().is_some_and(|first| !head.admits(first.token, first.parent)) {
            return Err(AppendError::Stale { head: head.token });
        }
        match (log.disk, urgency) {
            (Disk::Free, _) => {}
            (Disk::Full | Disk::Reserve, Urgency::Rollback) => log.disk = Disk::Reserve,
            (Disk::Full | Disk::Reserve, Urgency::Ordinary) => return Err(AppendError::Full),
        }
        log.rows.extend(rows);
        let length = log.head().token.revision;
        drop(log);
        self.shared.length.send_replace(length);
        Ok(())
    }

    fn load_all(&self) -> Result<Loaded, StoreError> {
        locked(&self.own).unknown = false;
        let log = self.log();
        let checkpoint = log.checkpoint.clone();
        let mut at = checkpoint.as_ref().map_or(Head::START, |point| point.head);
        let mut tail = Vec::new();
        for row in log.after(at.token) {
            tail.push(row.follow(&at).map_err(|what| Corrupt { file: place(), what })?);
            at = row.head();
        }
        Ok(Loaded { checkpoint, tail, head: log.head() })
    }

    fn put_checkpoint(&self, head: Head, bytes: &[u8]) -> Result<(), WriteError> {
        let mut log = self.known()?;
        if !log.rows.iter().any(|row| row.head() == head) {
            let what = format!("a checkpoint at {}, which is not in the log", head.token);
            return Err(StoreError::Invalid(what).into());
        }
        if log.disk != Disk::Free {
            return Err(WriteError::Full);
        }
        if log.checkpoint.as_ref().is_none_or(|old| old.head.token <= head.token) {
            log.checkpoint = Some(Checkpoint { head, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    fn keep_blob(&self, bytes: Arc<[u8]>) -> Result<Digest, WriteError> {
        if bytes.len() > BLOB_BYTES_MAX {
            let what = format!("a blob of {} bytes; at most {BLOB_BYTES_MAX}", bytes.len());
            return Err(StoreError::Invalid(what).into());
        }
        let digest = Digest::of(&bytes);
        let mut log = self.known()?;
        if log.disk != Disk::Free && !log.blobs.contains_key(&digest) {
            return Err(WriteError::Full);
        }
        log.blobs.entry(digest).or_insert(bytes);
        Ok(digest)
    }

    fn swap(&self, name: &str, expected: Option<u64>, bytes: &[u8]) -> Result<u64, SwapError> {
        if bytes.len() > CELL_BYTES_MAX {
            let what = format!("a cell of {} bytes; at most {CELL_BYTES_MAX}", bytes.len());
            return Err(StoreError::Invalid(what).into());
        }
        let mut log = self.known()?;
        let version = log.cells.get(name).map(|cell| cell.version);
        if version != expected {
            return Err(SwapError::Moved { version });
        }
        if log.disk != Disk::Free {
            return Err(SwapError::Full);
        }
        let version = expected.unwrap_or(0).saturating_add(1);
        log.cells.insert(name.to_owned(), Cell { version, bytes: bytes.to_vec() });
        Ok(version)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Log {
    fn head(&self) -> Head {
        self.rows.last().map_or(Head::START, Row::head)
    }

    fn after(&self, token: Token) -> &[Row] {
        // The record of revision n is the nth row.
        let skip = usize::try_from(token.revision).unwrap_or(usize::MAX);
        self.rows.get(skip..).unwrap_or_default()
    }
}

impl Store for Memory {
    fn load(&self) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        async { self.load_all() }.boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        async { Ok(self.known()?.head()) }.boxed()
    }

    fn append<'a>(
        &'a self,
        batch: &'a [Record],
        urgency: Urgency,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        self.append_rows(batch, urgency).boxed()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        async {
            locked(&self.own).unknown = false;
            Ok(self.log().head())
        }
        .boxed()
    }

    fn rows(&self, after: Token, limit: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        let limit = limit.min(ROWS_MAX);
        async move { Ok(self.known()?.after(after).iter().take(limit).cloned().collect()) }.boxed()
    }

    fn watch(&self, after: Token) -> BoxStream<'static, Record> {
        let (shared, length) = (Arc::clone(&self.shared), self.shared.length.subscribe());
        futures::stream::unfold((shared, length, after), |(shared, mut length, after)| async move {
            length.wait_for(|length| *length > after.revision).await.ok()?;
            let row = locked(&shared.log).after(after).first().cloned()?;
            let record = Record::decode(&row.bytes).ok()?;
            Some((record, (shared, length, row.token)))
        })
        .boxed()
    }

    fn checkpoint(&self, head: Head, bytes: Arc<[u8]>) -> BoxFuture<'_, Result<(), WriteError>> {
        async move { self.put_checkpoint(head, &bytes) }.boxed()
    }

    fn blob(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        async move { Ok(self.known()?.blobs.get(&digest).map(|bytes| bytes.to_vec())) }.boxed()
    }

    fn put_blob(&self, bytes: Arc<[u8]>) -> BoxFuture<'_, Result<Digest, WriteError>> {
        async move { self.keep_blob(bytes) }.boxed()
    }

    fn blobs(&self) -> BoxFuture<'_, Result<Vec<Digest>, StoreError>> {
        async { Ok(self.known()?.blobs.keys().copied().collect()) }.boxed()
    }

    fn cell<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Cell>, StoreError>> {
        async move { Ok(self.known()?.cells.get(name).cloned()) }.boxed()
    }

    fn swap_cell<'a>(
        &'a self,
        name: &'a str,
        expected: Option<u64>,
        bytes: &'a [u8],
    ) -> BoxFuture<'a, Result<u64, SwapError>> {
        async move { self.swap(name, expected, bytes) }.boxed()
    }

    fn cells(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        async { Ok(self.known()?.cells.keys().cloned().collect()) }.boxed()
    }

    fn reserve_held(&self) -> bool {
        self.log().disk != Disk::Reserve
    }
}

/// A store in memory is no file; errors still name something.
fn place() -> PathBuf {
    PathBuf::from("(memory)")
}

/// Every section leaves the value whole, also one that ends early.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
