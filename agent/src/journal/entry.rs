//! What the journal's file says, line by line.
//!
//! A head, then a line a record: 16 hexadecimal digits of the SHA-256 of the rest, a space, JSON.
//! Records are only ever added. One record is on disk before the change that it tells of begins,
//! so a last line that is not whole tells of a change that never began.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::place::{HostPath, Place};
use super::sysctl::{Key, Setting};

/// What the file begins with.
pub(super) const HEAD: &[u8] = b"crossfade journal 1\n";

/// How many digits of the digest stand before a record.
const DIGEST_DIGITS: usize = 16;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// The step it is about, counted from 1.
    pub(super) step: u64,
    pub(super) what: What,
}

/// What a line says of its step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum What {
    /// The step begins.
    Begin(Action),
    /// It goes on by writing over the bytes in place, which is not done at once.
    InPlace,
    /// What the kernel's settings are once it is done.
    Observed(Vec<Setting>),
    /// It is being undone, and these are to be the kernel's settings then.
    Undoing(Vec<Setting>),
    /// It is undone, was never done, or is kept for good.
    Undone,
}

/// A step, with what was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    /// A file put, or one in place of a file or link.
    Path { path: HostPath, before: Place, after: Place },
    /// A directory made.
    Directory { path: HostPath },
    /// A kernel setting; `before` has those that the kernel changes along with it, too.
    Sysctl { key: Key, value: String, before: Vec<Setting> },
    /// Nothing now; a command when undone.
    Command { argv: Vec<String> },
}

/// A step as all its records tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) number: u64,
    pub(super) action: Action,
    pub(super) in_place: bool,
    pub(super) observed: Option<Vec<Setting>>,
    pub(super) undoing: Option<Vec<Setting>>,
    pub(super) undone: bool,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path, .. } | Self::Directory { path } => path.fmt(f),
            Self::Sysctl { key, .. } => write!(f, "sysctl {key}"),
            Self::Command { argv } => f.write_str(&argv.join(" ")),
        }
    }
}

impl Action {
    /// Whether it is this command.
    pub(super) fn runs(&self, words: &[String]) -> bool {
        matches!(self, Self::Command { argv } if argv == words)
    }

    /// What was at this path before and after it, if it is about the path.
    pub(super) fn at(&self, wanted: &HostPath) -> Option<(&Place, &Place)> {
        match self {
            Self::Path { path, before, after } if path == wanted => Some((before, after)),
            Self::Path { .. }
            | Self::Directory { .. }
            | Self::Sysctl { .. }
            | Self::Command { .. } => None,
        }
    }
}

impl Step {
    /// What tells all of it.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let in_place = self.in_place.then_some(What::InPlace);
        let observed = self.observed.clone().map(What::Observed);
        let undoing = self.undoing.clone().map(What::Undoing);
        let undone = self.undone.then_some(What::Undone);
        let more = [in_place, observed, undoing, undone].into_iter().flatten();
        let step = self.number;
        std::iter::once(What::Begin(self.action.clone()))
            .chain(more)
            .map(move |what| Record { step, what })
    }

    fn new(number: u64, action: Action) -> Self {
        Self { number, action, in_place: false, observed: None, undoing: None, undone: false }
    }
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) steps: Vec<Step>,
    /// How many bytes are whole; what is after them is torn.
    pub(super) whole: usize,
}

/// Why a file is not a journal that can be undone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It begins with something else.
    #[error("it does not begin as a journal does")]
    Foreign,
    /// A line that is not the last is not what was written.
    #[error("line {line} is not what was written")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A line tells of a step that never began.
    #[error("line {line} tells of a step that never began")]
    Order {
        /// Counted from 1.
        line: usize,
    },
}

/// One line, with its end.
pub(super) fn encode(record: &Record) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{} {json}\n", digest(json.as_bytes())).into_bytes())
}

/// Reads a whole file.
pub(super) fn decode(bytes: &[u8]) -> Result<Read, Damage> {
    if HEAD.starts_with(bytes) {
        return Ok(Read { steps: Vec::new(), whole: if bytes == HEAD { HEAD.len() } else { 0 } });
    }
    let mut rest = bytes.strip_prefix(HEAD).ok_or(Damage::Foreign)?;
    let (mut steps, mut whole, mut line) = (Vec::new(), HEAD.len(), 1);
    while !rest.is_empty() {
        line += 1;
        let length = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |end| end + 1);
        let (this, next) = rest.split_at(length);
        match record(this) {
            Some(record) => take(&mut steps, record).ok_or(Damage::Order { line })?,
            None if next.is_empty() => break,
            None => return Err(Damage::Line { line }),
        }
        whole += length;
        rest = next;
    }
    Ok(Read { steps, whole })
}

fn record(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n")?;
    let (written, json) = line.split_at_checked(DIGEST_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    if written != digest(json).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn digest(json: &[u8]) -> String {
    let mut text: String = Sha256::digest(json).iter().map(|b| format!("{b:02x}")).collect();
    text.truncate(DIGEST_DIGITS);
    text
}

/// Adds what a record says to the step it is about.
pub(super) fn take(steps: &mut Vec<Step>, record: Record) -> Option<()> {
    let Record { step: number, what } = record;
    if let What::Begin(action) = what {
        if steps.last().is_some_and(|last| last.number >= number) {
            return None;
        }
        steps.push(Step::new(number, action));
        return Some(());
    }
    let step = steps.iter_mut().rev().find(|step| step.number == number)?;
    match what {
        What::Begin(_) => return None,
        What::InPlace => step.in_place = true,
        What::Observed(after) => step.observed = Some(after),
        What::Undoing(wanted) => step.undoing = Some(wanted),
        What::Undone => step.undone = true,
    }
    Some(())
}
