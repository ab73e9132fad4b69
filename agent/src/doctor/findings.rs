//! What was found on a machine, and what is wished of it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Everything that rows are judged by. `None` is "could not be told".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Findings {
    /// Whether this process may change kernel rules (CAP_NET_ADMIN).
    pub net_admin: bool,
    /// Whether it may bind ports below 1024.
    pub bind_service: bool,
    /// The kernel's release.
    pub kernel: Option<Release>,
    /// Tables and chains; none where the kernel does not answer.
    pub netfilter: Option<Netfilter>,
    /// Flows that are tracked and the most that can be; none where nothing tracks.
    pub conntrack: Option<(u64, u64)>,
    /// IPv4.
    pub forwarding4: Forwarding,
    /// IPv6.
    pub forwarding6: Forwarding,
    /// Interfaces whose reverse path filter is strict.
    pub strict: Vec<String>,
    /// A docker daemon is here.
    pub docker: bool,
    /// firewalld runs.
    pub firewalld: bool,
    /// Tables of legacy iptables are loaded (`/proc/net/ip_tables_names`).
    pub legacy_tables: Vec<String>,
    /// `/etc` cannot be written, in the operating system's words.
    pub etc_refuses: Option<String>,
    /// The stub's address is taken, in the operating system's words.
    pub stub_refuses: Option<String>,
    /// The Envoy that was named or found.
    pub envoy: Option<EnvoyFound>,
    /// The user whose program takes connections where captured ones arrive; none where none does.
    pub envoy_port: Option<u32>,
    /// The clock.
    pub clock: Clock,
    /// Room in the state directory.
    pub space: Option<Space>,
    /// By which addresses this host is managed.
    pub management: BTreeSet<IpAddr>,
    /// Sessions of administrators.
    pub ssh: Vec<SshSession>,
    /// The smallest MTU of interfaces that are up, with its name.
    pub mtu: Option<(String, u32)>,
    /// What asking a controller gave; none where nobody was asked.
    pub controller: Option<Reach>,
    /// What the agent that runs says of preserveSource that is not kept; none where none runs.
    pub masqueraded: Option<Vec<String>>,
    /// The way of names that was chosen for this host, and why; none where it was not asked.
    pub names: Option<(String, String)>,
}

/// What is wished of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wishes {
    /// The host has joined already.
    pub joined: bool,
    /// An Envoy on this host takes what its own processes send.
    pub envoy: bool,
    /// The user of the Envoy that takes this host's own calls; none where none is to.
    pub envoy_user: Option<u32>,
    /// Names are answered on this host.
    pub names: bool,
    /// Where the stub DNS server listens.
    pub stub: Option<SocketAddr>,
    /// Logical addresses of this host's services; before it has joined none are known.
    pub addresses: BTreeSet<IpAddr>,
}

/// A release of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Release {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What netfilter holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Netfilter {
    /// Every table.
    pub tables: Vec<TableSeen>,
    /// Chains on the forward hook that drop what they do not know, as `ip filter FORWARD`.
    pub forward_drops: Vec<String>,
    /// Chains of docker's: `DOCKER-USER`.
    pub docker_user: bool,
    /// Rules of others that translate our addresses.
    pub nat: Vec<ForeignNat>,
    /// Chains of others that use our bits of flows' marks.
    pub marks: Vec<ForeignMarks>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSeen {
    /// As nft calls it.
    pub family: String,
    /// Its name.
    pub name: String,
    /// The names of its chains.
    pub chains: Vec<String>,
    /// Whether it has a name of ours and is another program's.
    #[serde(default)]
    pub is_others: bool,
}

/// A rule of others that translates an address of ours, or a port of whatever address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignNat {
    /// Family, table and chain.
    pub chain: String,
    /// The address; none: it goes by the port alone.
    pub address: Option<IpAddr>,
    /// Whether it comes before our rules: it hooks in earlier.
    pub first: bool,
}

/// A chain of others that uses bits of flows' marks that are ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignMarks {
    /// Family, table and chain.
    pub chain: String,
    /// The bits of ours that it writes.
    pub written: u32,
    /// The bits of ours that it goes by.
    pub read: u32,
}

/// Forwarding of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forwarding {
    /// Whether it is on; none where the family is off.
    pub on: Option<bool>,
    /// Interfaces with a default route from router advertisements, which the kernel stops
    /// believing when forwarding is on (`accept_ra` is 1).
    pub advertised: Vec<String>,
}

/// An Envoy binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvoyFound {
    /// None.
    Missing,
    /// What it says is no version.
    Unclear(String),
    /// Of this version: major, minor, patch.
    Version(u32, u32, u32),
}

/// Who keeps the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Clock {
    /// Nothing tells.
    #[default]
    Unknown,
    /// A service says that it is kept.
    Kept(String),
}

/// Room for state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Space {
    /// The directory.
    pub directory: String,
    /// Bytes that are free.
    pub free: u64,
    /// It cannot be written, in the operating system's words.
    pub refuses: Option<String>,
}

/// What asking a controller gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// It answered, there.
    Answered(String),
    /// Nobody did, in these words.
    Silent(String),
}

/// One connection of an administrator: never captured, whatever a plan says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SshSession {
    /// This host's end; its port is sshd's.
    pub local: SocketAddr,
    /// The administrator's end.
    pub remote: SocketAddr,
}
