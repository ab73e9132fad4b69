//! Syncs that fail and processes that are killed, in child processes of this test.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use controller::store::conformance::record;
use controller::store::{AppendError, Head, Sqlite, Store, StoreError, Urgency};
use plan::Token;

use crate::common::{Scratch, as_store};

/// More than an append makes: with the last of them nothing fails.
const SYNCS: u32 = 8;

#[test]
fn a_failed_sync_is_never_taken_for_a_success() {
    let scratch = Scratch::new();
    let library = scratch.join("sync.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/sync.c");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    assert!(compile.status().unwrap().success(), "the C compiler that builds SQLite");
    let fail = scratch.join("fail");
    let mut child = child("sync::child_whose_syncs_fail", &scratch, |command| {
        command.env("LD_PRELOAD", &library).env("FAIL_SYNC", &fail);
    });
    let output = BufReader::new(child.stdout.take().unwrap());
    let lines: Vec<String> = output.lines().map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success(), "{lines:#?}");
    for wanted in ["Unknown, written", "Unknown, lost", "Ok"] {
        let seen = lines.iter().any(|line| line.ends_with(wanted));
        assert!(seen, "no append was {wanted}: {lines:#?}");
    }
}

/// Run by the test above, with a library that fails one sync after another.
#[tokio::test]
async fn child_whose_syncs_fail() {
    let Some((data, fail)) = places() else { return };
    let store = Sqlite::open(&data).unwrap();
    let mut head = Head::START;
    for round in 0..2 * SYNCS {
        let next = record(head, &format!("round {round}"));
        std::fs::write(&fail, (round % SYNCS).to_string()).unwrap();
        let outcome = store.append(std::slice::from_ref(&next), Urgency::Ordinary).await;
        let told = match outcome {
            Ok(()) => {
                head = Head::of(&next);
                "Ok"
            }
            Err(AppendError::Failed(_)) => "Failed",
            Err(AppendError::Unknown) => {
                let blocked = store.append(std::slice::from_ref(&next), Urgency::Rollback).await;
                let first = AppendError::Failed(StoreError::ReloadFirst);
                assert_eq!(format!("{blocked:?}"), format!("{:?}", Err::<(), _>(first)));
                let found = store.reload().await.unwrap();
                let written = found == Head::of(&next);
                assert!(written || found == head, "{found:?}");
                head = found;
                if written { "Unknown, written" } else { "Unknown, lost" }
            }
            Err(error) => panic!("{error}"),
        };
        println!("after {} syncs: {told}", round % SYNCS);
        // What did not come up yet must not fail the next round.
        let _ = std::fs::remove_file(&fail);
        assert_eq!(store.head().await.unwrap(), head);
    }
    assert_eq!(as_store(&store).verify().await.unwrap().records, head.token.revision);
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let scratch = Scratch::new();
    let mut seed = 7u64;
    for _ in 0..10 {
        let mut child = child("sync::child_that_appends", &scratch, |_| {});
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let count = usize::try_from(seed >> 60).unwrap() + 1;
        let acknowledged = |line: &String| line.strip_prefix("acknowledged ").map(str::to_owned);
        let acked = lines.by_ref().map(Result::unwrap).filter_map(|line| acknowledged(&line));
        let mut last: u64 = acked.take(count).last().unwrap().parse().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still said before it died counts too.
        for line in lines.map_while(Result::ok) {
            last = acknowledged(&line).and_then(|text| text.parse().ok()).unwrap_or(last);
        }
        let store = Sqlite::open(&scratch.join("data")).unwrap();
        let found = store.load().await.unwrap().head.token.revision;
        assert!(found == last || found == last + 1, "found {found}, acknowledged {last}");
        assert_eq!(as_store(&store).verify().await.unwrap().records, found);
    }
}

/// Run by the test above, until it is killed.
#[tokio::test]
async fn child_that_appends() {
    let Some((data, _)) = places() else { return };
    let store = Sqlite::open(&data).unwrap();
    let mut head = store.load().await.unwrap().head;
    loop {
        let next = record(head, "x");
        head = Head::of(&next);
        store.append(&[next], Urgency::Ordinary).await.unwrap();
        let Token { revision, .. } = head.token;
        // Past the harness, which may hold lines back.
        writeln!(std::io::stdout().lock(), "acknowledged {revision}").unwrap();
        std::io::stdout().lock().flush().unwrap();
    }
}

/// This test program, running one test that reads its place from the standard input.
fn child(test: &str, scratch: &Scratch, more: impl FnOnce(&mut Command)) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    more(&mut command);
    let mut child = command.spawn().unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", scratch.path().display()).unwrap();
    child
}

/// Where the parent wants the child to work; `None`: there is no parent.
fn places() -> Option<(PathBuf, PathBuf)> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let place = Some(line.trim()).filter(|line| !line.is_empty()).map(Path::new)?;
    Some((place.join("data"), place.join("fail")))
}
