//! Services that a machine may see, where it may not see all of them.
//!
//! Proxies of such a machine have tables of their own, of every type, in which nothing is of
//! another service: they are as if there were only these. What is in them is encoded once for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::{Digest, ServiceId};

use crate::name::Scope;
use crate::render::door::{Door, Role};

/// The services that a machine may see: one at least.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit {
    /// Of all ids, each in a line: what its tables are called after. First, so that two are told
    /// apart by it.
    digest: Digest,
    services: Arc<BTreeSet<ServiceId>>,
}

impl Limit {
    /// To these; `None` where there are none: a proxy that saw nothing would be told to forget what
    /// it has.
    pub fn to(services: Arc<BTreeSet<ServiceId>>) -> Option<Self> {
        if services.is_empty() {
            return None;
        }
        let ids: String = services.iter().map(|id| format!("{id}\n")).collect();
        Some(Self { digest: Digest::of(ids.as_bytes()), services })
    }

    /// Whether this service may be seen.
    pub fn has(&self, id: &ServiceId) -> bool {
        self.services.contains(id)
    }

    /// All of them.
    pub(super) fn services(&self) -> &BTreeSet<ServiceId> {
        &self.services
    }

    /// What is to be seen from within it, and was called so outside.
    pub(super) fn named(&self, outside: &str) -> Scope {
        format!("{outside} limited {}", self.digest).as_str().into()
    }
}

/// The tables that sidecars with one limit share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) limit: Limit,
    /// Whether they show who they are.
    pub(super) identified: bool,
    /// Where all but their listeners are.
    pub(super) scope: Scope,
    /// Where their listeners are.
    pub(super) listeners: BTreeSet<Scope>,
}

/// All of them, by what they show.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    all: BTreeSet<Arc<Part>>,
    by_service: BTreeMap<ServiceId, Vec<Arc<Part>>>,
}

impl Parts {
    pub(super) fn of(doors: &BTreeSet<Door>) -> Self {
        let mut listeners: BTreeMap<(&Limit, bool, Scope), BTreeSet<Scope>> = BTreeMap::new();
        for door in doors.iter().filter(|door| door.role == Role::Sidecar) {
            let Some(limit) = &door.limit else { continue };
            let part = listeners.entry((limit, door.identified, door.sides())).or_default();
            part.insert(door.listeners());
        }
        let mut parts = Self::default();
        for ((limit, identified, scope), listeners) in listeners {
            let part = Arc::new(Part { limit: limit.clone(), identified, scope, listeners });
            for id in limit.services() {
                parts.by_service.entry(id.clone()).or_default().push(Arc::clone(&part));
            }
            parts.all.insert(part);
        }
        parts
    }

    /// Those that show this service.
    pub(super) fn with(&self, id: &ServiceId) -> &[Arc<Part>] {
        self.by_service.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The services that are not shown to the same.
    pub(super) fn changed(&self, other: &Self) -> BTreeSet<ServiceId> {
        let parts = self.all.symmetric_difference(&other.all);
        parts.flat_map(|part| part.limit.services().iter().cloned()).collect()
    }
}
