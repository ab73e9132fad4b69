//! One thread's table: which keys were told which side, and per service what is left when keys are
//! not kept.

use std::mem;

use ipnet::IpNet;
use plan::split::Side;

use super::places::{Place, Roster};
use super::{KEYS_PER_SERVICE, KeyHasher};

/// One client key of one service in one epoch. Epoch 0 is an empty slot.
#[derive(Clone, Copy, Default)]
pub(crate) struct Entry {
    pub(super) key: u64,
    pub(super) place: u32,
    pub(super) epoch: u32,
    /// Answers that told this side; they stop at the largest number.
    pub(super) legacy: u32,
    pub(super) target: u32,
}

/// What a thread knows of one place.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(super) epoch: u32,
    /// Of the keys only those are kept whose hash starts with as many zero bits.
    pub(super) level: u32,
    kept: u32,
    pub(super) events: u64,
    /// When the last answer of this epoch expires, in seconds since 1970.
    pub(super) expires: u64,
    /// When the last answer of an earlier epoch expires.
    pub(super) old_expires: u64,
}

/// One thread's table.
pub(crate) struct Table {
    hasher: KeyHasher,
    entries: Box<[Entry]>,
    /// As large as `entries`; the room to rebuild in.
    spare: Box<[Entry]>,
    used: usize,
    tallies: Vec<Tally>,
    /// Counts rebuilds, so that a reader in the middle notices one.
    pub(super) rebuilds: u64,
}

impl Table {
    /// With room for three quarters of `slots`, a power of two, keys.
    pub(super) fn new(hasher: KeyHasher, slots: usize) -> Self {
        debug_assert!(slots.is_power_of_two());
        Self {
            hasher,
            entries: vec![Entry::default(); slots].into(),
            spare: vec![Entry::default(); slots].into(),
            used: 0,
            tallies: Vec::new(),
            rebuilds: 0,
        }
    }

    /// Notes that `client` was told `side` of the service at `place`, at `now` in seconds since
    /// 1970.
    pub(crate) fn note(
        &mut self,
        roster: &Roster,
        place: Place,
        client: IpNet,
        side: Side,
        now: u64,
    ) {
        if self.tallies.len() < roster.len() {
            // Once after a catalog with more services than any before.
            self.tallies.resize(roster.len(), Tally::default());
        }
        let tally = usize::try_from(place.index).ok().and_then(|at| self.tallies.get_mut(at));
        let Some(tally) = tally else { return };
        tally.turn_to(place);
        tally.events += 1;
        // The second under way counts as not yet begun.
        tally.expires = tally.expires.max(now.saturating_add(u64::from(place.ttl) + 1));
        let key = self.hasher.hash(client);
        if !is_kept(key, tally.level) {
            return;
        }
        let Some(at) = find(&self.entries, key, place.index) else { return };
        let Some(entry) = self.entries.get_mut(at) else { return };
        let fresh = entry.epoch != place.epoch;
        if fresh {
            tally.kept += 1;
            self.used += usize::from(entry.epoch == 0);
            *entry = Entry { key, place: place.index, epoch: place.epoch, legacy: 0, target: 0 };
        }
        let count = match side {
            Side::Legacy => &mut entry.legacy,
            Side::Target => &mut entry.target,
        };
        *count = count.saturating_add(1);
        if fresh {
            self.bound(roster, place);
        }
    }

    /// Holds the bounds after a key came.
    fn bound(&mut self, roster: &Roster, place: Place) {
        if self.tally(place.index).kept > KEYS_PER_SERVICE {
            let at = usize::try_from(place.index).ok();
            if let Some(tally) = at.and_then(|at| self.tallies.get_mut(at)) {
                tally.level += 1;
            }
            self.rebuild(roster);
        }
        // A quarter stays empty so that searches stay short.
        let most = self.entries.len() / 4 * 3;
        if self.used <= most {
            return;
        }
        self.rebuild(roster);
        // Half of that, so that the work is not due again soon.
        while self.used > most / 2 {
            self.raise_lowest();
            self.rebuild(roster);
        }
    }

    /// Halves what is kept of the services of which most is kept.
    #[cold]
    fn raise_lowest(&mut self) {
        let holding = self.tallies.iter().filter(|tally| tally.kept > 0);
        let Some(lowest) = holding.map(|tally| tally.level).min() else {
            self.used = 0;
            return;
        };
        for tally in self.tallies.iter_mut().filter(|tally| tally.level == lowest) {
            tally.level += 1;
        }
    }

    /// Leaves out what is of the past or no longer kept.
    #[cold]
    fn rebuild(&mut self, roster: &Roster) {
        self.spare.fill(Entry::default());
        self.used = 0;
        for tally in &mut self.tallies {
            tally.kept = 0;
        }
        for entry in self.entries.iter().filter(|entry| entry.epoch != 0) {
            let at = usize::try_from(entry.place).ok();
            let Some(tally) = at.and_then(|at| self.tallies.get_mut(at)) else { continue };
            if entry.epoch != roster.epoch(entry.place) || !is_kept(entry.key, tally.level) {
                continue;
            }
            let slot = find(&self.spare, entry.key, entry.place);
            if let Some(slot) = slot.and_then(|at| self.spare.get_mut(at)) {
                *slot = *entry;
                tally.kept += 1;
                self.used += 1;
            }
        }
        mem::swap(&mut self.entries, &mut self.spare);
        self.rebuilds += 1;
    }

    /// What is known of a place.
    pub(super) fn tally(&self, index: u32) -> Tally {
        let tally = usize::try_from(index).ok().and_then(|index| self.tallies.get(index));
        tally.copied().unwrap_or_default()
    }

    /// A part of the slots, for a reader that does not want to hold the lock for long.
    pub(super) fn chunk(&self, index: usize, size: usize) -> Option<&[Entry]> {
        self.entries.chunks(size).nth(index)
    }

    #[cfg(test)]
    pub(super) const fn used(&self) -> usize {
        self.used
    }
}

impl Tally {
    /// Starts anew when the split has changed, remembering how long the old answers live.
    fn turn_to(&mut self, place: Place) {
        if self.epoch == place.epoch {
            return;
        }
        let old = if self.epoch >= place.first { self.old_until(place.epoch) } else { 0 };
        *self = Self { epoch: place.epoch, old_expires: old, ..Self::default() };
    }

    /// When the last answer of an epoch before `epoch` expires.
    pub(super) fn old_until(&self, epoch: u32) -> u64 {
        if self.epoch == epoch { self.old_expires } else { self.old_expires.max(self.expires) }
    }
}

/// Whether the hash starts with `level` zero bits.
pub(super) const fn is_kept(key: u64, level: u32) -> bool {
    key.leading_zeros() >= level
}

/// The slot of this key at this place, or the empty one where it belongs. There is always one.
fn find(entries: &[Entry], key: u64, place: u32) -> Option<usize> {
    let mask = entries.len().checked_sub(1)?;
    // The high bits decide what is kept, so places are found by the low ones.
    let start = key ^ u64::from(place).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    #[expect(clippy::cast_possible_truncation, reason = "cut to the mask anyway")]
    let start = start as usize & mask;
    (0..entries.len()).map(|step| (start + step) & mask).find(|at| {
        let entry = entries.get(*at);
        entry.is_some_and(|entry| entry.epoch == 0 || (entry.key == key && entry.place == place))
    })
}
