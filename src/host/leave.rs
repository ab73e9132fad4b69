//! Taking everything of Crossfade off this host, whatever state it is in.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use agent::dataplane::DataplaneError;
use agent::journal::{Failed, Report, Taken};
use controller::clock::Clock;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access};
use serde::Serialize;

use crate::disk;
use crate::following::{self, Place};
use crate::host::changes;
use crate::host::control::{self, Answer, Question};
use crate::host::envoy;
use crate::host::files;
use crate::host::kernel::{Kernel, Removed};
use crate::host::names;
use crate::host::survey;
use crate::host::world::World;
use crate::verbs::{Failure, chain};

/// What is left behind: a line of JSON for each time.
pub(crate) const LEFT: &str = "left.log";

/// How long an agent has to end by itself.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How many agents are ended: a loop of somebody's may start one anew before we have its directory.
const AGENTS_MAX: u32 = 5;

/// What was done.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Left {
    /// What the host was called, where that can still be read.
    pub(crate) name: Option<String>,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
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

impl Left {
    /// Whether nothing of an agent was found.
    pub(crate) fn is_nothing(&self) -> bool {
        let Self { name, reason: _, told, ended, rules, undone, kept, failed } = self;
        let lists = [undone, kept, failed];
        name.is_none() && !(*told || *ended || *rules) && lists.iter().all(|list| list.is_empty())
    }

    fn take(&mut self, report: Report, taken: Taken) {
        let words = |failed: Failed| format!("{}: {}", failed.what, failed.why);
        self.undone.extend(report.undone);
        let theirs = taken.files.iter().map(|file| format!("{file}: what was ours in it"));
        self.undone.extend(theirs);
        self.kept.extend(report.kept.iter().map(|kept| format!("{}: {}", kept.what, kept.why)));
        self.failed.extend(report.failed.into_iter().chain(taken.failed).map(words));
    }
}

/// Ends the agent, takes the rules out, puts back what was changed, and removes what is kept.
/// Begun anew it goes on where it ended.
pub(crate) async fn leave(directory: &Path, reason: Option<String>) -> Result<Left, Failure> {
    let told = control::ask(directory, &Question::Leave).await;
    let told = matches!(told, Ok(Some(Answer::Leaving { told: true })));
    let (ended, place) = end_agents(directory).await?;
    let mut left = Left { reason, told, ended, ..Left::default() };
    left.name = files::settings(directory).ok().flatten().map(|settings| settings.name);
    let mut kernel = Kernel::open().map_err(|error| chain(&error));
    take_off(directory, &mut kernel, &mut left).await;
    if directory.is_dir() {
        clear(directory, &mut left);
    }
    drop(place);
    Ok(left)
}

/// Takes everything off this host but what is kept in the directory, which this process has.
pub(super) async fn take_off(
    directory: &Path,
    kernel: &mut Result<Kernel, String>,
    left: &mut Left,
) {
    let removed = match kernel {
        Ok(kernel) => kernel.remove(),
        Err(why) => Removed { stays: vec![why.clone()], ..Removed::default() },
    };
    // Who is sent on by rules that stay needs the host to forward.
    let keep_settings = !removed.stays.is_empty();
    if let (Ok(kernel), false) = (kernel, keep_settings)
        && let Err(why) = end_flows(directory, kernel)
    {
        left.failed.push(why);
    }
    left.rules |= removed.were;
    left.failed.extend(removed.stays.iter().map(|why| format!("rules in the kernel: {why}")));
    left.kept.extend(removed.others);
    // Nothing is redirected to it any more.
    if let Err(error) = envoy::end(directory).await {
        left.failed.push(chain(&error));
    }
    let stub = names::listening(directory);
    match tokio::task::block_in_place(|| changes::undo(directory, &stub, keep_settings)) {
        Ok((report, taken)) => left.take(report, taken),
        Err(why) => left.failed.push(why),
    }
}

/// Ends what the rules sent on while they stood: where any other program translates, the kernel
/// goes on doing it for flows that have begun, and nobody forwards them any more.
fn end_flows(directory: &Path, kernel: &mut Kernel) -> Result<(), String> {
    // What cannot be read any more is known by its marks alone.
    let world = World::read(directory).unwrap_or_else(|error| {
        tracing::warn!(why = %chain(&error), "flows are ended by their marks alone");
        World::new(survey::kept(directory, None), files::marks(directory))
    });
    match kernel.try_forget(&world.sent_on()) {
        Ok(()) => Ok(()),
        // It has no list of flows, or none that we may see.
        Err(DataplaneError::NotSupported(_) | DataplaneError::Refused { .. }) => Ok(()),
        Err(error) => Err(format!("flows that were sent on: {}", chain(&error))),
    }
}

/// Leaves a line behind, and nothing else.
pub(super) fn clear(directory: &Path, left: &mut Left) {
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

/// Ends what runs, and has its directory then: whoever starts an agent anew does so in vain.
async fn end_agents(directory: &Path) -> Result<(bool, Option<Place>), Failure> {
    stop_units().await;
    let mut ended = false;
    for again in (0..AGENTS_MAX).rev() {
        ended |= end_agent(directory).await?;
        if !directory.is_dir() {
            return Ok((ended, None));
        }
        match following::take(directory.to_owned()) {
            Ok(place) => return Ok((ended, Some(place))),
            Err(_) if again > 0 && following::is_taken(directory) => {}
            Err(error) if following::is_taken(directory) => return Err(error),
            // What is there is no lock, or cannot be opened: whatever state the host is in.
            Err(error) => {
                tracing::warn!(why = %chain(&error), "an agent may be started meanwhile");
                return Ok((ended, None));
            }
        }
    }
    Ok((ended, None))
}

/// By the service manager where it runs there, so that it is not started again, and what is kept
/// for it goes: the socket that owns the table, and those of names.
async fn stop_units() {
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let agent = "crossfade-agent.service";
    let disable: &[&str] = &["disable", "--now", "--quiet", agent, "crossfade-restore.service"];
    // Known to systemd 254, which is also the first to keep them for a unit that is stopped.
    let clean: &[&str] = &["clean", "--what=fdstore", agent];
    for words in [disable, clean] {
        if let Err(error) = tokio::process::Command::new("systemctl").args(words).output().await {
            tracing::debug!(%error, "systemctl does not run");
        }
    }
}

/// Ends a running agent.
async fn end_agent(directory: &Path) -> Result<bool, Failure> {
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
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        // No log of ours.
        remove(&path).map_err(failed)?;
    }
    let file = disk::plain(fs::File::options().append(true).create(true), &path);
    let written = file.and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    written.map_err(failed)
}

/// Removes what is kept, but for what tells of it: break-glass and leaving. First what makes this a
/// host that has joined, and the lock last: whoever starts an agent meanwhile is refused.
fn remove_state(directory: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "clear", path: directory.to_owned(), source };
    let stays = [LEFT, crate::glass::FILE, files::SETTINGS, following::LOCK];
    remove(&directory.join(files::SETTINGS)).map_err(failed)?;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !stays.iter().any(|name| entry.file_name() == *name) {
            remove(&entry.path()).map_err(failed)?;
        }
    }
    remove(&directory.join(following::LOCK)).map_err(failed)
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
