//! systemd-resolved: files in `/run`, which are gone after a reboot.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::env::{Env, Resolved};
use super::{Change, Choice, How, LEADS, Unfit, argv, away, not};
use crate::names::upstream::{RESOLVED_STUBS, ResolvConf};

/// The first version with `*.dns-delegate` (systemd.dns-delegate(5)).
const DELEGATES: u32 = 258;

/// The first version whose `DNS=` takes a port (resolved.conf(5)).
const PORTS: u32 = 246;

/// Most domains that are named one by one: systemd-resolved takes 256 in all, and others may have
/// some too.
pub(super) const DOMAINS_MAX: usize = 200;

/// Our drop-in: the last in the order in which they count.
pub(super) const RESOLVED_DROP_IN: &str = "run/systemd/resolved.conf.d/99-crossfade.conf";

/// Whom systemd-resolved asks, and where it is set up: any name in a folder will do.
const FOLLOW: [&str; 3] = [
    "/run/systemd/resolve/resolv.conf",
    "/etc/systemd/resolved.conf",
    "/etc/systemd/resolved.conf.d/crossfade.conf",
];

/// Only plan names come to the stub.
pub(super) fn delegate(env: &Env) -> Result<Choice, Unfit> {
    let resolved = in_plain_use(env)?;
    match resolved.version {
        Some(DELEGATES..) => {}
        Some(version) => return Err(not(format!("systemd {version} is older than 258"))),
        None => return Err(not("the version of systemd cannot be told")),
    }
    let listen = env.with_port()?;
    let text =
        format!("{LEADS}[Delegate]\nDNS={listen}\nDomains={}\nDefaultRoute=no\n", domains(env));
    let path = "/run/systemd/dns-delegate.d/crossfade.dns-delegate";
    let reason = "systemd-resolved delegates names: only those of plans come to the stub";
    choice(env, resolved, How::Delegate, listen, (path, text), reason.to_owned())
}

/// The stub is a global server, to which plan names are routed. Others may come too.
pub(super) fn drop_in(env: &Env) -> Result<Choice, Unfit> {
    let resolved = in_plain_use(env)?;
    let takes_ports = resolved.version.is_some_and(|version| version >= PORTS);
    let listen = if takes_ports { env.with_port()? } else { env.without_port()? };
    let server = if takes_ports { listen.to_string() } else { listen.ip().to_string() };
    // Servers of one list are asked in turn, whatever name: those of others are behind the stub.
    let text = format!("{LEADS}[Resolve]\nDNS=\nDNS={server}\nDomains={}\n", domains(env));
    let path = &format!("/{RESOLVED_DROP_IN}");
    let reason = "systemd-resolved routes names: those of plans come to the stub";
    choice(env, resolved, How::DropIn, listen, (path, text), reason.to_owned())
}

fn choice(
    env: &Env,
    resolved: &Resolved,
    how: How,
    listen: SocketAddr,
    (path, text): (&str, String),
    reason: String,
) -> Result<Choice, Unfit> {
    let mut uplinks = resolved.uplinks.clone().unwrap_or_default();
    for server in &resolved.servers {
        uplinks.extend(format!("\nnameserver {server}").bytes());
    }
    let uplinks = ResolvConf::parse(&uplinks);
    // Not waited for: systemd starts it after the agent has stopped, which may be stopping now and
    // waits for this.
    let reload =
        argv(&["systemctl", "--no-block", "try-reload-or-restart", "systemd-resolved.service"]);
    Ok(Choice {
        how,
        listen: vec![listen],
        upstreams: env.upstreams(&uplinks, listen)?,
        follow: FOLLOW.iter().map(PathBuf::from).collect(),
        changes: vec![
            Change::OnUndo { argv: reload.clone() },
            Change::WriteFile { path: path.into(), bytes: text.into_bytes(), mode: 0o644 },
            Change::Run { argv: reload },
        ],
        reason,
        passed: Vec::new(),
    })
}

/// The same, if it asks as plainly as the stub answers: what it wants of its servers it wants of
/// the stub, which speaks no TLS and signs nothing. Names that went to servers of its own by TLS
/// would leave in the clear besides.
fn in_plain_use(env: &Env) -> Result<&Resolved, Unfit> {
    let resolved = in_use(env)?;
    match &resolved.wants {
        None => Ok(resolved),
        Some(wants) => {
            Err(not(format!("it runs with {wants}, which it would want of the stub too")))
        }
    }
}

/// systemd-resolved, if processes of this host ask it: through its module for the C library, or
/// because resolv.conf names nobody else. That it runs, or that resolv.conf says who wrote it, is
/// no proof.
fn in_use(env: &Env) -> Result<&Resolved, Unfit> {
    let Some(resolved) = &env.resolved else { return Err(away("it does not run")) };
    let conf = env.original();
    let mut servers = conf.nameservers().peekable();
    let is_named =
        servers.peek().is_some() && servers.all(|server| RESOLVED_STUBS.contains(&server.address));
    if is_named || env.nsswitch.as_deref().is_some_and(asks_resolve_first) {
        return Ok(resolved);
    }
    Err(not("it runs, but neither nsswitch.conf nor resolv.conf leads to it"))
}

/// Whether `hosts:` has `resolve` and not `dns` before it.
fn asks_resolve_first(nsswitch: &str) -> bool {
    let mut lines = nsswitch.lines().filter_map(|line| line.trim_start().strip_prefix("hosts:"));
    let Some(sources) = lines.next_back() else { return false };
    let sources = sources.split('#').next().unwrap_or_default();
    let mut sources = sources.split_ascii_whitespace();
    sources.find(|source| matches!(*source, "resolve" | "dns")) == Some("resolve")
}

/// Routing domains: each name where that is not too many, else what stands above them, else all.
fn domains(env: &Env) -> String {
    let route = |names: &[&str]| {
        let routes: Vec<String> = names.iter().map(|name| format!("~{name}")).collect();
        routes.join(" ")
    };
    let mut names: Vec<&str> =
        env.entries.iter().map(|(name, _)| name.trim_end_matches('.')).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() <= DOMAINS_MAX {
        return route(&names);
    }
    let mut above: Vec<&str> =
        names.iter().map(|name| name.split_once('.').map_or(".", |(_, above)| above)).collect();
    above.sort_unstable();
    above.dedup();
    if above.len() <= DOMAINS_MAX { route(&above) } else { route(&["."]) }
}
