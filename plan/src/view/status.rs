//! Where a plan is: intended, acked and measured, and why it does not move.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Planes;
use super::hold::HoldView;
use super::phase::Phase;
use crate::ledger::SinkId;
use crate::measure::Share;
use crate::name::{GateName, PlanName, ServiceName};
use crate::spec::Strategy;
use crate::split::Side;
use crate::time::Timestamp;
use crate::token::Token;

/// Where a plan is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The plan.
    pub plan: PlanName,
    /// What it does.
    pub phase: Phase,
    /// How automation takes the steps.
    pub strategy: Strategy,
    /// The incarnation of the log.
    pub incarnation: u32,
    /// The revision of the last command or automation on the plan: what `--if-revision` compares.
    pub revision: u64,
    /// When that was.
    pub changed_at: Timestamp,
    /// The newest token of the log, seen when this was computed.
    pub head: Token,
    /// Whether everything committed of the plan up to `revision` has arrived at every expected sink.
    pub converged: bool,
    /// The present step; `null` where the plan does not take its steps: moved by hand, rolled back,
    /// retired.
    pub step: Option<StepView>,
    /// What automation does next; `null` where there is nothing.
    pub next: Option<NextStep>,
    /// When the plan goes back a step if nobody moves on.
    pub expires_at: Option<Timestamp>,
    /// Each service, in the order of the file.
    pub services: Vec<ServiceStatus>,
    /// The receivers that the plan expects.
    pub sinks: SinkSummary,
    /// When the last answer given under an earlier split expires, if that is to come.
    pub old_until: Option<Timestamp>,
    /// Why the plan does not move, most serious first.
    pub holds: Vec<HoldView>,
}

/// The present step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// From 1; 0 before the first.
    pub index: u16,
    /// How many steps the plan has.
    pub count: u16,
    /// The step's split; 0 before the first.
    pub split_bp: u16,
    /// How long it bakes.
    pub bake_seconds: u64,
    /// How much of that is over.
    pub baked_seconds: u64,
}

/// What automation does next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextStep {
    /// The step's index, from 1; `null`: the plan is complete then.
    pub index: Option<u16>,
    /// The split that it moves to.
    pub split_bp: u16,
    /// The gates that must pass before.
    pub gates: Vec<GateName>,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// What it does.
    pub phase: Phase,
    /// The share of clients on target that the plan says.
    pub split_bp: u16,
    /// The sides of which every endpoint fails, so that the last good set is kept.
    pub degraded: Vec<Side>,
    /// The three numbers of each plane.
    pub planes: Planes<PlaneStatus>,
}

/// The three numbers of a service in a plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlaneStatus {
    /// What the plan says.
    pub intended_bp: u16,
    /// What the sink farthest from that has confirmed; `null` without a sink.
    pub acked_bp: Option<u16>,
    /// What traffic did; `null` until there is something to measure.
    pub measured: Option<Share>,
    /// When the last answer given under an earlier split expires, if that is to come.
    pub old_until: Option<Timestamp>,
}

/// The receivers that a plan expects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkSummary {
    /// How many.
    pub expected: u32,
    /// How many hold everything of the plan.
    pub acked: u32,
    /// Those that are connected and do not.
    pub lagging: Vec<SinkId>,
    /// Those that are not connected.
    pub away: Vec<SinkId>,
}

/// A plan in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanSummary {
    /// Its name.
    pub plan: PlanName,
    /// What it does.
    pub phase: Phase,
    /// The revision of the last command or automation on it.
    pub revision: u64,
    /// When that was.
    pub changed_at: Timestamp,
    /// Whether everything has arrived.
    pub converged: bool,
    /// The present step.
    pub step: Option<StepView>,
    /// The lowest split of its services.
    pub lowest_bp: u16,
    /// The highest split of its services.
    pub highest_bp: u16,
    /// Its services, in the order of the file.
    pub services: Vec<ServiceName>,
    /// Why it does not move, most serious first.
    pub holds: Vec<HoldView>,
}
