//! What a stream does not have yet: unsent, unacknowledged or refused.

use std::sync::Arc;
use std::time::Duration;

use plan::{PlanName, Token};

use crate::name::Name;
use crate::session::Refused;
use crate::table::{Generation, Resource};
use crate::version::Version;

/// Something of this name is to be sent: what the table has then, or that it has nothing.
#[derive(Clone, Debug)]
pub(super) struct Due {
    /// The plans that owe it.
    pub(super) plans: Arc<[PlanName]>,
    /// What the client has of this name is right up to this token.
    pub(super) through: Token,
    /// The tables with which it became due.
    pub(super) generation: Generation,
    /// The client has acked something of this name, or said that it has.
    pub(super) held: bool,
    /// The client asked: it is answered even if there is nothing.
    pub(super) asked: bool,
    /// It does not wait for acks.
    pub(super) urgent: bool,
    /// To be sent with its own plans only, to find out what a client refuses.
    pub(super) alone: bool,
    /// Since when it waits at a gate.
    pub(super) waits: Option<Duration>,
    /// The client's version, while that is newer than the tables.
    pub(super) behind: Option<Box<Version>>,
}

/// A [`Due`] that was sent.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: Name,
    pub(super) due: Due,
    /// The record that last changed what was sent (the tables' token where versions have none);
    /// `None`: it was sent that it is gone.
    pub(super) sent: Option<Token>,
    /// Nobody wants it any more, whatever the client says of it. Its words may still name it.
    pub(super) moot: bool,
}

/// A response that is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) nonce: u64,
    /// It was sent to find out what a client refuses.
    pub(super) alone: bool,
    /// Sorted by name.
    pub(super) items: Vec<Item>,
    /// Of a whole state of the world: all that was in it.
    pub(super) world: Option<Box<[Arc<Resource>]>>,
}

impl Push {
    /// What it has of this name that matters.
    pub(super) fn item(&self, name: &Name) -> Option<&Item> {
        let at = self.items.binary_search_by(|item| item.name.cmp(name)).ok()?;
        self.items.get(at).filter(|item| !item.moot)
    }

    /// As [`Push::item`].
    pub(super) fn item_mut(&mut self, name: &Name) -> Option<&mut Item> {
        let at = self.items.binary_search_by(|item| item.name.cmp(name)).ok()?;
        self.items.get_mut(at).filter(|item| !item.moot)
    }
}

/// A resource that the client refused; not sent again before it changes.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) due: Due,
    pub(super) refused: Arc<Refused>,
}
