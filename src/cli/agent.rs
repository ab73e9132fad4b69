//! Arguments of `crossfade agent`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::IpNet;

use crate::cli::args::Subject;
use crate::cli::follow::controller;
use crate::config::LogFormat;

/// What an agent on a VM does.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Join this VM with a token; the line to paste is printed by `crossfade token create`
    #[command(after_help = "Examples: printf %s cfj1_… | sudo crossfade agent join\n\
        \x20         crossfade agent join --token-file token.txt --yes")]
    Join(Join),
    /// Run the agent: host rules, names, reports. The service unit does this
    #[command(after_help = "Examples: crossfade agent run\n\
        \x20         crossfade agent run --controller 127.0.0.1:7410 --node vm-7")]
    Run(Run),
    /// Show what holds on this VM: token, services, splits, flows, names
    #[command(after_help = "Example: crossfade agent status -o json")]
    Status(Here),
    /// Say that the VM is well after a join; without it the join undoes itself
    #[command(after_help = "Example: crossfade agent confirm")]
    Confirm(Here),
    /// Break-glass: every client of this VM to legacy, with no controller, agent or network
    #[command(after_help = "Examples: crossfade agent rollback --reason 'controller is down'\n\
        \x20         crossfade agent rollback orders\n\
        \x20         crossfade agent rollback --undo\n\
        \x20         nft -f /var/lib/crossfade/agent/rollback.nft")]
    Rollback(Rollback),
    /// Close what is left on the side that lost: TCP clients are reset and come back on the other
    #[command(after_help = "Example: crossfade agent drain orders")]
    Drain(Drain),
    /// Take everything of Crossfade off this VM, whatever state it is in
    #[command(after_help = "Example: crossfade agent leave")]
    Leave(Leave),
    /// Look at this VM: what works, what is chosen, and why
    #[command(after_help = "Example: crossfade agent doctor -o json")]
    Doctor(Doctor),
    /// Put the kernel rules in force that were last on disk; before the network is up
    #[command(hide = true)]
    Restore(Here),
    /// Make the few changes that need root for an agent that is not; a service unit runs this
    #[command(hide = true)]
    HostHelper(Here),
    /// Keep the Envoy running that an agent without root has asked for; a service unit runs this
    #[command(hide = true)]
    Envoy,
}

/// Where an agent keeps what it has.
#[derive(Clone, Debug, Args)]
pub(crate) struct Here {
    /// The agent's directory; default /var/lib/crossfade/agent
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// `crossfade agent join`.
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The file with the token; without it, standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Controllers to join, HOST:PORT, in place of those that the token names
    #[arg(long, value_name = "ADDR", num_args = 1.., value_parser = controller)]
    pub(crate) controller: Vec<String>,
    /// The address that stands for this VM's own processes; default the one towards the controller
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,
    /// Answer names there and leave this VM's resolver as it is; without it the VM is brought to
    /// ask the agent, in the way that leaves the least trace
    #[arg(long, value_name = "ADDR")]
    pub(crate) names: Option<SocketAddr>,
    /// Leave names alone
    #[arg(long, conflicts_with = "names")]
    pub(crate) no_names: bool,
    /// Networks that are never forwarded from this VM's own address: health probes
    #[arg(long, value_name = "CIDR")]
    pub(crate) exempt: Vec<IpNet>,
    /// Run this Envoy beside the agent, and send this VM's own calls to plan addresses through it
    #[arg(long, value_name = "FILE")]
    pub(crate) envoy: Option<PathBuf>,
    /// The user that Envoy runs as
    #[arg(long, value_name = "NAME", default_value = "crossfade-envoy")]
    pub(crate) envoy_user: String,
    /// Do not ask whether the VM is well: it is
    #[arg(long)]
    pub(crate) yes: bool,
    /// Do not start the service; run `crossfade agent run` by other means
    #[arg(long)]
    pub(crate) no_start: bool,
    /// Join although the doctor says that something fails
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) here: Here,
}

/// `crossfade agent run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) here: Here,
    /// Follow this controller without having joined: loopback only
    #[arg(long, value_name = "ADDR", num_args = 1..)]
    pub(crate) controller: Vec<String>,
    /// What it is called among the sinks, where it has not joined
    #[arg(long, value_name = "NAME", requires = "controller")]
    pub(crate) node: Option<String>,
    /// The address that stands for this VM's own processes, where it has not joined
    #[arg(long, value_name = "IP", requires = "controller")]
    pub(crate) address: Option<IpAddr>,
    /// Where names are answered, where it has not joined; without it they are left alone
    #[arg(long, value_name = "ADDR", requires = "controller")]
    pub(crate) names: Option<SocketAddr>,
    /// How the log reads; default text on a terminal, else json
    #[arg(long, value_enum, value_name = "FORMAT", env = "CROSSFADE_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a list such as info,agent=debug
    #[arg(long, value_name = "LEVEL", env = "CROSSFADE_LOG", default_value = "info")]
    pub(crate) log: String,
}

/// `crossfade agent rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The service (`plan/service`, or `service` where unique) or the plan; without it everything
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Option<Subject>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// End it: as the controller says again
    #[arg(long)]
    pub(crate) undo: bool,
    #[command(flatten)]
    pub(crate) here: Here,
}

/// `crossfade agent drain`.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The service (`plan/service`, or `service` where unique) or the plan
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Subject,
    /// Why, for the agent's log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) here: Here,
}

/// `crossfade agent leave`.
#[derive(Debug, Args)]
pub(crate) struct Leave {
    /// Why, for `left.log`
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) here: Here,
}

/// `crossfade agent doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) here: Here,
    /// Where names would be answered; without it the VM would be brought to ask the agent
    #[arg(long, value_name = "ADDR")]
    pub(crate) names: Option<SocketAddr>,
    /// The Envoy that would run
    #[arg(long, value_name = "FILE")]
    pub(crate) envoy: Option<PathBuf>,
    /// A controller to reach, HOST:PORT
    #[arg(long, value_name = "ADDR", value_parser = controller)]
    pub(crate) controller: Option<String>,
}
