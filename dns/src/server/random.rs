//! Random numbers for services without affinity. Not for secrets.

use std::hash::{BuildHasher, RandomState};

/// A xorshift64* generator, one per thread, seeded by the operating system.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Self(RandomState::new().hash_one(0_u8) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_fill_their_range_evenly() {
        let mut random = Random::new();
        let mut rooms = [0_u32; 16];
        for _ in 0..16_000 {
            rooms[usize::try_from(random.next() >> 60).unwrap()] += 1;
        }
        assert!(rooms.iter().all(|room| (800..1_200).contains(room)), "{rooms:?}");
        assert_ne!(Random::new().next(), Random::new().next());
    }
}
