//! The conformance suite on both stores.

use controller::store::conformance::{Factory, run};
use controller::store::{Memory, Sqlite, Store};
use futures::future::{BoxFuture, FutureExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::common::Scratch;

struct InMemory {
    last: Mutex<Option<Memory>>,
}

impl Factory for InMemory {
    fn empty(&self) -> BoxFuture<'_, Box<dyn Store>> {
        let store = Memory::new();
        *self.last.lock().unwrap() = Some(store.another());
        async move { Box::new(store) as Box<dyn Store> }.boxed()
    }

    fn restarted(&self, store: Box<dyn Store>) -> BoxFuture<'_, Box<dyn Store>> {
        drop(store);
        let store = self.second_handle();
        async move { Box::new(store) as Box<dyn Store> }.boxed()
    }

    fn second(&self, _store: &dyn Store) -> Option<Box<dyn Store>> {
        Some(Box::new(self.second_handle()))
    }
}

impl InMemory {
    fn second_handle(&self) -> Memory {
        self.last.lock().unwrap().as_ref().unwrap().another()
    }
}

struct OnDisk {
    scratch: Scratch,
    last: Mutex<(u32, PathBuf)>,
}

/// Another test of this process may be starting a child, which has what this process has open, the
/// lock too, until its program begins.
fn reopened(directory: &Path) -> Sqlite {
    for _ in 0..TRIES {
        match Sqlite::open(directory) {
            Err(error) if error.to_string().contains("in use by process") => {
                std::thread::yield_now();
            }
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays in use", directory.display());
}

/// A child begins within milliseconds.
const TRIES: u32 = 20_000;

impl Factory for OnDisk {
    fn empty(&self) -> BoxFuture<'_, Box<dyn Store>> {
        let mut last = self.last.lock().unwrap();
        last.0 += 1;
        last.1 = self.scratch.join(&format!("data-{}", last.0));
        let store = Sqlite::open(&last.1).unwrap();
        async move { Box::new(store) as Box<dyn Store> }.boxed()
    }

    fn restarted(&self, store: Box<dyn Store>) -> BoxFuture<'_, Box<dyn Store>> {
        drop(store);
        let store = reopened(&self.last.lock().unwrap().1);
        async move { Box::new(store) as Box<dyn Store> }.boxed()
    }

    fn second(&self, _store: &dyn Store) -> Option<Box<dyn Store>> {
        None
    }
}

/// As many as the suite has: a case that is lost is noticed.
const CASES: usize = 26;

#[tokio::test]
async fn the_store_in_memory_conforms() {
    let factory = InMemory { last: Mutex::default() };
    assert_eq!(run(&factory).await.map_err(|seen| format!("{seen:#?}")), Ok(CASES));
}

#[tokio::test]
async fn the_store_in_sqlite_conforms() {
    let factory = OnDisk { scratch: Scratch::new(), last: Mutex::default() };
    assert_eq!(run(&factory).await.map_err(|seen| format!("{seen:#?}")), Ok(CASES));
}
