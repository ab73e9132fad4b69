//! The two tables in the kernel: ours, and that of break-glass, which wins over it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use agent::dataplane::{
    Adopted, Dataplane, DataplaneError, Forget, Netlink, Ownership, Settings, Straggler, Tally,
};
use agent::rules::{Name, Table, compile, rollback};

use crate::glass::Glass;
use crate::host::descriptors;
use crate::host::world::World;
use crate::verbs::chain;

/// Both tables.
pub(crate) struct Kernel {
    ours: Box<dyn Dataplane>,
    rollback: Box<dyn Dataplane>,
    /// Whether what is ours was found and taken over.
    adopted: bool,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    /// Flows by counter.
    pub(crate) flows: BTreeMap<Name, u64>,
    /// Those that break-glass took first.
    pub(crate) glass: BTreeMap<Name, u64>,
    /// Networks by set.
    pub(crate) stragglers: BTreeMap<Name, Vec<Straggler>>,
}

/// What became of both tables.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    /// Whether any was there, and is no longer.
    pub(crate) were: bool,
    /// Why one that may be ours is still there.
    pub(crate) stays: Vec<String>,
    /// Those of our names that other programs have.
    pub(crate) others: Vec<String>,
}

impl Kernel {
    /// The name of our table, and that of break-glass.
    pub(crate) const TABLES: [&str; 2] = [compile::TABLE, rollback::TABLE];

    /// Opens sockets in this network namespace, for a command.
    pub(crate) fn open() -> Result<Self, DataplaneError> {
        Self::beside(Netlink::open(ours())?)
    }

    /// The same for the agent: `kept` is the socket that owned our table before a restart, and the
    /// service manager is to keep the one that does now.
    pub(crate) fn taking(kept: Option<OwnedFd>) -> Result<Self, DataplaneError> {
        let owner = match kept.map(|fd| Netlink::from_fd(fd, ours())) {
            Some(Ok(netlink)) => netlink,
            Some(Err(error)) => {
                tracing::warn!(%error, "the socket that was kept is of no use");
                Netlink::open(ours())?
            }
            None => Netlink::open(ours())?,
        };
        descriptors::keep_rules(&owner);
        Self::beside(owner)
    }

    /// Makes the kernel hold this table when the process has ended: an agent takes it over.
    pub(crate) fn leave_behind(table: &Table) -> Result<(), DataplaneError> {
        let [ours, _] = Self::TABLES;
        left_behind(table, |ownership| Netlink::open(settings(ours, ownership)))
    }

    fn beside(ours: Netlink) -> Result<Self, DataplaneError> {
        let [_, rollback] = Self::TABLES;
        Ok(Self::new(ours, Netlink::open(settings(rollback, Ownership::Open))?))
    }

    /// Both tables, wherever they are.
    pub(crate) fn new(ours: impl Dataplane + 'static, rollback: impl Dataplane + 'static) -> Self {
        Self { ours: Box::new(ours), rollback: Box::new(rollback), adopted: false }
    }

    /// Makes the kernel hold this table.
    pub(crate) fn commit(&mut self, table: &Table) -> Result<Ownership, DataplaneError> {
        self.adopt()?;
        Ok(self.ours.commit(table)?.ownership)
    }

    /// Whether it still does.
    pub(crate) fn is_intact(&mut self) -> bool {
        self.adopted && self.ours.is_intact().unwrap_or(false)
    }

    /// Whether our table is there, of an agent before this one.
    pub(crate) fn is_standing(&mut self) -> bool {
        matches!(self.ours.adopt(), Ok(Adopted::Ours(_)))
    }

    fn adopt(&mut self) -> Result<(), DataplaneError> {
        if !self.adopted {
            self.ours.adopt()?;
            self.adopted = true;
        }
        Ok(())
    }

    /// Makes the kernel say what break-glass does, for a command.
    pub(crate) fn put_glass(world: &World, glass: &Glass) -> Result<(), DataplaneError> {
        let mut kernel = Self::open()?;
        if glass.force.is_empty() {
            return kernel.end_glass().map(drop);
        }
        kernel.break_glass(&world.rollback(|id| glass.covers(id)))
    }

    /// Puts break-glass in force.
    pub(crate) fn break_glass(&mut self, table: &Table) -> Result<(), DataplaneError> {
        self.rollback.adopt()?;
        self.rollback.commit(table).map(drop)
    }

    /// Ends break-glass; whether it was in force.
    pub(crate) fn end_glass(&mut self) -> Result<bool, DataplaneError> {
        self.rollback.adopt()?;
        self.rollback.remove()
    }

