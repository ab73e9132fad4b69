//! What the store in memory can be made to do.

use controller::store::conformance::record;
use controller::store::{AppendError, Fault, Head, Memory, Store, StoreError, Urgency};
use futures::FutureExt;
use plan::Token;

#[tokio::test]
async fn injected_faults_happen_once_and_in_order() {
    struct Case {
        fault: Fault,
        outcome: &'static str,
        written: bool,
        unknown: bool,
    }
    for case in [
        Case { fault: Fault::Stale, outcome: "Stale", written: false, unknown: false },
        Case { fault: Fault::UnknownWritten, outcome: "Unknown", written: true, unknown: true },
        Case { fault: Fault::UnknownLost, outcome: "Unknown", written: false, unknown: true },
        Case { fault: Fault::Full, outcome: "Full", written: false, unknown: false },
        Case { fault: Fault::Failed, outcome: "Failed", written: false, unknown: false },
    ] {
        let Case { fault, outcome, written, unknown } = case;
        let store = Memory::new();
        store.inject(fault);
        let next = record(Head::START, "x");
        let error = store.append(std::slice::from_ref(&next), Urgency::Ordinary).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(outcome), "{fault:?}: {error:?}");
        let first = store.head().await;
        assert_eq!(matches!(first, Err(StoreError::ReloadFirst)), unknown, "{fault:?}");
        let wanted = if written { Head::of(&next) } else { Head::START };
        assert_eq!(store.reload().await.unwrap(), wanted, "{fault:?}");
        store.append(&[record(wanted, "y")], Urgency::Ordinary).await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_one_handles_own() {
    let store = Memory::new();
    let other = store.another();
    store.inject(Fault::UnknownWritten);
    let next = record(Head::START, "x");
    let outcome = store.append(std::slice::from_ref(&next), Urgency::Ordinary).await;
    assert!(matches!(outcome, Err(AppendError::Unknown)));
    assert_eq!(other.head().await.unwrap(), Head::of(&next));
    let blocked = store.rows(Token::START, 1).await;
    assert!(matches!(blocked, Err(StoreError::ReloadFirst)), "{blocked:?}");
    assert_eq!(store.load().await.unwrap().head, Head::of(&next));
}

#[tokio::test]
async fn a_delayed_append_waits_for_its_release() {
    let store = Memory::new();
    let other = store.another();
    store.inject(Fault::Delayed);
    let (ours, theirs) = (record(Head::START, "ours"), record(Head::START, "theirs"));
    let batch = [ours];
    let mut append = store.append(&batch, Urgency::Ordinary);
    assert!((&mut append).now_or_never().is_none(), "it waits");
    other.append(&[theirs], Urgency::Ordinary).await.unwrap();
    assert!((&mut append).now_or_never().is_none(), "it waits");
    store.release();
    assert!(matches!(append.await, Err(AppendError::Stale { .. })));
}

#[tokio::test]
async fn a_full_store_takes_rollbacks_alone() {
    let store = Memory::new();
    store.fill();
    let next = record(Head::START, "x");
    let batch = [next];
    let outcome = store.append(&batch, Urgency::Ordinary).await;
    assert!(matches!(outcome, Err(AppendError::Full)), "{outcome:?}");
    assert!(store.reserve_held());
    store.append(&batch, Urgency::Rollback).await.unwrap();
    assert!(!store.reserve_held());
    let more = [record(Head::of(&batch[0]), "y")];
    let outcome = store.append(&more, Urgency::Ordinary).await;
    assert!(matches!(outcome, Err(AppendError::Full)), "{outcome:?}");
    store.drain();
    store.append(&more, Urgency::Ordinary).await.unwrap();
    assert!(store.reserve_held());
}
