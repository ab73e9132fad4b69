//! What was changed on this host outside our own state and our own kernel table, so that leaving
//! puts it back byte for byte.
//!
//! A record of what is there goes to disk, then the change is made: a process killed at any point
//! leaves a host that [`Journal::undo`] brings back. What others changed meanwhile is theirs: it is
//! kept and told. Undoing twice, or again after half of it, ends in the same host.
//!
//! What it does not bring back: times of directories, access times, inode numbers.

mod disk;
mod entry;
pub mod helper;
mod log;
mod place;
mod shared;
mod sysctl;
mod undo;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid};
use serde::{Deserialize, Serialize};

use self::entry::{Action, Record, Step, What};
use self::log::Log;

pub use self::disk::{Disk, System};
pub use self::entry::Damage;
pub use self::log::OpenError;
pub use self::place::{
    Attribute, BadPath, Bytes, FILE_BYTES_MAX, FileState, HostPath, LinkState, Moment, Owner, Place,
};
pub use self::shared::{Taken, take_out};
pub use self::sysctl::{BadKey, Key, Setting};
pub use self::undo::{Failed, Kept, Report, Stays};

/// The most steps of one journal: a host needs a dozen, and a loop that adds one each second is
/// found within the hour.
const STEPS_MAX: usize = 4096;

/// The most interfaces whose settings are kept along with one setting.
const INTERFACES_MAX: usize = 4096;

/// The most steps that are kept although nothing is left to undo of them, and the longest journal
/// that has such steps, in bytes: a file that is written again and again is one step to undo.
const UNDONE_MAX: usize = 64;
const TIDY_BYTES: u64 = 16 << 20;

/// The mode of a directory that is made for a file.
const DIRECTORY_MODE: u32 = 0o755;

/// One change of a host, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Change {
    /// A file with these bytes and permissions, in place of what is there. Directories that are
    /// missing are made. It belongs to whom the file before it belonged, else to this process.
    WriteFile {
        /// Where.
        path: HostPath,
        /// At most [`FILE_BYTES_MAX`].
        bytes: Bytes,
        /// Permissions, such as 0o644.
        mode: u32,
    },
    /// A kernel setting. Not kept over a reboot by the kernel.
    Sysctl {
        /// Which.
        key: Key,
        /// To what.
        value: String,
    },
    /// A command that runs now, such as one that makes a service read its files again. Nothing of
    /// it is written down.
    Run {
        /// The program and its arguments. No shell.
        argv: Vec<String>,
    },
    /// Nothing now; a command that runs when what was changed after this is undone.
    OnUndo {
        /// The program and its arguments. No shell.
        argv: Vec<String>,
    },
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Applied {
    /// It is made, and will be undone.
    Done,
    /// It was so already, and will stay so.
    Already,
}

/// Why a change was not made. The host is as it was, but where the words say otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The operating system says no.
    #[error("cannot change {what}")]
    Host {
        /// Which file or setting.
        what: String,
        /// Its words.
        source: io::Error,
    },
    /// What is there is nothing that is replaced.
    #[error("{path} is {found}, which is left alone")]
    Kind {
        /// Where.
        path: HostPath,
        /// What it is.
        found: &'static str,
    },
    /// More than a journal holds.
    #[error("{what} is over the limit of {limit}")]
    Limit {
        /// What is too much.
        what: &'static str,
        /// How much may be.
        limit: usize,
    },
    /// Nothing is changed that cannot be written down first.
    #[error("cannot write {}", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
}

/// The journal of one host. One process has it at a time.
#[derive(Debug)]
pub struct Journal<S = Disk> {
    log: Log,
    steps: Vec<Step>,
    system: S,
}

impl Journal {
    /// Opens the journal of a state directory, made where it is missing. A last record that is not
    /// whole tells of a change that never began, and is passed over.
    ///
    /// # Errors
    /// It cannot be read, another process has it, or it is not what was written.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::with(directory, Disk::new(PathBuf::from("/")))
    }

    /// Whether there is one in this directory, whosever it is.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        directory.join(log::NAME).symlink_metadata().is_ok()
    }

    /// The same over a tree that stands for the host. Paths of changes stay absolute.
    #[must_use]
    pub fn rooted(self, root: PathBuf) -> Self {
        Self { system: Disk::new(root), ..self }
    }
}

