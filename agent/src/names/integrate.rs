//! How this host is brought to ask the stub: the way that leaves the least trace.
//!
//! | way | where | asks the stub for | gone after |
//! |---|---|---|---|
//! | [`How::Delegate`] | systemd-resolved from 258 | plan names | a reboot |
//! | [`How::DropIn`] | systemd-resolved before | plan names, others too | a reboot |
//! | [`How::NetworkManager`] | its dnsmasq, or resolv.conf | plan names, or all | undoing |
//! | [`How::Resolvconf`], [`How::Openresolv`] | who writes resolv.conf | all | undoing |
//! | [`How::ResolvConf`] | nobody writes it | all | undoing |
//! | [`How::Hosts`] | nothing else works | nothing: addresses stand in the file | undoing |
//!
//! The decision is pure: [`Env`] holds all that it depends on, [`Choice`] all that is to be done.
//! Nothing is written here.

mod env;
mod hosts;
mod managers;
mod plain;
mod read;
mod resolved;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use self::hosts::{BEGIN, END, may_stand};
pub(crate) use self::managers::LEAVES;
pub(crate) use self::plain::MARK;

pub use self::env::{Access, Env, Flavour, NetworkManager, ResolvFile, Resolvconf, Resolved};
pub use self::read::Standing;
use super::upstream::{NoUpstream, Upstreams};

/// A way to bring the host to ask the stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum How {
    /// `*.dns-delegate` of systemd-resolved: only plan names come.
    Delegate,
    /// A drop-in of `resolved.conf`: a global server that plan names are routed to.
    DropIn,
    /// NetworkManager's own interfaces.
    NetworkManager,
    /// `resolvconf` of Debian.
    Resolvconf,
    /// `resolvconf` of openresolv.
    Openresolv,
    /// `/etc/resolv.conf` itself.
    ResolvConf,
    /// A block of `/etc/hosts`.
    Hosts,
}

impl How {
    /// Every way, that with the least trace first.
    pub const ALL: [Self; 7] = [
        Self::Delegate,
        Self::DropIn,
        Self::NetworkManager,
        Self::Resolvconf,
        Self::Openresolv,
        Self::ResolvConf,
        Self::Hosts,
    ];

    fn fit(self, env: &Env) -> Result<Choice, Unfit> {
        match self {
            Self::Delegate => resolved::delegate(env),
            Self::DropIn => resolved::drop_in(env),
            Self::NetworkManager => managers::network_manager(env),
            Self::Resolvconf => managers::resolvconf(env),
            Self::Openresolv => managers::openresolv(env),
            Self::ResolvConf => plain::resolv_conf(env),
            Self::Hosts => hosts::block(env),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delegate => "systemd-resolved, by delegation",
            Self::DropIn => "systemd-resolved, by drop-in",
            Self::NetworkManager => "NetworkManager",
            Self::Resolvconf => "resolvconf",
            Self::Openresolv => "openresolv",
            Self::ResolvConf => "/etc/resolv.conf",
            Self::Hosts => "/etc/hosts",
        })
    }
}

/// One step, in the order to do them; undone in the other order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file with these bytes in place of what is there, which may be a link or nothing.
    WriteFile {
        /// Where, below the root of the host.
        path: PathBuf,
        /// What.
        bytes: Vec<u8>,
        /// Permissions.
        mode: u32,
    },
    /// Nothing now; a command to run once all that follows is undone.
    OnUndo {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// A command to run.
    Run {
        /// The program and its arguments.
        argv: Vec<String>,
    },
}

/// What is to be done on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The way.
    pub how: How,
    /// Where the stub must listen for it.
    pub listen: Vec<SocketAddr>,
    /// Whom the stub asks.
    pub upstreams: Upstreams,
    /// Files that tell when those change.
    pub follow: Vec<PathBuf>,
    /// The steps.
    pub changes: Vec<Change>,
    /// Why this way.
    pub reason: String,
    /// The ways before it and why each does not work here.
    pub passed: Vec<Passed>,
}

