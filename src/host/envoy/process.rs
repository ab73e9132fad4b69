//! Envoy as a process: it is no child that ends with the agent, and one that runs is found again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use agent::envoy::{Arguments, Process, Stat, hand_on_nothing};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::place::Place;

/// How often it is looked whether a process that is no child has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long it has to end by itself.
const END_WITHIN: Duration = Duration::from_secs(5);

/// One that runs.
#[derive(Debug)]
pub(super) enum Running {
    /// Started by this agent.
    Child(Child, Process),
    /// Started by one before it.
    Found(Process),
}

impl Running {
    /// Starts one: in a group of its own, so that signals to the agent's are not for it, and
    /// without any right of the agent's.
    pub(super) fn start(place: &Place, program: &Path) -> io::Result<Self> {
        let mut command = std::process::Command::new(program);
        command
            .args(arguments(place).words())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        if let Some((user, group)) = place.changes_to() {
            command.uid(user).gid(group);
        }
        hand_on_nothing()?;
        let child = Command::from(command).spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let began = stat(pid).map(|stat| stat.began).unwrap_or_default();
        Ok(Self::Child(child, Process { pid, began }))
    }

    /// Which it is.
    pub(super) const fn process(&self) -> Process {
        match self {
            Self::Child(_, process) | Self::Found(process) => *process,
        }
    }

    /// Waits until it has ended; how, if that can be known.
    pub(super) async fn ended(&mut self) -> String {
        match self {
            Self::Child(child, _) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            Self::Found(process) => {
                gone(*process).await;
                "as somebody else's child".to_owned()
            }
        }
    }

    /// Ends it.
    pub(super) async fn end(&mut self) {
        let process = self.process();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            send(process, signal);
            if tokio::time::timeout(END_WITHIN, self.ended()).await.is_ok() {
                return;
            }
        }
    }
}

/// The Envoy of this place that runs already, as this user if one is said.
pub(super) fn find(place: &Place, user: Option<u32>) -> Option<Process> {
    let arguments = arguments(place);
    let here = fs::read_link("/proc/self/ns/net").ok()?;
    let numbers = fs::read_dir("/proc").ok()?.flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|pid| *pid > 1).find_map(|pid| {
        let of = format!("/proc/{pid}");
        let of = Path::new(&of);
        // Of another user it may only be called so.
        let is_its = fs::metadata(of).is_ok_and(|of| user.is_none_or(|user| of.uid() == user));
        let began = is_its && arguments.began(&fs::read(of.join("cmdline")).ok()?);
        if !began || !is_in(&here, of, user.is_some()) {
            return None;
        }
        let stat = stat(pid).filter(|stat| !stat.is_dead)?;
        Some(Process { pid, began: stat.began })
    })
}

/// Whether a process has the same network as this one. Where only root may know, `unseen`: of the
/// user of a unit it is the one that this place was made for.
fn is_in(network: &Path, process: &Path, unseen: bool) -> bool {
    match fs::read_link(process.join("ns/net")) {
        Ok(found) => found == network,
        Err(error) => unseen && error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// Ends the one that runs, if any; whether one did.
pub(super) async fn end(place: &Place) -> bool {
    let Some(process) = find(place, None) else { return false };
    Running::Found(process).end().await;
    true
}

fn arguments(place: &Place) -> Arguments {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Arguments::new(&place.bootstrap(), cores)
}

async fn gone(process: Process) {
    while is_running(process) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_running(process: Process) -> bool {
    stat(process.pid).is_some_and(|stat| !stat.is_dead && stat.began == process.began)
}

fn stat(pid: i32) -> Option<Stat> {
    Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// To this process, and to no other that has its number by now.
fn send(process: Process, signal: Signal) {
    if !is_running(process) {
        return;
    }
    for signal in [signal, Signal::SIGCONT] {
        if let Err(error) = kill(Pid::from_raw(process.pid), signal) {
            tracing::debug!(pid = process.pid, %error, "Envoy has no use for a signal");
        }
    }
}
