//! Who still reaches a legacy VM while the plan says 100 %.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Measured;
use crate::name::ServiceId;

/// Clients that reached a service's legacy VMs at exactly 100 % and were forwarded, since the
/// service came there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stragglers {
    /// Connections or flows.
    pub flows: u64,
    /// The networks that they came from, the busiest first: the first hundred.
    pub networks: Vec<StragglerNetwork>,
}

/// A network that stragglers come from: /24 or /64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StragglerNetwork {
    /// The network in CIDR notation.
    pub network: Arc<str>,
    /// Connections or flows.
    pub flows: u64,
}

impl Stragglers {
    /// The most networks that are kept of a service.
    pub const NETWORKS_MAX: usize = 100;

    /// From what was seen, in any order; a network that is there twice counts both.
    pub fn new(flows: u64, networks: impl IntoIterator<Item = (Arc<str>, u64)>) -> Self {
        let mut sums: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for (network, flows) in networks {
            let sum = sums.entry(network).or_default();
            *sum = sum.saturating_add(flows);
        }
        let mut networks: Vec<_> =
            sums.into_iter().map(|(network, flows)| StragglerNetwork { network, flows }).collect();
        networks.sort_by(|a, b| b.flows.cmp(&a.flows).then_with(|| a.network.cmp(&b.network)));
        networks.truncate(Self::NETWORKS_MAX);
        Self { flows, networks }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let all = self.networks.iter().chain(&other.networks);
        let all = all.map(|one| (Arc::clone(&one.network), one.flows));
        Self::new(self.flows.saturating_add(other.flows), all)
    }
}

impl Measured {
    /// Who still reaches the legacy VMs of this service, over all planes; `None`: nobody.
    pub fn stragglers(&self, service: &ServiceId) -> Option<Stragglers> {
        let all = self.planes.values().filter_map(|counts| counts.stragglers.get(service));
        all.cloned().reduce(|a, b| a.plus(&b)).filter(|sum| sum.flows > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first_and_the_list_is_bounded() {
        let one = Stragglers::new(3, [("10.0.1.0/24".into(), 2), ("10.0.2.0/24".into(), 1)]);
        let other = Stragglers::new(5, [("10.0.2.0/24".into(), 5)]);
        let sum = one.plus(&other);
        let networks: Vec<_> = sum.networks.iter().map(|n| (&*n.network, n.flows)).collect();
        assert_eq!((sum.flows, networks), (8, vec![("10.0.2.0/24", 6), ("10.0.1.0/24", 2)]));
        let many = (0..1_000_u64).map(|n| (format!("10.{n}").into(), n));
        let many = Stragglers::new(1, many);
        assert_eq!(many.networks.len(), Stragglers::NETWORKS_MAX);
        assert_eq!(many.networks[0].flows, 999);
    }
}
