//! Elements of verdict maps.

use std::net::IpAddr;

use super::expression::{Verdict, write_verdict};
use super::rule::protocol;
use super::{CREATE, Messages, Verb};
use crate::rules::{Key, Name};

/// Elements in one message: their list's length is 16 bits, and one takes up to 280 bytes.
pub(in crate::dataplane) const PER_MESSAGE: usize = 200;

/// Puts elements into a map.
pub(in crate::dataplane) fn add(
    to: &mut Messages,
    table: &Name,
    map: &Name,
    elements: &[(Key, &Name)],
) {
    for some in elements.chunks(PER_MESSAGE) {
        to.rules(Verb::NewElements, CREATE, |message| {
            message.text(1, table.as_str());
            message.text(2, map.as_str());
            message.nest(3, |list| {
                for (key, chain) in some {
                    list.nest(1, |element| {
                        element.nest(1, |data| data.attribute(1, &bytes(*key)));
                        element.nest(2, |data| {
                            write_verdict(data, Verdict::Goto(chain.as_str()));
                        });
                    });
                }
            });
        });
    }
}

/// Takes elements out of a map.
pub(in crate::dataplane) fn remove(to: &mut Messages, table: &Name, map: &Name, keys: &[Key]) {
    for some in keys.chunks(PER_MESSAGE) {
        to.rules(Verb::DelElements, 0, |message| {
            message.text(1, table.as_str());
            message.text(2, map.as_str());
            message.nest(3, |list| {
                for key in some {
                    list.nest(1, |element| {
                        element.nest(1, |data| data.attribute(1, &bytes(*key)));
                    });
                }
            });
        });
    }
}

/// Address, protocol and port, each padded to four bytes.
fn bytes(key: Key) -> Vec<u8> {
    let mut bytes = match key.address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    bytes.extend_from_slice(&[protocol(key.transport), 0, 0, 0]);
    bytes.extend_from_slice(&key.port.to_be_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes
}
