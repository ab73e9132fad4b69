//! Forgets flows of connection tracking by their mark, and by where they were sent to
//! (`linux/netfilter/nfnetlink_conntrack.h`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use super::Forget;
use super::answer::Attributes;
use super::encode::rule::{TRANSLATED, V4, V6, octets, protocol};
use super::encode::{ACK, DUMP, Messages};
use super::error::DataplaneError;
use super::socket::Socket;
use crate::rules::{Action, Key, Name, Table, Transport, mark};

/// `IPCTNL_MSG_CT_GET`.
const LIST: u16 = 1;
/// `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 2;
/// `CTA_TUPLE_ORIG`.
const ORIGINAL: u16 = 1;
/// `CTA_TUPLE_REPLY`.
const ANSWERS: u16 = 2;
/// `CTA_STATUS`.
const STATUS: u16 = 3;
/// `CTA_MARK`.
const MARK: u16 = 8;
/// `CTA_ID`.
const ID: u16 = 12;
/// `CTA_ZONE`.
const ZONE: u16 = 18;
/// `CTA_MARK_MASK`.
const MARK_MASK: u16 = 21;
/// `CTA_FILTER`.
const FILTER: u16 = 25;
/// `CTA_STATUS_MASK`.
const STATUS_MASK: u16 = 26;
/// `CTA_FILTER_F_CTA_PROTO_NUM`.
const BY_PROTOCOL: u32 = 1 << 3;
/// `CTA_FILTER_F_CTA_IP_DST` and `CTA_FILTER_F_CTA_PROTO_DST_PORT`.
const BY_DESTINATION: u32 = 1 << 1 | 1 << 5;
/// `CTA_TUPLE_PROTO`.
const TUPLE_PROTOCOL: u16 = 2;
/// `CTA_TUPLE_IP`.
const TUPLE_ADDRESSES: u16 = 1;
/// `CTA_IP_V4_SRC` and `CTA_IP_V4_DST`.
const ADDRESSES_V4: [u16; 2] = [1, 2];
/// `CTA_IP_V6_SRC` and `CTA_IP_V6_DST`.
const ADDRESSES_V6: [u16; 2] = [3, 4];
/// `CTA_PROTO_NUM`.
const PROTOCOL_NUMBER: u16 = 1;
/// `CTA_PROTO_SRC_PORT` and `CTA_PROTO_DST_PORT`.
const PORTS: [u16; 2] = [2, 3];
/// Flows forgotten by one system call: their answers wait in the receive buffer.
const AT_ONCE: usize = 200;
/// Flows listed at most: a table of connection tracking seldom holds more (`nf_conntrack_max`).
const LISTED_MAX: usize = 1 << 20;

/// The most services and destinations whose flows are forgotten by a message each, for which the
/// kernel walks its table once or twice; for more of them it is listed.
const WALKS_MAX: usize = 8;
/// What of a flow's mark says whose it is.
const WHOSE: u32 = mark::SIDE | mark::INDEX;

/// Flows whose mark says `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Which {
    value: u32,
    only: Only,
}

/// And which of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    /// All.
    All,
    /// Those of a transport.
    Of(Transport),
    /// Those that were sent to a destination.
    To(Key),
}

impl Which {
    /// Whether all of them were translated by our table: what is on target always is.
    const fn translated(self) -> bool {
        self.value & mark::SIDE != 0
    }

    fn fits(self, flow: Seen) -> bool {
        let only = match self.only {
            Only::All => true,
            Only::Of(transport) => flow.to.transport == transport,
            Only::To(key) => flow.to == key,
        };
        // Asked again: a kernel without the filter lists all.
        only && flow.mark & WHOSE == self.value && (flow.translated || !self.translated())
    }
}

/// Where flows of each service are sent to, by what their marks say of it.
pub(super) type Keys = BTreeMap<u32, BTreeSet<Key>>;

/// The destinations that a table leads to chains which mark flows.
pub(super) fn keys(table: &Table) -> Keys {
    let mut keys = Keys::new();
    let mut known: BTreeMap<&Name, BTreeSet<u32>> = BTreeMap::new();
    for (key, chain) in table.dispatch.values().flat_map(|map| &map.chains) {
        for index in known.entry(chain).or_insert_with(|| indexes(table, chain)).iter() {
            keys.entry(*index).or_default().insert(*key);
        }
    }
    keys
}

/// The services whose marks are set in a chain and those that it leads to.
fn indexes<'a>(table: &'a Table, chain: &'a Name) -> BTreeSet<u32> {
    let (mut seen, mut due) = (BTreeSet::from([chain]), vec![chain]);
    let mut indexes = BTreeSet::new();
    while let Some(name) = due.pop() {
        let rules = table.chains.get(name).into_iter().flat_map(|chain| &chain.rules);
        for action in rules.flat_map(|rule| &rule.actions) {
            if let Action::MarkFlow { mask, value } = action
                && mask & value & mark::INDEX != 0
            {
                indexes.insert(value & mark::INDEX);
            }
            if let Action::Goto(to) | Action::Jump(to) = action
                && seen.insert(to)
            {
                due.push(to);
            }
        }
    }
    indexes
}

