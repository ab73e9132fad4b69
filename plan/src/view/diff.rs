//! What applying a plan file would change. Data; words are the caller's.

mod compare;
pub(in crate::view) mod warn;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Planes;
use crate::command::{Actor, Ask, Cause, Command};
use crate::decide::{Decided, Facts};
use crate::measure::Count;
use crate::name::{HostName, PlanName, ServiceName, ZoneName};
use crate::spec::{Plan, ZoneSource};
use crate::state::State;
use crate::token::Digest;

/// What zone texts hold at host names of the new plan, what was seen of its clients, and what the
/// controller gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneFacts {
    /// Each host name that a zone text holds.
    pub hosts: BTreeMap<HostName, ZoneHost>,
    /// What the DNS plane counted for each service of the plan so far.
    pub seen: BTreeMap<ServiceName, Count>,
    /// Whether machines get identities from this controller.
    pub identities: bool,
}

/// What a zone text holds at a host name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneHost {
    /// The target of its CNAME.
    pub cname: Option<HostName>,
    /// Its A and AAAA records.
    pub addresses: Vec<IpAddr>,
    /// The largest TTL of those, in seconds.
    pub ttl: Option<u32>,
    /// Its other types, which are served as they are: `MX`, `TXT`.
    pub others: Vec<String>,
    /// The name at or above it that is delegated or has a DNAME, so that nobody is told what the
    /// plan says.
    pub hidden_by: Option<String>,
}

/// What applying would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// The plan.
    pub plan: PlanName,
    /// Whether there is no such plan yet.
    pub new: bool,
    /// The revision that this was compared with.
    pub revision: Option<u64>,
    /// Whether applying would change anything.
    pub changes: bool,
    /// Why applying would be refused; empty: it would be taken.
    pub refused: Vec<Finding>,
    /// What is worth knowing before applying.
    pub warnings: Vec<Finding>,
    /// Fields of the plan itself that change.
    pub fields: Vec<FieldChange>,
    /// Services that change.
    pub services: Vec<ServiceChange>,
    /// Steps that change.
    pub steps: Vec<StepChange>,
    /// What changes in each plane that the plan uses.
    pub planes: Planes<PlaneChange>,
}

/// A refusal or a warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Stable, for programs: `few-clients`.
    pub code: String,
    /// In words.
    pub detail: String,
}

/// Whether something comes, goes or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Added,
    /// It leaves.
    Removed,
    /// It changes.
    Changed,
}

/// A field that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// Its name in the plan file.
    pub field: String,
    /// What it was; `null`: nothing.
    pub from: Option<String>,
    /// What it will be; `null`: nothing.
    pub to: Option<String>,
}

/// A service that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceChange {
    /// Its name.
    pub name: ServiceName,
    /// How.
    pub change: Change,
    /// Its split, which applying does not move.
    pub split_bp: u16,
    /// Its fields that change.
    pub fields: Vec<FieldChange>,
}

/// A step that changes, compared by its place in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepChange {
    /// From 1.
    pub index: u16,
    /// How.
    pub change: Change,
    /// What it was.
    pub from: Option<String>,
    /// What it will be.
    pub to: Option<String>,
}

/// What changes in a plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlaneChange {
    /// Zones that come, go or change; dns only.
    pub zones: Vec<ZoneChange>,
    /// Host names that come, go or change; dns only.
    pub hosts: Vec<HostChange>,
    /// Services whose leaf changes in this plane.
    pub services: Vec<ServiceName>,
}

/// A zone that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneChange {
    /// The origin.
    pub zone: ZoneName,
    /// How.
    pub change: Change,
    /// What about it.
    pub fields: Vec<FieldChange>,
}

/// A host name that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostChange {
    /// The name.
    pub host: HostName,
    /// Its service.
    pub service: ServiceName,
    /// The zone it is in.
    pub zone: ZoneName,
    /// How.
    pub change: Change,
    /// Records of the zone text that the plan's answers stand in for: `CNAME vm1.corp.example.`.
    pub replaces: Vec<String>,
    /// Types of the zone text that are served as they are: `MX`.
    pub keeps: Vec<String>,
    /// The TTL of the plan's answers while nothing moves, in seconds.
    pub ttl_steady: u32,
    /// And while something moves.
    pub ttl_shifting: u32,
}

/// What applying `new` would change, whether it would be refused, and what is worth knowing before.
///
/// Zones given as text are compared by their digest, as they are stored; a zone given as a file
/// name counts as changed, since nothing here reads it.
pub fn diff(state: &State, new: &Plan, zones: &ZoneFacts) -> Diff {
    let new = Arc::new(stored(new));
    let old = state.plan(&new.name).map(|plan| (&*plan.spec, plan));
    let spec = old.map(|(spec, _)| spec);
    let split_bp = |name: &ServiceName| {
        let there = old.and_then(|(_, plan)| plan.services.get(name));
        there.map_or(0, |service| service.split.bp())
    };
    let fields = compare::plan_fields(spec, &new);
    let services = compare::services(spec, &new, split_bp);
    let steps = compare::steps(spec, &new);
    let planes = Planes::of(|plane| compare::plane(spec, &new, plane, &services, zones));
    let (refused, would) = ask(state, &new);
    let empty = |plane: &PlaneChange| plane.zones.is_empty() && plane.hosts.is_empty();
    let differs = !fields.is_empty()
        || !services.is_empty()
        || !steps.is_empty()
        || planes.iter().any(|(_, plane)| !empty(plane));
    Diff {
        plan: new.name.clone(),
        new: old.is_none(),
        revision: old.map(|(_, plan)| plan.revision),
        changes: differs || would,
        refused,
        warnings: warn::warnings(spec, &new, zones),
        fields,
        services,
        steps,
        planes,
    }
}

/// The plan as it would be stored: texts by their digest.
fn stored(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for zone in &mut plan.zones {
        match &zone.source {
            ZoneSource::Text(text) => {
                zone.source = ZoneSource::Blob(Digest::of(text.as_bytes()));
            }
            // Stands for a text that is not known: no text has this digest.
            ZoneSource::File(_) => zone.source = ZoneSource::Blob(Digest::ZERO),
            ZoneSource::Own | ZoneSource::Blob(_) => {}
        }
    }
    plan
}

/// Asks the rules: the refusal, and whether they would make a record.
fn ask(state: &State, new: &Arc<Plan>) -> (Vec<Finding>, bool) {
    let ask = Ask {
        command: Command::Apply(Arc::clone(new)),
        if_revision: None,
        key: None,
        actor: Actor::new("diff"),
        reason: None,
    };
    match state.decide(&Cause::Operator(ask), &Facts::default()) {
        Ok(Decided::Commit(_)) => (Vec::new(), true),
        Ok(Decided::Already(_)) => (Vec::new(), false),
        Err(refused) => {
            let (code, detail) = (refused.code().to_owned(), refused.to_string());
            (vec![Finding { code, detail }], false)
        }
    }
}
