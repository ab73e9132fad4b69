//! `retire` and `delete`: the end of a plan.

use std::net::IpAddr;

use super::draft::Draft;
use super::refused::Verb;
use super::{Facts, Refused};
use crate::name::ServiceId;
use crate::record::Put;
use crate::spec::Service;
use crate::split::Split;
use crate::state::{Mode, PlanState};

/// Of how many networks of stragglers an operator is told before a plan ends.
const NETWORKS_TOLD: usize = 5;

/// Ends a complete plan. Its names stay until its zone files answer the target; the notes are the
/// lines that make them.
pub(super) fn retire(plan: &PlanState, facts: &Facts) -> Result<Draft, Refused> {
    if plan.mode == Mode::Retired {
        let mut draft = Draft::about(&plan.spec.name);
        if !plan.released {
            draft.notes.extend(every_line(plan));
        }
        return Ok(draft);
    }
    if plan.mode != Mode::Complete {
        return Err(Refused::phase(plan, Verb::Retire));
    }
    let mut draft = Draft::about(&plan.spec.name);
    draft.mode(plan, Mode::Retired);
    draft.acted(plan);
    draft.notes.extend(arrivals(plan, facts));
    if !release_if_answered(&mut draft, plan, facts) {
        draft.notes.extend(every_line(plan));
    }
    Ok(draft)
}

/// Forgets a plan that is retired, or not begun.
pub(super) fn delete(plan: &PlanState) -> Result<Draft, Refused> {
    let unused = plan.mode == Mode::Ready && plan.all_at(Split::LEGACY);
    if plan.mode != Mode::Retired && !unused {
        return Err(Refused::phase(plan, Verb::Delete));
    }
    let mut draft = Draft::about(&plan.spec.name);
    draft.puts.push(Put::Deleted(plan.spec.name.clone()));
    Ok(draft)
}

/// Lets the names of a retired plan go where its zone texts answer the target at each of them.
pub(super) fn release_if_answered(draft: &mut Draft, plan: &PlanState, facts: &Facts) -> bool {
    let released = plan.released || !plan.spec.services.iter().all(|s| is_answered(s, facts));
    if !released {
        draft.puts.push(Put::Released(plan.spec.name.clone()));
    }
    !released
}

fn is_answered(service: &Service, facts: &Facts) -> bool {
    let of_target = |address: &IpAddr| service.target.iter().any(|e| e.address == *address);
    service.hosts.iter().all(|host| {
        let answers = facts.zone_answers.get(host);
        answers.is_some_and(|answers| !answers.is_empty() && answers.iter().all(of_target))
    })
}

/// What still arrives at legacy.
fn arrivals(plan: &PlanState, facts: &Facts) -> Vec<String> {
    let name = &plan.spec.name;
    let of_service = |service: &Service| {
        let id = ServiceId { plan: name.clone(), service: service.name.clone() };
        let seen = facts.measured.stragglers(&id)?;
        let networks: Vec<String> = seen
            .networks
            .iter()
            .take(NETWORKS_TOLD)
            .map(|one| format!("{} ({})", one.network, one.flows))
            .collect();
        let flows = seen.flows;
        let from = networks.join(", ");
        Some(format!("{id}: {flows} connections still came to legacy at 100%, from {from}"))
    };
    plan.spec.services.iter().filter_map(|service| of_service(service)).collect()
}

fn every_line(plan: &PlanState) -> impl Iterator<Item = String> {
    plan.spec.services.iter().flat_map(|service| zone_lines(plan, service))
}

/// What the zone file must say, so that nothing changes for clients when the names leave.
fn zone_lines(plan: &PlanState, service: &Service) -> Vec<String> {
    let mut lines = Vec::new();
    for host in &service.hosts {
        let ttl = plan.spec.zone_of(host).map(|zone| zone.ttl).unwrap_or_default().steady;
        for endpoint in &service.target {
            let (kind, address) = match endpoint.address {
                IpAddr::V4(_) => ("A", endpoint.address),
                IpAddr::V6(_) => ("AAAA", endpoint.address),
            };
            let line = format!("{host}. {ttl} IN {kind} {address}");
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}
