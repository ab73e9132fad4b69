//! `crossfade completions` and `crossfade man`: made from the command line's own description.

use std::fs;
use std::io;

use clap::{Command, CommandFactory as _};

use super::{Exit, Failure};
use crate::cli::{Cli, Completions, Man, Shell, page};

/// Prints a completion script.
pub(crate) fn completions(args: &Completions) -> Result<Exit, Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(&Cli::command()), "crossfade", &mut script);
    page::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// What operators use of a command, as far as a shell completes it: scripts name hidden verbs too,
/// which service units run.
fn shown(command: &Command) -> Command {
    // A command's name is kept for the life of the process, which ends with this verb.
    let name: &'static str = command.get_name().to_owned().leak();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(shown);
    let mut shown = Command::new(name)
        .args(command.get_arguments().cloned())
        .propagate_version(command.is_propagate_version_set())
        .subcommands(verbs);
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if command.get_version().is_some() {
        shown = shown.version(env!("CARGO_PKG_VERSION"));
    }
    shown
}

/// Writes a page a verb.
pub(crate) fn man(args: &Man) -> Result<Exit, Failure> {
    let failed =
        |source: io::Error| Failure::File { what: "write", path: args.dir.clone(), source };
    fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).map_err(failed)?;
    let pages = fs::read_dir(&args.dir).map_err(failed)?.count();
    page::print(&format!("{pages} pages in {}\n", args.dir.display()))?;
    Ok(Exit::Done)
}
