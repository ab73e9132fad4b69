//! Random numbers: SipHash of a counter under a key from the operating system. Hard to foresee for
//! who does not know the key; the ids of our own probes come from here.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

pub(super) struct Draw {
    key: RandomState,
    count: Cell<u64>,
}

impl Draw {
    pub(super) fn new() -> Self {
        Self { key: RandomState::new(), count: Cell::new(0) }
    }

    /// 64 uniform bits.
    pub(super) fn next(&self) -> u64 {
        self.count.set(self.count.get().wrapping_add(1));
        self.key.hash_one(self.count.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_fill_their_range_evenly() {
        let draw = Draw::new();
        let mut rooms = [0_u32; 16];
        for _ in 0..16_000 {
            rooms[usize::try_from(draw.next() >> 60).unwrap()] += 1;
        }
        assert!(rooms.iter().all(|room| (800..1_200).contains(room)), "{rooms:?}");
        assert_ne!(Draw::new().next(), Draw::new().next());
    }
}
