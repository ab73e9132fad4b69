//! Break-glass: a file beside what is held, by which a machine's own operator takes services back
//! to legacy with no controller.
//!
//! `break-glass.log` is a line of JSON for each act, appended and never changed: each has the
//! digest of the one before, so that what was done here can be told later. What is in force follows
//! from the file alone, so it also holds for a replica that does not run yet.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use plan::{Digest, ServiceId, Timestamp};
use proto::crossfade::v1 as wire;
use serde::{Deserialize, Serialize};

use crate::verbs::chain;

/// The file.
pub(crate) const FILE: &str = "break-glass.log";

/// How often those who run look at the file: what an operator does is in force within twice this.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(40);
/// What stands for every service where one is named.
pub(crate) const EVERY: &str = "*";
/// Who did what nobody told us of: the table of break-glass came, grew or went.
pub(crate) const BY_RULES: &str = "nft";
/// Why nobody knows.
pub(crate) const NOT_BY_US: &str =
    "the table of break-glass came or went by other means than crossfade";
/// What dissolved break-glass is written down as.
const BY_CONTROLLER: &str = "controller";
/// Why it was dissolved.
const AT_LEGACY: &str = "the controller's split is 0";

/// How often an operator's command asks whether others have written, and how many times: an act
/// takes a few milliseconds.
const WAIT_EACH: Duration = Duration::from_millis(5);
const WAITS_MAX: u32 = 50;

/// A longer one is no log of people's acts.
const BYTES_MAX: u64 = 16 << 20;

/// Root opens it in a directory that is the agent's: a link there leads it nowhere, and a pipe
/// keeps it from nothing.
const FLAGS: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK);

/// The longest reason and name, in bytes.
const TEXT_MAX: usize = 1_000;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Act {
    /// Taken back to legacy.
    Rollback,
    /// No longer, by an operator.
    Undo,
    /// No longer, because the controller says legacy itself.
    Dissolved,
}

/// An act that is to be written down.
#[derive(Clone, Debug)]
pub(crate) struct Deed<'a> {
    /// What is done.
    pub(crate) act: Act,
    /// `None`: for every service.
    pub(crate) service: Option<ServiceId>,
    /// Who does it.
    pub(crate) by: &'a str,
    /// Why; may be empty.
    pub(crate) reason: &'a str,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    seq: u64,
    at: Timestamp,
    act: Act,
    /// `None`: every service.
    service: Option<ServiceId>,
    by: String,
    #[serde(default)]
    reason: String,
    /// The digest of the line before.
    parent: Digest,
    /// SHA-256 of this line's JSON with zeros here.
    digest: Digest,
}

/// Services that are kept on legacy here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Force {
    /// `None`: every service.
    pub(crate) service: Option<ServiceId>,
    /// Since when.
    pub(crate) since: Timestamp,
    /// Who.
    pub(crate) by: String,
    /// Why; may be empty.
    pub(crate) reason: String,
}

impl Force {
    /// Whether it is about this service.
    pub(crate) fn covers(&self, id: &ServiceId) -> bool {
        self.service.as_ref().is_none_or(|service| service == id)
    }

    /// What it is about, in words.
    pub(crate) fn subject(&self) -> String {
        self.service.as_ref().map_or_else(|| EVERY.to_owned(), ToString::to_string)
    }

