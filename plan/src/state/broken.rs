//! What makes a log unreadable.

use crate::name::{PlanName, ServiceId, ZoneName};
use crate::token::{Digest, Token};

/// The record or checkpoint does not fit: the log is broken here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The record names another record as its parent.
    #[error("record {token} follows {found}, not the head of the log, {expected}")]
    Parent {
        /// The record.
        token: Token,
        /// The digest of the head.
        expected: Digest,
        /// What the record names.
        found: Digest,
    },
    /// The record's number does not follow the head's.
    #[error("record {found} cannot follow record {head}")]
    Order {
        /// The token of the head.
        head: Token,
        /// The record.
        found: Token,
    },
    /// The record changes a plan that is not there.
    #[error("record {token} changes plan `{plan}`, which is not there")]
    UnknownPlan {
        /// The record.
        token: Token,
        /// The plan.
        plan: PlanName,
    },
    /// The record changes a service that is not there.
    #[error("record {token} changes service `{service}`, which is not there")]
    UnknownService {
        /// The record.
        token: Token,
        /// The service.
        service: ServiceId,
    },
    /// A zone whose text is not in the log's blobs.
    #[error("zone `{zone}` in record {token} is not stored by its digest")]
    ZoneSource {
        /// The record.
        token: Token,
        /// The zone.
        zone: ZoneName,
    },
    /// Two plans own the same zone.
    #[error("zone `{zone}` belongs to two plans at record {token}")]
    ZoneTwice {
        /// The record.
        token: Token,
        /// The zone.
        zone: ZoneName,
    },
    /// The checkpoint's own digest does not fit its bytes.
    #[error("the checkpoint does not fit its own digest")]
    CheckpointDigest,
    /// The checkpoint is of another version, or not one at all.
    #[error("the checkpoint cannot be read: {0}")]
    Checkpoint(String),
}
