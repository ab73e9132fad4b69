//! `/etc/resolv.conf` itself.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::env::{Env, LOOPBACKS, ResolvFile};
use super::{Change, Choice, How, Unfit, not};
use crate::names::upstream::resolv::Server;
use crate::names::upstream::{ResolvConf, UPSTREAMS_MAX, Upstreams};

/// The file.
pub(super) const PATH: &str = "/etc/resolv.conf";

/// Permissions that the file may have while it is ours, as the helper that writes it holds it to.
const MODE_MOST: u32 = 0o664;

/// Says whose the file is and how to have the other one back.
pub(crate) const MARK: &str =
    "# Written by crossfade. `crossfade agent leave` brings back what was here.\n";

pub(super) fn resolv_conf(env: &Env) -> Result<Choice, Unfit> {
    let listen = env.without_port()?;
    let original = env.original();
    let upstreams = env.upstreams(&original, listen)?;
    may_stand_before(env, &upstreams)?;
    let change = write(env, &original)?;
    Ok(Choice {
        how: How::ResolvConf,
        listen: vec![listen],
        upstreams,
        follow: vec![PathBuf::from(PATH)],
        changes: vec![change],
        reason: "nobody manages /etc/resolv.conf: it names the stub first".to_owned(),
        passed: Vec::new(),
    })
}

/// The file that names the stub and is otherwise as `conf`.
pub(super) fn write(env: &Env, conf: &ResolvConf) -> Result<Change, Unfit> {
    env.needs_writable_etc()?;
    if let ResolvFile::Mounted { .. } = env.resolv_conf {
        return Err(not("/etc/resolv.conf is a mount: no other file can take its place"));
    }
    let listen = env.without_port()?;
    let mut bytes = MARK.as_bytes().to_vec();
    bytes.extend_from_slice(&conf.naming(&servers(listen.ip(), conf)));
    // Everybody reads it, and nobody runs it: the journal knows what its permissions were.
    let mode = env.resolv_conf.mode() & MODE_MOST;
    Ok(Change::WriteFile { path: PATH.into(), bytes, mode })
}

/// The file without our line and without the stub; `None`: it is not of us.
pub(super) fn without_ours(found: &[u8], stub: &[SocketAddr]) -> Option<Vec<u8>> {
    let mark = found.windows(MARK.len()).position(|part| part == MARK.as_bytes())?;
    let (before, rest) = found.split_at_checked(mark)?;
    let others = [before, rest.strip_prefix(MARK.as_bytes())?].concat();
    let conf = ResolvConf::parse(&others);
    let is_stub = |ip: IpAddr| stub.iter().any(|stub| stub.ip() == ip);
    // The first is the stub where it listened when this was written.
    let was_stub = |at: usize, ip: IpAddr| at == 0 && LOOPBACKS.iter().any(|own| *own == ip);
    let servers = conf.nameservers().enumerate();
    let servers = servers.filter(|(at, it)| !is_stub(it.address) && !was_stub(*at, it.address));
    let servers: Vec<Server> = servers.map(|(_, server)| server.clone()).collect();
    Some(conf.naming(&servers))
}

/// The stub, and after it those who were there: an agent that is stopped takes no foreign name
/// along. Where the C library asks them in turn, plan names would be asked of them too.
fn servers(stub: IpAddr, conf: &ResolvConf) -> Vec<Server> {
    let others = conf.nameservers().filter(|server| server.address != stub).cloned();
    let rotates = conf.has_option("rotate");
    let room = if rotates { 0 } else { UPSTREAMS_MAX - 1 };
    std::iter::once(Server::from(stub)).chain(others.take(room)).collect()
}

/// A dnsmasq that takes its servers from `/etc/resolv.conf` would ask the stub, and the stub it.
fn may_stand_before(env: &Env, upstreams: &Upstreams) -> Result<(), Unfit> {
    let Some(config) = &env.dnsmasq else { return Ok(()) };
    let is_here = |ip: IpAddr| ip.is_loopback() || env.addresses.contains(&ip);
    let asks_it = upstreams.servers().iter().any(|server| is_here(server.ip()));
    let reads_elsewhere = config.lines().map(str::trim).any(|line| {
        let file = line.strip_prefix("resolv-file=").map(str::trim);
        line == "no-resolv" || file.is_some_and(|file| file != PATH)
    });
    if asks_it && !reads_elsewhere {
        return Err(not("dnsmasq takes its servers from /etc/resolv.conf: the stub and it would \
                        ask each other"));
    }
    Ok(())
}
