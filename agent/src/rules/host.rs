//! What the host is to its rules: its addresses, and what must never be touched on it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use plan::ServiceId;

/// A host as the compiler of its rules sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The address by which the host's own processes are one client.
    pub address: IpAddr,
    /// All addresses that the host has; packets to them end here.
    pub own: BTreeSet<IpAddr>,
    /// What no rule may take hold of.
    pub forbidden: Vec<Forbidden>,
    /// Sources that are left alone whatever the plan says: health probes.
    pub exempt: Vec<IpNet>,
    /// The healthy Envoy beside the agent that takes what the host's own processes send.
    pub capture: Option<Capture>,
    /// Whether an Envoy is to be beside the agent, well or not: what it would take and does not is
    /// split here. Else what goes by the mesh is left to whatever sidecar this host has.
    pub carries: bool,
    /// Services whose servers were proved to answer by way of this host: where the plan asks for it
    /// (`preserveSource`), their flows keep the address of their client.
    pub returns: BTreeSet<ServiceId>,
    /// What the agent's own sockets carry: they are left alone.
    pub own_mark: SocketMark,
}

/// An address that rules must not take hold of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// Which addresses.
    pub net: IpNet,
    /// Which port; `None`: all of them.
    pub port: Option<u16>,
    /// What it is, as a phrase: `the controller's address`, `where this host is managed by SSH`.
    pub why: String,
}

/// A local Envoy that takes TCP flows to logical addresses of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// The user that it runs as: its own flows are left alone.
    pub user: u32,
}

/// The mark of a socket (`SO_MARK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMark {
    /// Which bits count.
    pub mask: u32,
    /// What they are.
    pub value: u32,
}

impl SocketMark {
    /// What the agent sets on its own sockets.
    pub const AGENT: Self = Self { mask: 0xff00_0000, value: 0xcf00_0000 };
}

impl Host {
    /// A host with one address and nothing else to know of.
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            own: BTreeSet::from([address]),
            forbidden: Vec::new(),
            exempt: Vec::new(),
            capture: None,
            carries: false,
            returns: BTreeSet::new(),
            own_mark: SocketMark::AGENT,
        }
    }
}
