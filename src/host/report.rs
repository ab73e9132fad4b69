//! What is in force on this host and what was counted, for reports and for `agent status`.

use std::sync::Arc;

use agent::dataplane::Ownership;
use agent::names::Stub;
use agent::rules::{self, Told};
use ipnet::IpNet;
use plan::measure::Stragglers;
use plan::snapshot::Service;
use plan::{Split, Token};
use proto::crossfade::v1::{self as wire, ReportRequest, stragglers::Source};

use crate::glass::Force;
use crate::host::actor::Flows;
use crate::host::kernel::Counted;

/// What is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct InForce {
    pub(super) services: Vec<ServiceInForce>,
    pub(super) through: Token,
    pub(super) force: Vec<Force>,
    pub(super) told: Vec<String>,
    pub(super) otherwise: Vec<Told>,
    pub(super) broken: Option<String>,
    pub(super) ownership: Option<Ownership>,
    pub(super) names: Option<wire::Names>,
}

/// What a stub did.
pub(super) fn names(stub: &Stub) -> wire::Names {
    let totals = stub.totals();
    let answered = totals.told.iter().map(|told| told.logical + told.legacy + told.target);
    wire::Names {
        answered: answered.sum(),
        forwarded: totals.forwarded,
        failed: totals.failed,
        dropped: totals.dropped.all(),
    }
}

/// A service, and its flows since its split last changed.
#[derive(Clone, Debug)]
pub(super) struct ServiceInForce {
    pub(super) leaf: Arc<Service>,
    pub(super) legacy: u64,
    pub(super) target: u64,
    pub(super) caught: u64,
    pub(super) stragglers: Vec<(IpNet, u64)>,
}

impl ServiceInForce {
    /// Flows that reached legacy and were forwarded, and their networks: they are stragglers at
    /// exactly 100 % only.
    pub(super) fn stragglers(&self) -> (u64, &[(IpNet, u64)]) {
        if self.leaf.serving.split() == Split::TARGET {
            (self.caught, &self.stragglers)
        } else {
            (0, &[])
        }
    }
}

/// A service as it stands.
pub(super) fn service(
    leaf: &Arc<Service>,
    names: Option<&rules::Counted>,
    counted: &Counted,
    flows: Flows,
) -> ServiceInForce {
    let sets = names.into_iter().flat_map(|names| &names.stragglers);
    let found = sets.filter_map(|set| counted.stragglers.get(set)).flatten();
    let mut stragglers: Vec<_> = found.map(|found| (found.network, found.tally.packets)).collect();
    stragglers.sort_by_key(|(_, flows)| std::cmp::Reverse(*flows));
    stragglers.truncate(Stragglers::NETWORKS_MAX);
    ServiceInForce {
        leaf: Arc::clone(leaf),
        legacy: flows.legacy,
        target: flows.target,
        caught: flows.caught,
        stragglers,
    }
}

/// As the controller is told.
pub(super) fn of(in_force: &InForce) -> ReportRequest {
    ReportRequest {
        counts: in_force.services.iter().filter_map(count).collect(),
        overrides: in_force.force.iter().map(Force::reported).collect(),
        stragglers: in_force.services.iter().filter_map(stragglers).collect(),
        names: in_force.names,
        notes: in_force.otherwise.iter().map(note).collect(),
        ..ReportRequest::default()
    }
}

fn count(one: &ServiceInForce) -> Option<wire::Count> {
    let events = one.legacy.saturating_add(one.target);
    let Token { incarnation, revision } = one.leaf.since;
    (events > 0).then(|| wire::Count {
        service: one.leaf.id.to_string(),
        plane: wire::Plane::Host.into(),
        since: Some(wire::Token { incarnation, revision }),
        legacy: one.legacy,
        target: one.target,
        events,
        ..wire::Count::default()
    })
}

fn note(told: &Told) -> wire::Note {
    wire::Note { service: told.service.to_string(), words: told.words.clone() }
}

fn stragglers(one: &ServiceInForce) -> Option<wire::Stragglers> {
    let (caught, networks) = one.stragglers();
    let source = |(network, flows): &(IpNet, u64)| Source {
        network: Some(wire::Network {
            address: match network.network() {
                std::net::IpAddr::V4(v4) => v4.octets().to_vec().into(),
                std::net::IpAddr::V6(v6) => v6.octets().to_vec().into(),
            },
            length: network.prefix_len().into(),
        }),
        flows: *flows,
    };
    (caught > 0 || !networks.is_empty()).then(|| wire::Stragglers {
        service: one.leaf.id.to_string(),
        flows: caught,
        sources: networks.iter().map(source).collect(),
    })
}
