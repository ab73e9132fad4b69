//! From what the store holds to a state.

use plan::{Broken, Record, State, Token};

use crate::core::expected::{CELL, Expected, ExpectedError};
use crate::store::{Corrupt, Head, ROWS_MAX, Store, StoreError};

/// What a start found.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) state: State,
    pub(super) expected: Expected,
    /// The version of the cell that holds the expected sinks.
    pub(super) sinks_version: Option<u64>,
    /// The revision of the newest checkpoint.
    pub(super) checkpoint: u64,
}

/// Why a controller does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error("the log cannot be read")]
    Store(#[from] StoreError),
    /// A record does not follow from those before.
    #[error("the log is broken; bring back a backup with `crossfade restore FILE`")]
    Log(#[from] Broken),
    /// The state is not the one that the store's head names.
    #[error(
        "the log ends at {found}, but its head is {head}; bring back a backup with `crossfade \
         restore FILE`"
    )]
    Head {
        /// What the records gave.
        found: Token,
        /// What the store says.
        head: Token,
    },
    /// The list of expected sinks cannot be read.
    #[error("the list of expected sinks cannot be read")]
    Sinks(#[from] ExpectedError),
}

pub(super) async fn open(store: &dyn Store) -> Result<Opened, StartError> {
    let loaded = store.load().await?;
    let mut checkpoint = 0;
    let kept = loaded.checkpoint.as_ref().and_then(|kept| {
        let state = State::from_checkpoint(&kept.bytes).ok()?;
        let same = Head { token: state.token(), digest: state.digest() } == kept.head;
        same.then_some(state)
    });
    let state = match (kept, &loaded.checkpoint) {
        (Some(state), _) => {
            checkpoint = state.token().revision;
            fold(state, &loaded.tail)?
        }
        (None, None) => fold(State::empty(), &loaded.tail)?,
        // Of another version: the records say the same.
        (None, Some(_)) => replay(store).await?,
    };
    let found = Head { token: state.token(), digest: state.digest() };
    if found != loaded.head {
        return Err(StartError::Head { found: found.token, head: loaded.head.token });
    }
    let cell = store.cell(CELL).await?;
    let expected = match &cell {
        Some(cell) => Expected::decode(&cell.bytes)?,
        None => Expected::default(),
    };
    let sinks_version = cell.map(|cell| cell.version);
    Ok(Opened { state, expected, sinks_version, checkpoint })
}

fn fold(mut state: State, records: &[Record]) -> Result<State, Broken> {
    for record in records {
        state = state.apply(record)?;
    }
    Ok(state)
}

async fn replay(store: &dyn Store) -> Result<State, StartError> {
    let mut state = State::empty();
    loop {
        let page = page(store, state.token()).await?;
        if page.is_empty() {
            return Ok(state);
        }
        state = fold(state, &page)?;
    }
}

/// All records after a token, in order.
pub(super) async fn after(
    store: &dyn Store,
    mut after: Token,
    reopen: bool,
) -> Result<Vec<Record>, StoreError> {
    if reopen {
        store.reload().await?;
    }
    let mut records = Vec::new();
    loop {
        let page = page(store, after).await?;
        let Some(last) = page.last() else { return Ok(records) };
        after = last.token;
        records.extend(page);
    }
}

async fn page(store: &dyn Store, after: Token) -> Result<Vec<Record>, StoreError> {
    let rows = store.rows(after, ROWS_MAX).await?;
    let records = rows.into_iter().map(|row| {
        Record::decode(&row.bytes).map_err(|_| {
            let what = format!("record {} cannot be read", row.token);
            StoreError::Corrupt(Corrupt { file: "log".into(), what })
        })
    });
    records.collect()
}
