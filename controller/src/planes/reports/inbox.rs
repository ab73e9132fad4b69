//! Where reports wait to be read: the newest word of each receiver, as each replaces the one
//! before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use xds::join::MachineName;

use crate::planes::reports::{MACHINE_PARTS_MAX, Said};

/// How many services, sinks and overrides may wait, of all reports: some 100 MB. A report that does
/// not fit is dropped: the next one comes in a second. An end always fits.
const PARTS_WAITING_MAX: usize = 300_000;

/// Both ends.
pub(super) fn inbox() -> (Inbox, Reports) {
    let shared = Arc::new(Shared::default());
    (Inbox { shared: Arc::clone(&shared) }, Reports { shared })
}

/// Where streams hand in.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    shared: Arc<Shared>,
}

/// Where what receivers say is read.
#[derive(Debug)]
pub struct Reports {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    bell: Notify,
}

/// One word for each receiver at most; so there are no more than streams and their ends.
#[derive(Debug, Default)]
struct Waiting {
    said: HashMap<Arc<str>, Said>,
    parts: usize,
    /// Of those, by machine; one without any is not in it.
    of_machines: HashMap<MachineName, usize>,
}

impl Inbox {
    /// Takes in what a receiver says, in place of what it said before. Whether there was room.
    pub(super) fn hand_in(&self, said: Said) -> bool {
        let taken = self.shared.lock().put(said);
        self.shared.bell.notify_one();
        taken
    }
}

impl Reports {
    /// The next word of anybody. Loses nothing when dropped before it is ready.
    pub async fn next(&mut self) -> Said {
        loop {
            if let Some(said) = self.shared.lock().pop() {
                return said;
            }
            self.shared.bell.notified().await;
        }
    }
}

impl Shared {
    /// Whoever panicked while holding it left at most a number that is too high.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn put(&mut self, said: Said) -> bool {
        let before = self.said.get(&said.client.id).map_or(0, parts);
        let replaced = |sum: usize| sum.saturating_sub(before).saturating_add(parts(&said));
        let after = replaced(self.parts);
        let machine = said.client.identity.as_ref().map(|identity| identity.name.clone());
        let own = machine.as_ref().and_then(|it| self.of_machines.get(it)).copied().unwrap_or(0);
        let own = if machine.is_some() { replaced(own) } else { 0 };
        let fits = after <= PARTS_WAITING_MAX && own <= MACHINE_PARTS_MAX;
        if said.report.is_some() && !fits {
            return false;
        }
        self.parts = after;
        if let Some(machine) = machine {
            self.count(machine, own);
        }
        self.said.insert(Arc::clone(&said.client.id), said);
        true
    }

    /// This machine has so many.
    fn count(&mut self, machine: MachineName, parts: usize) {
        match parts {
            0 => self.of_machines.remove(&machine),
            _ => self.of_machines.insert(machine, parts),
        };
    }

    fn pop(&mut self) -> Option<Said> {
        let id = self.said.keys().next().cloned()?;
        let said = self.said.remove(&id)?;
        self.parts = self.parts.saturating_sub(parts(&said));
        if let Some(machine) = said.client.identity.as_ref().map(|identity| &identity.name) {
            let own = self.of_machines.get(machine).copied().unwrap_or(0);
            self.count(machine.clone(), own.saturating_sub(parts(&said)));
        }
        Some(said)
    }
}

fn parts(said: &Said) -> usize {
    said.report.as_ref().map_or(0, |report| report.parts())
}

#[cfg(test)]
mod tests {
    use proto::envoy::config::core::v3::Node;
    use xds::Client;

    use super::*;
    use xds::client::Identity;
    use xds::join::Kind;

    use crate::planes::reports::Report;

    fn said(id: &str, parts: Option<usize>) -> Said {
        let node = Node { id: id.to_owned(), ..Node::default() };
        let notes = |parts| vec![("shop/orders".parse().unwrap(), Arc::from("")); parts];
        let report = parts.map(|n| Report { notes: notes(n), ..Report::default() });
        Said { client: Arc::new(Client::read(&node).unwrap()), report }
    }

    /// The same of somebody who was proved to be this machine.
    fn of(machine: &str, id: &str, parts: Option<usize>) -> Said {
        let Said { client, report } = said(id, parts);
        let identity = Identity { kind: Kind::Agent, name: machine.parse().unwrap() };
        let client = Client { identity: Some(Arc::new(identity)), ..client.as_ref().clone() };
        Said { client: Arc::new(client), report }
    }

    #[test]
    fn one_machine_takes_nobody_elses_room() {
        let mut waiting = Waiting::default();
        let half = MACHINE_PARTS_MAX / 2;
        assert!(!waiting.put(of("vm-1", "vm-1", Some(MACHINE_PARTS_MAX + 1))));
        let taken = (0..100).filter(|n| waiting.put(of("vm-1", &format!("vm-1/{n}"), Some(half))));
        assert_eq!(taken.count(), 2);
        assert!(waiting.put(of("vm-2", "vm-2", Some(half))));
        assert!(waiting.put(of("vm-1", "vm-1/0", Some(half))), "in place of the one before");
        assert!(waiting.put(of("vm-1", "vm-1/0", None)), "and its end in place of that");
        assert!(waiting.put(of("vm-1", "vm-1/9", Some(half))));
        while waiting.pop().is_some() {}
        assert!(waiting.of_machines.is_empty() && waiting.parts == 0);
    }

    #[test]
    fn the_newest_word_waits_and_an_end_always_fits() {
        let mut waiting = Waiting::default();
        assert!(waiting.put(said("a", Some(PARTS_WAITING_MAX))));
        assert!(!waiting.put(said("b", Some(1))), "there is no room");
        assert!(waiting.put(said("b", None)), "an end fits");
        assert!(waiting.put(said("a", Some(7))), "in place of the one before");
        assert!(waiting.put(said("a", None)), "and its end in place of that");
        assert_eq!((waiting.said.len(), waiting.parts), (2, 0));
        assert!(waiting.put(said("c", Some(PARTS_WAITING_MAX))));
        let mut read: Vec<_> = std::iter::from_fn(|| waiting.pop()).collect();
        read.sort_by(|a, b| a.client.id.cmp(&b.client.id));
        let read: Vec<_> = read.iter().map(|said| (&*said.client.id, parts(said))).collect();
        assert_eq!(read, [("a", 0), ("b", 0), ("c", PARTS_WAITING_MAX)]);
        assert_eq!(waiting.parts, 0);
    }
}
