//! The plan file of version `crossfade.dev/v1alpha1`: tree in, [`Plan`] or every problem out.
//!
//! One pass reads each part by itself (the files below), then the rules that tie parts together are
//! checked on whatever could be read, so that one mistake does not hide the others.

mod clients;
mod gateways;
mod policy;
mod services;
mod steps;
mod ties;
mod zones;

use std::sync::Arc;

use super::problem::{Problem, Problems};
use super::read::{self, Fields};
use super::shape;
use super::tree::Node;
use crate::name::PlanName;
use crate::spec::{Plan, Strategy};

/// A value with the place it was read from.
struct Placed<'n, 't, T> {
    node: &'n Node<'t>,
    value: T,
}

/// The plan of a tree, and of the problems found with it so far. `bytes` is the length of the text,
/// for the limit on all but zone texts.
pub(super) fn plan(
    root: &Node<'_>,
    mut problems: Problems,
    bytes: usize,
) -> Result<Plan, Vec<Problem>> {
    let plan = read(&mut problems, root, bytes);
    match plan {
        Some(plan) if problems.is_empty() => Ok(plan),
        Some(_) | None => Err(problems.finish(Some(root))),
    }
}

fn read(problems: &mut Problems, root: &Node<'_>, bytes: usize) -> Option<Plan> {
    let file = read::fields(problems, root, &shape::FILE)?;
    read::choice(problems, &file, "apiVersion");
    read::choice(problems, &file, "kind");
    let name = metadata(problems, &file);
    let spec = file.get("spec").and_then(|node| read::fields(problems, node, &shape::SPEC))?;

    let strategy = strategy(problems, &spec);
    let zones = zones::read(problems, &spec, bytes);
    let clients = clients::read(problems, &spec);
    let services = services::read(problems, &spec, name.as_ref(), clients.as_ref());
    let gates = steps::gates(problems, &spec);
    let gateways = gateways::read(problems, &spec, &services);
    let policy = policy::read(problems, &spec);
    let steps = steps::read(problems, &spec);

    ties::hosts(problems, &zones, &services);
    ties::after(problems, &services);
    ties::steps(problems, &spec, strategy, &steps, policy.as_ref());
    ties::gates(problems, &gates, &steps);
    if !problems.is_empty() {
        return None;
    }
    Some(Plan {
        name: name?,
        strategy,
        zones: zones.into_iter().map(zones::Draft::finish).collect::<Option<_>>()?,
        clients: Arc::new(clients?),
        services: services
            .into_iter()
            .map(|service| service.finish().map(Arc::new))
            .collect::<Option<_>>()?,
        steps: steps.into_iter().map(steps::Draft::finish).collect::<Option<_>>()?,
        gates: gates.into_iter().map(steps::GateDraft::finish).collect::<Option<_>>()?,
        policy: policy?,
        gateways: gateways?.into(),
    })
}

fn metadata(problems: &mut Problems, file: &Fields<'_, '_>) -> Option<PlanName> {
    let metadata = read::fields(problems, file.get("metadata")?, &shape::METADATA)?;
    read::name(problems, metadata.get("name")?)
}

fn strategy(problems: &mut Problems, spec: &Fields<'_, '_>) -> Strategy {
    match read::choice(problems, spec, "strategy") {
        Some("whole") => Strategy::Whole,
        Some(_) | None => Strategy::Gradual,
    }
}
