//! The words of nftables that we use, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

/// A table of family `inet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: Name,
    /// What stands beside it for people: how to switch it off.
    pub comment: Arc<str>,
    /// Named counters: packets and bytes; a NAT chain sees the first packet of each flow, so
    /// packets are flows.
    pub counters: BTreeSet<Name>,
    /// Sets that rules fill with the networks that they saw.
    pub stragglers: BTreeMap<Name, Stragglers>,
    /// Maps from where a packet goes to the chain that decides.
    pub dispatch: BTreeMap<Name, Dispatch>,
    /// Chains, called ones before callers or not: readers sort. A table shares those that it has in
    /// common with the one before, so that comparing them looks at the others only.
    pub chains: BTreeMap<Name, Arc<Chain>>,
}

/// A name in a table: letters, digits, `/`, `-`, `_` and `.`, a letter first, at most 200 bytes
/// (`NFT_NAME_MAXLEN` is 256).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A dynamic set: source networks with a counter each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stragglers {
    /// Of which addresses.
    pub family: Family,
    /// The networks' length, in bits.
    pub prefix: u8,
    /// It holds no more than so many; what comes later is not noted.
    pub size: u32,
    /// After so many seconds without a flow a network is forgotten.
    pub timeout_seconds: u32,
}

/// A verdict map keyed by destination, protocol and port; every verdict is a `goto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Of which addresses.
    pub family: Family,
    /// Where packets go.
    pub chains: BTreeMap<Key, Name>,
}

/// Where a packet is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The address.
    pub address: IpAddr,
    /// The protocol.
    pub transport: Transport,
    /// The port.
    pub port: u16,
}

/// The network protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Rules in order. A regular chain that ends returns to its caller; a base chain accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel calls it, with its priority (lower is earlier); `None`: other chains do.
    pub hook: Option<(Hook, i32)>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// Where the kernel calls a chain; all are of type `nat`, policy accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Packets that arrive.
    Prerouting,
    /// Packets that this host's processes send.
    Output,
    /// Packets that leave.
    Postrouting,
}

/// If all matches hold, all actions are done in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// What must hold; none: always.
    pub matches: Vec<Match>,
    /// What is done.
    pub actions: Vec<Action>,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The packet is of this family.
    Family(Family),
    /// The packet is of this protocol.
    Transport(Transport),
    /// It comes from this network; packets of the other family do not.
    Source(IpNet),
    /// It goes to this address; packets of the other family do not.
    Destination(IpAddr),
    /// `jhash ip saddr mod 10000 seed SEED < BOUND` ([`plan::bucket::host`]). The family is not
    /// looked at: it stands where only packets of this family come, or behind [`Match::Family`].
    SourceBucketBelow {
        /// Of the source address.
        family: Family,
        /// Low half of the salt.
        seed: u32,
        /// 1 to 9 999.
        bound: u16,
    },
    /// `numgen random mod 10000 < BOUND`: drawn anew for each flow.
    DrawBelow {
        /// 1 to 9 999.
        bound: u16,
    },
    /// `meta skuid`: the packet's process runs as this user; only where packets are sent.
    SocketUser(u32),
    /// `meta mark & mask == value`.
    PacketMark {
        /// Which bits.
        mask: u32,
        /// What they are.
        value: u32,
    },
    /// `ct mark & mask == value`.
    FlowMark {
        /// Which bits.
        mask: u32,
        /// What they are.
        value: u32,
    },
    /// `tcp flags & syn == 0`: TCP that opens nothing. Where a flow is new, that is a connection
    /// which was open before the kernel tracked it, or whose track was lost.
    Midway,
    /// `ct status dnat`: the flow's destination was changed.
    Translated,
    /// `oifname != "lo"`: it leaves the host.
    LeavesHost,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `ct mark set ct mark & ~mask | value`.
    MarkFlow {
        /// Which bits are set.
        mask: u32,
        /// To what; no bit outside `mask`.
        value: u32,
    },
    /// Counts in a named counter.
    Count(Name),
    /// Notes the source's network in a dynamic set. In a rule of its own: where the set is full the
    /// kernel does not do the rest of the rule.
    Note(Name),
    /// Changes where the flow goes; ends the table. Packets of the other family go on. Port 0: the
    /// port stays (`dnat ip to ADDRESS`), as for a service of several ports; any other port stands
    /// in a rule that matches a [`Transport`], which nft wants.
    Translate(SocketAddr),
    /// Changes where the flow goes to this port of this host; ends the table.
    Redirect(u16),
    /// The flow leaves with an address of this host.
    Masquerade,
    /// The flow leaves with this address, and answers to it come back to who opened it. Packets of
    /// the other family go on.
    LeaveAs(IpAddr),
    /// Goes on in another chain and does not come back.
    Goto(Name),
    /// Goes on in another chain, and here again when that returns.
    Jump(Name),
    /// Back to where this chain was called from.
    Return,
    /// The packet is left as it is by this table.
    Accept,
    /// Looks up destination, protocol and port, and goes to the chain found; goes on where none is.
    Dispatch(Name),
}

/// No name of a table's part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name for a rule: 1 to 200 letters, digits, `/`, `-`, `_` or `.`, a letter first"
)]
pub struct NotAName(String);

impl Name {
    /// The longest name, in bytes: two names of 63 bytes (RFC 1035 section 2.3.4) and a word fit
    /// into `NFT_NAME_MAXLEN`, 256.
    const BYTES_MAX: usize = 200;

    /// Reads a name.
    ///
    /// # Errors
    /// It has other characters, is empty or too long.
    pub fn new(text: &str) -> Result<Self, NotAName> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        if begins && text.len() <= Self::BYTES_MAX && text.bytes().all(fine) {
            Ok(Self(text.into()))
        } else {
            Err(NotAName(text.to_owned()))
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Key {
    /// `10.0.1.10:8080/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.address, self.port), self.transport)
    }
}

impl fmt::Display for Transport {
    /// `tcp`, `udp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Family {
    /// `v4`, `v6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

impl Family {
    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}
