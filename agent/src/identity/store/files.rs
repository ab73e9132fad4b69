//! What the store does with files, so that a test can end it at each step.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// The steps of which a store's work consists. Each is done or not; only [`Files::write`] and
/// [`Files::remove`] may be done in part.
pub trait Files: Send {
    /// A directory for its owner alone, with those above it, if it is not there. One that is there
    /// is no link, and ours or its parent's owner's.
    ///
    /// # Errors
    /// The operating system's.
    fn directory(&mut self, path: &Path) -> io::Result<()>;

    /// A file for its owner alone, in place of whatever is there, and on the disk.
    ///
    /// # Errors
    /// The operating system's.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Another name, in place of what has it.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;

    /// A symbolic link, where nothing is.
    ///
    /// # Errors
    /// The operating system's.
    fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()>;

    /// The names in a directory are on the disk.
    ///
    /// # Errors
    /// The operating system's.
    fn sync(&mut self, directory: &Path) -> io::Result<()>;

    /// A file, a link or a directory with all that is in it, if it is there.
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&mut self, path: &Path) -> io::Result<()>;

    /// The bytes of a file, which has at most so many.
    ///
    /// # Errors
    /// The operating system's.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        // No link is followed, and no pipe waited for.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
        }
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The names in a directory that are text.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in path.read_dir()? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    /// Where a link leads; `None`: there is none.
    ///
    /// # Errors
    /// It is no link.
    fn link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        match path.read_link() {
            Ok(target) => Ok(Some(target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Files for Disk {
    fn directory(&mut self, path: &Path) -> io::Result<()> {
        if path.symlink_metadata().is_err() {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        // Whoever has the directory above may have put something else here, while we are root.
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let mut options = OpenOptions::new();
        let directory = options.read(true).custom_flags(flags.bits()).open(path);
        let directory = directory.map_err(|error| {
            if error.kind() == io::ErrorKind::NotADirectory {
                io::Error::new(error.kind(), "it is a link, or no directory; move it away")
            } else {
                error
            }
        })?;
        let about = directory.metadata()?;
        if about.uid() != geteuid().as_raw() && Some(about.uid()) != owner_above(path) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
        }
        // One that was there may be open to others. Where it is not, its disk may be read-only.
        if about.permissions().mode() & 0o777 == 0o700 {
            return Ok(());
        }
        directory.set_permissions(Permissions::from_mode(0o700))
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // Made anew: no link is followed that others may have put there.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    fn sync(&mut self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let removed = match path.symlink_metadata() {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Who owns the directory that this is in.
fn owner_above(path: &Path) -> Option<u32> {
    path.parent()?.metadata().map(|above| above.uid()).ok()
}
