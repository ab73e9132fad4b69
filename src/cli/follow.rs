//! Arguments of what follows a controller: DNS replicas and relays.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

use crate::cli::args::{self, Subject};
use crate::config::LogFormat;

/// `crossfade dns`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Dns {
    #[command(subcommand)]
    pub(crate) verb: Option<DnsVerb>,
    /// A zone and its file; several times for several zones
    #[arg(
        long = "zone",
        value_name = "ORIGIN=FILE",
        required_unless_present = "controller",
        conflicts_with = "controller"
    )]
    pub(crate) zones: Vec<args::ZoneFile>,
    /// Where to answer, UDP and TCP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5300")]
    pub(crate) listen: SocketAddr,
    /// Answering threads; without it one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) dns_threads: Option<u16>,
    /// Follow this controller instead of files, HOST:PORT of its xDS server; several for several
    #[arg(long, value_name = "ADDR", num_args = 1..)]
    pub(crate) controller: Vec<String>,
    #[command(flatten)]
    pub(crate) following: Following,
}

/// How a controller is followed.
#[derive(Clone, Debug, Args)]
pub(crate) struct Following {
    /// Where what is held is kept; default a directory of its own beside the controller's
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// What it is called among the sinks; default the host's name
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Who may sign the controller's certificate, PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    pub(crate) tls_ca: Option<PathBuf>,
    /// The certificate shown to the controller, PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_cert"])]
    pub(crate) tls_key: Option<PathBuf>,
    /// How the log reads; default text on a terminal, else json
    #[arg(long, value_enum, value_name = "FORMAT", env = "CROSSFADE_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a list such as info,dns=debug
    #[arg(long, value_name = "LEVEL", env = "CROSSFADE_LOG", default_value = "info")]
    pub(crate) log: String,
}

/// What can be done with a replica.
#[derive(Debug, Subcommand)]
pub(crate) enum DnsVerb {
    /// Break-glass: answer legacy here, with no controller; it is told when it is back
    #[command(after_help = "Examples: crossfade dns rollback --data /var/lib/crossfade/dns\n\
        \x20         crossfade dns rollback orders --reason 'controller is down'\n\
        \x20         crossfade dns rollback --undo")]
    Rollback(BreakGlass),
}

/// `crossfade dns rollback`.
#[derive(Debug, Args)]
pub(crate) struct BreakGlass {
    /// The service (`plan/service`, or `service` where unique) or the plan; without it everything
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Option<Subject>,
    /// The replica's directory; default as for `crossfade dns --controller`
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// End it: answer again as the controller says
    #[arg(long)]
    pub(crate) undo: bool,
}

/// `crossfade relay`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Relay {
    #[command(subcommand)]
    pub(crate) verb: Option<RelayVerb>,
    /// Whom to follow, HOST:PORT of its xDS server; several for several controllers. Without it
    /// those that it joined
    #[arg(long, value_name = "ADDR", num_args = 1..)]
    pub(crate) controller: Vec<String>,
    /// Where proxies beside it are served, IP:PORT or unix:FILE; default 127.0.0.1:7411, or the
    /// socket xds.sock in its directory where it has joined
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<At>,
    /// What the proxies beside it are: gateway, sidecar, catch or grpc; default sidecar, or catch
    /// where it has joined
    #[arg(long, value_name = "ROLE", value_parser = ["gateway", "sidecar", "catch", "grpc"])]
    pub(crate) role: Option<String>,
    /// Where their listeners bind; default all addresses
    #[arg(long, value_name = "ADDR")]
    pub(crate) bind: Option<std::net::IpAddr>,
    /// Where connections that were captured for sidecars arrive; default 127.0.0.1:15001
    #[arg(long, value_name = "ADDR")]
    pub(crate) capture: Option<SocketAddr>,
    /// Which of the plans' gateways they are; what it joined as says it too
    #[arg(long, value_name = "NAME")]
    pub(crate) gateway: Option<plan::ServiceName>,
    #[command(flatten)]
    pub(crate) following: Following,
}

/// What else a relay does.
#[derive(Debug, Subcommand)]
pub(crate) enum RelayVerb {
    /// Make this relay a gateway of the plans, with a certificate that it hands to the Envoy beside
    /// it
    #[command(after_help = "Examples: printf %s cfj1_… | crossfade relay join\n\
        \x20         crossfade relay join --token-file token.txt --data /var/lib/crossfade/relay\n\
        \n\
        The token is made at the controller: crossfade token create NAME --gateway GATEWAY\n\
        Then start it: crossfade relay --data DIR")]
    Join(RelayJoin),
}

/// `crossfade relay join`.
#[derive(Debug, Args)]
pub(crate) struct RelayJoin {
    /// The file with the token; without it, standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Controllers to join, HOST:PORT, in place of those that the token names
    #[arg(long, value_name = "ADDR", num_args = 1.., value_parser = controller)]
    pub(crate) controller: Vec<String>,
    /// The relay's directory; default one beside the controller's
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// An address of a controller, before anything is done with it.
pub(crate) fn controller(text: &str) -> Result<String, String> {
    xds::follow::dial::check(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Where a relay serves the proxies of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// On loopback, whoever is on this host.
    Loopback(SocketAddr),
    /// On a socket of the file system, whoever may open it.
    Socket(PathBuf),
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("write unix:FILE".to_owned()),
                path => Ok(Self::Socket(path.into())),
            };
        }
        let address: SocketAddr =
            text.parse().map_err(|_| "write IP:PORT, or unix:FILE".to_owned())?;
        if address.ip().is_loopback() {
            return Ok(Self::Loopback(address));
        }
        Err("a relay serves the proxies of its own host, on loopback alone; listen on 127.0.0.1, \
             or let the others follow a controller with certificates"
            .to_owned())
    }
}
