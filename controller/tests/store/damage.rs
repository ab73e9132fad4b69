//! Bytes that are not what was written: found, or harmless.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use controller::store::conformance::{record, records};
use controller::store::{Checkpoint, Head, OpenError, Sqlite, Store, Urgency};
use plan::{Digest, Record};

use crate::common::{Scratch, as_store, filled, told};

/// Everything that a controller would read.
#[derive(Debug, PartialEq)]
struct Seen {
    head: Head,
    checkpoint: Option<Checkpoint>,
    tail: Vec<Record>,
    blob: Vec<u8>,
    cells: Vec<(String, Vec<u8>)>,
}

/// A small database with something in every table. Its file.
async fn image(data: &Path) -> PathBuf {
    let store = Sqlite::open(data).unwrap();
    let batch = records(Head::START, 6);
    store.append(&batch, Urgency::Ordinary).await.unwrap();
    store.checkpoint(Head::of(&batch[1]), Arc::from(*b"the state at two")).await.unwrap();
    store.checkpoint(Head::of(&batch[3]), Arc::from(*b"the state at four")).await.unwrap();
    store.put_blob(Arc::from(*b"a zone text")).await.unwrap();
    store.swap_cell("ca", None, b"a key").await.unwrap();
    store.swap_cell("sinks", None, b"a list").await.unwrap();
    data.join("crossfade.db")
}

async fn seen(data: &Path) -> Result<Seen, String> {
    let store = Sqlite::open(data).map_err(|error| told(&error))?;
    let loaded = store.load().await.map_err(|error| told(&error))?;
    let blob = store.blob(Digest::of(b"a zone text")).await.map_err(|error| told(&error))?;
    let mut cells = Vec::new();
    for name in store.cells().await.map_err(|error| told(&error))? {
        let cell = store.cell(&name).await.map_err(|error| told(&error))?;
        cells.push((name, cell.map(|cell| cell.bytes).unwrap_or_default()));
    }
    // A zone text that a plan names and that is gone is told by whoever wants it.
    let blob = blob.ok_or("the blob is missing")?;
    let (head, checkpoint, tail) = (loaded.head, loaded.checkpoint, loaded.tail);
    Ok(Seen { head, checkpoint, tail, blob, cells })
}

/// Every `STRIDE`th byte of the image, from another first byte for each of its bits.
const STRIDE: usize = 97;

#[tokio::test]
async fn a_flipped_bit_is_found_or_harmless() {
    let scratch = Scratch::quick();
    let file = image(&scratch.join("data")).await;
    let image = std::fs::read(&file).unwrap();
    let data = scratch.join("flipped");
    drop(Sqlite::open(&data).unwrap());
    let whole = seen(&scratch.join("data")).await.unwrap();
    let (mut found, mut harmless) = (0, 0);
    // The first page, with the header and the schema, is tried more closely.
    let near = (0..4096).step_by(STRIDE / 8).map(|at| (at, at % 8));
    let far =
        (0..8).flat_map(|bit| (bit * 11..image.len()).step_by(STRIDE).map(move |at| (at, bit)));
    for (at, bit) in near.chain(far) {
        let mut flipped = image.clone();
        flipped[at] ^= 1 << bit;
        std::fs::write(data.join("crossfade.db"), &flipped).unwrap();
        match seen(&data).await {
            Err(error) => {
                found += 1;
                assert!(!error.is_empty());
            }
            // A damaged checkpoint is passed over for the one before it, or for none.
            Ok(mut now) => {
                harmless += 1;
                if now.checkpoint != whole.checkpoint {
                    let from = now.checkpoint.as_ref().map_or(0, |point| point.head.token.revision);
                    assert!([0, 2].contains(&from), "bit {bit} of byte {at}: {now:?}");
                    now.tail.drain(..usize::try_from(4 - from).unwrap());
                    now.checkpoint.clone_from(&whole.checkpoint);
                }
                assert_eq!(now, whole, "bit {bit} of byte {at}");
            }
        }
    }
    assert!(found > 100 && harmless > 100, "{found} found, {harmless} harmless");
}

#[tokio::test]
async fn what_is_damaged_is_named_with_the_remedy() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let file = image(&data).await;
    let mut bytes = std::fs::read(&file).unwrap();
    let at = find(&bytes, b"number 5");
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let error = seen(&data).await.unwrap_err();
    let wanted = format!(
        "{}: record 1.6 does not have its digest; stop the controller and bring back a backup with \
         `crossfade restore FILE`",
        file.display()
    );
    assert_eq!(error, wanted);
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let error = seen(&data).await.unwrap_err();
    assert!(error.contains("crossfade.db: ") && error.contains("crossfade restore"), "{error}");
}

#[tokio::test]
async fn a_damaged_checkpoint_is_passed_over() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let file = image(&data).await;
    for (text, from) in [("the state at four", Some(2)), ("the state at two", None)] {
        let mut bytes = std::fs::read(&file).unwrap();
        let at = find(&bytes, text.as_bytes());
        bytes[at] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let now = seen(&data).await.unwrap();
        assert_eq!(now.checkpoint.map(|point| point.head.token.revision), from);
        assert_eq!(now.tail.len(), usize::try_from(6 - from.unwrap_or(0)).unwrap());
    }
}

/// An edit of a database with six records, and what is said about it.
struct Edit {
    name: &'static str,
    sql: &'static str,
    wanted: &'static str,
}