    /// As the controller is told.
    pub(crate) fn reported(&self) -> wire::Override {
        wire::Override {
            services: self.service.iter().map(ToString::to_string).collect(),
            since_ms: u64::try_from(self.since.millis()).unwrap_or(0),
            by: self.by.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glass {
    /// What is in force, oldest first.
    pub(crate) force: Vec<Force>,
    /// Lines that are no lines of ours, or do not follow the one before.
    pub(crate) problems: Vec<String>,
    seq: u64,
    head: Digest,
    /// The file does not end with a whole line.
    torn: bool,
}

/// Why the file was not read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GlassError {
    /// The operating system says no.
    #[error("cannot {what} {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    /// Nobody does so much by hand.
    #[error("{} is over 16 MiB; move it away", path.display())]
    TooLong { path: PathBuf },
}

/// Reads the file in `directory`; none is nothing in force.
pub(crate) fn read(directory: &Path) -> Result<Glass, GlassError> {
    let path = directory.join(FILE);
    let opened = OpenOptions::new().read(true).custom_flags(FLAGS.bits()).open(&path);
    match opened {
        Ok(file) => read_file(&file, &path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Glass::nothing()),
        Err(source) => Err(GlassError::File { what: "read", path, source }),
    }
}

/// Break-glass as it was left, for those who run: a file that cannot be read holds nothing up.
pub(crate) fn read_or_nothing(directory: &Path) -> Glass {
    let glass = read(directory).unwrap_or_else(|error| {
        tracing::error!(why = %chain(&error), "break-glass cannot be read");
        Glass::nothing()
    });
    for problem in &glass.problems {
        tracing::error!(%problem, "the log of break-glass was changed by hand or torn");
    }
    glass
}

/// What changes when the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Option<(u64, SystemTime)>);

impl Stamp {
    /// As the file in `directory` is now.
    pub(crate) fn of(directory: &Path) -> Self {
        let found = std::fs::metadata(directory.join(FILE)).ok();
        Self(found.and_then(|found| Some((found.len(), found.modified().ok()?))))
    }
}

fn is_file(file: &File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is no regular file; move it away")),
    }
}

fn read_file(file: &File, path: &Path) -> Result<Glass, GlassError> {
    let mut bytes = Vec::new();
    let read = is_file(file).and_then(|()| file.take(BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|source| GlassError::File { what: "read", path: path.to_owned(), source })?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(GlassError::TooLong { path: path.to_owned() });
    }
    Ok(Glass::of(&String::from_utf8_lossy(&bytes)))
}

/// Appends an act. When it returns, it is on disk.
pub(crate) fn append(
    directory: &Path,
    act: Act,
    service: Option<&ServiceId>,
    by: &str,
    reason: &str,
    at: Timestamp,
) -> Result<Glass, GlassError> {
    Log::open(directory)?.append(act, service, by, reason, at)
}

/// Ends break-glass of a service, or of all, as the controller itself says legacy by now. Where
/// that cannot be written down it stays in force, and is tried again with the next table.
pub(crate) fn dissolve(
    directory: &Path,
    service: Option<&ServiceId>,
    at: Timestamp,
) -> Option<Glass> {
    let ended = append(directory, Act::Dissolved, service, BY_CONTROLLER, AT_LEGACY, at);
    if let Err(error) = &ended {
        tracing::error!(why = %chain(error), "break-glass cannot be ended");
    }
    ended.ok()
}

/// The file, to be written to. Who changes the kernel as well has it open meanwhile, so that nobody
/// else sees one without the other.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    path: PathBuf,
    new: bool,
}

