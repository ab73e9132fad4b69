//! The command line: arguments as they are typed. What they mean is in `verbs`.

pub(crate) mod agent;
pub(crate) mod args;
pub(crate) mod bootstrap;
pub(crate) mod follow;
pub(crate) mod machines;
pub(crate) mod page;
pub(crate) mod paint;
pub(crate) mod tree;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use plan::{GateName, Override, PlanName, Split};

use crate::cli::args::{ClientArg, Subject, Wait};
pub(crate) use crate::cli::follow::{Dns, Relay};

/// Moves the live traffic of services from legacy VMs to Kubernetes, a percentage at a time, and
/// takes it back in a second.
#[derive(Debug, Parser)]
#[command(name = "crossfade", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage or invalid file, 3 refused by the \
    plan's rules, 4 not converged in time.\n\nStart with: crossfade demo")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The controller: `http://HOST:PORT` or `unix:PATH`. Without it: the socket in the default
    /// data directory, else http://127.0.0.1:7400
    #[arg(long, global = true, value_name = "URL", env = "CROSSFADE_SERVER")]
    pub(crate) server: Option<String>,
    /// Text for people or JSON for scripts
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// How a verb prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

/// One verb a variant; each has a file of its name in `verbs`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the whole product on loopback in a minute, without root
    #[command(after_help = "Examples: crossfade demo --keep\n          crossfade demo --mesh")]
    Demo(Demo),
    /// Run the controller: log, API and DNS in one process
    #[command(after_help = "Example: crossfade serve examples/shop/plan.yaml")]
    Serve(Serve),
    /// Run a DNS server alone, over fixed zone files or following a controller
    #[command(after_help = "Examples: crossfade dns --zone corp.example=corp.example.zone\n\
        \x20         crossfade dns --controller 127.0.0.1:7410 --listen 127.0.0.1:5301")]
    Dns(Dns),
    /// Follow a controller, keep it on disk, and serve the proxies beside it
    #[command(after_help = "Examples: crossfade relay --controller 127.0.0.1:7410\n          \
        printf %s cfj1_… | crossfade relay join")]
    Relay(Relay),
    /// Join this legacy VM, and keep its addresses and names while what is behind them moves
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Print a ready bootstrap for an Envoy or a gRPC library
    #[command(
        after_help = "Examples: crossfade bootstrap envoy --role gateway > envoy.json\n          \
        crossfade bootstrap grpc > grpc.json"
    )]
    Bootstrap(bootstrap::Bootstrap),
    /// Report every error of a plan file at once; start nothing
    #[command(after_help = "Example: crossfade check examples/shop/plan.yaml")]
    Check(PlanFile),
    /// Show what applying a plan file would change; change nothing
    #[command(after_help = "Example: crossfade diff examples/shop/plan.yaml")]
    Diff(PlanFile),
    /// Hand a new or changed plan to the controller
    #[command(after_help = "Example: crossfade apply examples/shop/plan.yaml")]
    Apply(Apply),
    /// List the plans
    #[command(after_help = "Example: crossfade plans -o json")]
    Plans,
    /// Print a plan as the controller has it
    #[command(after_help = "Example: crossfade get shop")]
    Get(OnePlan),
    /// Forget a plan that is retired, or ready at 0 %
    #[command(after_help = "Example: crossfade delete shop")]
    Delete(Change<RequiredPlan>),
    /// Let the plan take its steps by itself
    #[command(after_help = "Example: crossfade start shop --reason 'ticket 4711'")]
    Start(Change<OptionalPlan>),
    /// End the bake of this step and go on to the next
    #[command(after_help = "Example: crossfade step shop --override freeze --reason 'ticket 4711'")]
    Step(Change<Step>),
    /// Move a service, or all of a plan, to a split now
    #[command(after_help = "Examples: crossfade shift orders 25%\n          \
        crossfade shift shop/orders 0.5% --no-wait")]
    Shift(Change<Shift>),
    /// Stand still until an operator acts
    #[command(after_help = "Example: crossfade pause shop")]
    Pause(Change<OptionalPlan>),
    /// Go on after a pause, a shift by hand, or a rollback
    #[command(after_help = "Example: crossfade resume shop --if-revision 42")]
    Resume(Change<OptionalPlan>),
    /// Approve a manual gate
    #[command(after_help = "Example: crossfade approve shop sign-off")]
    Approve(Change<Approve>),
    /// Send every client to legacy, now
    #[command(
        after_help = "Examples: crossfade rollback orders\n          crossfade rollback --all"
    )]
    Rollback(Change<Rollback>),
    /// End a complete plan, after legacy was measured silent
    #[command(after_help = "Example: crossfade retire shop")]
    Retire(Change<RequiredPlan>),
    /// Show intended, acked and measured; why a plan is not moving, and what clears it
    #[command(after_help = "Example: crossfade status shop --watch")]
    Status(Status),
    /// Show who did what to a plan, when and why
    #[command(after_help = "Example: crossfade history shop")]
    History(History),
    /// Check the log
    #[command(after_help = "Example: crossfade audit verify")]
    Audit(Audit),
    /// Show which side a client gets in each plane, and why
    #[command(after_help = "Example: crossfade explain orders --client 192.0.2.7")]
    Explain(Explain),
    /// Show the DNS answer to a name and the reason for it
    #[command(after_help = "Examples: crossfade answer orders.corp.example A --client 192.0.2.7\n\
            \x20         \
        crossfade answer www.corp.example --zone corp.example=corp.example.zone")]
    Answer(Answer),
    /// List every receiver: plane, kind, acked token, lag, last refusal
    #[command(after_help = "Examples: crossfade sinks\n          crossfade sinks forget dns/old")]
    Sinks(Sinks),
    /// Make, list and take back the tokens by which machines join
    #[command(after_help = "Example: crossfade token create vm-1")]
    Token(machines::Token),
    /// List the machines that have joined: state, certificate, when and where they were seen
    #[command(after_help = "Example: crossfade agents -o json")]
    Agents,
    /// Let a machine in no more
    #[command(after_help = "Example: crossfade revoke vm-1 --reason 'disk was stolen'")]
    Revoke(machines::OneMachine),
    /// Read again the files of the plans given to `serve`
    #[command(after_help = "Example: crossfade reload")]
    Reload(ReloadArgs),
    /// Write a verified copy of the log to a file
    #[command(after_help = "Example: crossfade backup crossfade.backup")]
    Backup(Backup),
    /// Put a backup in place of the log, offline; plans come up paused
    #[command(after_help = "Example: crossfade restore crossfade.backup --data /var/lib/crossfade")]
    Restore(Restore),
    /// Print a completion script
    #[command(
        after_help = "Example: crossfade completions bash > /etc/bash_completion.d/crossfade"
    )]
    Completions(Completions),
    /// Write the manual pages into a directory
    #[command(after_help = "Example: crossfade man /usr/local/share/man/man1")]
    Man(Man),
}

