//! Forgets flows of connection tracking by their mark, and by where they were sent to
//! (`linux/netfilter/nfnetlink_conntrack.h`).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use super::Forget;
use super::answer::Attributes;
use super::encode::rule::{TRANSLATED, V4, V6, octets, protocol};
use super::encode::{ACK, DUMP};
use super::error::DataplaneError;
use super::socket::Socket;
use crate::rules::{Key, Transport, mark};

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

/// The most services whose flows are forgotten by a message each, for which the kernel walks its
/// table once or twice; for more of them it is listed.
const WALKS_MAX: usize = 8;

/// Flows whose mark, under `mask`, is `value`; only those of `transport`, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Which {
    mask: u32,
    value: u32,
    transport: Option<Transport>,
}

impl Which {
    /// Whether all of them were translated by our table: what is on target always is.
    const fn translated(self) -> bool {
        self.mask & self.value & mark::SIDE != 0
    }
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
    let Some(transport) = which.transport else {
        return at_once(socket, which)?.map_err(refused);
    };
    if !one_by_one {
        match at_once(socket, which)? {
            // The filter is not known, and what is left of the question names no flow.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT) => (),
            outcome => return outcome.map_err(refused),
        }
    }
    let listed = list(socket, transport, Some((which.mask, which.value)), |flow| {
        // Asked again: a kernel without the filter lists all.
        let others = which.translated() && !flow.translated;
        flow.mark & which.mask == which.value && !others
    })?;
    each(socket, &listed)
}

/// Forgets flows of any number of services.
pub(super) fn forget(
    socket: &mut Socket,
    which: &Forget,
    one_by_one: bool,
) -> Result<(), DataplaneError> {
    let mask = mark::SIDE | mark::INDEX;
    let values = which.marked.iter().map(|(mark, side)| mark.value(*side, false) & mask);
    let values: BTreeSet<u32> = values.collect();
    if !which.translated && which.older.is_empty() && values.len() <= WALKS_MAX {
        let transport = (!which.connections).then_some(Transport::Udp);
        for value in values {
            flush(socket, Which { mask, value, transport }, one_by_one)?;
        }
        return Ok(());
    }
    for transport in [Transport::Udp, Transport::Tcp] {
        if transport == Transport::Tcp && !which.connections {
            continue;
        }
        let listed = list(socket, transport, None, |flow| {
            let value = flow.mark & mask;
            let on_target = value & mark::SIDE != 0;
            let is_older = value & mark::INDEX == 0 || (on_target && !flow.translated);
            match is_older {
                true => which.older.contains(&flow.to),
                false => values.contains(&value) && (flow.translated || !which.translated),
            }
        })?;
        each(socket, &listed)?;
    }
    Ok(())
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
    let families: &[u8] = if which.transport.is_some() { &[V4, V6] } else { &[0] };
    for family in families {
        messages.flows(DELETE, ACK, *family, |to| {
            to.number(MARK, which.value);
            to.number(MARK_MASK, which.mask);
            if which.translated() {
                // A kernel that cannot look at it goes by the mark alone (before Linux 5.16).
                to.number(STATUS, TRANSLATED);
                to.number(STATUS_MASK, TRANSLATED);
            }
            let Some(transport) = which.transport else { return };
            to.nest(ORIGINAL, |tuple| {
                tuple.nest(TUPLE_PROTOCOL, |it| {
                    it.attribute(PROTOCOL_NUMBER, &[protocol(transport)]);
                });
            });
            to.nest(FILTER, |filter| filter.attribute(1, &BY_PROTOCOL.to_ne_bytes()));
        });
    }
    let outcomes = socket.ask_each(&messages)?;
    Ok(outcomes.into_iter().collect())
}

/// What is looked at of a flow that was listed.
#[derive(Clone, Copy, Debug)]
struct Seen {
    mark: u32,
    translated: bool,
    /// Where its first packet was sent to.
    to: Key,
}

/// The flows of a transport that are wanted; where all of them have a value under a mask of their
/// marks, others are not listed at all.
fn list(
    socket: &mut Socket,
    transport: Transport,
    marked: Option<(u32, u32)>,
    is_wanted: impl Fn(Seen) -> bool,
) -> Result<Vec<Listed>, DataplaneError> {
    let mut found = Vec::new();
    for family in [V4, V6] {
        let mut messages = socket.messages();
        messages.flows(LIST, DUMP, family, |to| {
            if let Some((mask, value)) = marked {
                to.number(MARK, value);
                to.number(MARK_MASK, mask);
            }
        });
        // Flows come and go while they are listed; those that stay are all in it.
        socket.dump(&messages, |it| {
            if found.len() < LISTED_MAX {
                found.extend(listed(it, transport, family, &is_wanted));
            }
        })?;
    }
    Ok(found)
}

fn listed(
    it: Attributes<'_>,
    transport: Transport,
    family: u8,
    is_wanted: impl Fn(Seen) -> bool,
) -> Option<Listed> {
    let tuple = it.find(ORIGINAL)?;
    let ends = tuple.nest().nest(TUPLE_PROTOCOL)?;
    if ends.find(PROTOCOL_NUMBER)?.value != [protocol(transport)] {
        return None;
    }
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
