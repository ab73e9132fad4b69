//! A store that notes the appends that are begun, in order, and leaves the rest to another one.

use std::sync::{Arc, Mutex};

use controller::store::{
    AppendError, Cell, Head, Loaded, Row, Sqlite, Store, StoreError, SwapError, Urgency, WriteError,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use plan::{Digest, Record, Token};

#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) inner: Sqlite,
    begun: Mutex<Vec<Vec<Token>>>,
}

impl Recording {
    pub(crate) fn new(inner: Sqlite) -> Self {
        Self { inner, begun: Mutex::default() }
    }

    /// The tokens of every append that was begun.
    pub(crate) fn begun(&self) -> Vec<Vec<Token>> {
        self.begun.lock().unwrap().clone()
    }
}

impl Store for Recording {
    fn append<'a>(
        &'a self,
        batch: &'a [Record],
        urgency: Urgency,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        let tokens = batch.iter().map(|record| record.token).collect();
        self.begun.lock().unwrap().push(tokens);
        self.inner.append(batch, urgency)
    }

    fn load(&self) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        self.inner.load()
    }

    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.inner.head()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        self.inner.reload()
    }

    fn rows(&self, after: Token, limit: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        self.inner.rows(after, limit)
    }

    fn watch(&self, after: Token) -> BoxStream<'static, Record> {
        self.inner.watch(after)
    }

    fn checkpoint(&self, head: Head, bytes: Arc<[u8]>) -> BoxFuture<'_, Result<(), WriteError>> {
        self.inner.checkpoint(head, bytes)
    }

    fn blob(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        self.inner.blob(digest)
    }

    fn put_blob(&self, bytes: Arc<[u8]>) -> BoxFuture<'_, Result<Digest, WriteError>> {
        self.inner.put_blob(bytes)
    }

    fn blobs(&self) -> BoxFuture<'_, Result<Vec<Digest>, StoreError>> {
        self.inner.blobs()
    }

    fn cell<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Cell>, StoreError>> {
        self.inner.cell(name)
    }

    fn swap_cell<'a>(
        &'a self,
        name: &'a str,
        expected: Option<u64>,
        bytes: &'a [u8],
    ) -> BoxFuture<'a, Result<u64, SwapError>> {
        self.inner.swap_cell(name, expected, bytes)
    }

    fn cells(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.inner.cells()
    }

    fn reserve_held(&self) -> bool {
        self.inner.reserve_held()
    }
}
