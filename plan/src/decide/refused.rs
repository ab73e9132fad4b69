//! What the rules refuse: typed, with what would be allowed and the command that clears it.

use serde::Serialize;

use super::words;
use crate::command::{Key, Override};
use crate::ledger::SinkId;
use crate::name::{GateName, HostName, PlanName, ServiceId, ServiceName, ZoneName};
use crate::spec::Plane;
use crate::split::Split;
use crate::state::{Mode, PlanState};
use crate::time::Timestamp;

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Refused {
    /// No plan of this name.
    #[error("there is no plan called `{plan}`{}", words::offer(.near))]
    UnknownPlan {
        /// What was asked for.
        plan: PlanName,
        /// The nearest names.
        near: Vec<PlanName>,
    },
    /// No service of this name in the plan.
    #[error(
        "there is no service called `{}` in plan `{}`{}",
        .service.service, .service.plan, words::offer(.near)
    )]
    UnknownService {
        /// What was asked for.
        service: ServiceId,
        /// The nearest names.
        near: Vec<ServiceName>,
    },
    /// No gate of this name in the plan.
    #[error("there is no gate called `{gate}` in plan `{plan}`{}", words::offer(.near))]
    UnknownGate {
        /// The plan.
        plan: PlanName,
        /// What was asked for.
        gate: GateName,
        /// The nearest names.
        near: Vec<GateName>,
    },
    /// No zone of this name in the plan.
    #[error("there is no zone `{zone}` in plan `{plan}`")]
    UnknownZone {
        /// The plan.
        plan: PlanName,
        /// What was asked for.
        zone: ZoneName,
    },
    /// The plan has changed since the revision that was named.
    #[error("{}", words::stale(.plan, *.given, *.current))]
    Stale {
        /// The plan.
        plan: PlanName,
        /// The revision that was named.
        given: u64,
        /// The plan's revision; 0: there is no such plan.
        current: u64,
    },
    /// `resume` of a plan that was rolled back must name its revision.
    #[error("plan `{plan}` was rolled back; `resume` must name its revision, which is {current}")]
    RevisionNeeded {
        /// The plan.
        plan: PlanName,
        /// Its revision.
        current: u64,
    },
    /// The idempotency key was used for another ask.
    #[error("the idempotency key `{}` was used for another command; use a new one", .key.as_str())]
    KeyReused {
        /// The key.
        key: Key,
    },
    /// The plan is where this cannot be done.
    #[error("plan `{plan}` is {mode}; {}", words::phase(*.verb, *.mode))]
    Phase {
        /// The plan.
        plan: PlanName,
        /// What was asked: `start`.
        verb: Verb,
        /// Where the plan is.
        mode: Phase,
        /// Its revision.
        revision: u64,
    },
    /// Sinks have not applied what is committed.
    #[error(
        "not every sink has applied what plan `{plan}` has committed; {}",
        words::acks(*.overridable)
    )]
    Acks {
        /// The plan.
        plan: PlanName,
        /// Whether `--override acks` can help: not where the plan would become complete.
        overridable: bool,
    },
    /// A gate has not passed.
    #[error(
        "gate `{gate}` of plan `{plan}` has {approved} of {needed} approvals; approve it, or \
         `--override {gate} --reason TEXT`"
    )]
    Gate {
        /// The plan.
        plan: PlanName,
        /// The gate.
        gate: GateName,
        /// How many have approved.
        approved: u32,
        /// How many must.
        needed: u32,
    },
    /// Nothing rises in this window.
    #[error(
        "plan `{plan}` is frozen until {until} ({window}): nothing rises before, lowering is \
         allowed; or `--override freeze --reason TEXT`"
    )]
    Freeze {
        /// The plan.
        plan: PlanName,
        /// The window, as the plan file says.
        window: String,
        /// When this one ends.
        until: Timestamp,
    },
    /// More than one revision may raise.
    #[error(
        "`{service}` would rise from {from} to {to} at once; maxStep allows {allowed}; or \
         `--override max-step --reason TEXT`"
    )]
    MaxStep {
        /// The service.
        service: ServiceId,
        /// Where it is.
        from: Split,
        /// Where it was to go.
        to: Split,
        /// The highest split that is allowed now.
        allowed: Split,
    },
    /// The split would be above that of a service that this one comes after.
    #[error("`{service}` comes after `{after}`, so its split is at most {allowed} now")]
    After {
        /// The service.
        service: ServiceId,
        /// The service that it comes after.
        after: ServiceName,
        /// Where it is.
        from: Split,
        /// Where it was to go.
        to: Split,
        /// The highest split that is allowed now.
        allowed: Split,
    },
    /// A proxy cannot keep clients on their side.
    #[error(
        "plan `{plan}` has services whose clients keep their side, and `{sink}` (version \
         {version}) draws one for every request: replace it by an Envoy from 1.36 on, or \
         `--override sticky --reason TEXT`"
    )]
    NotSticky {
        /// The plan.
        plan: PlanName,
        /// The proxy, or the first of them.
        sink: SinkId,
        /// What it says of its version.
        version: String,
    },
    /// Traffic is not where the plan says, though everything has arrived.
    #[error(
        "{plane} measured {} of the requests of `{service}` on target, and the plan says \
         {intended}: look for what else routes them, or `--override measured --reason TEXT`",
        words::between(*.low_bp, *.high_bp)
    )]
    Contradicted {
        /// The service, or the first of them.
        service: ServiceId,
        /// Where it was measured.
        plane: Plane,
        /// What the plan says.
        intended: Split,
        /// The lower end of what was measured, in basis points.
        low_bp: u16,
        /// The upper end.
        high_bp: u16,
    },
    /// A limit is overridden without a reason.
    #[error("overriding {} needs a reason: add `--reason TEXT`", words::list(.overrides))]
    ReasonNeeded {
        /// The plan.
        plan: PlanName,
        /// The overrides.
        #[serde(serialize_with = "as_text")]
        overrides: Vec<Override>,
    },
    /// The edit would move clients unasked.
    #[error(
        "plan `{plan}` has clients on target, so this would move clients unasked: {}; it is \
         allowed at 0%", words::list(.changes)
    )]
    WouldMove {
        /// The plan.
        plan: PlanName,
        /// Every change that would.
        changes: Vec<Change>,
    },
    /// The splits of today break the order that the edit asks for.
    #[error(
        "`{service}` cannot come after `{after}`: its split is above {allowed}, where that one is"
    )]
    AfterBroken {
        /// The service.
        service: ServiceId,
        /// The service that it should come after.
        after: ServiceName,
        /// That one's split.
        allowed: Split,
    },
    /// Another plan has this host.
    #[error("host `{host}` belongs to plan `{by}`")]
    HostTaken {
        /// The host.
        host: HostName,
        /// Whose it is.
        by: PlanName,
    },
    /// Another plan has this zone.
    #[error("zone `{zone}` belongs to plan `{by}`")]
    ZoneTaken {
        /// The zone.
        zone: ZoneName,
        /// Whose it is.
        by: PlanName,
    },
    /// A zone of one plan would hide a host of another.
    #[error("zone `{zone}` would hide host `{host}`; the other plan is `{other}`")]
    ZoneHides {
        /// The zone.
        zone: ZoneName,
        /// The host.
        host: HostName,
        /// The other plan.
        other: PlanName,
    },
    /// The text of a zone was not stored before the plan was asked for.
    #[error("the text of zone `{zone}` was not stored; send it with the plan")]
    ZoneText {
        /// The zone.
        zone: ZoneName,
    },
    /// No more plans fit.
    #[error("there are {limit} plans already, which is the limit; delete one first")]
    TooManyPlans {
        /// How many do.
        limit: usize,
    },
    /// Automation asked for something that is not due.
    #[error("plan `{plan}` has nothing to do by itself now")]
    NotDue {
        /// The plan.
        plan: PlanName,
    },
}