impl<S: System> Journal<S> {
    /// Opens the journal over other hands.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn with(directory: &Path, system: S) -> Result<Self, OpenError> {
        let (log, steps) = Log::open(directory)?;
        Ok(Self { log, steps, system })
    }

    /// Makes one change, written down before it is made.
    ///
    /// # Errors
    /// It is not made.
    pub fn apply(&mut self, change: &Change) -> Result<Applied, ChangeError> {
        self.tidy();
        if self.steps.len() >= STEPS_MAX {
            return Err(ChangeError::Limit { what: "the number of changes", limit: STEPS_MAX });
        }
        match change {
            Change::WriteFile { path, bytes, mode } => self.write(path, bytes, *mode),
            Change::Sysctl { key, value } => self.set(key, value),
            Change::Run { argv } => {
                self.system.run(argv).map_err(|error| host(&argv.join(" "), error))?;
                Ok(Applied::Done)
            }
            Change::OnUndo { argv } => {
                let same = |step: &Step| !step.undone && step.action.runs(argv);
                if self.steps.iter().any(same) {
                    return Ok(Applied::Already);
                }
                self.begin(Action::Command { argv: argv.clone() })?;
                Ok(Applied::Done)
            }
        }
    }

    fn write(&mut self, path: &HostPath, bytes: &Bytes, mode: u32) -> Result<Applied, ChangeError> {
        if bytes.0.len() > FILE_BYTES_MAX {
            return Err(ChangeError::Limit { what: "the length of a file", limit: FILE_BYTES_MAX });
        }
        self.directories(path)?;
        self.replace(path, |before| {
            // A security label belongs to the path, not to the bytes.
            let (owner, mut attributes) = match before {
                Place::File(file) => (file.owner, file.attributes.clone()),
                Place::Absent | Place::Link(_) | Place::Directory | Place::Other => {
                    (this_process(), Vec::new())
                }
            };
            attributes.retain(|attribute| attribute.name == "security.selinux");
            let mode = mode & 0o7777;
            Place::File(FileState { bytes: bytes.clone(), mode, owner, modified: None, attributes })
        })
    }

    /// Makes the directories that a path needs, the outermost first.
    fn directories(&mut self, path: &HostPath) -> Result<(), ChangeError> {
        let mut missing = Vec::new();
        let mut next = path.parent();
        while let Some(directory) = next {
            let found = self.system.look(&directory).map_err(|e| host(&directory, e))?;
            if found != Place::Absent {
                break;
            }
            next = directory.parent();
            missing.push(directory);
        }
        for path in missing.into_iter().rev() {
            let step = self.begin(Action::Directory { path: path.clone() })?;
            let made = self.system.make_directory(&path, DIRECTORY_MODE);
            made.and_then(|()| self.system.settle(&path)).map_err(|error| {
                let _ = self.system.remove_directory(&path);
                self.note(step, What::Undone);
                host(&path, error)
            })?;
        }
        Ok(())
    }

    fn replace(
        &mut self,
        path: &HostPath,
        wanted: impl FnOnce(&Place) -> Place,
    ) -> Result<Applied, ChangeError> {
        let before = self.system.look(path).map_err(|error| host(path, error))?;
        if matches!(before, Place::Directory | Place::Other) {
            return Err(ChangeError::Kind { path: path.clone(), found: before.word() });
        }
        let after = wanted(&before);
        if after.is_same(&before) {
            return Ok(Applied::Already);
        }
        let (before, superseded) = self.supersede(path, before);
        let action = Action::Path { path: path.clone(), before, after: after.clone() };
        let step = self.begin(action)?;
        self.put(step, path, &after).map_err(|error| {
            // What was begun in place may be half done: `undo` brings it back.
            let begun = self.steps.iter().any(|s| s.number == step && s.in_place);
            if !begun {
                let _ = self.system.unlink(&path.temporary(step));
                self.note(step, What::Undone);
            }
            host(path, error)
        })?;
        if let Some(superseded) = superseded {
            // Left by a process that was killed in the middle of that step. Where it cannot be
            // removed, undoing the step tries again.
            if self.system.unlink(&path.temporary(superseded)).is_ok() {
                self.note(superseded, What::Undone);
            }
        }
        Ok(Applied::Done)
    }

    /// What undoing another change of a path brings back, and the step that is done with then:
    /// where our own bytes stand, what was before them; where others wrote over ours, what they
    /// wrote. That they did is told by the first step, which stays.
    fn supersede(&self, path: &HostPath, found: Place) -> (Place, Option<u64>) {
        let mut steps = self.steps.iter().filter(|step| !step.undone).filter_map(|step| {
            let (before, after) = step.action.at(path)?;
            Some((step.number, before, after))
        });
        let Some(first) = steps.next() else { return (found, None) };
        let last = steps.next_back();
        let (number, before, after) = last.unwrap_or(first);
        if after.is_same(&found) {
            return (before.clone(), Some(number));
        }
        (found, last.map(|(number, ..)| number))
    }

    /// Forgets steps of which nothing is left to undo, when there are many.
    fn tidy(&mut self) {
        let undone = self.steps.iter().filter(|step| step.undone).count();
        if undone == 0 || undone < UNDONE_MAX && self.log.length() < TIDY_BYTES {
            return;
        }
        let left: Vec<Step> = self.steps.iter().filter(|step| !step.undone).cloned().collect();
        let records: Vec<Record> = left.iter().flat_map(Step::records).collect();
        match self.log.rewrite(&records) {
            Ok(()) => self.steps = left,
            Err(error) => tracing::warn!(%error, "the journal of this host cannot be shortened"),
        }
    }

    /// Puts a place at a path at once, by way of a neighbour; in place where the path cannot be
    /// renamed to, as a file that is mounted.
    fn put(&mut self, step: u64, path: &HostPath, place: &Place) -> io::Result<()> {
        if *place == Place::Absent {
            self.system.unlink(path)?;
            return self.system.settle(path);
        }
        let neighbour = path.temporary(step);
        self.system.make(&neighbour, place)?;
        match (self.system.rename(&neighbour, path), place) {
            (Err(error), Place::File(file)) if error.kind() == io::ErrorKind::ResourceBusy => {
                self.system.unlink(&neighbour)?;
                self.record(step, What::InPlace)?;
                self.system.overwrite(path, &file.bytes.0)
            }
            (renamed, _) => {
                renamed?;
                self.system.settle(path)
            }
        }
    }

    fn set(&mut self, key: &Key, value: &str) -> Result<Applied, ChangeError> {
        let value = sysctl::plain(value);
        let keys = self.along(key)?;
        let before = self.settings(&keys);
        let Some(own) = before.iter().find(|setting| setting.key == *key) else {
            return Err(host(key, io::ErrorKind::NotFound.into()));
        };
        if own.value == value {
            return Ok(Applied::Already);
        }
        let action = Action::Sysctl { key: key.clone(), value: value.clone(), before };
        let step = self.begin(action)?;
        self.system.set_sysctl(key, &value).map_err(|error| {
            self.note(step, What::Undone);
            host(key, error)
        })?;
        let after = self.settings(&keys);
        self.note(step, What::Observed(after));
        Ok(Applied::Done)
    }

    /// A key, and those that the kernel changes along with it: of all, of what comes, of each.
    fn along(&self, key: &Key) -> Result<Vec<Key>, ChangeError> {
        let mut keys = vec![key.clone()];
        let Some((directory, files)) = key.changes_along() else {
            return Ok(keys);
        };
        let mut names = self.system.sysctl_names(&directory).map_err(|error| host(key, error))?;
        if names.len() > INTERFACES_MAX {
            return Err(ChangeError::Limit { what: "interfaces", limit: INTERFACES_MAX });
        }
        names.sort_by_key(|name| (name != "all", name != "default"));
        let below = names.iter().flat_map(|name| files.iter().map(move |f| format!("{name}/{f}")));
        keys.extend(below.filter_map(|part| directory.below(&part)));
        keys.dedup();
        Ok(keys)
    }

    /// Those that can be read, in the order asked: an interface can go at any time.
    fn settings(&self, keys: &[Key]) -> Vec<Setting> {
        let read =
            |key: &Key| Some(Setting { key: key.clone(), value: self.system.sysctl(key).ok()? });
        keys.iter().filter_map(read).collect()
    }

    fn begin(&mut self, action: Action) -> Result<u64, ChangeError> {
        let step = self.steps.last().map_or(1, |last| last.number + 1);
        let written = self.record(step, What::Begin(action));
        written.map_err(|source| ChangeError::Journal {
            path: self.log.path().to_path_buf(),
            source,
        })?;
        Ok(step)
    }

    fn record(&mut self, step: u64, what: What) -> io::Result<()> {
        let record = Record { step, what };
        self.log.append(&record)?;
        let taken = entry::take(&mut self.steps, record);
        taken.ok_or_else(|| io::Error::other("a step that never began"))
    }

    /// Records what only spares work later: what it says is seen on the host, too.
    fn note(&mut self, step: u64, what: What) {
        if let Err(error) = self.record(step, what.clone()) {
            tracing::warn!(%error, "the journal of this host cannot be written");
            let _ = entry::take(&mut self.steps, Record { step, what });
        }
    }
}

fn this_process() -> Owner {
    Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() }
}

fn host(what: &impl ToString, source: io::Error) -> ChangeError {
    ChangeError::Host { what: what.to_string(), source }
}
