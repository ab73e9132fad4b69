//! Changes of this host outside of our tables and directory, each written down first: settings of
//! the kernel, and for [`super::names`] whom the host asks. Needs root.

use std::path::{Path, PathBuf};

use agent::doctor::{self, FindSettings, Wishes};
use agent::journal::helper::{self, Helper};
use agent::journal::{self, Applied, Journal};

use crate::host::files;
use crate::verbs::{Failure, chain};

/// Where the helper of a packaged agent answers.
const HELPER: &str = "/run/crossfade/host.sock";

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
    let wishes = Wishes { serves_others: true, forwards: true, ..Wishes::default() };
    let find = FindSettings { root: PathBuf::from("/"), data: directory.to_owned(), envoy: None };
    let findings = doctor::find(&find, &wishes).await;
    for change in doctor::chosen_changes(&findings, &wishes) {
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
pub(super) enum Changer {
    Own(Box<Journal>),
    Helper(Helper),
}

impl Changer {
    /// Takes the journal, which nobody else may have meanwhile.
    pub(super) fn take(directory: &Path) -> Result<Self, String> {
        if !is_helped() {
            let place = files::journal(directory);
            files::make(&place).map_err(|error| chain(&error))?;
            let journal = Journal::open(&place).map_err(|error| chain(&error))?;
            return Ok(Self::Own(Box::new(journal)));
        }
        Helper::connect(Path::new(HELPER)).map(Self::Helper).map_err(|error| {
            let why = chain(&error);
            format!("this agent is not root, and its helper ({HELPER}) does not answer: {why}")
        })
    }

    /// Makes one change.
    pub(super) fn apply(&mut self, change: &journal::Change) -> Result<Applied, String> {
        match self {
            Self::Own(journal) => journal.apply(change).map_err(|error| chain(&error)),
            Self::Helper(helper) => helper.apply(change).map_err(|error| chain(&error)),
        }
    }
}

/// Answers an agent that is not root, as root, on standard input and output.
pub(crate) fn help(directory: &Path) -> Result<(), Failure> {
    let failed = |source: std::io::Error| Failure::Local {
        what: "the agent is not answered",
        source: source.into(),
    };
    files::make(directory)?;
    let mut journal = Journal::open(directory).map_err(|error| Failure::Failed(chain(&error)))?;
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    helper::serve(input, output, &mut journal).map_err(failed)
}

fn words(change: &journal::Change) -> String {
    use journal::Change as C;
    match change {
        C::Sysctl { key, value } => format!("{key} = {value}"),
        C::WriteFile { path, .. } | C::Symlink { path, .. } | C::Remove { path } => {
            path.to_string()
        }
        C::OnUndo { argv } | C::Run { argv, .. } => argv.join(" "),
    }
}