/// Where a plan is, in the words of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not started.
    Ready,
    /// Taking its steps.
    Running,
    /// By hand, or paused, or restored from a backup.
    Paused,
    /// Went back a step by itself.
    Expired,
    /// Taken back.
    RolledBack,
    /// Done.
    Complete,
    /// Ended.
    Retired,
}

impl Phase {
    const fn of(plan: &PlanState) -> Self {
        match plan.mode {
            Mode::RolledBack => Self::RolledBack,
            Mode::Retired => Self::Retired,
            Mode::Complete => Self::Complete,
            Mode::Expired(_) => Self::Expired,
            Mode::Manual | Mode::Paused(_) => Self::Paused,
            Mode::Running(_) | Mode::Ready if plan.restored => Self::Paused,
            Mode::Running(_) => Self::Running,
            Mode::Ready => Self::Ready,
        }
    }
}

/// What was asked, where the phase decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// `apply`
    Apply,
    /// `start`
    Start,
    /// `step`
    Step,
    /// `shift`
    Shift,
    /// `pause`
    Pause,
    /// `resume`
    Resume,
    /// `rollback`
    Rollback,
    /// `retire`
    Retire,
    /// `delete`
    Delete,
}

/// A change of a plan that would move clients unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "field", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Change {
    /// Which plane splits whom.
    Clients,
    /// Which addresses count as one client.
    Resolvers,
    /// How DNS clients are told apart.
    ClientKey,
    /// What seasons the buckets.
    Salt {
        /// Of which service.
        service: ServiceName,
    },
    /// What makes two requests come from one client.
    Affinity {
        /// Of which service.
        service: ServiceName,
    },
    /// The logical address.
    Address {
        /// Of which service.
        service: ServiceName,
    },
    /// The host names.
    Hosts {
        /// Of which service.
        service: ServiceName,
    },
    /// The service is gone.
    Removed {
        /// Which.
        service: ServiceName,
    },
}

