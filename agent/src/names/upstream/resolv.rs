//! `/etc/resolv.conf` (resolv.conf(5)), read without loss: what is not understood stays as it is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Longest file that is read. Real ones have some hundred octets.
pub const FILE_MAX: usize = 64 << 10;

/// Longest name as text, in octets (RFC 1035 section 2.3.4); no option is as long.
const NAME_MAX: usize = 254;

/// A resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    lines: Vec<Line>,
}

/// A line and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// As it stands, with its line end.
    raw: Vec<u8>,
    says: Says,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Says {
    Server(Server),
    Search(Vec<String>),
    Options(Vec<String>),
    /// Comments, empty lines, what others invented and what is malformed.
    Other,
}

/// The address of a server; a link-local one has a zone: a name or number of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The address.
    pub address: IpAddr,
    /// The interface of a link-local address (RFC 4007 section 11).
    pub zone: Option<String>,
}

impl ResolvConf {
    /// Reads a file; every text is one. Octets beyond [`FILE_MAX`] are kept and not understood.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut seen = 0;
        let lines = bytes.split_inclusive(|octet| *octet == b'\n').map(|raw| {
            seen += raw.len();
            let says = if seen <= FILE_MAX { Says::of(raw) } else { Says::Other };
            Line { raw: raw.to_vec(), says }
        });
        Self { lines: lines.collect() }
    }

    /// The file as it stood.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|line| &line.raw).copied().collect()
    }

    /// The servers in their order.
    pub fn nameservers(&self) -> impl Iterator<Item = &Server> {
        self.lines.iter().filter_map(|line| match &line.says {
            Says::Server(server) => Some(server),
            Says::Search(_) | Says::Options(_) | Says::Other => None,
        })
    }

    /// The servers with this port; `index` gives that of an interface by its name.
    pub fn servers(
        &self,
        port: u16,
        index: impl Fn(&str) -> Option<u32>,
    ) -> impl Iterator<Item = SocketAddr> {
        self.nameservers().filter_map(move |server| server.socket(port, &index))
    }

    /// The search list: that of the last line that has one, as the C library takes it.
    #[must_use]
    pub fn search(&self) -> &[String] {
        let mut lists = self.lines.iter().filter_map(|line| match &line.says {
            Says::Search(list) => Some(list.as_slice()),
            Says::Server(_) | Says::Options(_) | Says::Other => None,
        });
        lists.next_back().unwrap_or_default()
    }

    /// Every option in its order.
    pub fn options(&self) -> impl Iterator<Item = &str> {
        let lists = self.lines.iter().filter_map(|line| match &line.says {
            Says::Options(list) => Some(list),
            Says::Server(_) | Says::Search(_) | Says::Other => None,
        });
        lists.flatten().map(String::as_str)
    }

    /// Whether this option is there.
    #[must_use]
    pub fn has_option(&self, name: &str) -> bool {
        self.options().any(|option| option == name)
    }

    /// The number of the last `name:number`.
    #[must_use]
    pub fn number_option(&self, name: &str) -> Option<u32> {
        let value = |option: &str| option.strip_prefix(name)?.strip_prefix(':')?.parse().ok();
        self.options().filter_map(value).last()
    }

    /// Comments, for who wrote the file.
    pub fn comments(&self) -> impl Iterator<Item = String> {
        let raw = self.lines.iter().map(|line| String::from_utf8_lossy(&line.raw).into_owned());
        raw.filter(|line| line.trim_start().starts_with(['#', ';']))
    }

    /// The same file that names `servers` alone, where the first one stood; every other line stays
    /// as it is.
    #[must_use]
    pub fn naming(&self, servers: &[Server]) -> Vec<u8> {
        let mut named: Vec<u8> = Vec::new();
        for server in servers {
            named.extend_from_slice(format!("nameserver {server}\n").as_bytes());
        }
        let mut out = Vec::new();
        let mut placed = false;
        for line in &self.lines {
            match line.says {
                Says::Server(_) if placed => {}
                Says::Server(_) => {
                    out.extend_from_slice(&named);
                    placed = true;
                }
                Says::Search(_) | Says::Options(_) | Says::Other => {
                    out.extend_from_slice(&line.raw);
                }
            }
        }
        if !placed {
            if out.last().is_some_and(|last| *last != b'\n') {
                out.push(b'\n');
            }
            out.extend_from_slice(&named);
        }
        out
    }
}

impl Says {
    /// The C library wants a keyword at the start of the line and a blank after it.
    fn of(raw: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(raw) else { return Self::Other };
        let Some((keyword, rest)) = text.split_once([' ', '\t']) else { return Self::Other };
        let mut words = rest.split_ascii_whitespace().map(str::to_owned);
        match keyword {
            "nameserver" => match words.next().as_deref().and_then(Server::of) {
                Some(server) => Self::Server(server),
                None => Self::Other,
            },
            "search" => Self::Search(words.collect()),
            "domain" => Self::Search(words.take(1).collect()),
            "options" => Self::Options(words.collect()),
            _ => Self::Other,
        }
    }
}

