//! Buckets: where a client stands in a plane. On target iff bucket < split.
//!
//! The three functions are published, so that anyone can predict a client's side:
//!
//! | plane | bucket |
//! |---|---|
//! | dns | `xxh64(family ‖ length ‖ network, salt) × 10 000 >> 64` |
//! | host | `jhash(source address, salt as u32) × 10 000 >> 32`, as nftables computes it |
//! | mesh | `xxh64(affinity key, 0) mod 10 000`, as Envoy computes it |
//!
//! `family` is one byte, 4 or 6; `length` is the prefix length, one byte; `network` is the address
//! with its host bits cleared, 4 or 16 bytes in network order. The affinity key of mesh is the text
//! of the address as [`address_key`] has it, or the value of the header or cookie.
//!
//! Published vectors, for the salt `shop/orders` (0x0ca8769e242d5c63); the tests hold more:
//!
//! | plane | client | bucket |
//! |---|---|---|
//! | dns | 192.0.2.0/24 | 6580 |
//! | dns | 10.0.0.53/32 | 7216 |
//! | dns | 2001:db8::/56 | 8883 |
//! | host | 192.0.2.1 | 3549 |
//! | host | 10.0.1.11 | 996 |
//! | host | 2001:db8::1 | 7177 |
//! | mesh | `10.8.0.1` | 1006 |
//! | mesh | `2001:db8::1` | 385 |

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use crate::split::{Side, Split};

/// A client's place in one plane: 0 to 9 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bucket(u16);

impl Bucket {
    /// The place as a number, 0 to 9 999: the client is on the target side at every larger split.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The side of this client at `split`.
    pub const fn side(self, split: Split) -> Side {
        if self.0 < split.bp() { Side::Target } else { Side::Legacy }
    }

    /// Maps 64 uniform bits evenly: a draw for `affinity: none`.
    pub fn from_bits(bits: u64) -> Self {
        let place = (u128::from(bits) * u128::from(Split::WHOLE)) >> 64;
        Self(u16::try_from(place).unwrap_or(Split::WHOLE - 1))
    }
}

/// The salt of a service as a number: xxh64 of its text with seed 0.
pub fn salt(text: &str) -> u64 {
    XxHash64::oneshot(0, text.as_bytes())
}

/// The bucket of a DNS client, told apart by its network.
pub fn dns(network: IpNet, salt: u64) -> Bucket {
    let mut bytes = [0; 18];
    let [family, length, address @ ..] = &mut bytes;
    *length = network.prefix_len();
    let used = match network.network() {
        IpAddr::V4(v4) => {
            *family = 4;
            address.iter_mut().zip(v4.octets()).for_each(|(to, from)| *to = from);
            2 + 4
        }
        IpAddr::V6(v6) => {
            *family = 6;
            *address = v6.octets();
            2 + 16
        }
    };
    Bucket::from_bits(XxHash64::oneshot(salt, bytes.get(..used).unwrap_or(&bytes)))
}

/// The bucket of a client whose packets carry its own address: nftables'
/// `jhash ip saddr mod 10000 seed S`, where `S` is the low half of `salt`.
pub fn host(address: IpAddr, salt: u64) -> Bucket {
    #[expect(clippy::cast_possible_truncation, reason = "the seed is the low half by definition")]
    let seed = salt as u32;
    let hash = match address {
        IpAddr::V4(v4) => jhash(&v4.octets(), seed),
        IpAddr::V6(v6) => jhash(&v6.octets(), seed),
    };
    // reciprocal_scale() of the kernel: an even map without a division.
    let place = (u64::from(hash) * u64::from(Split::WHOLE)) >> 32;
    Bucket(u16::try_from(place).unwrap_or(Split::WHOLE - 1))
}

/// The affinity key of an address in plane mesh: its text as Envoy prints it, which is glibc's
/// `inet_ntop`. An IPv4 address that came as IPv6 (RFC 4291 section 2.5.5.2) is one of IPv4.
///
/// That is RFC 5952, but for the addresses of `::/96`, whose last half is printed as IPv4. What a
/// zone makes of a link-local address (`fe80::1%2`) cannot be known here.
pub fn address_key(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V6(v6) => match v6.octets() {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if (a, b) != (0, 0) => {
                format!("::{a}.{b}.{c}.{d}")
            }
            _ => v6.to_string(),
        },
        IpAddr::V4(v4) => v4.to_string(),
    }
}

/// The bucket of a client behind a proxy; `key` is the affinity key: of an address
/// [`address_key`], else the value of the header or cookie.
///
/// Envoy takes xxh64 of the key modulo the sum of the weights, here 10 000, and walks the weighted
/// clusters in their order; target stands first, with the split as its weight.
pub fn mesh(key: &[u8]) -> Bucket {
    let place = XxHash64::oneshot(0, key) % u64::from(Split::WHOLE);
    Bucket(u16::try_from(place).unwrap_or(Split::WHOLE - 1))
}

/// Bob Jenkins' lookup3 over bytes with the kernel's initial value, on a little-endian machine.
fn jhash(key: &[u8], seed: u32) -> u32 {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let start = 0xdead_beef_u32.wrapping_add(length).wrapping_add(seed);
    let mut state = [start; 3];
    let mut rest = key;
    while rest.len() > 12 {
        let (block, tail) = rest.split_at(12);
        add_words(&mut state, block);
        state = mix(state);
        rest = tail;
    }
    if rest.is_empty() {
        return state[2];
    }
    add_words(&mut state, rest);
    finish(state)
}

fn add_words(state: &mut [u32; 3], block: &[u8]) {
    for (word, bytes) in state.iter_mut().zip(block.chunks(4)) {
        let value = bytes.iter().rev().fold(0, |value, byte| (value << 8) | u32::from(*byte));
        *word = word.wrapping_add(value);
    }
}

fn mix([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    [a, b, c]
}

fn finish([mut a, mut b, mut c]: [u32; 3]) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}