/// `crossfade demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave everything running and print commands to try
    #[arg(long)]
    pub(crate) keep: bool,
    /// Put a real Envoy before half of the clients, where one is installed
    #[arg(long)]
    pub(crate) mesh: bool,
    /// The Envoy; without it the `envoy` on the PATH
    #[arg(long, value_name = "FILE", env = "CROSSFADE_ENVOY")]
    pub(crate) envoy: Option<PathBuf>,
}

/// `crossfade serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Plan files, applied at start if new
    #[arg(value_name = "PLAN.yaml")]
    pub(crate) plans: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: crate::config::Flags,
}

/// A plan file.
#[derive(Debug, Args)]
pub(crate) struct PlanFile {
    /// The plan file
    #[arg(value_name = "PLAN.yaml")]
    pub(crate) file: PathBuf,
}

/// `crossfade apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The plan file
    #[arg(value_name = "PLAN.yaml")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) how: How,
}

/// A plan by name.
#[derive(Debug, Args)]
pub(crate) struct OnePlan {
    /// The plan
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PlanName,
}

/// A changing verb: what it changes, and how.
#[derive(Debug, Args)]
pub(crate) struct Change<T: Args> {
    #[command(flatten)]
    pub(crate) what: T,
    #[command(flatten)]
    pub(crate) how: How,
}

