//! What a relay reports: how far the proxies behind it are.

use std::sync::Arc;
use std::time::Duration;

use plan::{PlanName, Token};
use proto::crossfade::v1::{self as wire, ReportRequest};
use tokio::sync::{Notify, watch};
use xds::server::Clock;
use xds::{SinkState, Standings};

/// The least time between two reports that something changed.
const PACE: Duration = Duration::from_millis(50);

/// Makes reports of who is connected.
pub(super) fn say(
    standings: watch::Receiver<Arc<Standings>>,
    clock: Clock,
) -> impl AsyncFnMut() -> ReportRequest {
    async move || {
        let now = Arc::clone(&standings.borrow());
        let uptime = clock.uptime();
        let sinks = now.sinks.iter().map(|sink| report(sink, uptime)).collect();
        ReportRequest { sinks, ..ReportRequest::default() }
    }
}

/// Asks for a report whenever somebody got further.
pub(super) async fn notice(mut standings: watch::Receiver<Arc<Standings>>, noticed: &Notify) {
    while standings.changed().await.is_ok() {
        noticed.notify_one();
        tokio::time::sleep(PACE).await;
    }
}

fn report(sink: &SinkState, uptime: Duration) -> wire::SinkReport {
    let progress = &sink.progress;
    let nack = progress.refused.as_ref().map(|refused| wire::Nack {
        token: Some(token(refused.token)),
        plans: names(refused.plans.iter()),
        detail: refused.detail.clone(),
        age: Some(length(uptime.saturating_sub(refused.at))),
    });
    wire::SinkReport {
        id: sink.client.id.as_ref().to_owned(),
        role: sink.client.says("role").unwrap_or("sidecar").to_owned(),
        agent: sink.client.agent.as_ref().to_owned(),
        version: sink.client.version.clone().unwrap_or_default(),
        connected: Some(length(uptime.saturating_sub(sink.since))),
        acked: Some(token(progress.acked)),
        owes: names(progress.owes.iter()),
        nack,
    }
}

fn names<'a>(plans: impl Iterator<Item = &'a PlanName>) -> Vec<String> {
    plans.map(|plan| plan.as_str().to_owned()).collect()
}

const fn token(token: Token) -> wire::Token {
    wire::Token { incarnation: token.incarnation, revision: token.revision }
}

fn length(length: Duration) -> proto::google::protobuf::Duration {
    proto::google::protobuf::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}
