//! Where each service is counted: a place that it keeps as long as it exists, and an epoch that
//! changes with its split.

use std::sync::Arc;

use plan::snapshot::Service;

use crate::names::Names;

/// Where one service is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index into every thread's tallies.
    pub(crate) index: u32,
    /// Number of the split in force; never used twice in one server, never 0.
    pub(crate) epoch: u32,
    /// The epoch in which the service came: what a tally says of earlier ones is of another.
    pub(crate) first: u32,
    /// Longest TTL of the service's answers, in seconds.
    pub(crate) ttl: u32,
}

/// The places of a catalog's services. Immutable; goes with the catalog.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// By the service's place in the catalog's names.
    by_service: Box<[Place]>,
    /// The epoch in force by the place's index; 0 where nobody is.
    epochs: Box<[u32]>,
}

impl Roster {
    /// The roster of these services, in the order of the catalog's names.
    pub(super) fn of(services: impl Iterator<Item = Place>) -> Self {
        let by_service: Box<[_]> = services.collect();
        let last = by_service.iter().map(|place| place.index).max();
        let length = last.map_or(0, |last| usize::try_from(last).map_or(0, |last| last + 1));
        let mut epochs = vec![0; length];
        for place in &by_service {
            let slot = usize::try_from(place.index).ok().and_then(|index| epochs.get_mut(index));
            slot.into_iter().for_each(|slot| *slot = place.epoch);
        }
        Self { by_service, epochs: epochs.into() }
    }

    /// Where the service is counted that the catalog's names have at `service`.
    pub(crate) fn place(&self, service: u32) -> Option<Place> {
        self.by_service.get(usize::try_from(service).ok()?).copied()
    }

    /// How many places there are, empty ones included.
    pub(crate) fn len(&self) -> usize {
        self.epochs.len()
    }

    /// The epoch in force at a place.
    pub(crate) fn epoch(&self, index: u32) -> u32 {
        let epoch = usize::try_from(index).ok().and_then(|index| self.epochs.get(index));
        epoch.copied().unwrap_or_default()
    }

    /// The places of all services, in their order.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.by_service.iter().copied()
    }
}

/// Gives places to services, catalog after catalog.
#[derive(Default)]
pub(crate) struct Places {
    /// Sorted by id, as the names are.
    taken: Vec<(Arc<Service>, Place)>,
    free: Vec<u32>,
    made: u32,
    epoch: u32,
}

impl Places {
    /// The places of the services of the next catalog. A service keeps its place; it keeps its
    /// epoch while its split is the same.
    pub(crate) fn next(&mut self, names: &Names) -> Roster {
        let mut before = std::mem::take(&mut self.taken).into_iter().peekable();
        let mut taken = Vec::with_capacity(names.services());
        let leaves = (0_u32..).map_while(|index| names.leaf(index));
        for service in leaves.map(|leaf| leaf.service()) {
            while let Some((_, gone)) = before.next_if(|(old, _)| old.id < service.id) {
                self.free.push(gone.index);
            }
            let old = before.next_if(|(old, _)| old.id == service.id);
            let mut place = match old {
                Some((old, place)) if old.serving.split() == service.serving.split() => place,
                Some((_, place)) => Place { epoch: self.next_epoch(), ..place },
                None => self.new_place(),
            };
            place.ttl = service.ttls.iter().copied().max().unwrap_or_default();
            taken.push((Arc::clone(service), place));
        }
        self.free.extend(before.map(|(_, gone)| gone.index));
        self.taken = taken;
        Roster::of(self.taken.iter().map(|(_, place)| *place))
    }

    fn new_place(&mut self) -> Place {
        let index = self.free.pop().unwrap_or_else(|| {
            self.made += 1;
            self.made - 1
        });
        let epoch = self.next_epoch();
        Place { index, epoch, first: epoch, ttl: 0 }
    }

    /// Four thousand million changes of splits are more than a server lives through.
    const fn next_epoch(&mut self) -> u32 {
        self.epoch = self.epoch.saturating_add(1);
        self.epoch
    }
}