impl Log {
    /// Waits until nobody else has it, but not for ever: a process that hangs must not keep an
    /// operator from a rollback. Then lines may come that do not follow each other, which is told.
    #[expect(
        clippy::disallowed_methods,
        reason = "the lock of a file cannot be waited for with a limit in another way"
    )]
    pub(crate) fn open(directory: &Path) -> Result<Self, GlassError> {
        let log = Self::unlocked(directory)?;
        for _ in 0..WAITS_MAX {
            if log.lock()? {
                break;
            }
            std::thread::sleep(WAIT_EACH);
        }
        Ok(log)
    }

    /// `None`: somebody else has it.
    pub(crate) fn try_open(directory: &Path) -> Result<Option<Self>, GlassError> {
        let log = Self::unlocked(directory)?;
        Ok(log.lock()?.then_some(log))
    }

    fn unlocked(directory: &Path) -> Result<Self, GlassError> {
        let path = directory.join(FILE);
        let failed = |what| {
            let path = path.clone();
            move |source| GlassError::File { what, path, source }
        };
        let new = !path.try_exists().map_err(failed("look for"))?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .custom_flags(FLAGS.bits())
            .open(&path)
            .map_err(failed("open"))?;
        is_file(&file).map_err(failed("open"))?;
        Ok(Self { file, path, new })
    }

    fn lock(&self) -> Result<bool, GlassError> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => Err(self.failed("lock")(source)),
        }
    }

    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> GlassError {
        let path = self.path.clone();
        move |source| GlassError::File { what, path: path.clone(), source }
    }

    /// Appends an act. When it returns, it is on disk.
    pub(crate) fn append(
        &mut self,
        act: Act,
        service: Option<&ServiceId>,
        by: &str,
        reason: &str,
        at: Timestamp,
    ) -> Result<Glass, GlassError> {
        let before = self.read()?;
        let mut line = Line {
            seq: before.seq + 1,
            at,
            act,
            service: service.cloned(),
            by: cut(by),
            reason: cut(reason),
            parent: before.head,
            digest: Digest::ZERO,
        };
        line.digest = line.digest();
        let start = if before.torn { "\n" } else { "" };
        let json = serde_json::to_string(&line);
        let json = json.map_err(|error| self.failed("write")(io::Error::other(error)))?;
        let written = self.file.write_all(format!("{start}{json}\n").as_bytes());
        written.map_err(self.failed("write"))?;
        self.file.sync_all().map_err(self.failed("sync"))?;
        if let Some(directory) = self.path.parent().filter(|_| self.new) {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(self.failed("sync the directory of"))?;
            self.new = false;
        }
        self.read()
    }

    /// What it says now.
    pub(crate) fn read(&mut self) -> Result<Glass, GlassError> {
        self.file.rewind().map_err(self.failed("read"))?;
        read_file(&self.file, &self.path)
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

impl Line {
    fn digest(&self) -> Digest {
        let unsealed = Self { digest: Digest::ZERO, ..self.clone() };
        // Serialising this cannot fail: every key is text, no writer is in it.
        Digest::of(&serde_json::to_vec(&unsealed).unwrap_or_default())
    }
}

impl Default for Glass {
    fn default() -> Self {
        Self::nothing()
    }
}

impl Glass {
    /// Nothing in force.
    pub(crate) fn nothing() -> Self {
        Self::of("")
    }

    /// A line that is damaged is told and left out; those after it count, as a rollback is never
    /// blocked, and that they do not follow is told as well.
    fn of(text: &str) -> Self {
        let torn = !text.is_empty() && !text.ends_with('\n');
        let mut glass =
            Self { force: Vec::new(), problems: Vec::new(), seq: 0, head: Digest::ZERO, torn };
        for (number, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.is_empty()) {
            let line = serde_json::from_str::<Line>(text).ok();
            // Another text of the same meaning is a change by hand as well.
            let whole = |line: &Line| {
                line.digest() == line.digest
                    && serde_json::to_string(line).is_ok_and(|written| written == text)
            };
            let Some(line) = line.filter(whole) else {
                glass.problems.push(format!("line {number} is damaged"));
                continue;
            };
            if line.parent != glass.head || line.seq != glass.seq + 1 {
                glass.problems.push(format!("line {number} does not follow the one before"));
            }
            (glass.seq, glass.head) = (line.seq, line.digest);
            let Line { act, service, at: since, by, reason, .. } = line;
            glass.fold(act, Force { service, since, by, reason });
        }
        glass
    }

    /// What is in force once these deeds are done too, which the file does not say yet.
    pub(crate) fn after(&self, deeds: &[Deed<'_>], at: Timestamp) -> Self {
        let mut glass = self.clone();
        for Deed { act, service, by, reason } in deeds {
            let (service, by, reason) = (service.clone(), cut(by), cut(reason));
            glass.fold(*act, Force { service, since: at, by, reason });
        }
        glass
    }

    fn fold(&mut self, act: Act, new: Force) {
        let service = &new.service;
        match act {
            Act::Rollback => {
                if !self.force.iter().any(|force| force.service == *service) {
                    self.force.push(new);
                }
            }
            Act::Undo | Act::Dissolved if service.is_none() => self.force.clear(),
            Act::Undo | Act::Dissolved => self.force.retain(|force| force.service != *service),
        }
    }

    /// Logs what is in force since it changed.
    pub(crate) fn log(&self) {
        for force in &self.force {
            let (service, Force { since, by, .. }) = (force.subject(), force);
            tracing::warn!(%service, %since, %by, "break-glass in force");
        }
        if self.force.is_empty() {
            tracing::warn!("break-glass is over");
        }
    }

    /// What keeps this service on legacy here.
    pub(crate) fn on(&self, id: &ServiceId) -> Option<&Force> {
        self.force.iter().find(|force| force.covers(id))
    }

    /// Whether it names what the other does not.
    pub(crate) fn is_more_than(&self, other: &Self) -> bool {
        let is_in = |one: &Force| other.force.iter().any(|force| force.service == one.service);
        !self.force.iter().all(is_in)
    }

    /// Whether anything does.
    pub(crate) fn covers(&self, id: &ServiceId) -> bool {
        self.on(id).is_some()
    }
}
