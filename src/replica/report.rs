//! What a replica reports: which clients were told which side, and break-glass in force.

use std::sync::Arc;

use controller::clock::Clock;
use dns::server::Server;
use plan::snapshot::Service;
use plan::{Count, ServiceId, Token};
use proto::crossfade::v1::{self as wire, ReportRequest};
use tokio::sync::watch;

use crate::glass::Force;

/// What is answered from, as far as reports need it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// The leaves.
    pub(super) services: Arc<[Arc<Service>]>,
    /// Break-glass in force.
    pub(super) force: Vec<Force>,
}

/// Makes reports of what `server` counted.
pub(super) fn say(
    server: &Arc<Server>,
    shown: watch::Receiver<Shown>,
) -> impl AsyncFnMut() -> ReportRequest {
    let clock = Clock::start();
    async move || {
        let before = shown.borrow().clone();
        let (reader, now) = (Arc::clone(server), clock.now());
        let counts = tokio::task::spawn_blocking(move || reader.counts(now)).await;
        let after = shown.borrow().clone();
        let mut report = ReportRequest {
            overrides: after.force.iter().map(Force::reported).collect(),
            ..ReportRequest::default()
        };
        // Counted while what is answered changed: of which of both is not known.
        if Arc::ptr_eq(&before.services, &after.services)
            && let Ok(counts) = counts
        {
            let count = |(id, count): (&ServiceId, &Count)| {
                let at = after.services.binary_search_by(|leaf| leaf.id.cmp(id)).ok()?;
                Some(wire_count(id, after.services.get(at)?.since, count))
            };
            report.counts = counts.services.iter().filter_map(count).collect();
        }
        report
    }
}

fn wire_count(id: &ServiceId, since: Token, count: &Count) -> wire::Count {
    let Token { incarnation, revision } = since;
    let low = |wide: u128| u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(0);
    wire::Count {
        service: id.to_string(),
        plane: wire::Plane::Dns.into(),
        since: Some(wire::Token { incarnation, revision }),
        legacy: count.legacy,
        target: count.target,
        events: count.events,
        keys: count.keys,
        largest: count.largest,
        squares_low: low(count.squares),
        squares_high: low(count.squares >> 64),
        legacy_errors: 0,
        target_errors: 0,
        old_until_ms: count.old_until.map_or(0, |until| u64::try_from(until.millis()).unwrap_or(0)),
    }
}
