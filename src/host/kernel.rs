//! The two tables in the kernel: ours, and that of break-glass, which wins over it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use agent::dataplane::{
    Adopted, Dataplane, DataplaneError, Netlink, Ownership, Settings, Straggler,
};
use agent::rules::{Mark, Name, Table, Transport, mark};
use plan::Side;

use crate::host::descriptors;
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
    /// Networks by set.
    pub(crate) stragglers: BTreeMap<Name, Vec<Straggler>>,
}

impl Kernel {
    /// The name of our table, and that of break-glass.
    pub(crate) const TABLES: [&str; 2] = ["crossfade", "crossfade_rollback"];

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

    /// The counters in the table of break-glass, whoever put it there: one for each service that
    /// is in it. `None`: it is not there.
    pub(crate) fn glass(&mut self) -> Result<Option<BTreeSet<Name>>, DataplaneError> {
        match self.rollback.adopt() {
            Ok(Adopted::Absent) => Ok(None),
            Ok(Adopted::Ours(_)) => Ok(Some(self.rollback.counters()?.into_keys().collect())),
            Err(DataplaneError::Foreign { .. }) => Ok(Some(BTreeSet::new())),
            Err(error) => Err(error),
        }
    }

    /// What was counted so far.
    pub(crate) fn counted(&mut self) -> Result<Counted, DataplaneError> {
        self.adopt()?;
        let tallies = self.ours.counters()?;
        let flows = tallies.into_iter().map(|(name, tally)| (name, tally.packets)).collect();
        Ok(Counted { flows, stragglers: self.ours.stragglers()? })
    }

    /// Forgets the flows of a service that are on one side.
    pub(crate) fn flush(&mut self, mark: Mark, side: Side, transport: Option<Transport>) {
        let mask = mark::SIDE | mark::INDEX;
        let value = mark.value(side, false) & mask;
        if let Err(error) = self.ours.flush_flows(mask, value, transport) {
            tracing::error!(why = %chain(&error), "flows of the side that lost are not closed");
        }
    }

    /// Takes both tables out.
    pub(crate) fn remove(&mut self) -> Result<bool, DataplaneError> {
        let glass = self.end_glass()?;
        self.ours.adopt()?;
        self.adopted = false;
        Ok(self.ours.remove()? | glass)
    }
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
