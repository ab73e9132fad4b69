//! Arguments of `crossfade token`, `agents` and `revoke`.

use clap::{Args, Subcommand};
use plan::{ServiceId, ServiceName};
use xds::join::MachineName;

use crate::cli::args::{ClientArg, Wait};

/// `crossfade token`.
#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    pub(crate) verb: TokenVerb,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token and print the line to paste on the machine that is to join with it
    #[command(after_help = "Examples: crossfade token create vm-1\n          \
        crossfade token create vm-1 --for 1h --services shop/orders --from 10.0.1.0/24\n          \
        crossfade token create edge-1 --gateway edge")]
    Create(TokenCreate),
    /// List the tokens that wait to be used
    #[command(after_help = "Example: crossfade token list -o json")]
    List,
    /// Take a token back
    #[command(after_help = "Example: crossfade token delete vm-1")]
    Delete(OneMachine),
}

/// `crossfade token create`.
#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// What the machine will be called: lower-case letters, digits, `-` and `.`
    #[arg(value_name = "NAME")]
    pub(crate) name: MachineName,
    /// Make it for a relay at the target's edge, which is this gateway of the plans, not for a VM
    #[arg(long, value_name = "GATEWAY", conflicts_with = "services")]
    pub(crate) gateway: Option<ServiceName>,
    /// How long the token is good, at most 24h
    #[arg(long = "for", value_name = "DURATION", default_value = "15m")]
    pub(crate) life: Wait,
    /// Only these services may be seen by the VM, its agent and its Envoy; without it everything
    /// that is for it
    #[arg(long, value_name = "PLAN/SERVICE", value_delimiter = ',')]
    pub(crate) services: Vec<ServiceId>,
    /// The token can be used from here alone
    #[arg(long, value_name = "CIDR")]
    pub(crate) from: Option<ClientArg>,
    /// Take the name over from the machine of the same kind that has it
    #[arg(long)]
    pub(crate) replace: bool,
    /// Where the machine finds a controller; several times for several. Without it where this
    /// controller listens
    #[arg(long = "controller", value_name = "HOST:PORT")]
    pub(crate) controllers: Vec<String>,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// A machine by its name.
#[derive(Debug, Args)]
pub(crate) struct OneMachine {
    /// The machine, as `crossfade agents` names it
    #[arg(value_name = "NAME")]
    pub(crate) name: MachineName,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}
