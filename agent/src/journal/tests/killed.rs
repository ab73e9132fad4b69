//! A real process that applies and undoes without end, killed at any instant.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::super::Journal;
use super::tree::{Scratch, changes, unlocked};

/// Tells the child where its tree is.
const PLACE: &str = "CROSSFADE_JOURNAL_TEST_PLACE";

/// How many are killed.
const DEATHS: u32 = 100;

/// Not a test of its own: what the children of the test below are.
#[test]
fn child() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else {
        return;
    };
    let mut out = io::stdout();
    loop {
        let open = || Journal::open(&place.join("state"));
        let mut journal = unlocked(open).rooted(place.join("root"));
        for change in changes() {
            // A pipe that is not read any more: whoever started us is gone.
            if out.write_all(b".").and_then(|()| out.flush()).is_err() {
                return;
            }
            let _ = journal.apply(&change);
        }
        let _ = out.write_all(b"!").and_then(|()| out.flush());
        let _ = journal.undo();
    }
}

fn start(scratch: &Scratch) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = command.args(["--exact", "--nocapture", "--test-threads=1"]);
    let command = command.arg("journal::tests::killed::child");
    let command = command.env(PLACE, scratch.place()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn whoever_is_killed_anywhere_leaves_a_host_that_is_brought_back() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    let (mut seed, mut midway) = (1_u32, 0);
    for death in 0..DEATHS {
        // Each goes on from what the one before it left, each third time.
        let mut child = start(&scratch);
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (changes, rest) = ((seed >> 16) % 40, (seed >> 8) % 60_000);
        let mut output = child.stdout.take().unwrap();
        let mut said = 0;
        while said < changes {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            said += u32::from(matches!(byte, [b'.' | b'!']));
        }
        (0..rest).for_each(|_| std::hint::spin_loop());
        child.kill().unwrap();
        child.wait().unwrap();
        if death % 3 == 2 {
            continue;
        }
        midway += u32::from(scratch.seen() != before);
        let report = scratch.journal().undo();
        assert_eq!((&report.kept, &report.failed), (&vec![], &vec![]), "death {death}");
        assert_eq!(scratch.seen(), before, "death {death} after {changes} changes");
    }
    assert!(midway > DEATHS / 4, "only {midway} died with the host changed");
}
