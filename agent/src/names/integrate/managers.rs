//! Programs that write `/etc/resolv.conf`: told by their own interfaces.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::env::{Env, Flavour, NetworkManager, Resolvconf};
use super::{Change, Choice, How, LEADS, Unfit, argv, away, not, plain};
use crate::names::upstream::{ResolvConf, resolv};

/// Where NetworkManager says whom it would name.
pub(super) const MANAGER_SERVERS: [&str; 2] =
    ["/run/NetworkManager/no-stub-resolv.conf", "/run/NetworkManager/resolv.conf"];

/// What our file among its own says first: whose it is.
pub(crate) const LEAVES: &str =
    "# Written by crossfade, whose agent names the server in /etc/resolv.conf.\n";

/// The name under which `resolvconf` is told of the stub. Its order has `lo.*` first.
pub(super) const INTERFACE: &str = "lo.crossfade";

/// What `resolvconf` reads.
const TOLD: &str = "/run/crossfade/resolvconf";

pub(super) fn network_manager(env: &Env) -> Result<Choice, Unfit> {
    let Some(manager) = &env.network_manager else { return Err(away("it does not run")) };
    let writes =
        env.is_written_by("NetworkManager") || env.resolv_conf.links_into("run/NetworkManager");
    let unmanaged = matches!(manager.rc_manager.as_deref(), Some("unmanaged"));
    match manager.dns.as_deref() {
        Some("none") => return Err(not("it runs with dns=none")),
        Some("systemd-resolved") => return Err(not("it leaves names to systemd-resolved")),
        _ if unmanaged && env.before.is_none() => {
            return Err(not("it runs with rc-manager=unmanaged"));
        }
        _ if !writes => return Err(not("it runs, but does not write /etc/resolv.conf")),
        _ => {}
    }
    env.needs_writable_etc()?;
    let servers = ResolvConf::parse(manager.servers.as_deref().unwrap_or_default());
    if manager.dns.as_deref() == Some("dnsmasq") {
        dnsmasq(env, &servers)
    } else {
        own(env, manager, &servers)
    }
}

/// Its dnsmasq sends plan names to the stub; everything else goes its way as before.
fn dnsmasq(env: &Env, servers: &ResolvConf) -> Result<Choice, Unfit> {
    let listen = env.with_port()?;
    let mut text = LEADS.to_owned();
    for (name, _) in &env.entries {
        let name = name.trim_end_matches('.');
        text.push_str(&format!("server=/{name}/{}#{}\n", listen.ip(), listen.port()));
    }
    let path = "/etc/NetworkManager/dnsmasq.d/crossfade.conf";
    let reload = argv(&["nmcli", "general", "reload", "dns-full"]);
    Ok(Choice {
        how: How::NetworkManager,
        listen: vec![listen],
        upstreams: env.upstreams(servers, listen)?,
        follow: follow(),
        changes: vec![
            Change::OnUndo { argv: reload.clone() },
            Change::WriteFile { path: path.into(), bytes: text.into_bytes(), mode: 0o644 },
            Change::Run { argv: reload },
        ],
        reason: "NetworkManager's dnsmasq sends names of plans to the stub".to_owned(),
        passed: Vec::new(),
    })
}

/// It leaves the file to us and goes on saying elsewhere whom it would name.
fn own(env: &Env, manager: &NetworkManager, servers: &ResolvConf) -> Result<Choice, Unfit> {
    let listen = env.without_port()?;
    let path = "/etc/NetworkManager/conf.d/90-crossfade.conf";
    let text = format!("{LEAVES}[main]\nrc-manager=unmanaged\n");
    let reload = argv(&["nmcli", "general", "reload"]);
    let said = manager.servers.as_ref().map(|_| servers.clone());
    let write = plain::write(env, &said.unwrap_or_else(|| env.original()))?;
    Ok(Choice {
        how: How::NetworkManager,
        listen: vec![listen],
        upstreams: env.upstreams(servers, listen)?,
        follow: follow(),
        changes: vec![
            Change::OnUndo { argv: reload.clone() },
            Change::WriteFile { path: path.into(), bytes: text.into_bytes(), mode: 0o644 },
            Change::Run { argv: reload },
            write,
        ],
        reason: "NetworkManager leaves /etc/resolv.conf to the agent and tells it the servers"
            .to_owned(),
        passed: Vec::new(),
    })
}

