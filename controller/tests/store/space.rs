//! A disk that is really full.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use controller::store::conformance::{record, records};
use controller::store::{
    AppendError, Head, OpenError, Sqlite, Store, SwapError, Urgency, WriteError,
};
use plan::Token;

use crate::common::{Scratch, as_store};

/// Room for the reserve and some records.
const MEBIBYTES: u32 = 12;

#[tokio::test]
async fn on_a_full_disk_only_a_rollback_is_written() {
    let Some(scratch) = Scratch::mounted(MEBIBYTES) else { return };
    let store = Sqlite::open(scratch.path()).unwrap();
    let mut head = append_until_full(&store).await;
    let written = store.rows(Token::START, 1_000).await.unwrap().len();

    assert!(store.reserve_held(), "an ordinary append never takes the reserve");
    fill(&scratch.join("other"));
    for _ in 0..2 {
        let next = [record(head, &"x".repeat(10_000))];
        let outcome = store.append(&next, Urgency::Ordinary).await;
        assert!(matches!(outcome, Err(AppendError::Full)), "{outcome:?}");
        let blob = store.put_blob(vec![7; 100_000].into()).await;
        assert!(matches!(blob, Err(WriteError::Full)), "{blob:?}");
        let swap = store.swap_cell("ca", None, &[7; 100_000]).await;
        assert!(matches!(swap, Err(SwapError::Full)), "{swap:?}");
        let checkpoint = store.checkpoint(head, vec![7; 100_000].into()).await;
        assert!(matches!(checkpoint, Err(WriteError::Full)), "{checkpoint:?}");
    }
    assert_eq!(store.head().await.unwrap(), head, "nothing half done");
    assert_eq!(as_store(&store).verify().await.unwrap().records, written as u64);

    for note in ["rollback", "and another"] {
        let rollback = record(head, &note.repeat(10_000));
        store.append(std::slice::from_ref(&rollback), Urgency::Rollback).await.unwrap();
        head = Head::of(&rollback);
        assert!(!store.reserve_held(), "the rollback took the reserve");
    }
    // What the rollback freed is for rollbacks.
    let outcome = store.append(&[record(head, "x")], Urgency::Ordinary).await;
    assert!(matches!(outcome, Err(AppendError::Full)), "{outcome:?}");

    drop(store);
    let store = Sqlite::open(scratch.path()).unwrap();
    assert_eq!(store.load().await.unwrap().head, head, "a full disk keeps nobody from starting");
    assert!(!store.reserve_held());

    scratch.remount("size=32m");
    store.append(&[record(head, "x")], Urgency::Ordinary).await.unwrap();
    assert!(store.reserve_held(), "with space back the reserve is back");
    assert_eq!(scratch.join("reserve").metadata().unwrap().len(), 8 << 20);
}

#[tokio::test]
async fn a_large_rollback_beyond_the_reserve_fails_whole() {
    let Some(scratch) = Scratch::mounted(MEBIBYTES) else { return };
    let store = Sqlite::open(scratch.path()).unwrap();
    let batch = records(Head::START, 3);
    store.append(&batch, Urgency::Ordinary).await.unwrap();
    let head = batch.last().map(Head::of).unwrap();
    fill(&scratch.join("other"));
    let large = record(head, &"x".repeat(20 << 20));
    let outcome = store.append(&[large], Urgency::Rollback).await;
    assert!(matches!(outcome, Err(AppendError::Full)), "{outcome:?}");
    assert_eq!(store.head().await.unwrap(), head);
    let small = record(head, "rollback");
    store.append(std::slice::from_ref(&small), Urgency::Rollback).await.unwrap();
    assert_eq!(store.head().await.unwrap(), Head::of(&small));
}

#[test]
fn a_disk_without_room_to_begin_says_so() {
    let Some(scratch) = Scratch::mounted(1) else { return };
    fill(&scratch.join("other"));
    let error = Sqlite::open(&scratch.join("data")).map(drop).unwrap_err();
    let full = matches!(&error, OpenError::Full { .. } | OpenError::Directory(_));
    assert!(full, "{error}");
}

#[tokio::test]
async fn a_disk_too_small_for_the_reserve_takes_rollbacks_alone() {
    let Some(scratch) = Scratch::mounted(4) else { return };
    let store = Sqlite::open(scratch.path()).unwrap();
    assert!(!store.reserve_held());
    let next = records(Head::START, 1);
    let outcome = store.append(&next, Urgency::Ordinary).await;
    assert!(matches!(outcome, Err(AppendError::Full)), "{outcome:?}");
    store.append(&next, Urgency::Rollback).await.unwrap();
}

/// Appends records of 100 kB until there is no room. The head.
async fn append_until_full(store: &Sqlite) -> Head {
    let mut head = Head::START;
    let note: Arc<str> = "x".repeat(100_000).into();
    loop {
        let next = record(head, &note);
        match store.append(std::slice::from_ref(&next), Urgency::Ordinary).await {
            Ok(()) => head = Head::of(&next),
            Err(AppendError::Full) => return head,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Takes all room that is left.
fn fill(path: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        while file.write(&vec![7; size]).is_ok_and(|written| written > 0) {}
    }
}