/// What names one flow: attributes to be sent back as they came.
#[derive(Clone, Debug)]
struct Listed {
    tuple: Vec<u8>,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
    family: u8,
}

/// Forgets flows: with one message, or listed and one by one where the kernel cannot tell
/// transports apart (before Linux 6.11).
fn flush(socket: &mut Socket, which: Which, one_by_one: bool) -> Result<(), DataplaneError> {
    if which.only == Only::All {
        return at_once(socket, which)?.map_err(refused);
    }
    // Asked for an address of IPv6 the kernel takes all others (`ctnetlink_filter_match_tuple`, to
    // Linux 6.18 at least).
    let is_v6 = matches!(which.only, Only::To(key) if key.address.is_ipv6());
    if !one_by_one && !is_v6 {
        match at_once(socket, which)? {
            // The filter is not known, and what is left of the question names no flow.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT) => (),
            outcome => return outcome.map_err(refused),
        }
    }
    let listed = list(socket, Some(which.value), |flow| which.fits(flow))?;
    each(socket, &listed)
}

/// Forgets flows of any number of services. What is on legacy may be left as it was sent: another
/// program's flow may have such a mark too, but is not sent where the service is, which `keys` say.
/// `None`: nobody knows, and the mark alone counts.
pub(super) fn forget(
    socket: &mut Socket,
    which: &Forget,
    keys: Option<&Keys>,
    one_by_one: bool,
) -> Result<(), DataplaneError> {
    let values = which.marked.iter().map(|(mark, side)| mark.value(*side, false) & WHOSE);
    let values: BTreeSet<u32> = values.collect();
    let counts = |transport| which.connections || transport == Transport::Udp;
    let all = if which.connections { Only::All } else { Only::Of(Transport::Udp) };
    let at = |value: u32| {
        let on_legacy = value & mark::SIDE == 0;
        keys.filter(|_| on_legacy).map(|keys| keys.get(&value))
    };
    let by_message = |value: u32| match at(value) {
        None => vec![Which { value, only: all }],
        Some(keys) => {
            let keys = keys.into_iter().flatten().filter(|key| counts(key.transport));
            keys.map(|key| Which { value, only: Only::To(*key) }).collect()
        }
    };
    let walks: Vec<Which> = values.iter().flat_map(|value| by_message(*value)).collect();
    if !which.translated && which.older.is_empty() && walks.len() <= WALKS_MAX {
        return walks.into_iter().try_for_each(|which| flush(socket, which, one_by_one));
    }
    let listed = list(socket, None, |flow| {
        let value = flow.mark & WHOSE;
        let on_target = value & mark::SIDE != 0;
        let is_older = value & mark::INDEX == 0 || (on_target && !flow.translated);
        let is_its = || {
            let is_there =
                |keys: Option<&BTreeSet<Key>>| keys.is_some_and(|it| it.contains(&flow.to));
            values.contains(&value) && at(value).is_none_or(is_there)
        };
        counts(flow.to.transport)
            && match is_older {
                true => which.older.contains(&flow.to),
                false => is_its() && (flow.translated || !which.translated),
            }
    })?;
    each(socket, &listed)
}

/// Forgets these.
fn each(socket: &mut Socket, listed: &[Listed]) -> Result<(), DataplaneError> {
    for some in listed.chunks(AT_ONCE) {
        let mut messages = socket.messages();
        for flow in some {
            messages.flows(DELETE, ACK, flow.family, |to| {
                to.nested(ORIGINAL, &flow.tuple);
                flow.id.iter().for_each(|id| to.attribute(ID, id));
                flow.zone.iter().for_each(|zone| to.attribute(ZONE, zone));
            });
        }
        for outcome in socket.ask_each(&messages)? {
            match outcome {
                // It ended by itself.
                Ok(()) | Err(Errno::ENOENT) => (),
                Err(errno) => return Err(refused(errno)),
            }
        }
    }
    Ok(())
}

/// What is tracked of flows, for whoever opened one.
#[derive(Debug)]
pub struct Tracked(Socket);

impl Tracked {
    /// Asks in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel has no netlink for flows, or the process may not.
    pub fn open() -> Result<Self, DataplaneError> {
        Socket::open().map(Self)
    }

