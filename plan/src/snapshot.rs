//! The snapshot: the immutable, numbered statement of every split, endpoint and name.
//!
//! It is the only thing that planes render from. Nothing but [`crate::State`] makes one, and none
//! changes after it was made. An unchanged leaf is the same `Arc` in the next snapshot, so that
//! planes find what changed by comparing pointers.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::endpoint::Pool;
use crate::name::{PlanName, ServiceId, ZoneName};
use crate::spec::{self, Clients, Gateway, Ttl};
use crate::split::Split;
use crate::token::{Digest, Token};

/// Every split, endpoint and name at one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number.
    pub token: Token,
    /// The head of the log's hash chain at this token.
    pub digest: Digest,
    /// Sorted by id.
    pub services: Arc<[Arc<Service>]>,
    /// Sorted by name; no name twice.
    pub zones: Arc<[Arc<Zone>]>,
    /// Every plan with the token of the record that last changed anything of it here, so also when
    /// one of its leaves went. Sorted by name.
    pub plans: Arc<[(PlanName, Token)]>,
    /// The token of the record at which a service last came, went, or changed its
    /// [`Parts::shape`]. What is rendered from several services has no older version than this,
    /// so that it never goes back when the newest of them leaves.
    pub shape: Token,
}

impl Snapshot {
    /// The snapshot of an empty log.
    pub fn empty() -> Self {
        Self {
            token: Token::START,
            digest: Digest::ZERO,
            services: Arc::new([]),
            zones: Arc::new([]),
            plans: Arc::new([]),
            shape: Token::START,
        }
    }

    /// The service with this id.
    pub fn service(&self, id: &ServiceId) -> Option<&Arc<Service>> {
        let at = self.services.binary_search_by(|service| service.id.cmp(id)).ok()?;
        self.services.get(at)
    }
}

/// A service as the planes render it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its full name.
    pub id: ServiceId,
    /// The token of the record that last changed this leaf.
    pub since: Token,
    /// What the operator wrote.
    pub spec: Arc<spec::Service>,
    /// Which plane splits whom; shared by all services of a plan.
    pub clients: Arc<Clients>,
    /// Who serves.
    pub serving: Serving,
    /// Whether it moves; chooses the catch at gateways.
    pub motion: Motion,
    /// [`crate::bucket::salt`] of the service's salt.
    pub salt: u64,
    /// The proxies at the target's edge; shared by all services of a plan.
    pub gateways: Arc<[Gateway]>,
    /// How long after exactly 0 or 100 % what is left on the side that lost is closed.
    pub drain: Option<Duration>,
    /// The TTL, in seconds, of each of `spec.hosts`, in their order.
    pub ttls: Arc<[u32]>,
    /// When each part of this leaf last changed.
    pub parts: Parts,
}

/// The token of the record that last changed each part of a leaf: what is rendered of one part
/// keeps its version while another part changes, also over a restart. Coming up from a backup
/// changes every part, so that nothing is older than what a sink had of the lost incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// Hosts, logical address, ports, affinity, gateways, client rows or whether there is a drain.
    pub shape: Token,
    /// The split.
    pub split: Token,
    /// Whether gateways catch.
    pub catch: Token,
    /// The pool of the legacy side.
    pub legacy: Token,
    /// The pool of the target side.
    pub target: Token,
}

impl Parts {
    /// Every part changed at once.
    pub const fn all(token: Token) -> Self {
        Self { shape: token, split: token, catch: token, legacy: token, target: token }
    }
}

impl Service {
    /// The parts of this leaf, which at `token` takes the place of `old`.
    pub(crate) fn parts_after(&self, old: &Self, token: Token) -> Parts {
        let restored = |leaf: &Self| leaf.motion == Motion::Restored;
        if restored(self) != restored(old) {
            return Parts::all(token);
        }
        let at = |changed: bool, before: Token| if changed { token } else { before };
        let caught = |leaf: &Self| leaf.motion == Motion::RolledBack;
        Parts {
            shape: at(!self.has_shape_of(old), old.parts.shape),
            split: at(self.serving.split() != old.serving.split(), old.parts.split),
            catch: at(caught(self) != caught(old), old.parts.catch),
            legacy: at(self.serving.legacy() != old.serving.legacy(), old.parts.legacy),
            target: at(self.serving.target() != old.serving.target(), old.parts.target),
        }
    }

    fn has_shape_of(&self, old: &Self) -> bool {
        let (a, b) = (&self.spec, &old.spec);
        a.hosts == b.hosts
            && a.address == b.address
            && a.ports == b.ports
            && a.affinity == b.affinity
            && self.gateways == old.gateways
            && self.clients == old.clients
            && self.drain.is_some() == old.drain.is_some()
    }
}

/// Who serves a service. A serving side without an endpoint cannot be expressed; the idle side
/// stays known, so that a shift changes weights only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Everyone on legacy: split 0.
    Legacy {
        /// Who serves.
        legacy: Pool,
        /// Who would.
        target: Option<Pool>,
    },
    /// Both sides: split 1 to 9 999.
    Both {
        /// The VMs.
        legacy: Pool,
        /// The cluster.
        target: Pool,
        /// The share of the cluster.
        split: Split,
    },
    /// Everyone on target: split 10 000.
    Target {
        /// Who did.
        legacy: Option<Pool>,
        /// Who serves.
        target: Pool,
    },
}

impl Serving {
    /// The split that this says.
    pub const fn split(&self) -> Split {
        match self {
            Self::Legacy { .. } => Split::LEGACY,
            Self::Both { split, .. } => *split,
            Self::Target { .. } => Split::TARGET,
        }
    }

    /// The pool of the legacy side, where known.
    pub const fn legacy(&self) -> Option<&Pool> {
        match self {
            Self::Legacy { legacy, .. } | Self::Both { legacy, .. } => Some(legacy),
            Self::Target { legacy, .. } => legacy.as_ref(),
        }
    }

    /// The pool of the target side, where known.
    pub const fn target(&self) -> Option<&Pool> {
        match self {
            Self::Legacy { target, .. } => target.as_ref(),
            Self::Both { target, .. } | Self::Target { target, .. } => Some(target),
        }
    }
}

/// Whether a service moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Motion {
    /// Before `start`, or complete.
    Steady,
    /// Between `start` (or the first shift) and complete.
    Moving,
    /// Rolled back: gateways catch.
    RolledBack,
    /// Restored from a backup, no operator has acted yet.
    Restored,
}

/// A zone as the DNS plane serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The origin.
    pub name: ZoneName,
    /// The plan that owns it.
    pub plan: PlanName,
    /// The token of the record that last changed this leaf.
    pub since: Token,
    /// The text around the plan's names, by SHA-256; `None`: an SOA and an NS of our own.
    pub text: Option<Digest>,
    /// TTLs of the plan's names.
    pub ttl: Ttl,
}
