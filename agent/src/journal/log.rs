//! The journal's file: added to at its end, on disk before anything else goes on.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use super::entry::{self, Damage, HEAD, Record, Step};

/// The name of the file in its directory.
pub(super) const NAME: &str = "journal";

/// The longest journal, in bytes: each step keeps one file of at most 1 MiB before and after, and a
/// host needs a dozen steps.
const BYTES_MAX: u64 = 64 << 20;

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system says no.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another process", .0.display())]
    Busy(PathBuf),
    /// Another user can write it: what it says is not done with our rights.
    #[error("{} is no file or directory of this user's alone, so it is not followed", .0.display())]
    Foreign(PathBuf),
    /// It is no journal, or not what was written. Nothing is undone by it.
    #[error("{}: {damage}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// It is longer than any journal becomes.
    #[error("{}: longer than {BYTES_MAX} bytes", .0.display())]
    TooLong(PathBuf),
}

/// The file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    directory: File,
    /// None while there is nothing to write of.
    file: Option<File>,
    /// Whole bytes.
    length: u64,
    /// Something may stand after them.
    torn: bool,
}

impl Log {
    /// Opens the journal of a directory, made where it is missing. Only one process at a time.
    pub(super) fn open(directory: &Path) -> Result<(Self, Vec<Step>), OpenError> {
        let path = directory.join(NAME);
        let failed = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| OpenError::File { what, path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("make", directory))?;
        let opened = File::open(directory).map_err(failed("open", directory))?;
        let about = opened.metadata().map_err(failed("open", directory))?;
        if !is_ours(&about) {
            return Err(OpenError::Foreign(directory.to_path_buf()));
        }
        opened.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Busy(directory.to_path_buf()),
            TryLockError::Error(source) => failed("lock", directory)(source),
        })?;
        let mut log = Self { path, directory: opened, file: None, length: 0, torn: false };
        let file = match log.existing(true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((log, Vec::new())),
            // What was changed can be undone all the same; only that cannot be written down.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => log.existing(false),
            file => file,
        };
        let file = file.map_err(failed("open", &log.path))?;
        let about = file.metadata().map_err(failed("open", &log.path))?;
        if !(about.is_file() && is_ours(&about)) {
            return Err(OpenError::Foreign(log.path));
        }
        let mut bytes = Vec::new();
        (&file).take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed("read", &log.path))?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(OpenError::TooLong(log.path));
        }
        let read = entry::decode(&bytes)
            .map_err(|damage| OpenError::Damaged { path: log.path.clone(), damage })?;
        log.length = read.whole as u64;
        log.torn = read.whole < bytes.len();
        log.file = Some(file);
        Ok((log, read.steps))
    }

    fn existing(&self, write: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(write).custom_flags(guarded()).open(&self.path)
    }

    /// How long it is, in bytes.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Puts these records in place of all that are there, at once. If it fails, they are as they
    /// were.
    pub(super) fn rewrite(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = HEAD.to_vec();
        for record in records {
            bytes.extend(entry::encode(record)?);
        }
        let fresh = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.custom_flags(guarded()).open(&fresh)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        self.file = Some(file);
        self.length = bytes.len() as u64;
        self.torn = false;
        self.directory.sync_all()
    }

    /// Adds a record. When it returns, the record is on disk; if it fails, it is not in the file.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let line = entry::encode(record)?;
        if self.length + line.len() as u64 > BYTES_MAX {
            return Err(io::Error::other(format!("longer than {BYTES_MAX} bytes")));
        }
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
            self.file = Some(options.custom_flags(guarded()).open(&self.path)?);
            self.directory.sync_all()?;
        }
        let Some(file) = &self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if self.torn {
            file.set_len(self.length)?;
            self.torn = false;
        }
        let head = if self.length == 0 { HEAD } else { &[] };
        let bytes = [head, line.as_slice()].concat();
        self.torn = true;
        file.write_all_at(&bytes, self.length)?;
        file.sync_all()?;
        self.torn = false;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Takes the file away: there is nothing left to undo.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.file = None;
        self.length = 0;
        self.torn = false;
        for path in [&self.path.with_extension("new"), &self.path] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.directory.sync_all()
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// No link is followed, and no pipe waited for.
fn guarded() -> i32 {
    (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()
}

fn is_ours(about: &Metadata) -> bool {
    about.uid() == geteuid().as_raw()
}
