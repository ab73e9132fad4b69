//! Gates: whether a condition passed, and what says so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Actor;
use crate::name::GateName;
use crate::spec::GateTest;
use crate::state::PlanState;

/// What a gate says now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Which gate.
    pub gate: GateName,
    /// What it says.
    pub outcome: Outcome,
    /// Who has approved, sorted.
    pub approved: Vec<Actor>,
    /// How many more must approve.
    pub missing: u32,
}

/// What a gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The plan may move on.
    Pass,
    /// Not yet.
    Hold,
    /// It must not.
    Fail,
}

impl Verdict {
    /// What the gate `name` of this plan says now. A gate that the plan does not have cannot pass.
    pub fn of(plan: &PlanState, name: &GateName) -> Self {
        let gate = plan.spec.gates.iter().find(|gate| gate.name == *name);
        let approvals = plan.approvals.get(name);
        let approved: Vec<Actor> = approvals.into_iter().flatten().cloned().collect();
        let Some(gate) = gate else {
            return Self { gate: name.clone(), outcome: Outcome::Fail, approved, missing: 0 };
        };
        match gate.test {
            GateTest::Manual { approvers } => {
                let there = u32::try_from(approved.len()).unwrap_or(u32::MAX);
                let missing = approvers.saturating_sub(there);
                let outcome = if missing == 0 { Outcome::Pass } else { Outcome::Hold };
                Self { gate: name.clone(), outcome, approved, missing }
            }
        }
    }

    /// Whether the plan may move on.
    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Pass
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fixture;
    use crate::view::world::World;

    #[test]
    fn a_manual_gate_counts_different_people() {
        let mut spec = fixture::plan();
        spec.gates[0].test = GateTest::Manual { approvers: 2 };
        let world = World::new(spec);
        let gate: GateName = "sign-off".parse().unwrap();
        for (approved, outcome, missing) in [
            (&[][..], Outcome::Hold, 2),
            (&["bob"], Outcome::Hold, 1),
            (&["bob", "alice"], Outcome::Pass, 0),
            (&["bob", "alice", "carol"], Outcome::Pass, 0),
        ] {
            let mut plan = world.plan().clone();
            let actors: BTreeSet<Actor> = approved.iter().map(|name| Actor::new(name)).collect();
            plan.approvals.insert(gate.clone(), actors.clone());
            let approved = actors.into_iter().collect();
            let expected = Verdict { gate: gate.clone(), outcome, approved, missing };
            assert_eq!(Verdict::of(&plan, &gate), expected);
        }
    }

    #[test]
    fn a_gate_that_is_not_there_cannot_pass() {
        let world = World::new(fixture::plan());
        let verdict = Verdict::of(world.plan(), &"other".parse().unwrap());
        assert_eq!(verdict.outcome, Outcome::Fail);
    }
}
