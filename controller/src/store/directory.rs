//! The data directory: made, checked, and taken by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A data directory that this process alone uses, until dropped.
///
/// The lock on the file `lock` decides, not its text: that names the owner for others to read and
/// may be left over from a process that died.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error(
        "{}: in use by process {owner}; stop it, or choose another directory with --data",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who holds the lock.
        owner: Owner,
    },
    /// There is something else of this name.
    #[error("{}: not a directory; choose another one with --data", path.display())]
    NotADirectory {
        /// What is in the way.
        path: PathBuf,
    },
    /// Other users could exchange its files.
    #[error(
        "{}: other users can write in it (mode {mode:o}); run `chmod 700` on it, or choose another \
         directory with --data",
        path.display()
    )]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Reading or writing fails.
    #[error("{}: cannot {doing}; choose a writable directory with --data", path.display())]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The process that holds a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Its process id, as it wrote it.
    Pid(u32),
    /// It has not written its id yet.
    Unknown,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "{pid}"),
            Self::Unknown => f.write_str("(unknown id)"),
        }
    }
}

impl Directory {
    /// The name of the lock file.
    pub const LOCK: &'static str = "lock";

    /// Takes `path`, which is made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// It is in use, no directory, writable for others, or not writable.
    pub fn take(path: &Path) -> Result<Self, DirectoryError> {
        make(path)?;
        let unusable =
            |doing| move |source| DirectoryError::Unusable { path: path.to_owned(), doing, source };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(Self::LOCK))
            .map_err(unusable("write in it"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = owner(&mut lock);
                return Err(DirectoryError::InUse { path: path.to_owned(), owner });
            }
            Err(TryLockError::Error(source)) => return Err(unusable("lock it")(source)),
        }
        // The text is for people: a full disk must not keep the controller from starting.
        let _ = sign(&mut lock);
        sync(path).map_err(unusable("sync it"))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory that a file is in.
pub(super) fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

fn make(path: &Path) -> Result<(), DirectoryError> {
    let unusable =
        |doing| move |source| DirectoryError::Unusable { path: path.to_owned(), doing, source };
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            Err(DirectoryError::NotADirectory { path: path.to_owned() })
        }
        Ok(found) if found.mode() & 0o022 != 0 => {
            Err(DirectoryError::Exposed { path: path.to_owned(), mode: found.mode() & 0o7777 })
        }
        Ok(_) => Ok(()),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(path).map_err(unusable("make it"))?;
            sync(parent(path)).map_err(unusable("sync the directory above"))
        }
        Err(source) if source.kind() == io::ErrorKind::NotADirectory => {
            Err(DirectoryError::NotADirectory { path: path.to_owned() })
        }
        Err(source) => Err(unusable("look at it")(source)),
    }
}

fn owner(lock: &mut File) -> Owner {
    let mut text = String::new();
    // A pid has at most 10 digits.
    let read = lock.take(32).read_to_string(&mut text);
    match read.ok().and_then(|_| text.trim().parse().ok()) {
        Some(pid) => Owner::Pid(pid),
        None => Owner::Unknown,
    }
}

fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())?;
    lock.sync_all()
}
