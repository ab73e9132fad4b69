//! All that the decision depends on, as text.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::{Unfit, not};
use crate::names::upstream::resolv::Server;
use crate::names::upstream::{PORT, RESOLVED_STUBS, ResolvConf, Upstreams};

/// Where the stub may take its port: where it had it, else the first on which it is free. Not .53
/// and .54, which are systemd-resolved's.
pub(super) const LOOPBACKS: [Ipv4Addr; 3] =
    [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 57), Ipv4Addr::new(127, 0, 0, 58)];

/// What is known of a host.
#[derive(Clone, Debug)]
pub struct Env {
    /// The port of the stub, where a port can be said.
    pub port: u16,
    /// Plan names and the addresses that this host is told, as [`crate::names::Answers::entries`].
    pub entries: Vec<(String, Vec<IpAddr>)>,
    /// Where the stub listens, or did when it last ran.
    pub own: Vec<SocketAddr>,
    /// Whether it does now: who is bound there is the stub.
    pub listens: bool,
    /// `/etc/resolv.conf`.
    pub resolv_conf: ResolvFile,
    /// What `/etc/resolv.conf` said before this product changed it; None: it did not.
    pub before: Option<Vec<u8>>,
    /// Whether `/etc` can be written.
    pub etc: Access,
    /// `/etc/hosts`; None: there is none, or it is mounted.
    pub hosts: Option<Vec<u8>>,
    /// `/etc/nsswitch.conf`.
    pub nsswitch: Option<String>,
    /// systemd-resolved, if it runs.
    pub resolved: Option<Resolved>,
    /// NetworkManager, if it runs.
    pub network_manager: Option<NetworkManager>,
    /// The `resolvconf` program, if there is one.
    pub resolvconf: Option<Resolvconf>,
    /// What a running dnsmasq is configured with; None: none runs.
    pub dnsmasq: Option<String>,
    /// What UDP and TCP sockets are bound to, of port 53 and of the stub's.
    pub bound: Vec<SocketAddr>,
    /// The addresses of this host.
    pub addresses: Vec<IpAddr>,
}

/// Whether something can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Yes.
    Writable,
    /// No: a read-only file system.
    ReadOnly,
}

/// What is at `/etc/resolv.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvFile {
    /// Nothing.
    Absent,
    /// A file.
    File {
        /// What it says.
        bytes: Vec<u8>,
        /// Its permissions.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where it points, as it is written.
        target: PathBuf,
        /// What is read through it; None: it dangles.
        bytes: Option<Vec<u8>>,
    },
    /// A mount of its own: another file cannot take its place.
    Mounted {
        /// What it says.
        bytes: Vec<u8>,
    },
}

/// A running systemd-resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The version of systemd; None: it cannot be told.
    pub version: Option<u32>,
    /// `/run/systemd/resolve/resolv.conf`: whom it asks.
    pub uplinks: Option<Vec<u8>>,
    /// `DNS=` of its configuration but for our own: whom it asks on every link.
    pub servers: Vec<Server>,
    /// What its configuration wants of every server that is not of a link, beyond plain DNS: the
    /// setting as it is written.
    pub wants: Option<String>,
}

/// A running NetworkManager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkManager {
    /// `dns=` of its configuration, the last one.
    pub dns: Option<String>,
    /// `rc-manager=`, the last one.
    pub rc_manager: Option<String>,
    /// `/run/NetworkManager/no-stub-resolv.conf`, or `resolv.conf` there: whom it would name.
    pub servers: Option<Vec<u8>>,
}

/// Which `resolvconf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Debian's.
    Debian,
    /// openresolv.
    Openresolv,
}

/// A `resolvconf` program and what it was told, by interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolvconf {
    /// Which.
    pub flavour: Flavour,
    /// In the order of their names.
    pub interfaces: Vec<(String, Vec<u8>)>,
}