/// A way that does not work here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The way.
    pub how: How,
    /// Why.
    pub why: String,
}

/// No way works on this host; it stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("names of this host cannot be served: {}", told(passed))]
pub struct Refused {
    /// Each way and why it does not work.
    pub passed: Vec<Passed>,
}

fn told(passed: &[Passed]) -> String {
    let ways: Vec<String> = passed.iter().map(|it| format!("{}: {}", it.how, it.why)).collect();
    ways.join("; ")
}

/// Why a way does not work here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    /// Its program is not there, as while it restarts.
    #[error("{0}")]
    Away(String),
    #[error("{0}")]
    Not(String),
    #[error("nobody to ask for foreign names: {0}")]
    Upstream(#[from] NoUpstream),
}

fn not(why: impl Into<String>) -> Unfit {
    Unfit::Not(why.into())
}

fn away(why: impl Into<String>) -> Unfit {
    Unfit::Away(why.into())
}

/// Chooses the way with the least trace that works here.
///
/// # Errors
/// When none works, with the reason of each.
pub fn decide(env: &Env) -> Result<Choice, Refused> {
    first(|how| how.fit(env))
}

/// The same while the stub runs: of the ways for which it may stay where it listens.
///
/// # Errors
/// As [`decide`].
pub fn decide_in_place(env: &Env) -> Result<Choice, Refused> {
    first(|how| how.fit(env).and_then(|choice| in_place(choice, env)))
}

/// The way that was chosen once more: other names, or other servers.
///
/// # Errors
/// It does not work now.
pub fn again(env: &Env, how: How) -> Result<Choice, Lapsed> {
    how.fit(env).and_then(|choice| in_place(choice, env)).map_err(|why| Lapsed {
        how,
        is_away: matches!(why, Unfit::Away(_) | Unfit::Upstream(_)),
        why: why.to_string(),
    })
}

/// A way that was chosen and does not work now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{how}: {why}")]
pub struct Lapsed {
    /// The way.
    pub how: How,
    /// It may come back by itself: its program is away, or says for now that there is nobody to
    /// ask. Else its program is there and set up otherwise.
    pub is_away: bool,
    /// In words.
    pub why: String,
}

fn first(fit: impl Fn(How) -> Result<Choice, Unfit>) -> Result<Choice, Refused> {
    let mut passed = Vec::new();
    for how in How::ALL {
        match fit(how) {
            Ok(choice) => return Ok(Choice { passed, ..choice }),
            Err(why) => passed.push(Passed { how, why: why.to_string() }),
        }
    }
    Err(Refused { passed })
}

/// The stub takes other addresses only when it starts: queries wait in those that it has.
fn in_place(choice: Choice, env: &Env) -> Result<Choice, Unfit> {
    if choice.listen == env.own {
        return Ok(choice);
    }
    let at: Vec<String> = choice.listen.iter().map(SocketAddr::to_string).collect();
    Err(not(format!("the agent would have to answer on {}", at.join(", "))))
}

/// What others made of a file of ours, without what is ours in it; `None`: nothing is. `stub` are
/// the addresses of the stub.
#[must_use]
pub fn without_ours(path: &Path, found: &[u8], stub: &[SocketAddr]) -> Option<Vec<u8>> {
    if path == Path::new(plain::PATH) {
        plain::without_ours(found, stub)
    } else if path == Path::new(hosts::PATH) {
        hosts::without_ours(found)
    } else {
        None
    }
}

/// Where others say what they would write at a path, if they wrote it.
pub(crate) fn said_elsewhere(path: &Path) -> &'static [&'static str] {
    if path == Path::new(plain::PATH) { &managers::MANAGER_SERVERS } else { &[] }
}

/// What the files say that only lead names of plans to the agent: whose they are.
pub(crate) const LEADS: &str =
    "# Written by crossfade: names of its plans are asked of its agent.\n";

/// The files of others in which something of ours can stand.
pub const SHARED: [&str; 2] = [plain::PATH, hosts::PATH];

/// A command without a shell.
fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
