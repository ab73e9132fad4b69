//! Packets and what was decided about them.

use std::net::SocketAddr;

use crate::rules::table::{Key, Transport};

/// The first packet of a flow, or a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// TCP or UDP.
    pub transport: Transport,
    /// From where.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub destination: SocketAddr,
}

/// A process of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The user it runs as.
    pub user: u32,
    /// The mark of its socket.
    pub mark: u32,
}

/// What conntrack holds of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// From where its packets seem to come.
    pub source: SocketAddr,
    /// Where they go.
    pub destination: SocketAddr,
    /// Its mark.
    pub mark: u32,
    /// Its destination was changed.
    pub translated: bool,
    /// It leaves with an address of this host.
    pub masqueraded: bool,
}

impl Packet {
    /// Where it was sent to.
    pub const fn key(&self) -> Key {
        Key {
            address: self.destination.ip(),
            transport: self.transport,
            port: self.destination.port(),
        }
    }
}
