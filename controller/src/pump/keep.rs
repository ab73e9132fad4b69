//! Keeping the list of expected sinks.

use std::sync::Arc;

use crate::core::expected::CELL;
use crate::store::{Store, SwapError};

/// How a write of the list went.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) done: bool,
    /// The version of the cell as it is known now.
    pub(super) version: Option<u64>,
}

/// Writes the list. After a failure the core asks again in a moment.
pub(super) async fn keep(store: Arc<dyn Store>, version: Option<u64>, list: Vec<u8>) -> Kept {
    match store.swap_cell(CELL, version, &list).await {
        Ok(version) => Kept { done: true, version: Some(version) },
        Err(SwapError::Moved { version }) => Kept { done: false, version },
        Err(SwapError::Unknown) => look(store.as_ref(), version, &list).await,
        Err(error @ (SwapError::Full | SwapError::Failed(_))) => {
            tracing::warn!(%error, "the list of expected sinks cannot be written");
            Kept { done: false, version }
        }
    }
}

/// The outcome is unknown: reads the cell again.
async fn look(store: &dyn Store, version: Option<u64>, list: &[u8]) -> Kept {
    let lost = Kept { done: false, version };
    if store.reload().await.is_err() {
        return lost;
    }
    match store.cell(CELL).await {
        Ok(Some(cell)) => Kept { done: cell.bytes == list, version: Some(cell.version) },
        Ok(None) => Kept { done: false, version: None },
        Err(_) => lost,
    }
}
