//! One entry of the log: commit, command result and audit entry at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{Actor, Key};
use crate::endpoint::{Endpoint, Pool};
use crate::name::{GateName, PlanName, ServiceId};
use crate::spec::Plan;
use crate::split::{Side, Split};
use crate::state::Mode;
use crate::time::Timestamp;
use crate::token::{Digest, Token};

mod verify;

pub use crate::record::verify::{AuditError, AuditProblem, Verified, verify};

/// One entry of the log.
///
/// The digest of a record is the SHA-256 of its encoding, which holds the digest of its parent: the
/// digest of the newest record speaks for the whole log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number. The revision is one more than the parent's.
    pub token: Token,
    /// The digest of the record before; [`Digest::ZERO`] for the first.
    pub parent: Digest,
    /// When it was decided, by the controller's wall clock.
    pub at: Timestamp,
    /// Why it is there: the audit entry.
    pub cause: CauseSummary,
    /// Makes a repeated ask take effect once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<UsedKey>,
    /// What it changes.
    pub puts: Vec<Put>,
}

/// An idempotency key with what it was used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedKey {
    /// The key.
    pub key: Key,
    /// SHA-256 of what was asked: the same key for another ask is refused.
    pub ask: Digest,
}

/// Why a record is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum CauseSummary {
    /// Somebody asked.
    Operator {
        /// Who.
        actor: Actor,
        /// What, as a command line without its program: `shift shop/orders 25%`.
        command: String,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What else the command did: services taken along, limits overridden.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
    },
    /// A plan acted by itself.
    Automation {
        /// What: `advance shop to 25%`.
        command: String,
    },
    /// Endpoints or health changed.
    Observed {
        /// What was seen, a line each.
        what: Vec<String>,
    },
    /// The log was restored from a backup.
    Restored {
        /// Who did it.
        actor: Actor,
        /// The token that the backup ended with.
        from: Token,
    },
}

/// One change of the state. Putting is all that a fold does: there are no rules in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Put {
    /// The plan as wanted; new services start with all their endpoints, at `split` 0.
    Plan(Arc<Plan>),
    /// Where the plan is.
    Mode {
        /// Which plan.
        plan: PlanName,
        /// Its new mode.
        mode: Mode,
    },
    /// The split of one service.
    Split {
        /// Which service.
        service: ServiceId,
        /// Its new split.
        split: Split,
    },
    /// An approval of a manual gate.
    Approval {
        /// Which plan.
        plan: PlanName,
        /// Which gate.
        gate: GateName,
        /// Who approved.
        actor: Actor,
    },
    /// All approvals of a plan are void.
    NoApprovals(PlanName),
    /// The endpoints of a side that fail, and those that count.
    Health {
        /// Which service.
        service: ServiceId,
        /// Which side.
        side: Side,
        /// Those that fail now.
        failing: BTreeSet<Endpoint>,
        /// Those that count: all that do not fail, else the last good set.
        pool: Pool,
    },
    /// Whether the plan waits for an operator after a restore.
    Restored {
        /// Which plan.
        plan: PlanName,
        /// Whether it waits.
        waits: bool,
    },
    /// The names of a retired plan leave: its zone files answer the target.
    Released(PlanName),
    /// The plan is gone.
    Deleted(PlanName),
}

impl Put {
    /// The plan that it changes.
    pub fn plan(&self) -> &PlanName {
        match self {
            Self::Plan(spec) => &spec.name,
            Self::Mode { plan, .. }
            | Self::Approval { plan, .. }
            | Self::NoApprovals(plan)
            | Self::Restored { plan, .. }
            | Self::Released(plan)
            | Self::Deleted(plan) => plan,
            Self::Split { service, .. } | Self::Health { service, .. } => &service.plan,
        }
    }
}

impl Record {
    /// The most bytes of an encoded record: a plan file of 16 MiB with room for its encoding.
    pub const BYTES_MAX: usize = 64 << 20;

    /// The canonical bytes that the log stores and the chain hashes.
    pub fn encode(&self) -> Vec<u8> {
        // Serialising these types cannot fail: no map has a key that is not text, no writer is in
        // it.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A record from its bytes.
    ///
    /// # Errors
    /// The bytes are no record of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(bytes).map_err(|source| DecodeError { source })
    }

    /// SHA-256 of the canonical bytes: the parent of the next record.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

/// The bytes are no record.
#[derive(Debug, thiserror::Error)]
#[error("the bytes are no record of this version")]
pub struct DecodeError {
    #[source]
    source: serde_json::Error,
}
