//! The tables of all threads as one count per service.

use plan::measure::Count;
use plan::time::Timestamp;

use super::Seen;
use super::places::{Place, Roster};
use super::table::{Entry, Tally, is_kept};

/// Slots copied under one taking of a thread's lock: 24 KiB, a few microseconds.
const CHUNK: usize = 1_024;

/// Times to begin again because the thread made room meanwhile; then the lock is kept throughout.
const RESTARTS: u32 = 3;

/// What all threads have seen of the services of `roster`, at `now`, each by its place in the
/// names. Services that nobody asked for are left out.
pub(crate) fn counts<'a>(
    tables: impl Iterator<Item = &'a Seen>,
    roster: &Roster,
    now: Timestamp,
) -> Vec<(u32, Count)> {
    let mut sums: Vec<Sum> = roster.places().map(Sum::of).collect();
    let mut at_index = vec![usize::MAX; roster.len()];
    for (at, sum) in sums.iter().enumerate() {
        let index = usize::try_from(sum.place.index).ok();
        let slot = index.and_then(|index| at_index.get_mut(index));
        slot.into_iter().for_each(|slot| *slot = at);
    }
    let mut entries = Vec::new();
    for table in tables {
        copy(table, roster, &mut entries);
        let table = table.lock();
        sums.iter_mut().for_each(|sum| sum.add_tally(table.tally(sum.place.index)));
    }
    entries.sort_unstable_by_key(|entry| (entry.place, entry.key));
    for same in entries.chunk_by(|a, b| (a.place, a.key) == (b.place, b.key)) {
        let index = same.first().and_then(|entry| usize::try_from(entry.place).ok());
        let at = index.and_then(|index| at_index.get(index));
        if let Some(sum) = at.and_then(|at| sums.get_mut(*at)) {
            sum.add_key(same);
        }
    }
    let services = (0..).zip(sums);
    services.filter_map(|(service, sum)| Some((service, sum.count(now)?))).collect()
}

/// Adds the entries of a table that are of epochs in force.
fn copy(seen: &Seen, roster: &Roster, to: &mut Vec<Entry>) {
    let start = to.len();
    let in_force = |entry: &&Entry| entry.epoch != 0 && entry.epoch == roster.epoch(entry.place);
    'again: for _ in 0..RESTARTS {
        to.truncate(start);
        let rebuilds = seen.lock().rebuilds;
        for index in 0.. {
            let table = seen.lock();
            if table.rebuilds != rebuilds {
                continue 'again;
            }
            let Some(chunk) = table.chunk(index, CHUNK) else { return };
            to.extend(chunk.iter().filter(in_force));
        }
    }
    to.truncate(start);
    let table = seen.lock();
    for chunk in (0..).map_while(|index| table.chunk(index, CHUNK)) {
        to.extend(chunk.iter().filter(in_force));
    }
}

/// One service's count in the making.
struct Sum {
    place: Place,
    /// The highest level of any thread: what all have kept alike.
    level: u32,
    count: Count,
    old_until: u64,
}

impl Sum {
    fn of(place: Place) -> Self {
        Self { place, level: 0, count: Count::default(), old_until: 0 }
    }

    fn add_tally(&mut self, tally: Tally) {
        if tally.epoch >= self.place.first {
            self.old_until = self.old_until.max(tally.old_until(self.place.epoch));
        }
        if tally.epoch == self.place.epoch {
            self.level = self.level.max(tally.level);
            self.count.events += tally.events;
        }
    }

    /// Adds one key: what each thread has of it.
    fn add_key(&mut self, entries: &[Entry]) {
        if !entries.first().is_some_and(|entry| is_kept(entry.key, self.level)) {
            return;
        }
        let legacy: u64 = entries.iter().map(|entry| u64::from(entry.legacy)).sum();
        let target: u64 = entries.iter().map(|entry| u64::from(entry.target)).sum();
        let events = legacy + target;
        self.count.keys += 1;
        self.count.legacy += u64::from(legacy > 0);
        self.count.target += u64::from(target > 0);
        self.count.largest = self.count.largest.max(events);
        self.count.squares += u128::from(events) * u128::from(events);
    }

    /// Scaled up for keys that were not kept; None when nobody asked in any epoch that matters.
    fn count(mut self, now: Timestamp) -> Option<Count> {
        let until = i64::try_from(self.old_until).unwrap_or(i64::MAX).saturating_mul(1_000);
        let until = Timestamp::from_millis(until);
        self.count.old_until = (until > now).then_some(until);
        self.count.keys <<= self.level;
        self.count.legacy <<= self.level;
        self.count.target <<= self.level;
        self.count.squares <<= self.level;
        (self.count.events > 0 || self.count.old_until.is_some()).then_some(self.count)
    }
}
