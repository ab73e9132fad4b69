//! Zone texts for replicas, read from the store once each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plan::{Digest, Snapshot};

use crate::store::Store;

/// How long after a text could not be had it is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The texts that the newest snapshot names.
#[derive(Debug)]
pub(super) struct Texts {
    store: Arc<dyn Store>,
    known: BTreeMap<Digest, Arc<str>>,
    /// When to look again for one that could not be had.
    again: Option<Duration>,
}

impl Texts {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: BTreeMap::new(), again: None }
    }

    /// When a text is to be looked for again.
    pub(super) const fn due(&self) -> Option<Duration> {
        self.again
    }

    /// A text that was read.
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<str>> {
        self.known.get(digest).cloned()
    }

    /// Reads what this snapshot names and is not known yet, and forgets the rest.
    pub(super) async fn read(&mut self, snapshot: &Snapshot, now: Duration) {
        self.again = None;
        let mut before = std::mem::take(&mut self.known);
        for zone in snapshot.zones.iter() {
            let Some(digest) = zone.text else { continue };
            if let Some(text) = before.remove(&digest) {
                self.known.insert(digest, text);
                continue;
            }
            match self.store.blob(digest).await.map(|bytes| bytes.map(String::from_utf8)) {
                Ok(Some(Ok(text))) => drop(self.known.insert(digest, text.into())),
                Ok(Some(Err(_)) | None) => {
                    tracing::error!(zone = %zone.name, %digest, "no zone text for replicas");
                }
                Err(error) => {
                    tracing::error!(zone = %zone.name, %error, "no zone text for replicas");
                    self.again = Some(now.saturating_add(LOOK_AGAIN));
                }
            }
        }
    }
}
