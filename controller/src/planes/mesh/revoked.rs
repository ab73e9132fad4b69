//! Which certificates were taken back, for agents and relays, which hand it to their proxies.

use std::sync::Arc;

use tokio::sync::watch;
use xds::Edit;
use xds::join::Pin;
use xds::own::Revocations;

use crate::identity::{Authority, List};

/// What the authority says, if there is one.
#[derive(Debug)]
pub(super) struct Revoked(Option<Known>);

#[derive(Debug)]
struct Known {
    authority: Pin,
    lists: watch::Receiver<Option<Arc<List>>>,
    /// The list that was put last.
    put: Option<u64>,
}

impl Revoked {
    /// Of this authority.
    pub(super) fn of(identity: Option<&Authority>) -> Self {
        let known = |it: &Authority| Known { authority: it.pin(), lists: it.lists(), put: None };
        Self(identity.map(known))
    }

    /// Waits until it says something new.
    pub(super) async fn changed(&mut self) {
        if let Some(known) = &mut self.0
            && known.lists.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// What puts the newest list, unless that was put.
    pub(super) fn edits(&mut self) -> Vec<Edit> {
        let Some(Known { authority, lists, put }) = &mut self.0 else { return Vec::new() };
        let Some(list) = lists.borrow().clone() else { return Vec::new() };
        if put.replace(list.number) == Some(list.number) {
            return Vec::new();
        }
        Revocations { crl: list.der.clone().into() }.edits(authority, list.number)
    }
}
