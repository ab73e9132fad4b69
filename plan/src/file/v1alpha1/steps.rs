//! `steps` and `gates`.

use std::collections::HashMap;
use std::time::Duration;

use super::Placed;
use crate::file::problem::Problems;
use crate::file::read::{self, Fields};
use crate::file::tree::Node;
use crate::file::{duration, shape};
use crate::name::GateName;
use crate::spec::{Gate, GateTest, Step};
use crate::split::Split;

/// The longest bake or expiry: a leap year. What waits longer has been forgotten.
const WAIT_MAX: Duration = Duration::from_secs(366 * 86_400);

/// A step as far as it could be read.
pub(super) struct Draft<'n, 't> {
    pub(super) node: &'n Node<'t>,
    pub(super) split: Option<Placed<'n, 't, Split>>,
    bake: Option<Duration>,
    expires: Option<Option<Duration>>,
    pub(super) gates: Vec<Placed<'n, 't, GateName>>,
}

impl Draft<'_, '_> {
    pub(super) fn finish(self) -> Option<Step> {
        Some(Step {
            split: self.split?.value,
            bake: self.bake?,
            expires: self.expires?,
            gates: self.gates.into_iter().map(|gate| gate.value).collect(),
        })
    }
}

/// A gate as far as it could be read.
pub(super) struct GateDraft<'n, 't> {
    pub(super) name: Option<Placed<'n, 't, GateName>>,
    test: Option<GateTest>,
}

impl GateDraft<'_, '_> {
    pub(super) fn finish(self) -> Option<Gate> {
        Some(Gate { name: self.name?.value, test: self.test? })
    }
}

pub(super) fn read<'n, 't>(problems: &mut Problems, spec: &Fields<'n, 't>) -> Vec<Draft<'n, 't>> {
    let nodes = spec.list(problems, "steps");
    nodes.iter().filter_map(|node| step(problems, node)).collect()
}

fn step<'n, 't>(problems: &mut Problems, node: &'n Node<'t>) -> Option<Draft<'n, 't>> {
    let fields = read::fields(problems, node, &shape::STEP)?;
    let split = fields
        .get("split")
        .and_then(|node| read::percent(problems, node).map(|value| Placed { node, value }));
    let bake = fields
        .get("bake")
        .and_then(|node| read::duration(problems, node, Duration::ZERO..=WAIT_MAX));
    let expires = match fields.get("expires") {
        Some(node) => expires(problems, node, bake).map(Some),
        None => Some(None),
    };
    let mut seen: Vec<Placed<'n, 't, GateName>> = Vec::new();
    for node in fields.list(problems, "gates") {
        let Some(value) = read::name::<GateName>(problems, node) else { continue };
        if seen.iter().any(|gate| gate.value == value) {
            problems.value(node, format!("gate `{value}` is named twice"), "keep one of them");
        }
        seen.push(Placed { node, value });
    }
    Some(Draft { node, split, bake, expires, gates: seen })
}

fn expires(problems: &mut Problems, node: &Node<'_>, bake: Option<Duration>) -> Option<Duration> {
    let least = Duration::from_secs(1);
    let expires = read::duration(problems, node, least..=WAIT_MAX)?;
    if let Some(bake) = bake
        && expires <= bake
    {
        let (expires, bake) = (duration::text(expires), duration::text(bake));
        problems.value(
            node,
            format!("the step expires after {expires}, before its bake of {bake} is over"),
            format!("write more than {bake}"),
        );
        return None;
    }
    Some(expires)
}

pub(super) fn gates<'n, 't>(
    problems: &mut Problems,
    spec: &Fields<'n, 't>,
) -> Vec<GateDraft<'n, 't>> {
    let mut lines: HashMap<GateName, u32> = HashMap::new();
    let mut gates = Vec::new();
    for node in spec.list(problems, "gates") {
        let Some(fields) = read::fields(problems, node, &shape::GATE) else { continue };
        let name = fields.get("name").and_then(|node| {
            let value: GateName = read::name(problems, node)?;
            if let Some(line) = lines.insert(value.clone(), node.mark.line) {
                let problem = format!("gate `{value}` stands in line {line} already");
                problems.value(node, problem, "give each gate another name");
            }
            Some(Placed { node, value })
        });
        let test = fields.get("manual").and_then(|node| {
            let manual = read::fields(problems, node, &shape::MANUAL)?;
            let approvers = read::integer(problems, &manual, "approvers")?;
            Some(GateTest::Manual { approvers })
        });
        gates.push(GateDraft { name, test });
    }
    gates
}
