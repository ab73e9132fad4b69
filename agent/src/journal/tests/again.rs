//! One file written again and again: the first bytes come back, whatever was between.

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::super::disk::Disk;
use super::super::{Applied, Bytes, Change, Journal, Stays, UNDONE_MAX};
use super::tree::{Mortal, Scratch, Short as _, path, unlocked};

const HOSTS: &str = "/etc/hosts";
const RESOLVER: &str = "/etc/resolv.conf";

/// How often a file is written.
const ROUNDS: usize = 3 * UNDONE_MAX;

fn write(journal: &mut Journal, path: &str, text: &str) {
    let applied = journal.write_file(path, text).unwrap();
    assert_eq!(applied, Applied::Done, "{text}");
}

#[test]
fn a_journal_does_not_grow_with_the_rounds() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    let mut journal = scratch.journal();
    for round in 0..ROUNDS {
        write(&mut journal, HOSTS, &format!("{round}\n"));
        assert!(journal.steps.len() <= UNDONE_MAX + 2, "{}", journal.steps.len());
        if round % 50 == 49 {
            drop(journal);
            journal = scratch.journal();
        }
    }
    assert_eq!(journal.pending(), [HOSTS]);
    let report = journal.undo();
    assert_eq!((report.kept.len(), report.failed.len()), (0, 0), "{report:?}");
    assert_eq!(scratch.seen(), before);
    assert!(!scratch.state().join("journal").exists());
}

#[test]
fn what_others_wrote_last_comes_back_and_that_they_did_is_told() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    let path = scratch.root().join("etc/resolv.conf");
    let mut journal = scratch.journal();
    write(&mut journal, RESOLVER, "ours\n");
    for round in 0..ROUNDS {
        let theirs = format!("theirs {round}\n");
        fs::remove_file(&path).unwrap();
        fs::write(&path, theirs).unwrap();
        write(&mut journal, RESOLVER, "ours\n");
        if round % 5 == 0 {
            write(&mut journal, RESOLVER, "ours, and more\n");
        }
    }
    assert_eq!(journal.pending(), [RESOLVER, RESOLVER]);
    let report = journal.undo();
    assert_eq!(report.undone, [RESOLVER]);
    let kept: Vec<_> = report.kept.iter().map(|kept| kept.what.as_str()).collect();
    assert_eq!((kept, report.failed.len()), (vec![RESOLVER], 0));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("theirs {}\n", ROUNDS - 1));
    let differs = scratch.seen().into_iter().filter(|(path, what)| before.get(path) != Some(what));
    assert_eq!(differs.map(|(path, _)| path).collect::<Vec<_>>(), [path]);
}

#[test]
fn the_first_bytes_come_back_whenever_the_process_dies() {
    for lives in 0.. {
        let scratch = Scratch::host();
        let before = scratch.seen();
        let left = Rc::new(Cell::new(lives));
        let hands = || {
            let (disk, journal) = (Disk::new(scratch.root()), scratch.state());
            Mortal { disk, left: Rc::clone(&left), journal, mounted: None }
        };
        let mut journal = unlocked(|| Journal::with(&scratch.state(), hands()));
        let script = || {
            for text in ["one\n", "two\n", "three\n"] {
                journal.write_file(HOSTS, text).unwrap();
            }
        };
        let lived = catch_unwind(AssertUnwindSafe(script)).is_ok();
        drop(journal);
        let report = scratch.journal().undo();
        assert_eq!((&report.kept, &report.failed), (&Vec::new(), &Vec::new()), "{lives}");
        assert_eq!(scratch.seen(), before, "dead before change {lives}");
        if lived {
            assert!(lives >= 9, "{lives} changes are too few to be all");
            break;
        }
    }
}

#[test]
fn a_command_of_undoing_runs_once() {
    let scratch = Scratch::host();
    let mut journal = scratch.journal();
    assert_eq!(journal.on_undo(&["true"]).unwrap(), Applied::Done);
    assert_eq!(journal.on_undo(&["true"]).unwrap(), Applied::Already);
    assert_eq!(journal.on_undo(&["true", "too"]).unwrap(), Applied::Done);
    assert_eq!(journal.undo().undone, ["true too", "true"]);
}

#[test]
fn a_command_that_both_ways_have_runs_when_both_are_undone() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    let mut journal = scratch.journal();
    // What joining changed is no way of names.
    journal.on_undo(&["true", "disable"]).unwrap();
    write(&mut journal, "/etc/plain.conf", "ours\n");
    // Whether or not it is there and runs: that is told.
    let told = ["nmcli", "general", "reload"];
    journal.on_undo(&told).unwrap();
    write(&mut journal, RESOLVER, "one way\n");
    write(&mut journal, HOSTS, "another\n");
    let hosts = Change::WriteFile { path: path(HOSTS), bytes: Bytes(Vec::new()), mode: 0o644 };
    let on_undo = Change::OnUndo { argv: told.map(str::to_owned).to_vec() };
    let report = journal.undo_others(&Stays::of(&[hosts.clone(), on_undo]));
    assert_eq!((report.undone, report.failed), (vec![RESOLVER.to_owned()], vec![]));
    assert_eq!(journal.pending(), ["true disable", "/etc/plain.conf", &told.join(" "), HOSTS]);
    let report = journal.undo_others(&Stays::of(&[hosts]));
    assert_eq!(report.undone.len() + report.failed.len(), 1, "{report:?}");
    assert_eq!(journal.pending(), ["true disable", "/etc/plain.conf", HOSTS]);
    assert_eq!(journal.undo().undone, [HOSTS, "/etc/plain.conf", "true disable"]);
    assert_eq!(scratch.seen(), before);
}
