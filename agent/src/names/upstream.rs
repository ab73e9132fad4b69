//! Whom foreign names are asked of: the servers that the host had, never none and never ourselves.

pub mod resolv;
pub mod watch;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub use resolv::ResolvConf;

/// Most servers that are asked: as many as the C library reads (`MAXNS`, resolv.conf(5)).
pub const UPSTREAMS_MAX: usize = 3;

/// The port of DNS.
pub const PORT: u16 = 53;

/// How long a server is waited for where `options timeout:` says nothing (resolv.conf(5)).
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Where systemd-resolved serves everybody else: its answers are our own questions coming back
/// once it asks us.
pub const RESOLVED_STUBS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54))];

/// Servers in the order in which they are asked; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams {
    servers: Vec<SocketAddr>,
    order: Order,
    timeout: Duration,
}

/// Which server is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The first of the list.
    #[default]
    Listed,
    /// Each in turn: `options rotate`.
    Rotate,
}

/// Why there is nobody to ask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUpstream {
    /// The source names no server.
    #[error("no name server is named")]
    Empty,
    /// The source names nobody but us, or who asks us.
    #[error("every name server that is named asks this stub: {0}")]
    OnlyUs(String),
}

impl Upstreams {
    /// The servers of `found` that are not one of `own`. An unspecified address is this host's
    /// (resolv.conf(5)). Each counts once; those after the third are left out.
    ///
    /// `own` are the addresses of the stub and of whoever asks it.
    ///
    /// # Errors
    /// When nobody is left.
    pub fn choose(
        found: impl IntoIterator<Item = SocketAddr>,
        own: &[SocketAddr],
    ) -> Result<Self, NoUpstream> {
        let mut servers = Vec::new();
        let mut ours = Vec::new();
        for server in found {
            let server = canonical(server);
            if own.iter().any(|own| canonical(*own) == server) {
                ours.push(server.to_string());
            } else if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers.truncate(UPSTREAMS_MAX);
        match (servers.is_empty(), ours.is_empty()) {
            (false, _) => Ok(Self { servers, order: Order::Listed, timeout: TIMEOUT }),
            (true, true) => Err(NoUpstream::Empty),
            (true, false) => Err(NoUpstream::OnlyUs(ours.join(", "))),
        }
    }

    /// The servers that a resolv.conf names, asked as its options say.
    ///
    /// # Errors
    /// When it names nobody but us.
    pub fn of_resolv_conf(conf: &ResolvConf, own: &[SocketAddr]) -> Result<Self, NoUpstream> {
        let mut chosen = Self::choose(conf.servers(PORT, interface), own)?;
        if conf.has_option("rotate") {
            chosen.order = Order::Rotate;
        }
        if let Some(seconds) = conf.number_option("timeout") {
            // The C library holds it to 30 s too (RES_MAXRETRANS).
            chosen.timeout = Duration::from_secs(u64::from(seconds.clamp(1, 30)));
        }
        Ok(chosen)
    }

    /// The servers.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Which is asked first.
    #[must_use]
    pub const fn order(&self) -> Order {
        self.order
    }

    /// How long they are waited for.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same servers with another wait.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl fmt::Display for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        f.write_str(&servers.join(", "))
    }
}

/// What a change of the host's servers means for ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// Nothing: they are the same.
    Same,
    /// These are asked from now on.
    New(Upstreams),
    /// Those before go on being asked, because the change names nobody: a network that goes down
    /// for a moment empties the file, and an empty list would outlive it.
    Kept(NoUpstream),
}

/// Decides what a change means. An empty list is never adopted.
#[must_use]
pub fn adopt(before: &Upstreams, found: Result<Upstreams, NoUpstream>) -> Adopted {
    match found {
        Err(why) => Adopted::Kept(why),
        Ok(found) if found == *before => Adopted::Same,
        Ok(found) => Adopted::New(found),
    }
}

