//! Appending and reading.

use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use plan::{Record, Token};

use super::{Case, Factory, Failed, filled, holds, record, records, same};
use crate::store::{AppendError, Head, Row, StoreError, Urgency};

pub(super) const CASES: &[Case] = &[
    Case { name: "an empty store loads as empty", run: |f| empty(f).boxed() },
    Case { name: "what was appended is read again", run: |f| appended(f).boxed() },
    Case { name: "what was appended outlives a restart", run: |f| restarted(f).boxed() },
    Case { name: "a batch that does not follow is stale", run: |f| stale(f).boxed() },
    Case { name: "a batch with a gap inside is refused", run: |f| gap(f).boxed() },
    Case { name: "an empty batch changes nothing", run: |f| nothing(f).boxed() },
    Case { name: "the incarnation rises and never falls", run: |f| incarnation(f).boxed() },
    Case { name: "of appends at once one wins", run: |f| race(f).boxed() },
    Case { name: "rows come in pages", run: |f| pages(f).boxed() },
    Case { name: "a large record is kept whole", run: |f| large(f).boxed() },
    Case { name: "a rollback is appended like any record", run: |f| urgent(f).boxed() },
    Case { name: "a reload tells the head", run: |f| reload(f).boxed() },
    Case { name: "two controllers share one log", run: |f| shared(f).boxed() },
    Case { name: "a watcher sees each record once, in order", run: |f| watched(f).boxed() },
];

/// How long a watcher may take to see what was appended.
const SOON: Duration = Duration::from_secs(10);

async fn empty(factory: &dyn Factory) -> Result<(), Failed> {
    let store = factory.empty().await;
    let loaded = store.load().await?;
    same("head", &loaded.head, &Head::START)?;
    same("checkpoint", &loaded.checkpoint, &None)?;
    same("tail", &loaded.tail, &Vec::new())?;
    same("head", &store.head().await?, &Head::START)?;
    same("rows", &store.rows(Token::START, 10).await?, &Vec::new())?;
    holds("the reserve is in place", store.reserve_held())
}

async fn appended(factory: &dyn Factory) -> Result<(), Failed> {
    let store = factory.empty().await;
    let batch = records(Head::START, 5);
    let (first, rest) = batch.split_at(1);
    store.append(first, Urgency::Ordinary).await?;
    store.append(rest, Urgency::Ordinary).await?;
    let rows: Vec<Row> = batch.iter().map(Row::of).collect();
    same("rows", &store.rows(Token::START, 10).await?, &rows)?;
    let loaded = store.load().await?;
    same("tail", &loaded.tail, &batch)?;
    same("head", &Some(loaded.head), &batch.last().map(Head::of))
}

async fn restarted(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 3).await?;
    let store = factory.restarted(store).await;
    let loaded = store.load().await?;
    same("tail", &loaded.tail, &records(Head::START, 3))?;
    same("head", &loaded.head, &head)?;
    store.append(&[record(head, "next")], Urgency::Ordinary).await?;
    Ok(())
}

async fn stale(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 3).await?;
    let other = Head { digest: plan::Digest::of(b"other"), ..head };
    let far = Head { token: head.token.next(), ..head };
    for (what, batch) in [
        ("the first again", records(Head::START, 1)),
        ("all again", records(Head::START, 3)),
        ("another parent", vec![record(other, "x")]),
        ("a revision too far", vec![record(far, "x")]),
    ] {
        match store.append(&batch, Urgency::Ordinary).await {
            Err(AppendError::Stale { head: told }) => same(what, &told, &head.token)?,
            outcome => return Err(Failed(format!("{what}: {outcome:?}"))),
        }
        same(what, &store.head().await?, &head)?;
    }
    Ok(())
}

async fn gap(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 1).await?;
    let mut batch = records(head, 3);
    batch.remove(1);
    let outcome = store.append(&batch, Urgency::Ordinary).await;
    let refused = matches!(outcome, Err(AppendError::Failed(StoreError::Invalid(_))));
    holds(&format!("refused as invalid: {outcome:?}"), refused)?;
    same("head", &store.head().await?, &head)
}

async fn nothing(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 1).await?;
    store.append(&[], Urgency::Ordinary).await?;
    same("head", &store.head().await?, &head)
}

