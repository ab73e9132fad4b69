//! What calls answer where no view of the plan says it already.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use plan::decide::Done;
use plan::view::{Diff, PlanSummary, SinkView, Status};
use plan::{PlanName, Token};

/// A change of one plan, durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// Which plan.
    pub plan: PlanName,
    /// The plan's revision now: the next `If-Match`.
    pub revision: u64,
    /// The incarnation of the log.
    pub incarnation: u32,
    /// The newest token of the log: converged means that sinks have applied this one.
    pub token: Token,
    /// Whether anything changed.
    pub changed: bool,
    /// Whether the same call with the same idempotency key had done it before.
    pub repeated: bool,
    /// What else it did: services taken along, limits overridden.
    pub notes: Vec<String>,
}

impl Changed {
    /// What was done to this plan, which is now at `revision` unless it was touched.
    pub(crate) fn of(done: Done, plan: PlanName, revision: u64) -> Self {
        let touched = done.plans.iter().find(|(name, _)| *name == plan);
        Self {
            revision: touched.map_or(revision, |(_, revision)| *revision),
            plan,
            incarnation: done.token.incarnation,
            token: done.token,
            changed: done.changed,
            repeated: done.repeated,
            notes: done.notes,
        }
    }
}

/// A change of several plans in one record, durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedAll {
    /// The revision of the record.
    pub revision: u64,
    /// The incarnation of the log.
    pub incarnation: u32,
    /// Both, as a token.
    pub token: Token,
    /// Whether anything changed.
    pub changed: bool,
    /// Whether the same call with the same idempotency key had done it before.
    pub repeated: bool,
    /// What else it did.
    pub notes: Vec<String>,
    /// The plans that it touched.
    pub plans: Vec<PlanRevision>,
}

impl From<Done> for ChangedAll {
    fn from(done: Done) -> Self {
        let plan = |(plan, revision)| PlanRevision { plan, revision };
        Self {
            revision: done.token.revision,
            incarnation: done.token.incarnation,
            token: done.token,
            changed: done.changed,
            repeated: done.repeated,
            notes: done.notes,
            plans: done.plans.into_iter().map(plan).collect(),
        }
    }
}

/// A plan with its revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanRevision {
    /// Which plan.
    pub plan: PlanName,
    /// Its revision.
    pub revision: u64,
}

/// What came of a plan that was sent: done, or only compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Put {
    /// It is the plan now, durable.
    Applied(Changed),
    /// What applying it would change (`dryRun=true`).
    Compared(Box<Diff>),
}

/// All plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plans {
    /// Sorted by name.
    pub plans: Vec<PlanSummary>,
}

/// The status of every plan: what one event of a watch over all plans says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Statuses {
    /// Sorted by name.
    pub plans: Vec<Status>,
}

/// Every receiver of every plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sinks {
    /// Sorted by id.
    pub sinks: Vec<SinkView>,
}

/// A receiver that is expected no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    /// Which.
    pub forgotten: plan::SinkId,
}

/// The log is whole: every record follows from the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// How many records were read.
    pub records: u64,
    /// The newest one.
    pub head: Token,
    /// Its digest, which speaks for all of them.
    pub digest: String,
}
