//! The table in a kernel in memory, for tests of what stands above.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use super::error::DataplaneError;
use super::{Adopted, Committed, Dataplane, Forget, Ownership, Straggler, Tally};
use crate::rules::fake::Kernel;
use crate::rules::{Name, Table};

/// A [`Kernel`] that others hold too, to send packets through it or to damage it.
#[derive(Clone, Debug)]
pub struct Fake {
    kernel: Arc<Mutex<Kernel>>,
    table: Name,
    committed: Option<Table>,
}

impl Fake {
    /// Keeps `table` in a kernel.
    pub const fn new(kernel: Arc<Mutex<Kernel>>, table: Name) -> Self {
        Self { kernel, table, committed: None }
    }

    fn kernel<T>(&self, task: impl FnOnce(&mut Kernel) -> T) -> T {
        task(&mut self.kernel.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Dataplane for Fake {
    fn adopt(&mut self) -> Result<Adopted, DataplaneError> {
        let there = self.kernel(|kernel| kernel.table(&self.table).is_some());
        Ok(if there { Adopted::Ours(Ownership::Open) } else { Adopted::Absent })
    }

    fn commit(&mut self, table: &Table) -> Result<Committed, DataplaneError> {
        if table.name != self.table {
            return Err(DataplaneError::WrongTable(table.name.to_string()));
        }
        let same = self.kernel(|kernel| kernel.table(&self.table) == Some(table));
        if !same {
            let refused =
                |what: String| DataplaneError::Refused { what, part: None, errno: Errno::EINVAL };
            self.kernel(|kernel| kernel.put(table.clone()))
                .map_err(|error| refused(error.to_string()))?;
        }
        self.committed = Some(table.clone());
        Ok(Committed { messages: u32::from(!same), ownership: Ownership::Open })
    }

    fn counters(&mut self) -> Result<BTreeMap<Name, Tally>, DataplaneError> {
        let names = self.kernel(|kernel| {
            kernel.table(&self.table).map(|table| table.counters.clone()).unwrap_or_default()
        });
        let tally = |name: &Name| {
            let packets = self.kernel(|kernel| kernel.counter(&self.table, name));
            Tally { packets, bytes: 0 }
        };
        Ok(names.into_iter().map(|name| (name.clone(), tally(&name))).collect())
    }

    fn stragglers(&mut self) -> Result<BTreeMap<Name, Vec<Straggler>>, DataplaneError> {
        let sets = self.kernel(|kernel| {
            kernel.table(&self.table).map(|table| table.stragglers.clone()).unwrap_or_default()
        });
        let noted = |name: &Name| {
            let networks = self.kernel(|kernel| kernel.stragglers(&self.table, name));
            let straggler = |(network, packets)| Straggler {
                network,
                tally: Tally { packets, bytes: 0 },
                expires_ms: 0,
            };
            networks.into_iter().map(straggler).collect()
        };
        Ok(sets.into_keys().map(|name| (name.clone(), noted(&name))).collect())
    }

    fn forget(&mut self, which: &Forget) -> Result<(), DataplaneError> {
        self.kernel(|kernel| kernel.forget(which));
        Ok(())
    }

    fn remove(&mut self) -> Result<bool, DataplaneError> {
        self.committed = None;
        Ok(self.kernel(|kernel| kernel.delete(&self.table)))
    }

    fn is_intact(&mut self) -> Result<bool, DataplaneError> {
        let Some(committed) = &self.committed else { return Ok(false) };
        Ok(self.kernel(|kernel| kernel.table(&self.table) == Some(committed)))
    }
}
