//! Who was told what: how many clients were sent to each side of a service since its split last
//! changed, and until when answers given before may live on in caches.
//!
//! Each thread notes its answers in a table of its own ([`Seen`]), behind a lock that it takes once
//! per batch and that only a reader contends, for some microseconds. A reader puts the tables
//! together ([`counts`]): a client whose queries reached two threads is one client.
//!
//! Tables are bounded. When a service has more keys than [`KEYS_PER_SERVICE`], or a table is full,
//! it keeps only those keys whose hash starts with one more zero bit: every key is as likely to
//! stay as any other, and independently of its side, so shares stay unbiased. Numbers are then
//! scaled up; they are exact until then.

mod merge;
mod places;
mod table;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use self::merge::counts;
pub(crate) use self::places::{Places, Roster};
pub(crate) use self::table::Table;

/// Keys kept of one service by one thread. Half of them on either side give the share a standard
/// deviation of 0.4 %, finer than any step that an operator judges by it.
pub const KEYS_PER_SERVICE: u32 = 16_384;

/// Keys that a thread has room for, of all services together; 3 MiB, and once more as much for
/// making room. A power of two.
pub const TABLE_SLOTS: usize = 1 << 17;

/// One thread's table.
pub(crate) struct Seen(Mutex<Table>);

impl Seen {
    pub(crate) fn new(hasher: KeyHasher) -> Self {
        Self(Mutex::new(Table::new(hasher, TABLE_SLOTS)))
    }

    /// The table, for one batch.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while noting leaves at worst one key uncounted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turns client keys into hashes whose every bit is unrelated to the client's bucket, so that
/// keeping keys by their hash favours no side. Seeded per server: nobody can choose networks that
/// collide.
#[derive(Clone, Copy)]
pub(crate) struct KeyHasher {
    seeds: [u64; 2],
}

impl KeyHasher {
    pub(crate) const fn new(seeds: [u64; 2]) -> Self {
        Self { seeds }
    }

    /// A hash of the network; equal networks have equal hashes in all tables of one server.
    pub(crate) fn hash(self, network: ipnet::IpNet) -> u64 {
        let [first, second] = self.seeds;
        let length = u64::from(network.prefix_len());
        let (high, low) = match network {
            ipnet::IpNet::V4(v4) => (4, u64::from(u32::from(v4.network()))),
            ipnet::IpNet::V6(v6) => {
                let bits = u128::from(v6.network());
                #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
                let halves = ((bits >> 64) as u64, bits as u64);
                halves
            }
        };
        let folded = fold(high ^ first, length ^ second).wrapping_add(low);
        fold(folded ^ second, first | 1)
    }
}

/// The two halves of a full product, mixed.
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    // The finish of splitmix64: a product alone has weak low bits.
    let mut mixed = low ^ high;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
