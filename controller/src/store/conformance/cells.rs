//! Values by compare-and-set.

use futures::FutureExt;
use futures::future::join_all;

use super::{Case, Factory, Failed, holds, same};
use crate::store::{CELL_BYTES_MAX, Cell, StoreError, SwapError};

pub(super) const CASES: &[Case] = &[
    Case { name: "a cell is written where its version is expected", run: |f| swapped(f).boxed() },
    Case { name: "a cell that has moved is not written", run: |f| moved(f).boxed() },
    Case { name: "of swaps at once one wins", run: |f| race(f).boxed() },
    Case { name: "cells are listed in order", run: |f| listed(f).boxed() },
    Case { name: "a cell over the limit is refused", run: |f| large(f).boxed() },
];

async fn swapped(factory: &dyn Factory) -> Result<(), Failed> {
    let store = factory.empty().await;
    same("before", &store.cell("ca").await?, &None)?;
    same("version", &store.swap_cell("ca", None, b"one").await?, &1)?;
    same("version", &store.swap_cell("ca", Some(1), b"").await?, &2)?;
    same("version", &store.swap_cell("ca", Some(2), b"three").await?, &3)?;
    let store = factory.restarted(store).await;
    same("after", &store.cell("ca").await?, &Some(Cell { version: 3, bytes: b"three".to_vec() }))
}

async fn moved(factory: &dyn Factory) -> Result<(), Failed> {
    let store = factory.empty().await;
    for (expected, present) in [(Some(1), None), (Some(0), None)] {
        match store.swap_cell("sinks", expected, b"x").await {
            Err(SwapError::Moved { version }) => same("version told", &version, &present)?,
            outcome => return Err(Failed(format!("expected {expected:?}: {outcome:?}"))),
        }
    }
    store.swap_cell("sinks", None, b"first").await?;
    for expected in [None, Some(0), Some(2)] {
        match store.swap_cell("sinks", expected, b"x").await {
            Err(SwapError::Moved { version }) => same("version told", &version, &Some(1))?,
            outcome => return Err(Failed(format!("expected {expected:?}: {outcome:?}"))),
        }
    }
    let wanted = Cell { version: 1, bytes: b"first".to_vec() };
    same("cell", &store.cell("sinks").await?, &Some(wanted))
}

async fn race(factory: &dyn Factory) -> Result<(), Failed> {
    let store = factory.empty().await;
    let values: Vec<Vec<u8>> = (0..16u8).map(|n| vec![n]).collect();
    let outcomes = join_all(values.iter().map(|value| store.swap_cell("ca", None, value))).await;
    let mut won = values.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
    let winner = won.next().map(|(value, _)| Cell { version: 1, bytes: value.clone() });
    holds("one wins", winner.is_some() && won.next().is_none())?;
    same("cell", &store.cell("ca").await?, &winner)
}

async fn listed(factory: &dyn Factory) -> Result<(), Failed> {
    let store = factory.empty().await;
    for name in ["tokens", "ca", "sinks"] {
        store.swap_cell(name, None, name.as_bytes()).await?;
    }
    let names: Vec<String> = ["ca", "sinks", "tokens"].map(str::to_owned).into();
    same("cells", &store.cells().await?, &names)
}

async fn large(factory: &dyn Factory) -> Result<(), Failed> {
    let store = factory.empty().await;
    let bytes = vec![7; CELL_BYTES_MAX + 1];
    let outcome = store.swap_cell("ca", None, &bytes).await;
    let refused = matches!(outcome, Err(SwapError::Failed(StoreError::Invalid(_))));
    holds(&format!("refused as invalid: {outcome:?}"), refused)?;
    let longest = bytes.get(..CELL_BYTES_MAX).unwrap_or_default();
    same("version", &store.swap_cell("ca", None, longest).await?, &1)
}