/// What every changing verb takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct How {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Only if the plan's revision is still this one
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<u64>,
    /// Wait until converged, for so long at the most
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true,
        default_value = "30s", default_missing_value = "30s", conflicts_with = "no_wait")]
    pub(crate) wait: Wait,
    /// Return once the change is durable
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// A plan that may be left out where there is only one.
#[derive(Debug, Args)]
pub(crate) struct OptionalPlan {
    /// The plan; may be left out where there is only one
    #[arg(value_name = "PLAN")]
    pub(crate) plan: Option<PlanName>,
}

/// A plan that must be named.
#[derive(Debug, Args)]
pub(crate) struct RequiredPlan {
    /// The plan
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PlanName,
}

/// `crossfade step`.
#[derive(Debug, Args)]
pub(crate) struct Step {
    /// The plan; may be left out where there is only one
    #[arg(value_name = "PLAN")]
    pub(crate) plan: Option<PlanName>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// Limits to override.
#[derive(Clone, Debug, Args)]
pub(crate) struct Overrides {
    /// A limit to override: acks, freeze, max-step, sticky, measured or a gate's name; needs
    /// --reason
    #[arg(long = "override", value_name = "NAME", requires = "reason")]
    pub(crate) overrides: Vec<Override>,
}

/// `crossfade shift`.
#[derive(Debug, Args)]
pub(crate) struct Shift {
    /// The service (`plan/service`, or `service` where unique) or the plan
    #[arg(value_name = "SERVICE|PLAN")]
    pub(crate) subject: Subject,
    /// Where to: 25%, 0.01%, 100%
    #[arg(value_name = "PERCENT", allow_hyphen_values = true)]
    pub(crate) split: Split,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// `crossfade approve`.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The plan
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PlanName,
    /// The gate
    #[arg(value_name = "GATE")]
    pub(crate) gate: GateName,
}

/// `crossfade rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The service or the plan; may be left out where there is only one plan
    #[arg(value_name = "SERVICE|PLAN", conflicts_with = "all")]
    pub(crate) subject: Option<Subject>,
    /// All plans, in one revision
    #[arg(long, conflicts_with = "if_revision")]
    pub(crate) all: bool,
}

/// `crossfade status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The plan; without it all of them
    #[arg(value_name = "PLAN")]
    pub(crate) plan: Option<PlanName>,
    /// Follow until interrupted: a live tree on a terminal, a line per change in a pipe
    #[arg(long)]
    pub(crate) watch: bool,
}

/// `crossfade history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The plan
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PlanName,
    /// At most so many of the newest entries
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: u32,
}

/// `crossfade audit`.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) verb: AuditVerb,
}

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Follow the hash chain through every record
    #[command(after_help = "Example: crossfade audit verify")]
    Verify,
}

/// `crossfade explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The service (`plan/service`, or `service` where unique)
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Subject,
    /// The client: an address or a network
    #[arg(long, value_name = "IP[/LEN]")]
    pub(crate) client: Option<ClientArg>,
}

/// `crossfade answer`.
#[derive(Debug, Args)]
pub(crate) struct Answer {
    /// The name asked for
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The type asked for
    #[arg(value_name = "TYPE", default_value = "A")]
    pub(crate) rtype: String,
    /// The client: an address or a network
    #[arg(long, value_name = "IP[/LEN]")]
    pub(crate) client: Option<ClientArg>,
    /// Answer offline from this zone file; several times for several zones
    #[arg(long = "zone", value_name = "ORIGIN=FILE")]
    pub(crate) zones: Vec<args::ZoneFile>,
}

/// `crossfade sinks`.
#[derive(Debug, Args)]
pub(crate) struct Sinks {
    #[command(subcommand)]
    pub(crate) verb: Option<SinksVerb>,
}

/// What can be done with sinks.
#[derive(Debug, Subcommand)]
pub(crate) enum SinksVerb {
    /// Expect these sinks no more
    #[command(after_help = "Example: crossfade sinks forget dns/old edge-7 edge-8")]
    Forget {
        /// The sinks, as `crossfade sinks` names them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
}

/// `crossfade reload`.
#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `crossfade backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Where to; must not exist
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `crossfade restore`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The data directory; no controller may be using it
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// `crossfade completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// The shells that completions are made for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// `crossfade man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where to
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}
