//! Changing what is outside of our table and directory, each change written down first: settings of
//! the kernel, and whom this host asks for names. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use agent::doctor::{self, FindSettings, Wishes};
use agent::journal::{self, Applied, Journal};
use agent::names::integrate::Change;

use crate::host::files::{Names, Settings};
use crate::host::names;
use crate::verbs::chain;

/// What was changed, or why not, in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brought {
    /// What was done now.
    pub(crate) done: Vec<String>,
    /// What could not be done.
    pub(crate) failed: Vec<String>,
}

/// Makes this host forward, and ask the stub. What is so already is left alone.
pub(crate) async fn bring(directory: &Path, settings: &Settings) -> Brought {
    let mut brought = Brought::default();
    let mut journal = match Journal::open(directory) {
        Ok(journal) => journal,
        Err(error) => {
            brought.failed.push(chain(&error));
            return brought;
        }
    };
    forward(directory, &mut journal, &mut brought).await;
    if settings.names == Names::Auto {
        ask_us(directory, &mut journal, &mut brought);
    }
    brought
}

async fn forward(directory: &Path, journal: &mut Journal, brought: &mut Brought) {
    let wishes = Wishes { serves_others: true, forwards: true, ..Wishes::default() };
    let find = FindSettings { root: PathBuf::from("/"), data: directory.to_owned(), envoy: None };
    let findings = doctor::find(&find, &wishes).await;
    for change in doctor::chosen_changes(&findings, &wishes) {
        match journal.apply(&change) {
            Ok(Applied::Done) => brought.done.push(words(&change)),
            Ok(Applied::Already) => {}
            Err(error) => brought.failed.push(chain(&error)),
        }
    }
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

fn ask_us(directory: &Path, journal: &mut Journal, brought: &mut Brought) {
    let choice = match names::choose(directory, &[]) {
        Ok((choice, _)) => choice,
        Err(why) => return brought.failed.push(why),
    };
    for change in &choice.changes {
        let applied = match change {
            Change::WriteFile { path, bytes, mode } => {
                journal.write_file(path, bytes, *mode).map_err(|error| chain(&error))
            }
            Change::OnUndo { argv } => {
                let words: Vec<&str> = argv.iter().map(String::as_str).collect();
                journal.on_undo(&words).map_err(|error| chain(&error))
            }
            Change::Run { argv } => run(argv).map(|()| Applied::Already),
        };
        match (applied, change) {
            (Ok(Applied::Done), Change::WriteFile { path, .. }) => {
                brought.done.push(format!("{} ({})", path.display(), choice.how));
            }
            (Ok(_), _) => {}
            (Err(why), _) => {
                brought.failed.push(why);
                return;
            }
        }
    }
}

fn run(argv: &[String]) -> Result<(), String> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
    let words = argv.join(" ");
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("`{words}` failed: {}", said.trim()))
        }
        Err(error) => Err(format!("`{words}` does not run: {error}")),
    }
}
