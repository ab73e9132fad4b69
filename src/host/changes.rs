//! Changes of this host outside of our tables and directory, each written down first: settings of
//! the kernel, and for [`super::names`] whom the host asks. Needs root.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::doctor::{self, FindSettings, Wishes};
use agent::journal::helper::{self, AskError, Helper};
use agent::journal::{self, Applied, Disk, Journal, OpenError, Report, Stays, Taken};

use crate::host::files;
use crate::verbs::{Failure, chain};

/// Where the helper of a packaged agent answers.
const HELPER: &str = "/run/crossfade/host.sock";

/// How often whoever has the journal is waited for, and how many times: 3 s in all.
const WAIT_EACH: Duration = Duration::from_millis(10);
const WAITS_MAX: u32 = 300;

/// What was changed, or why not, in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// What was done now.
    pub(crate) done: Vec<String>,
    /// What could not be done.
    pub(crate) failed: Vec<String>,
}

/// Makes this host forward, which the kernel forgets with a reboot. What is so already is left
/// alone.
pub(crate) async fn forward(directory: &Path) -> Changes {
    let mut changes = Changes::default();
    let mut changer = match Changer::take(directory) {
        Ok(changer) => changer,
        Err(why) => {
            changes.failed.push(why);
            return changes;
        }
    };
    let find = FindSettings { root: PathBuf::from("/"), data: directory.to_owned(), envoy: None };
    let findings = doctor::find(&find, &Wishes::default()).await;
    for change in doctor::chosen_changes(&findings) {
        match changer.apply(&change) {
            Ok(Applied::Done) => changes.done.push(words(&change)),
            Ok(Applied::Already) => {}
            Err(why) => changes.failed.push(why),
        }
    }
    changes
}

/// Whether a helper makes changes for this process, which is not root.
pub(super) fn is_helped() -> bool {
    !nix::unistd::geteuid().is_root()
}

/// Who makes changes: this process where it is root, else the helper that is.
pub(crate) enum Changer {
    Own(Box<Journal>),
    Helper(Helper),
}

impl Changer {
    /// Takes the journal, which nobody else may have meanwhile.
    pub(crate) fn take(directory: &Path) -> Result<Self, String> {
        if !is_helped() {
            let place = files::journal(directory);
            files::make(&place).map_err(|error| chain(&error))?;
            let journal = opened(&place).map_err(|error| chain(&error))?;
            return Ok(Self::Own(Box::new(journal)));
        }
        Helper::connect(Path::new(HELPER)).map(Self::Helper).map_err(unanswered)
    }

    /// Makes one change.
    pub(crate) fn apply(&mut self, change: &journal::Change) -> Result<Applied, String> {
        match self {
            Self::Own(journal) => journal.apply(change).map_err(|error| chain(&error)),
            Self::Helper(helper) => helper.apply(change).map_err(|error| chain(&error)),
        }
    }

    /// Puts back what other ways of names changed than these changes, which are in force.
    pub(crate) fn undo_others(&mut self, stay: &[journal::Change]) -> Result<Report, String> {
        let stays = Stays::of(stay);
        match self {
            Self::Own(journal) => Ok(journal.undo_others(&stays)),
            Self::Helper(helper) => helper.undo_others(stays).map_err(|error| chain(&error)),
        }
    }

    /// Puts everything back, but for settings where they are to be kept, and takes what is ours out
    /// of files that others changed; names were answered at `stub`.
    fn undo(
        &mut self,
        stub: &[SocketAddr],
        keep_settings: bool,
    ) -> Result<(Report, Taken), AskError> {
        let report = match (&mut *self, keep_settings) {
            (Self::Own(journal), false) => journal.undo(),
            (Self::Own(journal), true) => journal.undo_files(),
            (Self::Helper(helper), false) => helper.undo()?,
            (Self::Helper(helper), true) => helper.undo_files()?,
        };
        let taken = match self {
            Self::Own(journal) => journal.take_out(stub),
            Self::Helper(helper) => helper.take_out(stub)?,
        };
        Ok((report, taken))
    }
}

fn unanswered(error: AskError) -> String {
    let why = chain(&error);
    format!("this agent is not root, and its helper ({HELPER}) does not answer: {why}")
}

/// Puts back what was changed on this host by the agent of this directory.
pub(super) fn undo(
    directory: &Path,
    stub: &[SocketAddr],
    keep_settings: bool,
) -> Result<(Report, Taken), String> {
    let place = files::journal(directory);
    let nothing = || Ok(Default::default());
    let mut changer = if is_helped() {
        match Helper::connect(Path::new(HELPER)) {
            Ok(helper) => Changer::Helper(helper),
            // Who may not ask it has never had it change anything; and nobody has without it.
            Err(AskError::Gone(error)) if error.kind() == ErrorKind::PermissionDenied => {
                return nothing();
            }
            Err(AskError::Gone(error))
                if error.kind() == ErrorKind::NotFound && !place.is_dir() =>
            {
                return nothing();
            }
            Err(error) => return Err(unanswered(error)),
        }
    } else if Journal::is_in(&place) {
        // What another user wrote there is not done as root.
        Changer::Own(Box::new(opened(&place).map_err(|error| chain(&error))?))
    } else {
        let taken = journal::take_out(&mut Disk::new(PathBuf::from("/")), stub);
        return Ok((Report::default(), taken));
    };
    changer.undo(stub, keep_settings).map_err(|error| chain(&error))
}

/// Opens the journal once whoever has it has gone: a helper ends with the connection that it
/// answered, a moment after.
fn opened(place: &Path) -> Result<Journal, OpenError> {
    for _ in 0..WAITS_MAX {
        match Journal::open(place) {
            Err(OpenError::Busy(_)) => std::thread::park_timeout(WAIT_EACH),
            opened => return opened,
        }
    }
    Journal::open(place)
}

/// Answers an agent that is not root, as root, on standard input and output.
pub(crate) fn help(directory: &Path) -> Result<(), Failure> {
    let failed = |source: std::io::Error| Failure::Local {
        what: "the agent is not answered",
        source: source.into(),
    };
    files::make(directory)?;
    let mut journal = opened(directory).map_err(|error| Failure::Failed(chain(&error)))?;
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    helper::serve(input, output, &mut journal).map_err(failed)
}

fn words(change: &journal::Change) -> String {
    use journal::Change as C;
    match change {
        C::Sysctl { key, value } => format!("{key} = {value}"),
        C::WriteFile { path, .. } => path.to_string(),
        C::OnUndo { argv } | C::Run { argv, .. } => argv.join(" "),
    }
}
