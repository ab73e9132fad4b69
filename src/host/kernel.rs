//! The two tables in the kernel: ours, and that of break-glass, which wins over it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use agent::dataplane::{
    Adopted, Dataplane as _, DataplaneError, Netlink, Ownership, Settings, Straggler,
};
use agent::rules::{Mark, Name, Table, Transport, mark};
use plan::Side;

use crate::verbs::chain;

/// Both tables.
#[derive(Debug)]
pub(crate) struct Kernel {
    ours: Netlink,
    rollback: Netlink,
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

    /// Opens sockets in this network namespace; `kept` is the one that owned our table before a
    /// restart.
    pub(crate) fn open(kept: Option<OwnedFd>) -> Result<Self, DataplaneError> {
        let [ours, rollback] = Self::TABLES;
        let settings = |table, ownership| Settings { table, ownership, old_kernel: false };
        let best = settings(name(ours), Ownership::Persistent);
        let ours = match kept.map(|fd| Netlink::from_fd(fd, best.clone())) {
            Some(Ok(netlink)) => netlink,
            Some(Err(error)) => {
                tracing::warn!(%error, "the socket that was kept is of no use");
                Netlink::open(best)?
            }
            None => Netlink::open(best)?,
        };
        let rollback = Netlink::open(settings(name(rollback), Ownership::Open))?;
        Ok(Self { ours, rollback, adopted: false })
    }

    /// The socket that owns our table, for the service manager to keep.
    pub(crate) const fn owner(&self) -> &Netlink {
        &self.ours
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

    /// Whether the table of break-glass is there, whoever put it there.
    pub(crate) fn is_glass_broken(&mut self) -> Result<bool, DataplaneError> {
        Ok(match self.rollback.adopt() {
            Ok(Adopted::Absent) => false,
            Ok(Adopted::Ours(_)) | Err(DataplaneError::Foreign { .. }) => true,
            Err(error) => return Err(error),
        })
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

#[expect(clippy::expect_used, reason = "two words of ours")]
fn name(word: &str) -> Name {
    Name::new(word).expect("a word of ours")
}
