//! Readers of what Linux shows as text.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::findings::{EnvoyFound, Release, SshSession};

/// The state of an established connection in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// `RTF_DEFAULT | RTF_ADDRCONF`: a default route that a router advertised (`linux/ipv6_route.h`).
const ADVERTISED_DEFAULT: u32 = 0x0001_0000 | 0x0004_0000;

/// `6.1.0-18-amd64`.
pub(super) fn release(text: &str) -> Option<Release> {
    let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
    Some(Release { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
}

/// Established connections to these ports of `/proc/net/tcp` or `tcp6`.
pub(super) fn sessions(text: &str, ports: &BTreeSet<u16>) -> Vec<SshSession> {
    let session = |line: &str| {
        let (local, remote, state) = socket(line)?;
        (state == ESTABLISHED && ports.contains(&local.port()))
            .then_some(SshSession { local, remote })
    };
    text.lines().filter_map(session).collect()
}

fn socket(line: &str) -> Option<(SocketAddr, SocketAddr, &str)> {
    let mut words = line.split_whitespace().skip(1);
    Some((endpoint(words.next()?)?, endpoint(words.next()?)?, words.next()?))
}

/// `0100007F:0016`: words of 32 bits as this machine stores them, then the port.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<[u8; 4]> = address
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok())
        .map(|word| word.map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    let address = match *words.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(word)),
        [_, _, _, _] => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// The ports that an `sshd_config` names, and 22: where it names none, and where the service
/// manager listens for sshd whatever it names.
pub(super) fn ssh_ports(config: &str) -> BTreeSet<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace();
        let named = words.next()?.eq_ignore_ascii_case("port");
        named.then(|| words.next()?.parse().ok()).flatten()
    };
    config.lines().filter_map(port).chain([22]).collect()
}

/// Interfaces whose default route in `/proc/net/ipv6_route` came by an advertisement.
pub(super) fn advertised(routes: &str) -> Vec<String> {
    let interface = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [target, length, .., flags, name] = words.as_slice() else {
            return None;
        };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let default = *length == "00" && target.bytes().all(|b| b == b'0');
        let advertised = flags & ADVERTISED_DEFAULT == ADVERTISED_DEFAULT;
        (default && advertised).then(|| (*name).to_owned())
    };
    let mut names: Vec<_> = routes.lines().filter_map(interface).collect();
    names.dedup();
    names
}

/// `envoy  version: 0123abc/1.36.2/Clean/RELEASE/BoringSSL`.
pub(super) fn envoy(text: &str) -> EnvoyFound {
    let version = |text: &str| {
        let version = text.split_once("version:")?.1.split('/').nth(1)?;
        let mut numbers = version.split(['.', '-']).map(str::parse);
        let (Some(Ok(a)), Some(Ok(b)), Some(Ok(c))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return None;
        };
        Some(EnvoyFound::Version(a, b, c))
    };
    let said = text.trim().lines().next().unwrap_or_default().chars().take(80).collect();
    version(text).unwrap_or(EnvoyFound::Unclear(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_those_of_the_port_that_are_established() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let line =
            |local: &str, remote: &str, state: &str| format!(" 0: {local} {remote} {state} 0\n");
        let v4 = [
            line("0A0200C0:0016", "070200C0:C350", "01"),
            line("00000000:0016", "00000000:0000", "0A"),
            line("0A0200C0:0050", "070200C0:C351", "01"),
            line("0A0200C0:0016", "bad", "01"),
        ];
        let v6 = line(
            "0000000000000000FFFF00000A0200C0:08AE",
            "B80D0120000000000000000007000000:C350",
            "01",
        );
        let text = format!("{head}{}{v6}", v4.concat());
        let expected =
            [("192.0.2.10:22", "192.0.2.7:50000"), ("192.0.2.10:2222", "[2001:db8::7]:50000")];
        let expected = expected.map(|(local, remote)| SshSession {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        });
        assert_eq!(sessions(&text, &[22, 2222].into()), expected);
    }

    #[test]
    fn releases_and_versions() {
        let kernels = [
            ("6.1.0-18-amd64\n", Some((6, 1))),
            ("5.14.0-427.el9.x86_64", Some((5, 14))),
            ("6.9", Some((6, 9))),
            ("x", None),
        ];
        for (text, expected) in kernels {
            let found = release(text).map(|r| (r.major, r.minor));
            assert_eq!(found, expected, "{text}");
        }
        let proxies = [
            (
                "\nenvoy  version: abc/1.36.2/Clean/RELEASE/BoringSSL\n",
                EnvoyFound::Version(1, 36, 2),
            ),
            ("envoy  version: abc/1.41.0-dev/Modified/DEBUG/x", EnvoyFound::Version(1, 41, 0)),
            ("nothing", EnvoyFound::Unclear("nothing".to_owned())),
        ];
        for (text, expected) in proxies {
            assert_eq!(envoy(text), expected, "{text}");
        }
        assert_eq!(ssh_ports("#Port 1\nPort 2222\nport 23\nPortal 3\n"), [22, 23, 2222].into());
        assert_eq!(ssh_ports(""), [22].into());
    }

    #[test]
    fn default_routes_that_routers_advertised() {
        let zero = "00000000000000000000000000000000";
        let line = |length: &str, flags: &str| {
            format!("{zero} {length} {zero} 00 fe80 00000400 1 0 {flags} eth0\n")
        };
        assert_eq!(advertised(&line("00", "00450003")), ["eth0"]);
        assert_eq!(advertised(&line("00", "00000003")), Vec::<String>::new());
        assert_eq!(advertised(&line("40", "00450003")), Vec::<String>::new());
    }
}
