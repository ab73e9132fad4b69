//! What the files may say that an agent has written. Programs that run as root read them, and some
//! would run what they name, or read a line otherwise than we do. So a line is one that this
//! product writes, letter by letter, or one that others wrote into the same file.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::names::integrate::{self, BEGIN, END, LEADS, LEAVES, MARK};
use crate::names::upstream::ResolvConf;
use crate::names::upstream::resolv::{Server, is_domain, is_name, is_option};

/// What permissions `/etc/resolv.conf` may have: nobody runs it, and not everybody writes it.
const MODE_MOST: u32 = 0o664;

/// The permissions of all others.
const MODE: u32 = 0o644;

/// A file that an agent may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    ResolvConf,
    Hosts,
    Resolvconf,
    Manager,
    Dnsmasq,
    DropIn,
    Delegate,
}

impl File {
    pub(super) const ALL: [Self; 7] = [
        Self::ResolvConf,
        Self::Hosts,
        Self::Resolvconf,
        Self::Manager,
        Self::Dnsmasq,
        Self::DropIn,
        Self::Delegate,
    ];

    pub(super) fn at(path: &Path) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.path() == path)
    }

    pub(super) fn path(self) -> &'static Path {
        Path::new(match self {
            Self::ResolvConf => "/etc/resolv.conf",
            Self::Hosts => "/etc/hosts",
            Self::Resolvconf => "/run/crossfade/resolvconf",
            Self::Manager => "/etc/NetworkManager/conf.d/90-crossfade.conf",
            Self::Dnsmasq => "/etc/NetworkManager/dnsmasq.d/crossfade.conf",
            Self::DropIn => "/run/systemd/resolved.conf.d/99-crossfade.conf",
            Self::Delegate => "/run/systemd/dns-delegate.d/crossfade.dns-delegate",
        })
    }

    /// Whether it may have these permissions.
    pub(super) const fn may_be(self, mode: u32) -> bool {
        match self {
            Self::ResolvConf => mode & !MODE_MOST == 0,
            Self::Hosts
            | Self::Resolvconf
            | Self::Manager
            | Self::Dnsmasq
            | Self::DropIn
            | Self::Delegate => mode == MODE,
        }
    }

    /// Whether it may hold these bytes, where others wrote one of what `stood`.
    pub(super) fn may_hold(self, bytes: &[u8], stood: &[Vec<u8>]) -> bool {
        match self {
            Self::ResolvConf => resolv_conf(bytes, stood),
            Self::Hosts => hosts(bytes, stood),
            Self::Resolvconf => every_line(bytes, resolvconf),
            Self::Manager => every_line(bytes, manager),
            Self::Dnsmasq => every_line(bytes, dnsmasq),
            Self::DropIn => every_line(bytes, drop_in),
            Self::Delegate => every_line(bytes, delegate),
        }
    }
}

/// Each with its end.
fn every_line(bytes: &[u8], fits: fn(&str) -> bool) -> bool {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.strip_suffix('\n'));
    text.is_some_and(|text| text.split('\n').all(fits))
}

/// What `resolvconf` is told.
fn resolvconf(line: &str) -> bool {
    match line.split_once(' ') {
        Some(("nameserver", at)) => is_stub(at),
        Some(("search", names)) => names.split(' ').all(is_domain),
        Some(("options", options)) => options.split(' ').all(is_option),
        _ => false,
    }
}

fn manager(line: &str) -> bool {
    is_comment(line, LEAVES) || matches!(line, "[main]" | "rc-manager=unmanaged")
}

/// `server=/NAME/ADDRESS#PORT`. dnsmasq cuts lines at 1024 octets and reads the rest as another:
/// none is that long, and comments are ours.
fn dnsmasq(line: &str) -> bool {
    let parts = line.strip_prefix("server=/").and_then(|rest| rest.split_once('/'));
    let server = parts.and_then(|(name, at)| is_name(name).then_some(at)?.split_once('#'));
    is_comment(line, LEADS)
        || server.is_some_and(|(ip, port)| is_stub(ip) && is_written_so::<u16>(port))
}