impl ResolvFile {
    /// What is read there.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Absent => None,
            Self::File { bytes, .. } | Self::Mounted { bytes } => Some(bytes),
            Self::Link { bytes, .. } => bytes.as_deref(),
        }
    }

    /// Its permissions; those that such a file usually has where it is none.
    pub(super) const fn mode(&self) -> u32 {
        match self {
            Self::File { mode, .. } => *mode,
            Self::Absent | Self::Link { .. } | Self::Mounted { .. } => 0o644,
        }
    }

    pub(super) fn links_into(&self, folder: &str) -> bool {
        matches!(self, Self::Link { target, .. } if target.to_string_lossy().contains(folder))
    }
}

impl Env {
    /// `/etc/resolv.conf` as it was before this product.
    pub(super) fn original(&self) -> ResolvConf {
        let now = self.resolv_conf.bytes().unwrap_or_default();
        ResolvConf::parse(self.before.as_deref().unwrap_or(now))
    }

    /// The first line that says who wrote it holds this.
    pub(super) fn is_written_by(&self, words: &str) -> bool {
        let words = words.to_ascii_lowercase();
        self.original().comments().any(|line| line.to_ascii_lowercase().contains(&words))
    }

    /// Where the stub listens when a port can be said.
    pub(super) fn with_port(&self) -> Result<SocketAddr, Unfit> {
        self.free(self.port)
    }

    /// Where the stub listens when it must be port 53.
    pub(super) fn without_port(&self) -> Result<SocketAddr, Unfit> {
        self.free(PORT)
    }

    fn free(&self, port: u16) -> Result<SocketAddr, Unfit> {
        let all = LOOPBACKS.map(|ip| SocketAddr::new(ip.into(), port));
        let mut own = all.into_iter().filter(|address| self.own.contains(address));
        let own = own.find(|address| self.listens || self.is_free(*address));
        let free = || all.into_iter().find(|address| self.is_free(*address));
        let taken = || not(format!("port {port} is taken on every loopback address it may have"));
        own.or_else(free).ok_or_else(taken)
    }

    fn is_free(&self, address: SocketAddr) -> bool {
        self.bound.iter().all(|bound| {
            let wide = bound.ip().is_unspecified();
            bound.port() != address.port() || !wide && bound.ip() != address.ip()
        })
    }

    /// The servers of a resolv.conf without the stub at `listen` and without systemd-resolved,
    /// which asks it.
    pub(super) fn upstreams(
        &self,
        conf: &ResolvConf,
        listen: SocketAddr,
    ) -> Result<Upstreams, Unfit> {
        self.upstreams_but(conf, listen, &RESOLVED_STUBS)
    }

    /// The same where nobody is led to the stub: what systemd-resolved does with other names, and
    /// the stub cannot, it goes on doing for whoever asks the stub. Where that is so already, it
    /// stays so until another way is taken.
    pub(super) fn upstreams_beside(
        &self,
        conf: &ResolvConf,
        listen: SocketAddr,
        stands: bool,
    ) -> Result<Upstreams, Unfit> {
        let wants_more = self.resolved.as_ref().is_some_and(|resolved| resolved.wants.is_some());
        self.upstreams_but(conf, listen, if wants_more || stands { &[] } else { &RESOLVED_STUBS })
    }

    fn upstreams_but(
        &self,
        conf: &ResolvConf,
        listen: SocketAddr,
        others: &[IpAddr],
    ) -> Result<Upstreams, Unfit> {
        let mut own = self.own.clone();
        own.push(listen);
        own.extend(others.iter().map(|ip| SocketAddr::new(*ip, PORT)));
        // A resolv.conf cannot say a port: our address in it is us where nobody else listens.
        let without_port = own.clone().into_iter().map(|own| SocketAddr::new(own.ip(), PORT));
        own.extend(without_port.filter(|address| self.is_free(*address)));
        Ok(Upstreams::of_resolv_conf(conf, &own)?)
    }

    pub(super) fn needs_writable_etc(&self) -> Result<(), Unfit> {
        match self.etc {
            Access::Writable => Ok(()),
            Access::ReadOnly => Err(not("/etc is read-only")),
        }
    }
}
