//! The few changes of a host that need root, for an agent that has none.
//!
//! The agent asks over a unix socket, a line of JSON a question; [`serve`] answers as root, through
//! a journal that only root can write. What may be asked is a list ([`allowed`]): whoever takes the
//! agent over cannot write elsewhere.

mod contents;

use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk::System;
use super::place::{FILE_BYTES_MAX, HostPath};
use super::sysctl::Key;
use super::{Applied, Change, Journal, Report, Stays, Taken};

/// The longest line, in bytes: a file in base64 with its path.
const LINE_BYTES_MAX: u64 = 2 * FILE_BYTES_MAX as u64;

/// How long an answer may take: two commands of a journal, each bounded by itself.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// Commands, word by word. The name under which `resolvconf` is told is ours alone.
const COMMANDS: [&[&str]; 6] = [
    &["systemctl", "--no-block", "try-reload-or-restart", "systemd-resolved.service"],
    &["nmcli", "general", "reload"],
    &["nmcli", "general", "reload", "dns-full"],
    &["resolvconf", "-d", "lo.crossfade"],
    &["sh", "-c", "exec resolvconf -a lo.crossfade < /run/crossfade/resolvconf"],
    &["sh", "-c", "exec resolvconf -m 0 -x -a lo.crossfade < /run/crossfade/resolvconf"],
];

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ask {
    /// Make a change.
    Apply(Change),
    /// Bring everything back.
    Undo,
    /// Bring everything back but settings of the kernel.
    UndoFiles,
    /// Bring back files and commands of names but these.
    UndoOthers(Stays),
    /// Take what is ours out of files that others changed; the stub answers there.
    TakeOut(Vec<SocketAddr>),
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// To [`Ask::Apply`].
    Applied(Applied),
    /// To [`Ask::Undo`].
    Undone(Report),
    /// To [`Ask::TakeOut`].
    TakenOut(Taken),
    /// It was not done, in words.
    Refused(String),
}

