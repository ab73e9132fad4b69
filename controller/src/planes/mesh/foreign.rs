//! What proxies say of services that are not theirs: it is left out.

use std::collections::BTreeSet;
use std::sync::Arc;

use plan::{ServiceId, Snapshot};
use xds::Client;
use xds::join::Kind;
use xds::lrs::ClusterLoad;

use crate::planes::mesh::hosts::Concerns;

/// The most proxies of which the log tells.
const TOLD_MAX: usize = 100;

/// What was left out.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    /// Clusters, each time that one was told of.
    clusters: u64,
    told: BTreeSet<Arc<str>>,
}

impl Foreign {
    /// Those of services that concern this proxy. The others are counted; the log tells once.
    pub(super) fn sift(
        &mut self,
        client: &Client,
        clusters: &[ClusterLoad],
        concerns: &dyn Concerns,
        snapshot: &Snapshot,
    ) -> Vec<ClusterLoad> {
        let is_its = is_its(client, concerns, snapshot);
        let is_own = |load: &&ClusterLoad| {
            xds::render::side_of(&load.cluster).is_some_and(|(service, _)| is_its(&service))
        };
        let own: Vec<ClusterLoad> = clusters.iter().filter(is_own).cloned().collect();
        let others = clusters.len() - own.len();
        if others > 0 {
            self.clusters = self.clusters.saturating_add(u64::try_from(others).unwrap_or(u64::MAX));
            if self.told.len() < TOLD_MAX && self.told.insert(Arc::clone(&client.id)) {
                let in_all = self.clusters;
                let what = "a proxy reports load of services that do not concern it; left out";
                tracing::warn!(proxy = %client.id, clusters = others, in_all, what);
            }
        }
        own
    }
}

/// Which services concern a proxy: of a VM what concerns its agent, of a gateway those of plans
/// that have it.
fn is_its<'a>(
    client: &'a Client,
    concerns: &dyn Concerns,
    snapshot: &'a Snapshot,
) -> impl Fn(&ServiceId) -> bool + 'a {
    let kind = client.identity.as_ref().map(|identity| &identity.kind);
    let gateway = kind.and_then(Kind::gateway);
    let concern = concerns.of(client);
    move |id| match gateway {
        None => concern.has(id),
        Some(name) => {
            let leaf = snapshot.service(id);
            leaf.is_some_and(|leaf| leaf.gateways.iter().any(|gateway| gateway.name == *name))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use xds::client::Identity;
    use xds::own::Concern;

    use super::*;
    use crate::planes::mesh::world;

    /// Orders alone concerns every VM.
    #[derive(Debug)]
    struct Orders;

    impl Concerns for Orders {
        fn of(&self, _: &Client) -> Concern {
            Concern::Only(Arc::new(["shop/orders".parse().unwrap()].into()))
        }
    }

    #[test]
    fn a_machine_is_believed_of_its_own_services() {
        let snapshot = world::snapshot_at(5_000);
        let edge = snapshot.services.iter().flat_map(|leaf| leaf.gateways.iter()).next();
        let edge = edge.map_or("edge", |gateway| gateway.name.as_str());
        let of = |cluster: &str| ClusterLoad {
            cluster: cluster.to_owned(),
            issued: 8_000_000,
            errors: 8_000_000,
            in_progress: 0,
            period: Duration::from_secs(2),
        };
        let said = ["shop/orders/http/legacy", "shop/payments/http/target"].map(of);
        let has_edge = snapshot.services.iter().any(|leaf| !leaf.gateways.is_empty());
        let both = if has_edge { 2 } else { 0 };
        for (kind, own) in [
            (Kind::Agent, 1),
            (Kind::Gateway(edge.parse().unwrap()), both),
            (Kind::Gateway("elsewhere".parse().unwrap()), 0),
        ] {
            let mut foreign = Foreign::default();
            let client = Client {
                id: "a".into(),
                cluster: "".into(),
                says: [].into(),
                agent: "".into(),
                version: None,
                identity: Some(Arc::new(Identity { kind, name: "a".parse().unwrap() })),
            };
            for _ in 0..2 {
                let kept = foreign.sift(&client, &said, &Orders, &snapshot);
                assert_eq!(kept, said[..own], "{:?}", client.identity);
            }
            assert_eq!(foreign.clusters, 2 * (2 - own as u64));
            assert_eq!(foreign.told.len(), usize::from(own < 2));
        }
    }
}
