//! Taking everything of Crossfade off this host, whatever state it is in.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use agent::journal::{self, Journal};
use controller::clock::Clock;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access};
use serde::Serialize;

use crate::following;
use crate::host::control::{self, Answer, Question};
use crate::host::envoy;
use crate::host::files;
use crate::host::kernel::Kernel;
use crate::host::names;
use crate::verbs::{Failure, chain};

/// What is left behind: a line of JSON for each time.
pub(crate) const LEFT: &str = "left.log";

/// How long an agent has to end by itself.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was done.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Left {
    /// What the host was called, where that can still be read.
    pub(crate) name: Option<String>,
    /// Whether the controller was told, and expects this host no more.
    pub(crate) told: bool,
    /// Whether an agent ran and was ended.
    pub(crate) ended: bool,
    /// Whether there were rules of ours in the kernel.
    pub(crate) rules: bool,
    /// What was put back, in words.
    pub(crate) undone: Vec<String>,
    /// What others changed meanwhile, and stays as they left it.
    pub(crate) kept: Vec<String>,
    /// What could not be put back; leave can be tried again.
    pub(crate) failed: Vec<String>,
}

/// Ends the agent, takes the rules out, puts back what was changed, and removes what is kept.
/// Begun anew it goes on where it ended.
pub(crate) async fn leave(directory: &Path) -> Result<Left, Failure> {
    let told = control::ask(directory, &Question::Leave).await;
    let told = matches!(told, Ok(Some(Answer::Leaving { told: true })));
    let name = files::settings(directory).ok().flatten().map(|settings| settings.name);
    let mut left = Left { name, told, ended: end_agent(directory).await?, ..Left::default() };
    match Kernel::open().and_then(|mut kernel| kernel.remove()) {
        Ok(were) => left.rules = were,
        Err(error) => left.failed.push(format!("rules in the kernel: {}", chain(&error))),
    }
    // Nothing is redirected to it any more.
    if let Err(error) = envoy::end(directory).await {
        left.failed.push(chain(&error));
    }
    let journal = files::journal(directory);
    if journal != directory && journal.is_dir() {
        undo(&journal, &mut left);
    }
    if directory.is_dir() {
        undo(directory, &mut left);
        take_out(directory, &mut left);
        clear(directory, &mut left);
    }
    Ok(left)
}

/// What of us is in files that others changed, which are theirs now, goes all the same.
fn take_out(directory: &Path, left: &mut Left) {
    for taken in names::take_out(directory) {
        match taken {
            Ok(file) => left.undone.push(format!("{file}: what was ours in it")),
            Err(why) => left.failed.push(why),
        }
    }
}

/// Leaves a line behind, and nothing else.
fn clear(directory: &Path, left: &mut Left) {
    if access(directory, AccessFlags::W_OK) == Err(Errno::EROFS) {
        let directory = directory.display();
        let why = format!(
            "what is kept in {directory}, which is read-only: make it writable, as by \
             `mount -o remount,rw`"
        );
        left.failed.push(why);
        return;
    }
    let mut cleared = write_down(directory, left);
    if left.failed.is_empty() {
        cleared = cleared.and_then(|()| remove_state(directory));
    }
    if let Err(error) = cleared {
        left.failed.push(chain(&error));
    }
}

/// Ends a running agent: by the service manager where it runs there, so that it is not started
/// again.
async fn end_agent(directory: &Path) -> Result<bool, Failure> {
    if Path::new("/run/systemd/system").is_dir() {
        let units = ["crossfade-agent.service", "crossfade-restore.service"];
        let disabled = tokio::process::Command::new("systemctl")
            .args(["disable", "--now", "--quiet"])
            .args(units)
            .output()
            .await;
        if let Err(error) = disabled {
            tracing::debug!(%error, "systemctl does not run");
        }
    }
    if !following::is_taken(directory) {
        return Ok(false);
    }
    let Some(pid) = following::owner(directory) else {
        return Err(Failure::Failed(format!(
            "an agent has {} and does not say which process it is; end it, then leave again",
            directory.display()
        )));
    };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // A stopped process hears neither before it goes on.
        for signal in [signal, Signal::SIGCONT] {
            match kill(Pid::from_raw(pid), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => {
                    return Err(Failure::Failed(format!(
                        "the agent {pid} cannot be ended: {error}"
                    )));
                }
            }
        }
        let gone = async {
            while following::is_taken(directory) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(END_WITHIN, gone).await.is_ok() {
            return Ok(true);
        }
    }
    Err(Failure::Failed(format!("the agent {pid} does not end; leave again when it has")))
}

/// Puts back what was changed on the host.
fn undo(directory: &Path, left: &mut Left) {
    let mut journal = match Journal::open(directory) {
        Ok(journal) => journal,
        Err(error) => return left.failed.push(chain(&error)),
    };
    let journal::Report { undone, kept, failed, .. } = journal.undo();
    left.undone.extend(undone);
    left.kept.extend(kept.iter().map(|kept| format!("{}: {}", kept.what, kept.why)));
    left.failed.extend(failed.iter().map(|failed| format!("{}: {}", failed.what, failed.why)));
}

fn write_down(directory: &Path, left: &Left) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Line<'a> {
        at: plan::Timestamp,
        #[serde(flatten)]
        left: &'a Left,
    }
    let path = directory.join(LEFT);
    let failed = |source| Failure::File { what: "write", path: path.clone(), source };
    let line = Line { at: Clock::start().now(), left };
    let mut text = serde_json::to_vec(&line).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    let mut options = fs::File::options();
    let file = options.append(true).create(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path);
    let written = file.and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    written.map_err(failed)
}

/// Removes what is kept, but for what tells of it: break-glass and leaving.
fn remove_state(directory: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "clear", path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == LEFT || name == crate::glass::FILE {
            continue;
        }
        let is_directory = entry.file_type().map_err(failed)?.is_dir();
        let removed = if is_directory {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}
