//! Settings of the real kernel, in a network namespace of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};

use super::super::Journal;
use super::tree::{Scratch, Short as _};

/// Every setting of the network, but counters and what cannot be read.
fn all(directory: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all(&path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.insert(path, text);
        }
    }
}

fn seen() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    all(Path::new("/proc/sys/net/ipv4/conf"), &mut found);
    all(Path::new("/proc/sys/net/ipv6/conf"), &mut found);
    let forward = PathBuf::from("/proc/sys/net/ipv4/ip_forward");
    found.insert(forward.clone(), fs::read_to_string(forward).unwrap());
    found
}

/// Runs in a thread with a network of its own.
fn alone(test: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: root is needed for a network namespace");
        return;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            test();
        });
        thread.join().unwrap();
    });
}

#[test]
fn what_the_kernel_changes_along_with_forwarding_is_brought_back() {
    alone(|| {
        // As hardened hosts have it: the kernel would turn it on when forwarding ends.
        fs::write("/proc/sys/net/ipv4/conf/all/accept_redirects", "0").unwrap();
        fs::write("/proc/sys/net/ipv4/conf/lo/forwarding", "0").unwrap();
        let before = seen();
        let scratch = Scratch::new();
        let mut journal = Journal::open(&scratch.state()).unwrap();
        journal.sysctl("net.ipv4.ip_forward", "1").unwrap();
        journal.sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/conf/lo/forwarding").unwrap(), "1\n");
        // Others' choice of one interface is theirs.
        fs::write("/proc/sys/net/ipv6/conf/default/forwarding", "0").unwrap();
        let report = journal.undo();
        assert_eq!(report.undone.len(), 2, "{report:?}");
        assert_eq!(seen(), before);
    });
}
