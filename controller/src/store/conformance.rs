//! What every store must do. A new store passes [`run`] before anything is built on it.

mod blobs;
mod cells;
mod checkpoints;
mod log;
mod whole;

use futures::future::BoxFuture;
use plan::{CauseSummary, Record, Timestamp};

use super::{Head, Store};

/// Makes stores to be tried.
pub trait Factory: Send + Sync {
    /// A new, empty store.
    fn empty(&self) -> BoxFuture<'_, Box<dyn Store>>;

    /// The same store after its controller has restarted.
    fn restarted(&self, store: Box<dyn Store>) -> BoxFuture<'_, Box<dyn Store>>;

    /// A second controller's handle to the same store; `None` where there can be only one.
    fn second(&self, store: &dyn Store) -> Option<Box<dyn Store>>;
}

/// A store does not do what it must.
#[derive(Debug, thiserror::Error)]
#[error("{case}: {what}")]
pub struct Violation {
    /// The name of the case.
    pub case: &'static str,
    /// What was seen.
    pub what: String,
}

/// One thing that a store must do.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    run: for<'a> fn(&'a dyn Factory) -> BoxFuture<'a, Result<(), Failed>>,
}

/// What was seen instead of what must be.
#[derive(Debug)]
struct Failed(String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(format!("an error that should not be: {error}"))
    }
}

/// Tries every case, each on a store of its own. How many there were.
///
/// # Errors
/// Every case in which the store does something else.
pub async fn run(factory: &dyn Factory) -> Result<usize, Vec<Violation>> {
    let cases = [log::CASES, checkpoints::CASES, blobs::CASES, cells::CASES, whole::CASES].concat();
    let mut violations = Vec::new();
    for case in &cases {
        if let Err(Failed(what)) = (case.run)(factory).await {
            violations.push(Violation { case: case.name, what });
        }
    }
    if violations.is_empty() { Ok(cases.len()) } else { Err(violations) }
}

/// A record that follows `head` and changes nothing; `note` tells it from others.
pub fn record(head: Head, note: &str) -> Record {
    Record {
        token: head.token.next(),
        parent: head.digest,
        at: Timestamp::default(),
        cause: CauseSummary::Observed { what: vec![note.to_owned()] },
        key: None,
        puts: Vec::new(),
    }
}

/// So many records that follow `head` and each other.
pub fn records(head: Head, count: usize) -> Vec<Record> {
    let mut at = head;
    let next = |number| {
        let record = record(at, &format!("number {number}"));
        at = Head::of(&record);
        record
    };
    (0..count).map(next).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<(), Failed> {
    if found == wanted {
        return Ok(());
    }
    Err(Failed(format!("{what}: found {found:?}, wanted {wanted:?}")))
}

fn holds(what: &str, holds: bool) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(Failed(what.to_owned())) }
}

/// A store with so many records, and its head.
async fn filled(factory: &dyn Factory, count: usize) -> Result<(Box<dyn Store>, Head), Failed> {
    let store = factory.empty().await;
    let batch = records(Head::START, count);
    store.append(&batch, super::Urgency::Ordinary).await?;
    let head = batch.last().map_or(Head::START, Head::of);
    Ok((store, head))
}
