//! A snapshot as Envoy resources: pure, and only what changed.
//!
//! Every resource is a function of one snapshot: the leaves, what is drained and who looks. What
//! changed between two snapshots is found by rendering the leaves that differ twice and comparing;
//! nothing of what was rendered is kept, but for what services share. So a process that starts
//! renders the same resources with the same versions as the one before it.
//!
//! | what | named | changes with |
//! |---|---|---|
//! | two clusters for each port | `plan/service/port/target`, `…/legacy` | ports |
//! | two endpoint sets for each port | the same | endpoints, drain |
//! | routes of sidecars and gRPC libraries, for each port | `plan/service/port` | the split |
//! | routes of gateways and catches, for each number | `gateway/8080` | a split of its services |
//! | the filter of a TCP port | `plan/service/port/tcp` | the split |
//! | what answers the checks that close TCP connections | `drain` | nothing |
//! | listeners | as their routes; for gRPC what is dialled | ports, hosts, address, gateways |
//!
//! Sidecars that show who they are have clusters and endpoint sets of their own, of the same names:
//! where a plan has a gateway with mTLS, the target side is there; all else is the same.
//!
//! Sidecars that may see some services alone ([`Limit`]) have tables of their own of every type.

mod claims;
mod cluster;
mod common;
mod door;
mod drain;
mod gateway;
mod item;
mod limit;
mod listener;
mod mtls;
mod route;
mod secret;
mod service;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::snapshot::Service;
use plan::{PlanName, ServiceId, Snapshot, Token};

use crate::render::claims::Claims;
use crate::render::door::Roles;
use crate::render::gateway::{Edge, Ports};
use crate::render::item::Item;
use crate::table::Edit;

pub use crate::render::claims::Conflict;
pub use crate::render::door::{Door, Role, SDS, TYPES, door, view};
pub use crate::render::drain::is_drain_alone;
pub use crate::render::limit::Limit;
pub use crate::render::secret::{AUTHORITIES, IDENTITY, Secrets, secrets};
pub use crate::render::service::side_of;

/// What is to be rendered.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Every split and endpoint.
    pub snapshot: &'a Arc<Snapshot>,
    /// Services at exactly 0 or 100 % whose time to drain is over: what is left on the side
    /// without traffic is closed, as far as endpoint sets can. Whoever shifts a service takes it
    /// from here first.
    pub drained: &'a BTreeSet<ServiceId>,
    /// Who looks. Only what somebody sees is rendered.
    pub doors: &'a BTreeSet<Door>,
    /// What everybody is certified in: the part of SPIFFE ids after `spiffe://`. `None`: nobody has
    /// an identity, and nothing asks for one.
    pub trust_domain: Option<&'a Arc<str>>,
}

/// What is rendered: the base of the next edits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// Sorted by id.
    leaves: Arc<[Arc<Service>]>,
    drained: Arc<BTreeSet<ServiceId>>,
    doors: Arc<BTreeSet<Door>>,
    trust_domain: Option<Arc<str>>,
    /// What there is to be rendered for, by `doors` and `trust_domain`.
    roles: Arc<Roles>,
    claims: Arc<Claims>,
    edges: Arc<BTreeMap<Edge, Ports>>,
    /// What belongs to no service alone, but for the routes of `edges`.
    shared: Arc<Vec<Item>>,
    shape: Token,
    withheld: Arc<BTreeSet<PlanName>>,
    /// Port numbers at which nothing that is shared is rendered.
    closed: Arc<BTreeSet<u16>>,
    conflicts: Arc<[Conflict]>,
}

impl Default for Rendered {
    fn default() -> Self {
        Self {
            leaves: Arc::new([]),
            drained: Arc::default(),
            doors: Arc::default(),
            trust_domain: None,
            roles: Arc::default(),
            claims: Arc::default(),
            edges: Arc::default(),
            shared: Arc::default(),
            shape: Token::NEVER,
            withheld: Arc::default(),
            closed: Arc::default(),
            conflicts: Arc::new([]),
        }
    }
}

impl Rendered {
    /// Plans that came up from a backup and wait for an operator: nothing is rendered of them, nor
    /// of the gateways' ports that they share with others, and their tables are partial, so that
    /// clients keep what they have.
    pub fn withheld(&self) -> &BTreeSet<PlanName> {
        &self.withheld
    }

    /// Whether leaves are not rendered whose resources clients may have.
    fn is_partial(&self) -> bool {
        !self.closed.is_empty()
    }

    /// What two services want and only one has, for `status` and the log.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }
}

/// What is to be rendered and the edits that lead there from what was. Costs O(changed) beside one
/// comparison of pointers for each service; O(services) where services come or go, change their
/// ports, hosts or addresses, or where somebody looks from a new door without a [`Limit`].
pub fn envoy(wanted: &Wanted<'_>, before: &Rendered) -> (Rendered, Vec<Edit>) {
    step::step(wanted, before)
}
