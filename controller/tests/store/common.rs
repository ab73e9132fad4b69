//! Directories of tests, and stores with something in them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use controller::store::conformance::records;
use controller::store::{Head, Sqlite, Store, Urgency};

/// A directory that goes with the test, and what is mounted on it.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    mounted: bool,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    /// In memory where the system has a place for that, for tests that open a store very often.
    pub(crate) fn quick() -> Self {
        let memory = Path::new("/dev/shm");
        let room = std::fs::metadata(memory).is_ok_and(|place| !place.permissions().readonly());
        if room { Self::below(memory) } else { Self::new() }
    }

    fn below(place: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = place.join(format!("crossfade-store-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the directory of a test");
        Self { path, mounted: false }
    }

    /// A file system of its own of so many MiB; `None`: this user may not mount.
    pub(crate) fn mounted(mebibytes: u32) -> Option<Self> {
        let mut scratch = Self::new();
        let options = format!("size={mebibytes}m,mode=755");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "crossfade-test"])
            .arg(&scratch.path)
            .output();
        scratch.mounted = mount.is_ok_and(|output| output.status.success());
        if !scratch.mounted {
            eprintln!("skipped: mounting a small file system needs root");
            return None;
        }
        Some(scratch)
    }

    pub(crate) fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        let status = mount.args(["-o", &format!("remount,{options}")]).arg(&self.path).status();
        assert!(status.expect("mount runs").success(), "remount with {options}");
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        }
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A store with so many records, a blob and a cell; closed again. Its head.
pub(crate) async fn filled(data: &Path, count: usize) -> Head {
    let store = Sqlite::open(data).expect("a new store");
    let batch = records(Head::START, count);
    store.append(&batch, Urgency::Ordinary).await.expect("appended");
    store.put_blob(Arc::from(*b"a zone text")).await.expect("kept");
    store.swap_cell("ca", None, b"a key").await.expect("written");
    batch.last().map_or(Head::START, Head::of)
}

pub(crate) fn as_store(store: &Sqlite) -> &dyn Store {
    store
}

/// The whole chain of an error, as an operator reads it.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
