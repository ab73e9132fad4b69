//! Backups taken while the store works, and restored.

use std::path::Path;
use std::sync::Arc;

use controller::store::conformance::{record, records};
use controller::store::{BackupError, Head, Memory, RestoreError, Sqlite, Store, Urgency, restore};
use plan::record::Put;
use plan::{Actor, Record, State, Timestamp, Token};

use crate::common::{Scratch, as_store, filled, told};

/// 2026-11-22T12:00:00Z.
fn noon() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn actor() -> Actor {
    Actor::new("root")
}

/// A record that puts the demo plan.
fn planned(head: Head) -> Record {
    let mut plan = plan::fixture::plan();
    for zone in &mut plan.zones {
        zone.source = plan::spec::ZoneSource::Own;
    }
    Record { puts: vec![Put::Plan(Arc::new(plan))], ..record(head, "the demo plan") }
}

async fn state(store: &dyn Store) -> State {
    let loaded = store.load().await.unwrap();
    let apply = |state: State, record: &Record| state.apply(record).unwrap();
    loaded.tail.iter().fold(State::empty(), apply)
}

#[tokio::test]
async fn a_backup_of_either_store_is_whole() {
    let scratch = Scratch::new();
    let disk = Sqlite::open(&scratch.join("data")).unwrap();
    let memory = Memory::new();
    for (name, store) in [("disk", as_store(&disk)), ("memory", &memory as &dyn Store)] {
        let batch = records(Head::START, 1_500);
        store.append(&batch, Urgency::Ordinary).await.unwrap();
        let zone: Arc<[u8]> = vec![7; 3 << 20].into();
        let blob = store.put_blob(Arc::clone(&zone)).await.unwrap();
        store.swap_cell("ca", None, b"old").await.unwrap();
        store.swap_cell("ca", Some(1), b"a key").await.unwrap();
        let to = scratch.join(name);
        let backup = store.backup(&to).await.unwrap();
        let head = store.head().await.unwrap();
        assert_eq!((backup.records, backup.head, backup.digest), (1_500, head.token, head.digest));
        assert_eq!(backup.bytes, to.metadata().unwrap().len());

        let data = scratch.join(&format!("from-{name}"));
        let restored = restore(&to, &data, &actor(), noon()).unwrap();
        assert_eq!((restored.from, restored.replaced), (head.token, None));
        let again = Sqlite::open(&data).unwrap();
        assert_eq!(as_store(&again).verify().await.unwrap().records, 1_501);
        assert_eq!(again.head().await.unwrap().token, Token { incarnation: 2, revision: 1_501 });
        assert_eq!(again.blob(blob).await.unwrap().as_deref(), Some(&*zone));
        assert_eq!(again.cell("ca").await.unwrap(), store.cell("ca").await.unwrap());
    }
    let names = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(names, 5, "two backups and three directories, nothing half done");
}

#[tokio::test]
async fn a_backup_is_taken_while_records_come_in() {
    let scratch = Scratch::new();
    let store = Sqlite::open(&scratch.join("data")).unwrap();
    let batch = records(Head::START, 2_500);
    store.append(&batch, Urgency::Ordinary).await.unwrap();
    let mut head = batch.last().map(Head::of).unwrap();
    let to = scratch.join("backup");
    let mut backup = std::pin::pin!(as_store(&store).backup(&to));
    let mut appended = 0;
    let taken = loop {
        let next = record(head, "meanwhile");
        let append = store.append(std::slice::from_ref(&next), Urgency::Ordinary);
        tokio::select! {
            biased;
            taken = &mut backup => break taken,
            outcome = append => outcome.unwrap(),
        }
        head = Head::of(&next);
        appended += 1;
    };
    assert_eq!(taken.unwrap().records, 2_500, "up to the head at its begin");
    assert!(appended > 0, "appends went on meanwhile");
}