impl Server {
    /// Reads `ADDRESS` or `ADDRESS%ZONE`.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let (address, zone) = match word.split_once('%') {
            Some((address, zone)) if !zone.is_empty() => (address, Some(zone.to_owned())),
            Some(_) => return None,
            None => (word, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let fits = zone.is_none() || address.is_ipv6();
        fits.then_some(Self { address, zone })
    }

    /// Where it is asked; `index` gives the index of an interface by its name. `None`: there is no
    /// such interface now.
    #[must_use]
    pub fn socket(&self, port: u16, index: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
        let scope = match self.zone.as_deref() {
            Some(zone) => zone.parse().ok().or_else(|| index(zone))?,
            None => 0,
        };
        Some(match self.address {
            IpAddr::V4(v4) => SocketAddr::new(v4.into(), port),
            IpAddr::V6(v6) => scoped(v6, port, scope),
        })
    }
}

/// Whether it is a name as hosts have them, or the root; `_` as some have it.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(known)
}

/// Whether it is a name that can stand among other words.
#[must_use]
pub fn is_domain(word: &str) -> bool {
    is_name(word) && !word.starts_with('-')
}

/// Whether it can be an option: a word, perhaps with a number.
#[must_use]
pub fn is_option(word: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_:".contains(&b);
    (1..=NAME_MAX).contains(&word.len()) && !word.starts_with('-') && word.bytes().all(known)
}

impl From<IpAddr> for Server {
    fn from(address: IpAddr) -> Self {
        Self { address, zone: None }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.address),
            None => self.address.fmt(f),
        }
    }
}

fn scoped(address: Ipv6Addr, port: u16, scope: u32) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Files of lines of every kind.
    const LINES: &str =
        "((nameserver 10\\.0\\.0\\.[1-9]|search [a-z]{1,9}|#[ a-z]{0,9}|[a-z ]{0,9})\n){0,9}";

    #[test]
    fn lines() {
        struct Case {
            text: &'static str,
            servers: &'static [&'static str],
            search: &'static [&'static str],
        }
        for Case { text, servers, search } in [
            Case { text: "", servers: &[], search: &[] },
            Case { text: "nameserver 10.0.0.2", servers: &["10.0.0.2:53"], search: &[] },
            Case { text: "nameserver\t10.0.0.2\n", servers: &["10.0.0.2:53"], search: &[] },
            Case { text: "nameserver 10.0.0.2 # a\n", servers: &["10.0.0.2:53"], search: &[] },
            Case { text: "nameserver ::1\r\n", servers: &["[::1]:53"], search: &[] },
            Case { text: "nameserver fe80::1%2\n", servers: &["[fe80::1%2]:53"], search: &[] },
            Case { text: "nameserver fe80::1%eth0\n", servers: &["[fe80::1%7]:53"], search: &[] },
            Case { text: "nameserver fe80::1%gone\n", servers: &[], search: &[] },
            Case { text: "nameserver 10.0.0.2%2\n", servers: &[], search: &[] },
            Case { text: "nameserver fe80::1%\n", servers: &[], search: &[] },
            Case { text: " nameserver 10.0.0.2\n", servers: &[], search: &[] },
            Case { text: "#nameserver 10.0.0.2\n", servers: &[], search: &[] },
            Case { text: "Nameserver 10.0.0.2\n", servers: &[], search: &[] },
            Case { text: "nameserver10.0.0.2\n", servers: &[], search: &[] },
            Case { text: "nameserver dns.example\n", servers: &[], search: &[] },
            Case { text: "search a b\nsearch c\n", servers: &[], search: &["c"] },
            Case { text: "search a b\ndomain c d\n", servers: &[], search: &["c"] },
            Case { text: "nameserver \u{0}\n", servers: &[], search: &[] },
        ] {
            let conf = ResolvConf::parse(text.as_bytes());
            let index = |name: &str| (name == "eth0").then_some(7);
            let found: Vec<String> = conf.servers(53, index).map(|at| at.to_string()).collect();
            assert_eq!(found, servers, "{text:?}");
            assert_eq!(conf.search(), search, "{text:?}");
        }
    }

    #[test]
    fn only_the_servers_change() {
        struct Case {
            before: &'static str,
            after: &'static str,
        }
        for Case { before, after } in [
            Case { before: "", after: "nameserver 127.0.0.1\n" },
            Case {
                before: "# by hand\nsearch corp.example\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n\
                         options ndots:2\nnameserver nonsense\n\n",
                after: "# by hand\nsearch corp.example\nnameserver 127.0.0.1\noptions ndots:2\n\
                        nameserver nonsense\n\n",
            },
            Case { before: "search x", after: "search x\nnameserver 127.0.0.1\n" },
        ] {
            let after_edit =
                ResolvConf::parse(before.as_bytes()).naming(&[Server::of("127.0.0.1").unwrap()]);
            assert_eq!(String::from_utf8(after_edit).unwrap(), after);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(ResolvConf::parse(&bytes).bytes(), bytes);
        }

        #[test]
        fn what_is_named_is_read_back(
            text in LINES,
            servers in prop::collection::vec(any::<IpAddr>().prop_map(Server::from), 1..3),
        ) {
            let conf = ResolvConf::parse(&ResolvConf::parse(text.as_bytes()).naming(&servers));
            let found: Vec<Server> = conf.nameservers().cloned().collect();
            prop_assert_eq!(found, servers);
        }
    }
}
