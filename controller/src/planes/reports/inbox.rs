//! Where reports wait to be read: the newest word of each receiver, as each replaces the one
//! before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::planes::reports::Said;

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
        let after = self.parts.saturating_sub(before).saturating_add(parts(&said));
        if said.report.is_some() && after > PARTS_WAITING_MAX {
            return false;
        }
        self.parts = after;
        self.said.insert(Arc::clone(&said.client.id), said);
        true
    }

    fn pop(&mut self) -> Option<Said> {
        let id = self.said.keys().next().cloned()?;
        let said = self.said.remove(&id)?;
        self.parts = self.parts.saturating_sub(parts(&said));
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
    use crate::planes::reports::Report;

    fn said(id: &str, parts: Option<usize>) -> Said {
        let node = Node { id: id.to_owned(), ..Node::default() };
        let overrides = |parts| vec![String::new(); parts];
        let report = parts.map(|n| Report { overrides: overrides(n), ..Report::default() });
        Said { client: Arc::new(Client::read(&node).unwrap()), report }
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
