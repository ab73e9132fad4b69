//! What the kernel says of rules, as values.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Tally;
use super::answer::Attributes;
use super::encode::expression::COUNTER;
use super::encode::object::{MAP, OWNER, PERSIST};
use crate::rules::{Key, Transport};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableFound {
    pub(super) comment: Option<String>,
    /// The netlink port of its owner.
    pub(super) owner: Option<u32>,
    pub(super) persists: bool,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChainFound {
    pub(super) name: String,
    /// Number and priority.
    pub(super) hook: Option<(u32, i32)>,
}

/// A set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SetFound {
    pub(super) name: String,
    pub(super) map: bool,
    pub(super) key_length: u32,
    pub(super) size: u32,
    pub(super) timeout_ms: u64,
}

/// A named counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CounterFound {
    pub(super) name: String,
    pub(super) tally: Tally,
}

/// An element of a map or set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ElementFound {
    pub(super) key: Vec<u8>,
    /// The chain of its verdict.
    pub(super) chain: Option<String>,
    pub(super) tally: Tally,
    pub(super) expires_ms: u64,
}

/// Reads a table.
pub(super) fn table(it: Attributes<'_>) -> Option<TableFound> {
    let flags = it.number(2)?;
    Some(TableFound {
        comment: it.find(6).and_then(|data| comment(data.value)),
        owner: if flags & OWNER == 0 { None } else { it.number(7) },
        persists: flags & PERSIST != 0,
    })
}

/// Reads a chain, if it is of `table`.
pub(super) fn chain(it: Attributes<'_>, table: &str) -> Option<ChainFound> {
    if it.text(1) != Some(table) {
        return None;
    }
    let hook = it.nest(4).and_then(|hook| {
        let priority = i32::from_be_bytes(hook.find(2)?.value.try_into().ok()?);
        Some((hook.number(1)?, priority))
    });
    Some(ChainFound { name: it.text(3)?.to_owned(), hook })
}

/// Reads a set, if it is of `table`.
pub(super) fn set(it: Attributes<'_>, table: &str) -> Option<SetFound> {
    if it.text(1) != Some(table) {
        return None;
    }
    Some(SetFound {
        name: it.text(2)?.to_owned(),
        // The kernel does not say flags where there are none.
        map: it.number(3).unwrap_or_default() & MAP != 0,
        key_length: it.number(5)?,
        size: it.nest(9).and_then(|description| description.number(1)).unwrap_or_default(),
        timeout_ms: it.long(11).unwrap_or_default(),
    })
}

/// Reads a counter, if it is of `table`.
pub(super) fn counter(it: Attributes<'_>, table: &str) -> Option<CounterFound> {
    if it.text(1) != Some(table) || it.number(3) != Some(COUNTER) {
        return None;
    }
    Some(CounterFound { name: it.text(2)?.to_owned(), tally: tally(it.nest(4)?)? })
}

/// The chain that a rule stands in, if it is of `table`.
pub(super) fn rule_chain(it: Attributes<'_>, table: &str) -> Option<String> {
    if it.text(1) != Some(table) {
        return None;
    }
    it.text(2).map(str::to_owned)
}

/// Reads the elements of one message.
pub(super) fn elements(it: Attributes<'_>) -> Vec<ElementFound> {
    it.nest(3).into_iter().flatten().filter_map(|each| element(each.nest())).collect()
}

fn element(it: Attributes<'_>) -> Option<ElementFound> {
    let key = it.nest(1)?.find(1)?.value.to_vec();
    let verdict = it.nest(2).and_then(|data| data.nest(2));
    let counter = it.nest(7).filter(|each| each.text(1) == Some("counter"));
    Some(ElementFound {
        key,
        chain: verdict.and_then(|it| it.text(2)).map(str::to_owned),
        tally: counter.and_then(|it| tally(it.nest(2)?)).unwrap_or_default(),
        expires_ms: it.long(5).unwrap_or_default(),
    })
}

fn tally(it: Attributes<'_>) -> Option<Tally> {
    Some(Tally { bytes: it.long(1)?, packets: it.long(2)? })
}

/// The comment in what `nft` keeps beside a table: type, length, value, each after another.
fn comment(mut data: &[u8]) -> Option<String> {
    loop {
        let [kind, length, rest @ ..] = data else { return None };
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == 0 {
            return String::from_utf8(value.strip_suffix(&[0])?.to_vec()).ok();
        }
        data = rest;
    }
}

/// Reads the key of a verdict map: address, protocol and port, each padded to four bytes.
pub(super) fn key(bytes: &[u8]) -> Option<Key> {
    let (address, rest) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    let [protocol, 0, 0, 0, high, low, 0, 0] = rest else { return None };
    let transport = match protocol {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _ => return None,
    };
    Some(Key { address: ip(address)?, transport, port: u16::from_be_bytes([*high, *low]) })
}

/// Reads an address as a network of `prefix` bits.
pub(super) fn network(bytes: &[u8], prefix: u8) -> Option<IpNet> {
    IpNet::new(ip(bytes)?, prefix).ok()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