    /// The counters in the table of break-glass, by our command or by the file that lies ready: one
    /// for each service that is in it. `None`: it is not there, or is another program's.
    pub(crate) fn glass(&mut self) -> Result<Option<BTreeSet<Name>>, DataplaneError> {
        match self.rollback.adopt() {
            Ok(Adopted::Absent) | Err(DataplaneError::Foreign { .. }) => Ok(None),
            Ok(Adopted::Ours(_)) => Ok(Some(self.rollback.counters()?.into_keys().collect())),
            Err(error) => Err(error),
        }
    }

    /// Whose the table of break-glass is, in words, where another program has its name.
    pub(crate) fn others_glass(&mut self) -> Option<String> {
        let found = self.rollback.adopt().err()?;
        matches!(found, DataplaneError::Foreign { .. }).then(|| found.to_string())
    }

    /// What was counted so far.
    pub(crate) fn counted(&mut self) -> Result<Counted, DataplaneError> {
        self.adopt()?;
        let packets = |tallies: BTreeMap<Name, Tally>| {
            tallies.into_iter().map(|(name, tally)| (name, tally.packets)).collect()
        };
        Ok(Counted {
            flows: packets(self.ours.counters()?),
            // That table is seldom there.
            glass: self.rollback.counters().map(packets).unwrap_or_default(),
            stragglers: self.ours.stragglers()?,
        })
    }

    /// Forgets flows: the next packet of each is decided anew.
    pub(crate) fn forget(&mut self, which: &Forget) {
        if let Err(error) = self.try_forget(which) {
            tracing::error!(why = %chain(&error), "flows of the side that lost are not closed");
        }
    }

    /// The same; an error where the kernel refused.
    pub(crate) fn try_forget(&mut self, which: &Forget) -> Result<(), DataplaneError> {
        if which.is_empty() { Ok(()) } else { self.ours.forget(which) }
    }

    /// Takes both tables out, whatever becomes of the other. Ours first: while break-glass is in
    /// force, nobody is sent to target in between.
    pub(crate) fn remove(&mut self) -> Removed {
        self.adopted = false;
        let mut removed = Removed::default();
        for table in [&mut self.ours, &mut self.rollback] {
            match table.adopt().and_then(|_| table.remove()) {
                Ok(was) => removed.were |= was,
                Err(error @ DataplaneError::Foreign { .. }) => removed.others.push(chain(&error)),
                Err(error) => removed.stays.push(chain(&error)),
            }
        }
        // What is missing for one is missing for both.
        removed.stays.dedup();
        removed
    }
}

/// Where the kernel cannot keep the table of a socket that is gone (before Linux 6.9), it is
/// nobody's.
fn left_behind<D: Dataplane>(
    table: &Table,
    open: impl Fn(Ownership) -> Result<D, DataplaneError>,
) -> Result<(), DataplaneError> {
    let mut owner = open(Ownership::Persistent)?;
    owner.adopt()?;
    if owner.commit(table)?.ownership != Ownership::Socket {
        return Ok(());
    }
    owner.remove()?;
    drop(owner);
    let mut nobody = open(Ownership::Open)?;
    nobody.adopt()?;
    nobody.commit(table).map(drop)
}

fn ours() -> Settings {
    let [ours, _] = Kernel::TABLES;
    settings(ours, Ownership::Persistent)
}

