//! What the host is to its rules: its addresses, and what must never be touched on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use plan::ServiceId;
use plan::split::Side;

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
    /// Sides whose servers were proved to answer by way of this host: where the plan asks for it
    /// (`preserveSource`), flows to them keep the address of their client.
    pub returns: BTreeSet<(ServiceId, Side)>,
    /// Why other sides are not among them.
    pub unproved: BTreeMap<(ServiceId, Side), String>,
    /// What the agent's own sockets carry: they are left alone.
    pub own_mark: SocketMark,
    /// Addresses of clients with which the agent's own sockets leave to prove that answers come
    /// back: one with [`SocketMark::proving`] this address's place among them.
    pub sources: Vec<IpAddr>,
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

    /// Which of [`Host::sources`] a socket leaves with; none: 0.
    const SOURCE: u32 = 0x0000_ffff;

    /// What a socket carries that leaves with the address at this place among [`Host::sources`].
    pub(super) fn leaving_as(self, place: u16) -> Self {
        let number = u32::from(place).saturating_add(1) & Self::SOURCE;
        Self { mask: self.mask | Self::SOURCE, value: self.value | number }
    }

    /// What a socket carries (`SO_MARK`) that leaves with the address at this place.
    pub fn proving(self, place: u16) -> u32 {
        self.leaving_as(place).value
    }
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
            unproved: BTreeMap::new(),
            own_mark: SocketMark::AGENT,
            sources: Vec::new(),
        }
    }
}