/// A change that is on no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// It changes something else.
    #[error("{0} is not among what an agent changes")]
    What(String),
    /// A file would say what neither an agent writes nor others wrote there.
    #[error("{0} may not be written so: others changed it meanwhile, or no agent writes this")]
    Contents(HostPath),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there, or who was has gone.
    #[error("the helper that changes this host does not answer")]
    Gone(#[from] io::Error),
    /// It answers something else.
    #[error("the helper that changes this host answers what is not understood")]
    Unclear(#[from] serde_json::Error),
    /// It does not do it.
    #[error("the helper refuses: {0}")]
    Refused(String),
}

/// Whether an agent may have this change made. `stood` is what others wrote, or may have written,
/// at the path of the change: their lines stay.
///
/// # Errors
/// It may not.
pub fn allowed(change: &Change, stood: &[Vec<u8>]) -> Result<(), NotAllowed> {
    let (fits, what) = match change {
        Change::WriteFile { path, bytes, mode } => {
            let Some(file) = contents::File::at(path.as_path()) else {
                return Err(NotAllowed::What(path.to_string()));
            };
            if !file.may_hold(&bytes.0, stood) {
                return Err(NotAllowed::Contents(path.clone()));
            }
            (file.may_be(*mode), format!("{path} with permissions {mode:o}"))
        }
        Change::Sysctl { key, value } => (is_setting(key, value), format!("{key} = {value}")),
        Change::Run { argv } | Change::OnUndo { argv } => (is_command(argv), argv.join(" ")),
    };
    if fits { Ok(()) } else { Err(NotAllowed::What(what)) }
}

/// Whether it is a file that an agent may write.
pub(super) fn is_file(path: &HostPath) -> bool {
    contents::File::at(path.as_path()).is_some()
}

/// Whether files that an agent may write can lie in it.
pub(super) fn is_above_files(directory: &HostPath) -> bool {
    contents::File::ALL.iter().any(|file| file.path().starts_with(directory.as_path()))
}

/// Forwarding, and what keeps a default route while forwarding.
fn is_setting(key: &Key, value: &str) -> bool {
    let text = String::from(key.clone());
    let parts: Vec<&str> = text.split('/').collect();
    matches!(
        (parts.as_slice(), value),
        (["net", "ipv4", "ip_forward"] | ["net", "ipv6", "conf", "all", "forwarding"], "1")
            | (["net", "ipv6", "conf", _, "accept_ra"], "2")
    )
}

/// Whether it is a command that an agent may have run.
pub(super) fn is_command(argv: &[String]) -> bool {
    COMMANDS.iter().any(|command| argv == *command)
}

/// Answers questions until there are no more.
///
/// # Errors
/// The other end has gone, or says what is no question.
pub fn serve<S: System>(
    input: impl BufRead,
    mut output: impl Write,
    journal: &mut Journal<S>,
) -> io::Result<()> {
    let mut input = input;
    while let Some(line) = line(&mut input)? {
        let answer = match serde_json::from_slice(&line) {
            Ok(ask) => answer(ask, journal),
            Err(error) => Answer::Refused(error.to_string()),
        };
        say(&mut output, &answer)?;
    }
    Ok(())
}

fn answer<S: System>(ask: Ask, journal: &mut Journal<S>) -> Answer {
    match ask {
        Ask::Undo => Answer::Undone(journal.undo()),
        Ask::UndoFiles => Answer::Undone(journal.undo_files()),
        Ask::UndoOthers(stays) => Answer::Undone(journal.undo_others(&stays)),
        Ask::TakeOut(mut stub) => {
            // The stub answers nowhere else; servers of others stay.
            stub.retain(|at| at.ip().is_loopback());
            Answer::TakenOut(journal.take_out(&stub))
        }
        Ask::Apply(change) => {
            let stood = match &change {
                Change::WriteFile { path, .. } => journal.stood(path),
                Change::Sysctl { .. } | Change::Run { .. } | Change::OnUndo { .. } => Vec::new(),
            };
            if let Err(refused) = allowed(&change, &stood) {
                return Answer::Refused(refused.to_string());
            }
            match journal.apply(&change) {
                Ok(applied) => Answer::Applied(applied),
                Err(error) => Answer::Refused(xds::causes::chain(&error)),
            }
        }
    }
}

/// The agent's end.
#[derive(Debug)]
pub struct Helper {
    stream: BufReader<UnixStream>,
}

impl Helper {
    /// Connects to the helper's socket.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn connect(path: &Path) -> Result<Self, AskError> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Has a change made.
    ///
    /// # Errors
    /// It is not made.
    pub fn apply(&mut self, change: &Change) -> Result<Applied, AskError> {
        let answer = self.ask(&Ask::Apply(change.clone()))?;
        if let Answer::Applied(applied) = answer { Ok(applied) } else { Err(unexpected(answer)) }
    }

    /// Has everything brought back.
    ///
    /// # Errors
    /// There is no answer; it may be done.
    pub fn undo(&mut self) -> Result<Report, AskError> {
        self.undone(&Ask::Undo)
    }

    /// Has everything brought back but settings of the kernel.
    ///
    /// # Errors
    /// There is no answer; it may be done.
    pub fn undo_files(&mut self) -> Result<Report, AskError> {
        self.undone(&Ask::UndoFiles)
    }

    /// Has files and commands of names brought back but those that stay.
    ///
    /// # Errors
    /// There is no answer; it may be done.
    pub fn undo_others(&mut self, stays: Stays) -> Result<Report, AskError> {
        self.undone(&Ask::UndoOthers(stays))
    }

    fn undone(&mut self, ask: &Ask) -> Result<Report, AskError> {
        let answer = self.ask(ask)?;
        if let Answer::Undone(report) = answer { Ok(report) } else { Err(unexpected(answer)) }
    }

    /// Has what is ours taken out of files that others changed.
    ///
    /// # Errors
    /// There is no answer; it may be done.
    pub fn take_out(&mut self, stub: &[SocketAddr]) -> Result<Taken, AskError> {
        let answer = self.ask(&Ask::TakeOut(stub.to_vec()))?;
        if let Answer::TakenOut(taken) = answer { Ok(taken) } else { Err(unexpected(answer)) }
    }

    fn ask(&mut self, ask: &Ask) -> Result<Answer, AskError> {
        say(self.stream.get_mut(), ask)?;
        let Some(line) = line(&mut self.stream)? else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        };
        Ok(serde_json::from_slice(&line)?)
    }
}

fn unexpected(answer: Answer) -> AskError {
    match answer {
        Answer::Refused(words) => AskError::Refused(words),
        Answer::Applied(_) | Answer::Undone(_) | Answer::TakenOut(_) => {
            AskError::Refused("the answer is to another question".to_owned())
        }
    }
}

fn say(output: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

fn line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end")),
    }
}
