//! What differs between two snapshots.

use std::cmp::Ordering;
use std::sync::Arc;

use plan::Snapshot;
use plan::snapshot::Service;

/// A leaf before and after; one of them is there at least.
pub(super) struct Change<'a> {
    pub(super) before: Option<&'a Arc<Service>>,
    pub(super) after: Option<&'a Arc<Service>>,
}

/// The leaves that came, went or changed. Both lists are sorted, and most of their leaves are the
/// same: one comparison of pointers each.
pub(super) fn changes<'a>(before: &'a Snapshot, after: &'a Snapshot) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    let (mut were, mut are) = (before.services.iter().peekable(), after.services.iter().peekable());
    loop {
        let (was, is) = match (were.peek(), are.peek()) {
            (None, None) => return changes,
            (Some(_), None) => (were.next(), None),
            (None, Some(_)) => (None, are.next()),
            (Some(was), Some(is)) if Arc::ptr_eq(was, is) => {
                were.next();
                are.next();
                continue;
            }
            (Some(was), Some(is)) => match was.id.cmp(&is.id) {
                Ordering::Less => (were.next(), None),
                Ordering::Equal => (were.next(), are.next()),
                Ordering::Greater => (None, are.next()),
            },
        };
        changes.push(Change { before: was, after: is });
    }
}
