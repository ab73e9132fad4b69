//! The space that is kept for a rollback on a full disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::directory;

/// How much is kept: hundreds of rollbacks with their journal.
pub const RESERVE_BYTES: i64 = 8 << 20;

/// A file of [`RESERVE_BYTES`] whose blocks are allocated. Giving it up makes room.
///
/// Ordinary writes need it in place, so that what a rollback freed stays free for the next rollback
/// and nobody else uses it up.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    held: Arc<AtomicBool>,
}

impl Reserve {
    /// The name of the file.
    pub(super) const FILE: &'static str = "reserve";

    /// The reserve in `directory`, made if there is room.
    pub(super) fn open(directory: &Path) -> Self {
        let reserve = Self { path: directory.join(Self::FILE), held: Arc::default() };
        reserve.ensure();
        reserve
    }

    /// Tells from any thread whether the reserve is in place.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.held)
    }

    /// Puts the reserve in place if it is not. Whether it is then.
    pub(super) fn ensure(&self) -> bool {
        if self.held.load(Ordering::Acquire) {
            return true;
        }
        let held = match allocate(&self.path) {
            Ok(()) => true,
            Err(_) => {
                // Part of a reserve would only take the space from rollbacks.
                self.remove();
                false
            }
        };
        self.held.store(held, Ordering::Release);
        held
    }

    /// Gives the reserve up. Whether there was one.
    pub(super) fn free(&self) -> bool {
        let held = self.held.swap(false, Ordering::AcqRel);
        self.remove();
        held
    }

    fn remove(&self) {
        // What cannot be removed makes no room; the write that needs it fails and says so.
        let _ = std::fs::remove_file(&self.path);
        let _ = directory::sync(directory::parent(&self.path));
    }
}

fn allocate(path: &Path) -> io::Result<()> {
    let file: File =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    nix::fcntl::posix_fallocate(&file, 0, RESERVE_BYTES)?;
    file.sync_all()?;
    directory::sync(directory::parent(path))
}
