//! What others changed meanwhile is theirs; what cannot be brought back now is tried again.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::super::{HostPath, Journal, OpenError, Report};
use super::tree::{Scratch, Short as _, changes};

struct Case {
    name: &'static str,
    /// What others do to the root after us.
    others: fn(&Path),
    /// What is kept, and why.
    kept: &'static [(&'static str, &'static str)],
    /// What is otherwise than it was before us.
    differs: &'static [&'static str],
}

const CASES: [Case; 8] = [
    Case { name: "nobody", others: |_| {}, kept: &[], differs: &[] },
    Case {
        name: "other bytes",
        others: |root| fs::write(root.join("etc/resolv.conf"), "nameserver 192.0.2.53\n").unwrap(),
        kept: &[("/etc/resolv.conf", "others changed it")],
        differs: &["etc/resolv.conf"],
    },
    Case {
        name: "another mode",
        others: |root| {
            let mode = fs::Permissions::from_mode(0o444);
            fs::set_permissions(root.join("etc/hosts"), mode).unwrap();
        },
        kept: &[("/etc/hosts", "others changed it")],
        differs: &["etc/hosts"],
    },
    Case {
        name: "taken away",
        others: |root| fs::remove_file(root.join("etc/hosts")).unwrap(),
        kept: &[("/etc/hosts", "others took it away")],
        differs: &["etc/hosts"],
    },
    Case {
        name: "a link instead of our file",
        others: |root| {
            fs::remove_file(root.join("etc/resolv.conf")).unwrap();
            symlink("/run/other/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        },
        kept: &[("/etc/resolv.conf", "others put a link there")],
        differs: &["etc/resolv.conf"],
    },
    Case {
        name: "a neighbour in a directory of ours",
        others: |root| {
            fs::write(root.join("etc/systemd/resolved.conf.d/other.conf"), "").unwrap();
        },
        kept: &[
            ("/etc/systemd/resolved.conf.d", "others put something in it"),
            ("/etc/systemd", "others put something in it"),
        ],
        differs: &[
            "etc/systemd",
            "etc/systemd/resolved.conf.d",
            "etc/systemd/resolved.conf.d/other.conf",
        ],
    },
    Case {
        name: "another value of a setting",
        others: |root| fs::write(root.join("proc/sys/net/ipv4/ip_forward"), "2\n").unwrap(),
        kept: &[("sysctl net.ipv4.ip_forward", "others set it to 2")],
        differs: &["proc/sys/net/ipv4/ip_forward"],
    },
    Case {
        name: "back to what it was before us",
        others: |root| {
            fs::write(root.join("proc/sys/net/ipv4/conf/eth0/rp_filter"), "1\n").unwrap();
        },
        kept: &[],
        differs: &[],
    },
];

fn kept(report: &Report) -> Vec<(&str, &str)> {
    report.kept.iter().map(|kept| (kept.what.as_str(), kept.why.as_str())).collect()
}

fn all(journal: &mut Journal) {
    for change in changes() {
        journal.apply(&change).unwrap();
    }
}

#[test]
fn what_others_changed_is_kept_and_told_and_all_else_is_brought_back() {
    for case in CASES {
        let scratch = Scratch::host();
        let before = scratch.seen();
        let mut journal = scratch.journal();
        all(&mut journal);
        (case.others)(&scratch.root());
        let theirs = scratch.seen();
        drop(journal);
        let report = scratch.journal().undo();
        assert_eq!(kept(&report), case.kept, "{}", case.name);
        assert_eq!(report.failed, [], "{}", case.name);
        let now = scratch.seen();
        let paths: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
        let mut differs = Vec::new();
        for path in paths {
            if before.get(path) != now.get(path) {
                assert_eq!(now.get(path), theirs.get(path), "{}: {path:?}", case.name);
                differs.push(path.strip_prefix(scratch.root()).unwrap().to_str().unwrap());
            }
        }
        assert_eq!(differs, case.differs, "{}", case.name);
        assert_eq!(scratch.journal().undo(), Report::default(), "{}: told once", case.name);
    }
}

#[test]
fn what_cannot_be_brought_back_now_is_tried_again() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    let mut journal = scratch.journal();
    all(&mut journal);
    // A directory stands where the step would put its neighbour: no file can be made there.
    let place =
        |directory: &str, step| scratch.root().join(format!("{directory}/.crossfade.{step}.tmp"));
    let directories = ["etc", "etc/systemd/resolved.conf.d"];
    let blocks: Vec<_> = directories
        .iter()
        .flat_map(|directory| (1..40).map(|step| place(directory, step)))
        .collect();
    blocks.iter().for_each(|path| fs::create_dir(path).unwrap());
    let report = journal.undo();
    assert!(!report.failed.is_empty(), "{report:?}");
    assert!(report.failed.iter().all(|failed| failed.again), "{report:?}");
    assert_eq!(report.kept, []);
    blocks.iter().for_each(|path| fs::remove_dir(path).unwrap());
    drop(journal);
    let report = scratch.journal().undo();
    assert_eq!((&report.kept, &report.failed), (&vec![], &vec![]));
    assert_eq!(scratch.seen(), before);
}

#[test]
fn a_command_that_fails_is_told_and_not_run_again() {
    let scratch = Scratch::host();
    let mut journal = scratch.journal();
    journal.on_undo(&["sh", "-c", "echo no such unit >&2; exit 5"]).unwrap();
    let mark = scratch.root().join("ran");
    journal.on_undo(&["touch", mark.to_str().unwrap()]).unwrap();
    let report = journal.undo();
    assert!(mark.exists());
    let [failed] = report.failed.as_slice() else { panic!("{report:?}") };
    assert!(failed.why.contains("no such unit") && !failed.again, "{failed:?}");
    assert_eq!(journal.undo(), Report::default());
}

#[test]
fn what_is_no_file_is_left_alone_with_the_host() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    let mut journal = scratch.journal();
    let cases = [
        ("/run/systemd", "is a directory"),
        ("/etc/hosts/below", "cannot change /etc/hosts/below"),
    ];
    for (path, words) in cases {
        let error = journal.write_file(path, "x").unwrap_err();
        assert!(error.to_string().contains(words), "{path}: {error}");
    }
    let long = "x".repeat(super::super::FILE_BYTES_MAX + 1);
    assert!(journal.write_file("/etc/long", &long).is_err());
    assert!(journal.sysctl("net.ipv4.nothing", "1").is_err());
    assert_eq!(journal.pending(), Vec::<String>::new());
    assert_eq!(scratch.seen(), before);
    for (path, words) in [("/etc/systemd/../hosts", "`..`"), ("etc/hosts", "absolute")] {
        let error = HostPath::try_from(PathBuf::from(path)).unwrap_err();
        assert!(error.to_string().contains(words), "{path}: {error}");
    }
}