#[expect(clippy::expect_used, reason = "a word of ours")]
fn settings(table: &str, ownership: Ownership) -> Settings {
    let table = Name::new(table).expect("a word of ours");
    Settings { table, ownership, old_kernel: false }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use agent::dataplane::{Committed, Fake};
    use agent::rules::{Host, Marks, fake, rollback};

    use super::*;

    type InMemory = Arc<Mutex<fake::Kernel>>;

    /// A kernel of before Linux 6.9: what a socket owns goes with it.
    struct Old {
        fake: Fake,
        kernel: InMemory,
        table: Name,
        ownership: Ownership,
    }

    impl Drop for Old {
        fn drop(&mut self) {
            if self.ownership == Ownership::Socket {
                self.kernel.lock().unwrap().delete(&self.table);
            }
        }
    }

    impl Dataplane for Old {
        fn adopt(&mut self) -> Result<Adopted, DataplaneError> {
            self.fake.adopt()
        }

        fn commit(&mut self, table: &Table) -> Result<Committed, DataplaneError> {
            let ownership = self.ownership;
            Ok(Committed { ownership, ..self.fake.commit(table)? })
        }

        fn counters(&mut self) -> Result<BTreeMap<Name, Tally>, DataplaneError> {
            self.fake.counters()
        }

        fn stragglers(&mut self) -> Result<BTreeMap<Name, Vec<Straggler>>, DataplaneError> {
            self.fake.stragglers()
        }

        fn forget(&mut self, which: &Forget) -> Result<(), DataplaneError> {
            self.fake.forget(which)
        }

        fn remove(&mut self) -> Result<bool, DataplaneError> {
            self.fake.remove()
        }

        fn is_intact(&mut self) -> Result<bool, DataplaneError> {
            self.fake.is_intact()
        }
    }

    type Outcome<T> = fn() -> Result<T, DataplaneError>;

    /// A table that is another program's, or that cannot be had.
    struct Kept(Outcome<Adopted>);

    impl Dataplane for Kept {
        fn adopt(&mut self) -> Result<Adopted, DataplaneError> {
            (self.0)()
        }

        fn commit(&mut self, _: &Table) -> Result<Committed, DataplaneError> {
            unreachable!("it was not adopted")
        }

        fn counters(&mut self) -> Result<BTreeMap<Name, Tally>, DataplaneError> {
            unreachable!("it was not adopted")
        }

        fn stragglers(&mut self) -> Result<BTreeMap<Name, Vec<Straggler>>, DataplaneError> {
            unreachable!("it was not adopted")
        }

        fn forget(&mut self, _: &Forget) -> Result<(), DataplaneError> {
            unreachable!("it was not adopted")
        }

        fn remove(&mut self) -> Result<bool, DataplaneError> {
            unreachable!("it was not adopted")
        }

        fn is_intact(&mut self) -> Result<bool, DataplaneError> {
            Ok(false)
        }
    }

    fn foreign() -> Result<Adopted, DataplaneError> {
        Err(DataplaneError::Foreign { table: "crossfade_rollback".to_owned(), comment: None })
    }

    fn silent() -> Result<Adopted, DataplaneError> {
        Err(DataplaneError::Silent(1))
    }

    /// A kernel with our table, and the other one as it is said.
    fn beside(other: Outcome<Adopted>) -> (InMemory, Kernel) {
        let [ours, _] = Kernel::TABLES.map(|name| Name::new(name).unwrap());
        let host = Host::new("10.50.0.1".parse().unwrap());
        let none = xds::own::HostTable { services: Vec::new() };
        let table = Table { name: ours.clone(), ..rollback(&none, &host, &Marks::default()) };
        let mut kernel = fake::Kernel::new([], 1);
        kernel.put(table).unwrap();
        let kernel = Arc::new(Mutex::new(kernel));
        let fake = Fake::new(Arc::clone(&kernel), ours);
        (kernel, Kernel::new(fake, Kept(other)))
    }

    #[test]
    fn ours_goes_whatever_stands_in_the_place_of_break_glass() {
        for (other, stays, others) in [(foreign as Outcome<Adopted>, 0, 1), (silent, 1, 0)] {
            let (memory, mut kernel) = beside(other);
            let removed = kernel.remove();
            assert!(removed.were);
            assert_eq!((removed.stays.len(), removed.others.len()), (stays, others), "{removed:?}");
            let [ours, _] = Kernel::TABLES.map(|name| Name::new(name).unwrap());
            assert_eq!(memory.lock().unwrap().table(&ours), None);
        }
    }

    #[test]
    fn another_program_s_table_is_no_break_glass() {
        let (_memory, mut kernel) = beside(foreign);
        assert_eq!(kernel.glass().unwrap(), None);
        assert!(kernel.others_glass().unwrap().contains("crossfade_rollback"));
        let (_memory, mut kernel) = beside(silent);
        assert!(kernel.glass().is_err());
        assert_eq!(kernel.others_glass(), None);
    }

    #[test]
    fn what_is_left_behind_outlives_who_left_it() {
        let host = Host::new("10.50.0.1".parse().unwrap());
        let none = xds::own::HostTable { services: Vec::new() };
        let table = rollback(&none, &host, &Marks::default());
        for best in [Ownership::Open, Ownership::Socket, Ownership::Persistent] {
            let kernel = Arc::new(Mutex::new(fake::Kernel::new([], 1)));
            let open = |asked: Ownership| {
                let (kernel, name) = (Arc::clone(&kernel), table.name.clone());
                let fake = Fake::new(Arc::clone(&kernel), name.clone());
                Ok(Old { fake, kernel, table: name, ownership: asked.min(best) })
            };
            left_behind(&table, open).unwrap();
            assert_eq!(kernel.lock().unwrap().table(&table.name), Some(&table), "{best:?}");
        }
    }
}