async fn incarnation(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 2).await?;
    let mut restored = record(head, "restored");
    restored.token.incarnation = 7;
    store.append(std::slice::from_ref(&restored), Urgency::Ordinary).await?;
    let head = Head::of(&restored);
    let mut older = record(head, "older");
    older.token.incarnation = 6;
    let outcome = store.append(&[older], Urgency::Ordinary).await;
    holds("an older incarnation is stale", matches!(outcome, Err(AppendError::Stale { .. })))?;
    same("head", &store.head().await?, &head)?;
    same("last row", &store.rows(Token { incarnation: 1, revision: 2 }, 9).await?.len(), &1)
}

async fn race(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 1).await?;
    let batches: Vec<[Record; 1]> =
        (0..16).map(|n| [record(head, &format!("racer {n}"))]).collect();
    let appends = batches.iter().map(|batch| store.append(batch, Urgency::Ordinary));
    let outcomes = join_all(appends).await;
    let won: Vec<_> =
        batches.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).collect();
    same("winners", &won.len(), &1)?;
    let lost = outcomes.iter().filter(|o| matches!(o, Err(AppendError::Stale { .. }))).count();
    same("told that they are stale", &lost, &15)?;
    let winner = won.first().and_then(|(batch, _)| batch.first()).map(Head::of);
    same("head", &Some(store.head().await?), &winner)
}

async fn pages(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 25).await?;
    let (mut after, mut sizes) = (Token::START, Vec::new());
    loop {
        let rows = store.rows(after, 10).await?;
        let Some(last) = rows.last() else { break };
        after = last.token;
        sizes.push(rows.len());
    }
    same("sizes of pages", &sizes, &vec![10, 10, 5])?;
    same("the last token", &after, &head.token)
}

async fn large(factory: &dyn Factory) -> Result<(), Failed> {
    let store = factory.empty().await;
    let batch = [record(Head::START, &"x".repeat(6 << 20))];
    store.append(&batch, Urgency::Ordinary).await?;
    let loaded = store.load().await?;
    holds("the large record is as it was", loaded.tail == batch)
}

async fn urgent(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 1).await?;
    let rollback = record(head, "rollback");
    store.append(std::slice::from_ref(&rollback), Urgency::Rollback).await?;
    same("head", &store.head().await?, &Head::of(&rollback))?;
    holds("with space left the reserve stays", store.reserve_held())?;
    let outcome = store.append(&[rollback], Urgency::Rollback).await;
    holds("a stale rollback is stale", matches!(outcome, Err(AppendError::Stale { .. })))
}

async fn reload(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 2).await?;
    same("head", &store.reload().await?, &head)?;
    store.append(&[record(head, "next")], Urgency::Ordinary).await?;
    Ok(())
}

async fn shared(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 1).await?;
    let Some(other) = factory.second(store.as_ref()) else { return Ok(()) };
    let theirs = record(head, "theirs");
    other.append(std::slice::from_ref(&theirs), Urgency::Ordinary).await?;
    let outcome = store.append(&[record(head, "ours")], Urgency::Ordinary).await;
    let told = matches!(outcome, Err(AppendError::Stale { head }) if head == theirs.token);
    holds("ours is stale and told their token", told)?;
    store.append(&[record(Head::of(&theirs), "ours")], Urgency::Ordinary).await?;
    same("rows that both see", &other.rows(Token::START, 9).await?.len(), &3)
}

async fn watched(factory: &dyn Factory) -> Result<(), Failed> {
    let (store, head) = filled(factory, 2).await?;
    let Some(other) = factory.second(store.as_ref()) else { return Ok(()) };
    let first = Token { revision: 1, ..head.token };
    let watch = store.watch(first).take(4).collect::<Vec<_>>();
    let more = records(head, 3);
    let append = async { other.append(&more, Urgency::Ordinary).await };
    let both = futures::future::join(watch, append);
    let Ok((seen, appended)) = tokio::time::timeout(SOON, both).await else {
        return Err(Failed("the watcher did not see all records".to_owned()));
    };
    appended?;
    let tokens: Vec<u64> = seen.iter().map(|record| record.token.revision).collect();
    same("revisions seen", &tokens, &vec![2, 3, 4, 5])
}
