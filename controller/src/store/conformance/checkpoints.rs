//! Checkpoints shorten a start and change nothing else.

use std::sync::Arc;

use futures::FutureExt;
use plan::Token;

use super::{Case, Factory, Failed, filled, holds, record, records, same};
use crate::store::{Checkpoint, Head, StoreError, Urgency, WriteError};

pub(super) const CASES: &[Case] = &[
    Case { name: "a load begins at the checkpoint", run: |f| shortens(f).boxed() },
    Case { name: "the newest checkpoint counts", run: |f| newest(f).boxed() },
    Case { name: "a checkpoint of another log is refused", run: |f| foreign(f).boxed() },
];

async fn shortens(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 5).await?;
    let bytes: Arc<[u8]> = Arc::from(*b"the state at five");
    store.checkpoint(head, Arc::clone(&bytes)).await?;
    let more = records(head, 2);
    store.append(&more, Urgency::Ordinary).await?;
    let store = factory.restarted(store).await;
    let loaded = store.load().await?;
    same("checkpoint", &loaded.checkpoint, &Some(Checkpoint { head, bytes: bytes.to_vec() }))?;
    same("tail", &loaded.tail, &more)?;
    same("rows that stay", &store.rows(Token::START, 99).await?.len(), &7)
}

async fn newest(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, _) = filled(factory, 6).await?;
    let batch = records(Head::START, 6);
    for at in [1, 3, 5, 2] {
        let Some(head) = batch.get(at).map(Head::of) else { continue };
        store.checkpoint(head, Arc::from(format!("at {at}").into_bytes())).await?;
    }
    let loaded = factory.restarted(store).await.load().await?;
    let found = loaded.checkpoint.map(|point| (point.head.token.revision, point.bytes));
    same("checkpoint", &found, &Some((6, b"at 5".to_vec())))?;
    same("tail", &loaded.tail, &Vec::new())
}

async fn foreign(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 2).await?;
    for other in
        [Head::of(&record(head, "not appended")), Head { digest: head.digest, ..Head::START }]
    {
        let outcome = store.checkpoint(other, Arc::from(*b"x")).await;
        let refused = matches!(outcome, Err(WriteError::Failed(StoreError::Invalid(_))));
        holds(&format!("refused as invalid: {outcome:?}"), refused)?;
    }
    same("checkpoint", &store.load().await?.checkpoint, &None)
}