fn follow() -> Vec<PathBuf> {
    MANAGER_SERVERS.iter().map(PathBuf::from).collect()
}

/// Debian's cuts the list of servers after the first loopback address: the stub alone is left.
pub(super) fn resolvconf(env: &Env) -> Result<Choice, Unfit> {
    let program = flavour(env, Flavour::Debian)?;
    let add = format!("exec resolvconf -a {INTERFACE} < {TOLD}");
    told(env, program, How::Resolvconf, &add, "/run/resolvconf/interface")
}

/// openresolv has a word for that: exclusive.
pub(super) fn openresolv(env: &Env) -> Result<Choice, Unfit> {
    let program = flavour(env, Flavour::Openresolv)?;
    let add = format!("exec resolvconf -m 0 -x -a {INTERFACE} < {TOLD}");
    told(env, program, How::Openresolv, &add, "/run/resolvconf/interfaces")
}

fn flavour(env: &Env, wanted: Flavour) -> Result<&Resolvconf, Unfit> {
    let program = env.resolvconf.as_ref().filter(|program| program.flavour == wanted);
    let Some(program) = program else { return Err(away("it is not installed")) };
    let writes = env.is_written_by("resolvconf") || env.resolv_conf.links_into("resolvconf");
    if writes { Ok(program) } else { Err(not("it is installed, but does not write resolv.conf")) }
}

fn told(
    env: &Env,
    program: &Resolvconf,
    how: How,
    add: &str,
    folder: &str,
) -> Result<Choice, Unfit> {
    let listen = env.without_port()?;
    let others = program.interfaces.iter().filter(|(name, _)| name != INTERFACE);
    let others: Vec<u8> = others.flat_map(|(_, said)| [said.as_slice(), b"\n"].concat()).collect();
    let mut text = format!("nameserver {}\n", listen.ip());
    if how == How::Openresolv {
        // Exclusive is everything of others, also what is no server.
        text += &kept(program);
    }
    Ok(Choice {
        how,
        listen: vec![listen],
        upstreams: env.upstreams(&ResolvConf::parse(&others), listen)?,
        // The folder's contents: any name in it will do.
        follow: vec![PathBuf::from(folder).join(INTERFACE)],
        changes: vec![
            Change::WriteFile { path: TOLD.into(), bytes: text.into_bytes(), mode: 0o644 },
            Change::OnUndo { argv: argv(&["resolvconf", "-d", INTERFACE]) },
            Change::Run { argv: argv(&["sh", "-c", add]) },
        ],
        reason: format!("{how} writes /etc/resolv.conf: it is told of the stub"),
        passed: Vec::new(),
    })
}

/// What the others said beside their servers: where short names are looked for, and how. Without
/// words that no resolver knows: openresolv has had the shell read what it is told.
fn kept(program: &Resolvconf) -> String {
    let (mut search, mut options) = (Vec::new(), Vec::new());
    for (_, said) in program.interfaces.iter().filter(|(name, _)| name != INTERFACE) {
        let conf = ResolvConf::parse(said);
        search.extend(conf.search().iter().filter(|word| resolv::is_domain(word)).cloned());
        options.extend(conf.options().filter(|word| resolv::is_option(word)).map(str::to_owned));
    }
    let line = |keyword: &str, words: Vec<String>| {
        let mut seen = BTreeSet::new();
        let words: Vec<String> = words.into_iter().filter(|it| seen.insert(it.clone())).collect();
        if words.is_empty() { String::new() } else { format!("{keyword} {}\n", words.join(" ")) }
    };
    line("search", search) + &line("options", options)
}
