//! The idempotency keys that were used, so that a repeated ask takes effect once.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::Key;
use crate::decide::Done;
use crate::record::UsedKey;
use crate::token::Digest;

/// The most keys that are remembered; the oldest is forgotten. A client repeats an ask within
/// seconds, and 200 concurrent writers with five asks each stay below this.
pub const KEYS_MAX: usize = 1024;

/// The newest keys with what they did, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Keys(VecDeque<Arc<Kept>>);

/// A key, what it was used for and what that did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) key: Key,
    pub(crate) ask: Digest,
    pub(crate) done: Done,
}

impl Keys {
    /// What this key was used for, where it is remembered.
    pub(crate) fn find(&self, key: &Key) -> Option<&Kept> {
        self.0.iter().rev().find(|kept| kept.key == *key).map(Arc::as_ref)
    }

    /// Remembers a key and forgets the oldest beyond the limit.
    pub(crate) fn push(&mut self, used: &UsedKey, done: Done) {
        self.0.push_back(Arc::new(Kept { key: used.key.clone(), ask: used.ask, done }));
        while self.0.len() > KEYS_MAX {
            self.0.pop_front();
        }
    }
}