/// What kind of refusal it is; the API makes a status code of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedKind {
    /// There is no such plan, service or gate: 404.
    NotFound,
    /// Another revision: 412.
    Stale,
    /// The idempotency key was used for something else: 422.
    KeyReused,
    /// The plan's rules forbid it: 409.
    Rules,
}

impl Refused {
    /// The plan is where this cannot be done.
    pub(super) fn phase(plan: &PlanState, verb: Verb) -> Self {
        let (name, revision) = (plan.spec.name.clone(), plan.revision);
        Self::Phase { plan: name, verb, mode: Phase::of(plan), revision }
    }

    /// What kind it is.
    pub const fn kind(&self) -> RefusedKind {
        match self {
            Self::UnknownPlan { .. }
            | Self::UnknownService { .. }
            | Self::UnknownGate { .. }
            | Self::UnknownZone { .. } => RefusedKind::NotFound,
            Self::Stale { .. } | Self::RevisionNeeded { .. } => RefusedKind::Stale,
            Self::KeyReused { .. } => RefusedKind::KeyReused,
            Self::Phase { .. }
            | Self::Acks { .. }
            | Self::Gate { .. }
            | Self::Freeze { .. }
            | Self::MaxStep { .. }
            | Self::After { .. }
            | Self::NotSticky { .. }
            | Self::Contradicted { .. }
            | Self::ReasonNeeded { .. }
            | Self::WouldMove { .. }
            | Self::AfterBroken { .. }
            | Self::HostTaken { .. }
            | Self::ZoneTaken { .. }
            | Self::ZoneHides { .. }
            | Self::ZoneText { .. }
            | Self::TooManyPlans { .. }
            | Self::NotDue { .. } => RefusedKind::Rules,
        }
    }

    /// The stable word for it, in kebab case: the API's `reason`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownPlan { .. } => "unknown-plan",
            Self::UnknownService { .. } => "unknown-service",
            Self::UnknownGate { .. } => "unknown-gate",
            Self::UnknownZone { .. } => "unknown-zone",
            Self::Stale { .. } => "stale",
            Self::RevisionNeeded { .. } => "revision-needed",
            Self::KeyReused { .. } => "key-reused",
            Self::Phase { .. } => "phase",
            Self::Acks { .. } => "acks",
            Self::Gate { .. } => "gate",
            Self::Freeze { .. } => "freeze",
            Self::MaxStep { .. } => "max-step",
            Self::After { .. } => "after",
            Self::NotSticky { .. } => "not-sticky",
            Self::Contradicted { .. } => "contradicted",
            Self::ReasonNeeded { .. } => "reason-needed",
            Self::WouldMove { .. } => "would-move",
            Self::AfterBroken { .. } => "after-broken",
            Self::HostTaken { .. } => "host-taken",
            Self::ZoneTaken { .. } => "zone-taken",
            Self::ZoneHides { .. } => "zone-hides",
            Self::ZoneText { .. } => "zone-text",
            Self::TooManyPlans { .. } => "too-many-plans",
            Self::NotDue { .. } => "not-due",
        }
    }

    /// The command line that clears it, where one does.
    pub fn clear(&self) -> Option<String> {
        words::clear(self)
    }
}

/// Overrides as the words that the command line has for them.
fn as_text<S: serde::Serializer>(overrides: &[Override], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(overrides.iter().map(ToString::to_string))
}