/// The index of an interface by its name, for link-local addresses.
fn interface(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// One form for one server: IPv4-mapped addresses are IPv4, unspecified ones are this host.
fn canonical(server: SocketAddr) -> SocketAddr {
    match (server, server.ip().to_canonical()) {
        (_, IpAddr::V4(v4)) if v4.is_unspecified() => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), server.port())
        }
        (_, IpAddr::V6(v6)) if v6.is_unspecified() => {
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), server.port())
        }
        // Its scope is kept.
        (SocketAddr::V6(_), IpAddr::V6(_)) => server,
        (_, address) => SocketAddr::new(address, server.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn who_is_asked() {
        struct Case {
            found: &'static [&'static str],
            want: Result<&'static str, NoUpstream>,
        }
        let own = servers(&["127.0.0.1:5354", "[::1]:5354", "127.0.0.53:53"]);
        for Case { found, want } in [
            Case { found: &["10.0.0.2:53", "10.0.0.3:53"], want: Ok("10.0.0.2:53, 10.0.0.3:53") },
            Case { found: &["10.0.0.2:53", "10.0.0.2:53"], want: Ok("10.0.0.2:53") },
            // Ours, in every way of writing it.
            Case { found: &["127.0.0.1:5354", "10.0.0.2:53"], want: Ok("10.0.0.2:53") },
            Case { found: &["[::ffff:127.0.0.1]:5354", "10.0.0.2:53"], want: Ok("10.0.0.2:53") },
            Case { found: &["0.0.0.0:5354", "10.0.0.2:53"], want: Ok("10.0.0.2:53") },
            Case { found: &["[::]:5354", "10.0.0.2:53"], want: Ok("10.0.0.2:53") },
            Case { found: &["127.0.0.53:53", "10.0.0.2:53"], want: Ok("10.0.0.2:53") },
            // A local server on another port is somebody else.
            Case { found: &["127.0.0.1:53"], want: Ok("127.0.0.1:53") },
            Case { found: &["[fe80::1%3]:53"], want: Ok("[fe80::1%3]:53") },
            Case {
                found: &["10.0.0.2:53", "10.0.0.3:53", "10.0.0.4:53", "10.0.0.5:53"],
                want: Ok("10.0.0.2:53, 10.0.0.3:53, 10.0.0.4:53"),
            },
            Case { found: &[], want: Err(NoUpstream::Empty) },
            Case {
                found: &["127.0.0.1:5354", "127.0.0.53:53"],
                want: Err(NoUpstream::OnlyUs("127.0.0.1:5354, 127.0.0.53:53".to_owned())),
            },
        ] {
            let got = Upstreams::choose(servers(found), &own).map(|chosen| chosen.to_string());
            assert_eq!(got, want.map(str::to_owned), "{found:?}");
        }
    }

    #[test]
    fn options_are_those_of_the_host() {
        struct Case {
            text: &'static str,
            order: Order,
            seconds: u64,
        }
        for Case { text, order, seconds } in [
            Case { text: "nameserver 10.0.0.2\n", order: Order::Listed, seconds: 5 },
            Case {
                text: "nameserver 10.0.0.2\noptions rotate timeout:2\n",
                order: Order::Rotate,
                seconds: 2,
            },
            Case {
                text: "options timeout:0\nnameserver 10.0.0.2\n",
                order: Order::Listed,
                seconds: 1,
            },
            Case {
                text: "options timeout:900\nnameserver 10.0.0.2\n",
                order: Order::Listed,
                seconds: 30,
            },
            Case {
                text: "options timeout:x\nnameserver 10.0.0.2\n",
                order: Order::Listed,
                seconds: 5,
            },
        ] {
            let conf = ResolvConf::parse(text.as_bytes());
            let chosen = Upstreams::of_resolv_conf(&conf, &[]).unwrap();
            let got = (chosen.order(), chosen.timeout().as_secs());
            assert_eq!(got, (order, seconds), "{text}");
        }
    }

    #[test]
    fn an_empty_list_is_never_adopted() {
        let of = |texts: &[&str]| Upstreams::choose(servers(texts), &[]);
        let before = of(&["10.0.0.2:53"]).unwrap();
        assert_eq!(adopt(&before, of(&[])), Adopted::Kept(NoUpstream::Empty));
        assert_eq!(adopt(&before, of(&["10.0.0.2:53"])), Adopted::Same);
        let after = of(&["10.0.0.3:53"]).unwrap();
        assert_eq!(adopt(&before, Ok(after.clone())), Adopted::New(after));
    }
}