#[test]
fn one_process_has_the_journal_at_a_time() {
    let scratch = Scratch::host();
    let held = scratch.journal();
    assert!(matches!(Journal::open(&scratch.state()), Err(OpenError::Busy(_))));
    drop(held);
    assert_eq!(scratch.journal().pending(), Vec::<String>::new());
}

#[test]
fn no_link_is_followed_to_the_journal() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    let mut journal = scratch.journal();
    journal.write_file("/etc/tool.conf", "ours\n").unwrap();
    drop(journal);
    let (file, copy) = (scratch.state().join("journal"), scratch.state().join("copy"));
    fs::rename(&file, &copy).unwrap();
    symlink("copy", &file).unwrap();
    let error = Journal::open(&scratch.state()).unwrap_err();
    let OpenError::File { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.raw_os_error(), Some(nix::libc::ELOOP));
    fs::rename(&copy, &file).unwrap();
    assert_eq!(scratch.journal().undo().undone, ["/etc/tool.conf"]);
    assert_eq!(scratch.seen(), before);
}

/// Whoever can write the directory or the file would have us run what it says.
#[test]
fn what_another_user_can_write_is_no_journal() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    for theirs in ["state", "state/journal"] {
        let scratch = Scratch::host();
        let mut journal = scratch.journal();
        journal.write_file("/etc/tool.conf", "ours\n").unwrap();
        drop(journal);
        assert!(Journal::is_in(&scratch.state()));
        let theirs = scratch.place().join(theirs);
        std::os::unix::fs::chown(&theirs, Some(4_711), None).unwrap();
        let error = Journal::open(&scratch.state()).unwrap_err();
        assert!(matches!(&error, OpenError::Foreign(path) if *path == theirs), "{error}");
        std::os::unix::fs::chown(&theirs, Some(0), None).unwrap();
        assert_eq!(scratch.journal().undo().undone, ["/etc/tool.conf"]);
    }
}

#[test]
fn no_pipe_is_waited_for() {
    let scratch = Scratch::host();
    drop(scratch.journal());
    let path = scratch.state().join("journal");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = Journal::open(&scratch.state()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
}