const EDITS: &[Edit] = &[
    Edit {
        name: "bytes edited",
        sql: "UPDATE log SET
                  bytes = CAST(replace(CAST(bytes AS TEXT), 'number', 'nummer') AS BLOB)
                  WHERE revision = 3",
        wanted: "record 1.3: its bytes do not have the digest",
    },
    Edit {
        name: "parent edited",
        sql: "UPDATE log SET parent = zeroblob(32) WHERE revision = 4",
        wanted: "record 1.4: it names another parent",
    },
    Edit {
        name: "incarnation edited",
        sql: "UPDATE log SET incarnation = 2 WHERE revision = 4",
        wanted: "record 2.4: it says that it is record 1.4",
    },
    Edit {
        name: "the first dropped",
        sql: "DELETE FROM log WHERE revision = 1",
        wanted: "record 1.2: it does not follow record 1.0",
    },
    Edit {
        name: "one dropped",
        sql: "DELETE FROM log WHERE revision = 3",
        wanted: "record 1.4: it does not follow record 1.2",
    },
    Edit {
        name: "the last dropped",
        sql: "DELETE FROM log WHERE revision = 6",
        wanted: "the log ends with record 1.5, its head is 1.6",
    },
    Edit {
        name: "two exchanged",
        sql: "UPDATE log SET revision = -revision WHERE revision IN (2, 3);
                  UPDATE log SET revision = 5 + revision WHERE revision < 0",
        wanted: "record 1.2: it says that it is record 1.3",
    },
    Edit {
        name: "all dropped",
        sql: "DELETE FROM log",
        wanted: "the log ends with record 1.0, its head is 1.6",
    },
    Edit {
        name: "one added",
        sql: "INSERT INTO log SELECT 7, incarnation, digest, digest, bytes FROM log
                  WHERE revision = 6",
        wanted: "record 1.7: it names another parent",
    },
    Edit {
        name: "a cell edited",
        sql: "UPDATE cell SET bytes = x'00'",
        wanted: "the cell `ca` is not as written",
    },
    Edit {
        name: "a blob edited",
        sql: "UPDATE piece SET bytes = x'00'",
        wanted: "does not have its digest",
    },
];

#[tokio::test]
async fn an_edited_log_is_found_and_named() {
    for Edit { name, sql, wanted } in EDITS {
        let scratch = Scratch::new();
        let data = scratch.join("data");
        filled(&data, 6).await;
        edit(&data.join("crossfade.db"), sql);
        let store = Sqlite::open(&data).unwrap();
        let error = as_store(&store).verify().await.map(drop).unwrap_err();
        assert!(told(&error).contains(wanted), "{name}: {}", told(&error));
    }
}

#[tokio::test]
async fn an_edit_with_its_own_digest_breaks_the_chain() {
    let scratch = Scratch::new();
    for (revision, wanted) in [
        (3, "record 1.4: it does not link"),
        (6, "record 1.6 is the last, but not the one of the head"),
    ] {
        let data = scratch.join(&format!("data-{revision}"));
        filled(&data, 6).await;
        let raw = rusqlite::Connection::open(data.join("crossfade.db")).unwrap();
        let batch = records(Head::START, 6);
        let mut edited = batch[revision - 1].clone();
        edited.cause = record(Head::START, "somebody else").cause;
        let bytes = edited.encode();
        raw.execute_batch("DROP TRIGGER log_no_update").unwrap();
        raw.execute(
            "UPDATE log SET bytes = ?1, digest = ?2 WHERE revision = ?3",
            (&bytes, Digest::of(&bytes).bytes(), i64::try_from(revision).unwrap()),
        )
        .unwrap();
        drop(raw);
        let store = Sqlite::open(&data).unwrap();
        let error = told(&as_store(&store).verify().await.unwrap_err());
        assert!(error.contains(wanted), "{revision}: {error}");
    }
}

#[tokio::test]
async fn a_missing_trigger_is_found() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    filled(&data, 2).await;
    let raw = rusqlite::Connection::open(data.join("crossfade.db")).unwrap();
    raw.execute_batch("DROP TRIGGER log_no_delete").unwrap();
    drop(raw);
    let error = seen(&data).await.unwrap_err();
    assert!(error.contains("the trigger `log_no_delete` is not as it was made"), "{error}");
}

#[test]
fn triggers_refuse_edits() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    drop(Sqlite::open(&data).unwrap());
    let raw = rusqlite::Connection::open(data.join("crossfade.db")).unwrap();
    raw.execute_batch("INSERT INTO log VALUES (1, 1, x'', x'', x'')").unwrap();
    for sql in ["UPDATE log SET bytes = x'01'", "DELETE FROM log"] {
        let error = raw.execute_batch(sql).unwrap_err();
        assert_eq!(error.to_string(), "the log is append-only", "{sql}");
    }
}

#[tokio::test]
async fn a_foreign_database_is_left_alone() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    std::fs::create_dir(&data).unwrap();
    let file = data.join("crossfade.db");
    let raw = rusqlite::Connection::open(&file).unwrap();
    raw.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(raw);
    let before = std::fs::read(&file).unwrap();
    let error = Sqlite::open(&data).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

/// Runs SQL on a file without its triggers, and puts them back.
fn edit(file: &Path, sql: &str) {
    let raw = rusqlite::Connection::open(file).unwrap();
    let triggers: Vec<(String, String)> = raw
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        .unwrap()
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (name, _) in &triggers {
        raw.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    raw.execute_batch(sql).unwrap();
    for (_, text) in &triggers {
        raw.execute_batch(text).unwrap();
    }
}

fn find(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).position(|window| window == text).unwrap()
}