    /// With which address the TCP flow between these ends leaves: where its answers are sent to.
    /// `None`: no such flow is tracked.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub fn leaves_as(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Option<IpAddr>, DataplaneError> {
        let (family, kinds) = if to.is_ipv4() { (V4, ADDRESSES_V4) } else { (V6, ADDRESSES_V6) };
        let [_, answered] = kinds;
        let mut messages = self.0.messages();
        messages.flows(LIST, 0, family, |message| {
            message.nest(ORIGINAL, |tuple| {
                tuple.nest(TUPLE_ADDRESSES, |it| {
                    for (kind, end) in kinds.into_iter().zip([from, to]) {
                        octets(end.ip(), |bytes| it.attribute(kind, bytes));
                    }
                });
                tuple.nest(TUPLE_PROTOCOL, |it| {
                    it.attribute(PROTOCOL_NUMBER, &[protocol(Transport::Tcp)]);
                    for (kind, end) in PORTS.into_iter().zip([from, to]) {
                        it.attribute(kind, &end.port().to_be_bytes());
                    }
                });
            });
        });
        self.0.ask_one(&messages, |flow| {
            let addresses = flow.nest(ANSWERS)?.nest(TUPLE_ADDRESSES)?;
            address(addresses.find(answered)?.value)
        })
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// With one message, or one for each family: the kernel walks its table.
fn at_once(socket: &mut Socket, which: Which) -> Result<Result<(), Errno>, DataplaneError> {
    let mut messages = socket.messages();
    // Transports are told apart only within a family.
    let families: &[u8] = match which.only {
        Only::All => &[0],
        Only::Of(_) => &[V4, V6],
        Only::To(_) => &[V4],
    };
    for family in families {
        messages.flows(DELETE, ACK, *family, |to| {
            to.number(MARK, which.value);
            to.number(MARK_MASK, WHOSE);
            if which.translated() {
                // A kernel that cannot look at it goes by the mark alone (before Linux 5.16).
                to.number(STATUS, TRANSLATED);
                to.number(STATUS_MASK, TRANSLATED);
            }
            only(to, which.only);
        });
    }
    let outcomes = socket.ask_each(&messages)?;
    Ok(outcomes.into_iter().collect())
}

/// What the first packet of a flow must have been.
fn only(to: &mut Messages, only: Only) {
    let (transport, key) = match only {
        Only::All => return,
        Only::Of(transport) => (transport, None),
        Only::To(key) => (key.transport, Some(key)),
    };
    to.nest(ORIGINAL, |tuple| {
        if let Some(Key { address, .. }) = key {
            let [_, to] = ADDRESSES_V4;
            tuple.nest(TUPLE_ADDRESSES, |it| octets(address, |bytes| it.attribute(to, bytes)));
        }
        tuple.nest(TUPLE_PROTOCOL, |it| {
            it.attribute(PROTOCOL_NUMBER, &[protocol(transport)]);
            if let Some(Key { port, .. }) = key {
                let [_, to] = PORTS;
                it.attribute(to, &port.to_be_bytes());
            }
        });
    });
    let by = BY_PROTOCOL | key.map_or(0, |_| BY_DESTINATION);
    to.nest(FILTER, |filter| filter.attribute(1, &by.to_ne_bytes()));
}

/// What is looked at of a flow that was listed.
#[derive(Clone, Copy, Debug)]
struct Seen {
    mark: u32,
    translated: bool,
    /// Where its first packet was sent to.
    to: Key,
}

/// The flows of TCP and UDP that are wanted; where the marks of all of them say a value, others are
/// not listed at all.
fn list(
    socket: &mut Socket,
    marked: Option<u32>,
    is_wanted: impl Fn(Seen) -> bool,
) -> Result<Vec<Listed>, DataplaneError> {
    let mut found = Vec::new();
    for family in [V4, V6] {
        let mut messages = socket.messages();
        messages.flows(LIST, DUMP, family, |to| {
            if let Some(value) = marked {
                to.number(MARK, value);
                to.number(MARK_MASK, WHOSE);
            }
        });
        // Flows come and go while they are listed; those that stay are all in it.
        socket.dump(&messages, |it| {
            if found.len() < LISTED_MAX {
                found.extend(listed(it, family, &is_wanted));
            }
        })?;
    }
    Ok(found)
}

fn listed(it: Attributes<'_>, family: u8, is_wanted: impl Fn(Seen) -> bool) -> Option<Listed> {
    let tuple = it.find(ORIGINAL)?;
    let ends = tuple.nest().nest(TUPLE_PROTOCOL)?;
    let number = ends.find(PROTOCOL_NUMBER)?.value;
    let mut transports = [Transport::Tcp, Transport::Udp].into_iter();
    let transport = transports.find(|transport| number == [protocol(*transport)])?;
    let [_, to] = if family == V4 { ADDRESSES_V4 } else { ADDRESSES_V6 };
    let [_, port] = PORTS;
    let to = Key {
        address: address(tuple.nest().nest(TUPLE_ADDRESSES)?.find(to)?.value)?,
        transport,
        port: u16::from_be_bytes(ends.find(port)?.value.try_into().ok()?),
    };
    let mark = it.number(MARK).unwrap_or_default();
    let translated = it.number(STATUS).unwrap_or_default() & TRANSLATED != 0;
    if !is_wanted(Seen { mark, translated, to }) {
        return None;
    }
    let whole = |kind| it.find(kind).map(|attribute| attribute.value.to_vec());
    Some(Listed { tuple: tuple.value.to_vec(), id: whole(ID), zone: whole(ZONE), family })
}

fn refused(errno: Errno) -> DataplaneError {
    DataplaneError::refused("to forget flows", errno)
}