fn drop_in(line: &str) -> bool {
    is_comment(line, LEADS) || matches!(line, "[Resolve]" | "DNS=") || routes(line)
}

fn delegate(line: &str) -> bool {
    is_comment(line, LEADS) || matches!(line, "[Delegate]" | "DefaultRoute=no") || routes(line)
}

/// `DNS=` with the stub, or `Domains=` with names that are asked of it.
fn routes(line: &str) -> bool {
    match line.split_once('=') {
        Some(("DNS", at)) => is_stub(at) || is_stub_with_port(at),
        Some(("Domains", "")) => true,
        Some(("Domains", names)) => {
            names.split(' ').all(|name| name.strip_prefix('~').is_some_and(is_name))
        }
        _ => false,
    }
}

/// The stub first, and what others wrote: their lines as they stand, and after the stub servers
/// that they named.
fn resolv_conf(bytes: &[u8], stood: &[Vec<u8>]) -> bool {
    let known: Vec<Server> =
        stood.iter().flat_map(|file| lines(file)).filter_map(server_of).collect();
    let mut is_first = true;
    let may_be_named = |line: &[u8]| {
        let Some(server) = server_of(line) else { return true };
        let is_ours = server.zone.is_none() && server.address.is_loopback();
        let may_be = is_ours || !std::mem::take(&mut is_first) && known.contains(&server);
        is_first = false;
        may_be && line == format!("nameserver {server}").as_bytes()
    };
    let others = |file| -> Vec<&[u8]> {
        let others = lines(file).filter(|line| server_of(line).is_none());
        others.filter(|line| !is_mark(line)).collect()
    };
    lines(bytes).all(may_be_named) && stood.iter().any(|file| others(file) == others(bytes))
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|b| *b == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

fn server_of(line: &[u8]) -> Option<Server> {
    ResolvConf::parse(line).nameservers().next().cloned()
}

fn is_mark(line: &[u8]) -> bool {
    MARK.trim_end().as_bytes() == line
}

/// Names of plans in a block, and what others wrote as it stands.
fn hosts(bytes: &[u8], stood: &[Vec<u8>]) -> bool {
    let path = File::Hosts.path();
    let others =
        |file: &[u8]| integrate::without_ours(path, file, &[]).unwrap_or_else(|| file.to_vec());
    let Some(mut rest) = bytes.strip_prefix(BEGIN.as_bytes()).map(lines_with_ends) else {
        return stood.iter().any(|file| others(file) == bytes);
    };
    // By reference: what follows the block is left.
    let is_whole = rest.by_ref().take_while(|line| *line != END.as_bytes()).all(is_host);
    let rest = rest.collect::<Vec<_>>().concat();
    is_whole && stood.iter().any(|file| others(file) == rest)
}

fn lines_with_ends(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|b| *b == b'\n')
}

/// `ADDRESS NAME`.
fn is_host(line: &[u8]) -> bool {
    let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix('\n'));
    line.and_then(|line| line.split_once(' '))
        .is_some_and(|(ip, name)| is_written_so::<IpAddr>(ip) && integrate::may_stand(name))
}

fn is_comment(line: &str, ours: &str) -> bool {
    line == ours.trim_end()
}

/// The stub answers on this host, and nowhere else.
fn is_stub(at: &str) -> bool {
    is_written_so::<IpAddr>(at) && at.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn is_stub_with_port(at: &str) -> bool {
    is_written_so::<SocketAddr>(at) && at.parse().is_ok_and(|at: SocketAddr| at.ip().is_loopback())
}

/// Whether it is how such a value is written, and nothing else that is read as one.
fn is_written_so<T: std::str::FromStr + ToString>(text: &str) -> bool {
    text.parse::<T>().is_ok_and(|value| value.to_string() == text)
}

#[cfg(test)]
mod tests;
