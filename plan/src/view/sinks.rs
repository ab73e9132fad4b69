//! Every receiver.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decide::Facts;
use crate::ledger::{Nack, Sink, SinkId};
use crate::name::PlanName;
use crate::spec::Plane;
use crate::state::State;
use crate::time::Timestamp;
use crate::token::Token;

/// One receiver as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkView {
    /// Who it is.
    pub id: SinkId,
    /// The plane it is in.
    pub plane: Plane,
    /// What it is: `dns`, `envoy`, `agent`.
    pub kind: String,
    /// What it says of its version.
    pub version: Option<String>,
    /// Whether it is connected.
    pub connected: bool,
    /// Since when it is connected.
    pub since: Option<Timestamp>,
    /// Since when it is away, where known.
    pub left: Option<Timestamp>,
    /// The newest token up to which it has applied everything. One that owes nothing is up to date
    /// with its plane.
    pub acked: Token,
    /// How many revisions the log is ahead of that.
    pub lag: u64,
    /// The plans of which it has not applied everything.
    pub owes: Vec<PlanName>,
    /// The plans that expect it; `null`: every plan that uses its plane.
    pub plans: Option<Vec<PlanName>>,
    /// Its last refusal, until it acks something newer.
    pub nack: Option<Nack>,
}

/// Every receiver, by plane and then by id.
pub fn sinks(state: &State, facts: &Facts) -> Vec<SinkView> {
    let sinks = facts.ledger.sinks().map(|(sink, has)| view(sink, has, state.token()));
    let mut sinks: Vec<SinkView> = sinks.collect();
    sinks.sort_by(|a, b| (a.plane, &a.id).cmp(&(b.plane, &b.id)));
    sinks
}

fn view(sink: &Sink, acked: Token, head: Token) -> SinkView {
    // A restore goes on with the revisions, so that the distance holds over incarnations too.
    let lag = head.revision.saturating_sub(acked.revision);
    SinkView {
        id: sink.id.clone(),
        plane: sink.plane,
        kind: sink.kind.clone(),
        version: sink.version.clone(),
        connected: !sink.is_away(),
        since: sink.since,
        left: sink.left,
        acked,
        lag,
        owes: sink.owes.iter().cloned().collect(),
        plans: sink.plans.as_ref().map(|plans| plans.iter().cloned().collect()),
        nack: sink.nack.clone(),
    }
}
