//! A block of `/etc/hosts`: the last way, because it holds addresses and asks nobody.

use super::env::Env;
use super::{Change, Choice, How, Unfit, not};
use crate::names::upstream::resolv::is_name;

/// The file.
pub(super) const PATH: &str = "/etc/hosts";

/// First line of the block.
pub(crate) const BEGIN: &str = "# Begin of what crossfade wrote\n";

/// Last line of the block.
pub(crate) const END: &str = "# End of what crossfade wrote\n";

pub(super) fn block(env: &Env) -> Result<Choice, Unfit> {
    env.needs_writable_etc()?;
    let Some(hosts) = &env.hosts else {
        return Err(not("/etc/hosts is missing, or a mount whose place no file can take"));
    };
    let listen = env.with_port()?;
    let stands = without_ours(hosts).is_some();
    Ok(Choice {
        how: How::Hosts,
        listen: vec![listen],
        upstreams: env.upstreams_beside(&env.original(), listen, stands)?,
        follow: Vec::new(),
        changes: vec![Change::WriteFile {
            path: PATH.into(),
            bytes: with_block(hosts, env),
            mode: 0o644,
        }],
        reason: "no resolver of this host can be led to the stub: addresses stand in /etc/hosts, \
                 and every change of the plan writes them again"
            .to_owned(),
        passed: Vec::new(),
    })
}

/// The file without the block; `None`: it has none.
pub(super) fn without_ours(hosts: &[u8]) -> Option<Vec<u8>> {
    let others = others(hosts);
    (others != hosts).then_some(others)
}

/// The file with the block in place of an older one, else before all else: the C library takes the
/// first line that has the name. Without names there is no block.
fn with_block(hosts: &[u8], env: &Env) -> Vec<u8> {
    if env.entries.is_empty() {
        return others(hosts);
    }
    let mut out = BEGIN.as_bytes().to_vec();
    let entries = env.entries.iter().map(|(name, told)| (name.trim_end_matches('.'), told));
    for (name, addresses) in entries.filter(|(name, _)| may_stand(name)) {
        for address in addresses {
            out.extend_from_slice(format!("{address} {name}\n").as_bytes());
        }
    }
    out.extend_from_slice(END.as_bytes());
    out.extend(others(hosts));
    out
}

/// Whether this name can stand in the block. Nobody but this host is `localhost` (RFC 6761 section
/// 6.3), and who asks for it trusts that.
pub(crate) fn may_stand(name: &str) -> bool {
    let is_local =
        name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"));
    is_name(name) && !is_local
}

/// What is not in the block.
fn others(hosts: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut inside = false;
    for line in hosts.split_inclusive(|octet| *octet == b'\n') {
        inside |= line == BEGIN.as_bytes();
        if !inside {
            out.extend_from_slice(line);
        }
        inside &= line != END.as_bytes();
    }
    out
}
