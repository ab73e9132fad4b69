//! What the files may say that an agent has written. Programs that run as root read them, and some
//! would run what they name: only what names a resolver is written.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Whether a file in this directory may hold these bytes. Files that are on the list by themselves
/// hold names and addresses alone, whatever stands in them.
pub(super) fn may_hold(directory: &Path, bytes: &[u8]) -> bool {
    let Some(says) = says(directory) else { return true };
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.all(|line| line.starts_with('#') || says(line))
}

fn says(directory: &Path) -> Option<fn(&str) -> bool> {
    Some(match directory.to_str()? {
        "/etc/NetworkManager/conf.d" => manager,
        "/etc/NetworkManager/dnsmasq.d" => dnsmasq,
        "/run/systemd/resolved.conf.d" => drop_in,
        "/run/systemd/dns-delegate.d" => delegate,
        _ => return None,
    })
}

fn manager(line: &str) -> bool {
    matches!(line, "[main]" | "rc-manager=unmanaged")
}

/// `server=/NAME/ADDRESS#PORT`.
fn dnsmasq(line: &str) -> bool {
    let parts = line.strip_prefix("server=/").and_then(|rest| rest.split_once('/'));
    let at = parts.and_then(|(name, at)| is_name(name).then_some(at)?.split_once('#'));
    at.is_some_and(|(ip, port)| ip.parse::<IpAddr>().is_ok() && port.parse::<u16>().is_ok())
}

fn drop_in(line: &str) -> bool {
    line == "[Resolve]" || routes(line)
}

fn delegate(line: &str) -> bool {
    matches!(line, "[Delegate]" | "DefaultRoute=no") || routes(line)
}

/// `DNS=` with addresses, or `Domains=` with names.
fn routes(line: &str) -> bool {
    let server = |at: &str| at.parse::<IpAddr>().is_ok() || at.parse::<SocketAddr>().is_ok();
    match line.split_once('=') {
        Some(("DNS", servers)) => servers.split_whitespace().all(server),
        Some(("Domains", names)) => {
            names.split_whitespace().all(|name| is_name(name.strip_prefix('~').unwrap_or(name)))
        }
        _ => false,
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_resolver_is_held_and_what_runs_something_is_not() {
        let manager = "/etc/NetworkManager/conf.d";
        let dnsmasq = "/etc/NetworkManager/dnsmasq.d";
        let resolved = "/run/systemd/resolved.conf.d";
        let delegate = "/run/systemd/dns-delegate.d";
        for (directory, text, expected) in [
            (manager, "# Ours.\n[main]\nrc-manager=unmanaged\n", true),
            (manager, "[main]\nplugins=/tmp/evil.so\n", false),
            (dnsmasq, "server=/web.shop.example/127.0.0.1#335\n", true),
            (dnsmasq, "server=/web.shop.example/::1#335\n\n", true),
            (dnsmasq, "conf-script=/tmp/evil\n", false),
            (dnsmasq, "server=/web.example/127.0.0.1#335\ndhcp-script=/tmp/evil\n", false),
            (dnsmasq, "server=/web.example/127.0.0.1#335@eth0\n", false),
            (dnsmasq, "server=/a b/127.0.0.1#335\n", false),
            (resolved, "[Resolve]\nDNS=127.0.0.1:335\nDomains=~web.example ~b.example\n", true),
            (resolved, "[Resolve]\nDNS=[::1]:335\nDomains=\n", true),
            (resolved, "[Service]\nExecStart=/tmp/evil\n", false),
            (delegate, "[Delegate]\nDNS=127.0.0.1\nDomains=web.example\nDefaultRoute=no\n", true),
            (delegate, "[Delegate]\nDNS=evil\n", false),
            ("/etc", "nameserver 127.0.0.1\noptions edns0\n", true),
        ] {
            let found = may_hold(Path::new(directory), text.as_bytes());
            assert_eq!(found, expected, "{directory}: {text}");
        }
        assert!(!may_hold(Path::new(dnsmasq), b"server=/\xff/127.0.0.1#53"));
    }
}