#[tokio::test]
async fn a_backup_never_replaces_a_file() {
    let scratch = Scratch::new();
    let store = Sqlite::open(&scratch.join("data")).unwrap();
    let to = scratch.join("backup");
    std::fs::write(&to, "precious").unwrap();
    let error = as_store(&store).backup(&to).await.unwrap_err();
    assert!(matches!(error, BackupError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(&to).unwrap(), b"precious");
    let error = told(&as_store(&store).backup(&scratch.join("no/where")).await.unwrap_err());
    assert!(error.contains("no/where: cannot make it: No such file or directory"), "{error}");
    store.head().await.unwrap();
}

#[tokio::test]
async fn a_backup_without_room_leaves_nothing() {
    let Some(small) = Scratch::mounted(2) else { return };
    let scratch = Scratch::new();
    let store = Sqlite::open(&scratch.join("data")).unwrap();
    store.put_blob(vec![7; 4 << 20].into()).await.unwrap();
    let error = as_store(&store).backup(&small.join("backup")).await.unwrap_err();
    assert!(matches!(error, BackupError::Full { .. }), "{error}");
    assert_eq!(std::fs::read_dir(small.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_restored_plan_waits() {
    let scratch = Scratch::new();
    let store = Sqlite::open(&scratch.join("data")).unwrap();
    store.append(&[planned(Head::START)], Urgency::Ordinary).await.unwrap();
    let to = scratch.join("backup");
    as_store(&store).backup(&to).await.unwrap();
    let data = scratch.join("new");
    restore(&to, &data, &actor(), noon()).unwrap();
    let state = state(&Sqlite::open(&data).unwrap()).await;
    let (_, plan) = state.plans().next().unwrap();
    assert!(plan.restored, "no plan moves before an operator acts");
    assert_eq!(state.token(), Token { incarnation: 2, revision: 2 });
}

#[tokio::test]
async fn a_restore_keeps_what_was_there_and_rises_above_it() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    filled(&data, 4).await;
    let to = scratch.join("backup");
    as_store(&Sqlite::open(&data).unwrap()).backup(&to).await.unwrap();
    let mut replaced = Vec::new();
    for incarnation in 2..5 {
        let restored = restore(&to, &data, &actor(), noon()).unwrap();
        assert_eq!(restored.head, Token { incarnation, revision: 5 });
        replaced.push(restored.replaced.unwrap());
    }
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let names: Vec<String> = replaced.iter().map(|path| name(path)).collect();
    let first = "crossfade.db.replaced-2026-11-22T12-00-00Z";
    assert_eq!(names, [first.to_owned(), format!("{first}.1"), format!("{first}.2")]);
    // The one kept aside is a backup as good as any.
    let restored = restore(&replaced[0], &scratch.join("other"), &actor(), noon()).unwrap();
    assert_eq!(restored.from, Token { incarnation: 1, revision: 4 });
    let store = Sqlite::open(&data).unwrap();
    assert_eq!(as_store(&store).verify().await.unwrap().records, 5);
}

#[tokio::test]
async fn a_restore_over_a_damaged_database_rises_far() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    filled(&data, 4).await;
    let to = scratch.join("backup");
    as_store(&Sqlite::open(&data).unwrap()).backup(&to).await.unwrap();
    std::fs::write(data.join("crossfade.db"), "not a database any more").unwrap();
    std::fs::write(data.join("crossfade.db-journal"), "of the damaged one").unwrap();
    let restored = restore(&to, &data, &actor(), noon()).unwrap();
    assert_eq!(restored.head, Token { incarnation: 1_002, revision: 5 });
    let kept = restored.replaced.unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), b"not a database any more");
    let journal = format!("{}-journal", kept.display());
    assert_eq!(std::fs::read(journal).unwrap(), b"of the damaged one");
    assert!(!data.join("crossfade.db-journal").exists(), "it must not meet another database");
    as_store(&Sqlite::open(&data).unwrap()).verify().await.unwrap();
}

#[tokio::test]
async fn a_restore_is_refused_whole() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let head = filled(&data, 4).await;
    let to = scratch.join("backup");
    as_store(&Sqlite::open(&data).unwrap()).backup(&to).await.unwrap();

    let store = Sqlite::open(&data).unwrap();
    let error = told(&restore(&to, &data, &actor(), noon()).unwrap_err());
    let wanted = format!("in use by process {}", std::process::id());
    assert!(error.contains(&wanted), "{error}");
    drop(store);

    let damaged = scratch.join("damaged");
    std::fs::copy(&to, &damaged).unwrap();
    let raw = rusqlite::Connection::open(&damaged).unwrap();
    raw.execute_batch("DROP TRIGGER log_no_update").unwrap();
    raw.execute_batch("UPDATE log SET digest = zeroblob(32) WHERE revision = 2").unwrap();
    raw.execute_batch(
        "CREATE TRIGGER log_no_update BEFORE UPDATE ON log
  BEGIN SELECT raise(ABORT, 'the log is append-only'); END",
    )
    .unwrap();
    drop(raw);
    let error = restore(&damaged, &data, &actor(), noon()).unwrap_err();
    assert!(matches!(error, RestoreError::Verify { .. }), "{error}");
    assert!(
        told(&error).contains("damaged: damaged; choose another backup: record 1.2"),
        "{}",
        told(&error)
    );
    let missing = told(&restore(&scratch.join("none"), &data, &actor(), noon()).unwrap_err());
    assert!(missing.contains("none: cannot open it"), "{missing}");

    let store = Sqlite::open(&data).unwrap();
    assert_eq!(store.load().await.unwrap().head, head, "the directory is as it was");
}
