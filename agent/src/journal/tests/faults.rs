//! A process that dies before each of its changes, and in the middle of its journal.

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::super::disk::Disk;
use super::super::{Applied, Journal, Report};
use super::tree::{Mortal, Scratch, Short as _, changes, unlocked};

/// More changes than the whole script makes.
const NEVER: u32 = 1000;

fn mortal(scratch: &Scratch, left: u32) -> Journal<Mortal> {
    let left = Rc::new(Cell::new(left));
    let hands = || {
        let (disk, journal) = (Disk::new(scratch.root()), scratch.state());
        Mortal { disk, left: Rc::clone(&left), journal, mounted: None }
    };
    unlocked(|| Journal::with(&scratch.state(), hands()))
}

/// Applies the script with so many changes to live; whether it came to its end.
fn apply(scratch: &Scratch, lives: u32) -> bool {
    let mut journal = mortal(scratch, lives);
    let script = || {
        for change in changes() {
            journal.apply(&change).unwrap();
        }
    };
    lived(script).is_some()
}

fn undo(scratch: &Scratch, lives: u32) -> Option<Report> {
    let mut journal = mortal(scratch, lives);
    lived(|| journal.undo())
}

/// None where it died as it should; other panics go on.
fn lived<T>(script: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(script)) {
        Ok(done) => Some(done),
        Err(death) if death.downcast_ref() == Some(&"killed") => None,
        Err(panic) => resume_unwind(panic),
    }
}

#[track_caller]
fn clean(scratch: &Scratch, report: &Report) {
    assert_eq!((&report.kept, &report.failed), (&Vec::new(), &Vec::new()));
    assert!(!scratch.state().join("journal").exists(), "nothing is left to undo");
}

#[test]
fn the_host_is_the_same_again_whenever_the_process_dies() {
    let mut ends = 0;
    for lives in 0.. {
        let scratch = Scratch::host();
        let before = scratch.seen();
        let whole = apply(&scratch, lives);
        if whole {
            ends += 1;
            assert_ne!(scratch.seen(), before, "the script changes the host");
        }
        let report = undo(&scratch, NEVER).unwrap();
        assert_eq!(scratch.seen(), before, "dead before change {lives}");
        clean(&scratch, &report);
        if whole {
            assert!(lives >= 30, "{lives} changes are too few to be all");
            break;
        }
    }
    assert_eq!(ends, 1);
}

#[test]
fn the_host_is_the_same_again_whenever_the_undoing_dies() {
    for lives in 0.. {
        // Not whole each second time: what is left half done is undone half.
        let scratch = Scratch::host();
        let before = scratch.seen();
        apply(&scratch, if lives % 2 == 0 { NEVER } else { lives });
        let done = undo(&scratch, lives);
        let report = undo(&scratch, NEVER).unwrap();
        assert_eq!(scratch.seen(), before, "undoing dead before change {lives}");
        clean(&scratch, &report);
        assert_eq!(undo(&scratch, NEVER), Some(Report::default()), "a third time does nothing");
        if done.is_some() && lives % 2 == 0 {
            assert!(lives > 20, "{lives} changes are too few to be all");
            return;
        }
    }
}

#[test]
fn a_script_that_begins_again_after_its_death_is_undone_in_one() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    for lives in [3, 9, 17, 26, NEVER] {
        apply(&scratch, lives);
    }
    let report = undo(&scratch, NEVER).unwrap();
    assert_eq!(scratch.seen(), before);
    clean(&scratch, &report);
}

#[test]
fn a_mounted_file_is_written_over_in_place_and_has_its_bytes_again_whenever_the_process_dies() {
    for lives in 0.. {
        let scratch = Scratch::host();
        let bytes = || fs::read(scratch.root().join("etc/hosts")).unwrap();
        let before = bytes();
        let open = |lives| {
            let left = Rc::new(Cell::new(lives));
            let hands = || {
                let (disk, journal) = (Disk::new(scratch.root()), scratch.state());
                Mortal { disk, left: Rc::clone(&left), journal, mounted: Some("/etc/hosts") }
            };
            unlocked(|| Journal::with(&scratch.state(), hands()))
        };
        let mut journal = open(lives);
        let write = lived(|| journal.write_file("/etc/hosts", "others, and longer"));
        drop(journal);
        if let Some(written) = &write {
            assert!(written.is_ok(), "{written:?}");
            assert_eq!(bytes(), b"others, and longer");
        }
        let mut journal = open(lives);
        let half = lived(|| journal.undo());
        drop(journal);
        clean(&scratch, &open(NEVER).undo());
        assert_eq!(bytes(), before, "dead before change {lives}");
        if write.is_some() && half.is_some() {
            assert!(lives >= 5, "{lives}");
            return;
        }
    }
}

#[test]
fn what_is_so_already_is_not_undone() {
    let scratch = Scratch::host();
    let mut journal = mortal(&scratch, NEVER);
    assert_eq!(journal.write_file("/etc/tool.conf", "a = b\n").unwrap(), Applied::Already);
    assert_eq!(journal.sysctl("net.ipv4.ip_forward", "0\n").unwrap(), Applied::Already);
    assert_eq!(journal.pending(), Vec::<String>::new());
    assert_eq!(journal.undo(), Report::default());
}

#[test]
fn a_record_torn_anywhere_tells_of_a_change_that_never_began() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    let file = scratch.state().join("journal");
    let mut journal = scratch.journal();
    journal.write_file("/etc/tool.conf", "ours\n").unwrap();
    let first = fs::read(&file).unwrap();
    journal.write_file("/etc/hosts", "ours\n").unwrap();
    drop(journal);
    let both = fs::read(&file).unwrap();
    let hosts = Scratch::host();
    for length in first.len()..both.len() {
        fs::copy(hosts.root().join("etc/hosts"), scratch.root().join("etc/hosts")).unwrap();
        fs::write(scratch.root().join("etc/tool.conf"), "ours\n").unwrap();
        fs::write(&file, &both[..length]).unwrap();
        // It goes on from there, too: what is added is whole again.
        let mut journal = scratch.journal();
        assert_eq!(journal.pending(), ["/etc/tool.conf"], "{length}");
        journal.write_file("/etc/plain.conf", "ours\n").unwrap();
        drop(journal);
        let mut journal = scratch.journal();
        assert_eq!(journal.pending(), ["/etc/tool.conf", "/etc/plain.conf"], "{length}");
        let report = journal.undo();
        assert_eq!(report.undone.len(), 2, "{report:?}");
    }
    let gone = scratch.root().join("etc/hosts");
    let (mut now, mut before) = (scratch.seen(), before);
    assert!(now.remove(&gone).is_some() && before.remove(&gone).is_some());
    assert_eq!(now, before);
}
