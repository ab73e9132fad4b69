//! Load reports of the proxies behind a relay, handed on to the controller: a stream for each
//! proxy, as if it had opened one itself.

use std::collections::HashMap;
use std::sync::Arc;

use proto::envoy::config::core::v3::Node;
use proto::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};
use proto::envoy::service::load_stats::v3::LoadStatsRequest;
use proto::envoy::service::load_stats::v3::load_reporting_service_client as lrs;
use proto::google::protobuf;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use xds::follow::{self, Link};
use xds::lrs::{ClusterLoad, LoadReport, LoadReports};

/// Reports of one proxy that may wait for the controller; more are dropped: loads are shown, and
/// nothing is decided by a missing one.
const WAITING_MAX: usize = 8;

/// Hands on what proxies report, to whichever controller is followed now, until the server ends.
pub(super) async fn hand_on(
    relay: Node,
    mut loads: LoadReports,
    mut links: watch::Receiver<Option<Link>>,
) {
    let mut streams: HashMap<Arc<str>, Stream> = HashMap::new();
    loop {
        tokio::select! {
            changed = links.changed() => match changed {
                // Another controller, or none: what goes to the one before ends.
                Ok(()) => streams.clear(),
                Err(_) => return,
            },
            report = loads.next() => {
                let Some(report) = report else { return };
                let link = links.borrow().clone();
                take(&relay, report, link, &mut streams);
            }
        }
    }
}

/// What goes to the controller of one proxy.
struct Stream {
    /// The newest of the proxy's own streams that said anything: the end of an older one is not
    /// the proxy's.
    number: u64,
    requests: mpsc::Sender<LoadStatsRequest>,
}

fn take(
    relay: &Node,
    report: LoadReport,
    link: Option<Link>,
    streams: &mut HashMap<Arc<str>, Stream>,
) {
    let id = &report.client.id;
    let (Some(clusters), Some(link)) = (report.clusters, link) else {
        if streams.get(id).is_some_and(|stream| stream.number <= report.stream) {
            streams.remove(id);
        }
        return;
    };
    let closed = streams.get(id).is_none_or(|stream| stream.requests.is_closed());
    if closed {
        let (sending, requests) = mpsc::channel(WAITING_MAX);
        let version = report.client.version.as_deref().unwrap_or_default();
        let said = |key| report.client.says(key).map(|text| (key, text));
        let says: Vec<_> = ["role", "gateway"].into_iter().filter_map(said).collect();
        let node = follow::node(&format!("{}/{id}", relay.id), version, &says);
        let first = LoadStatsRequest { node: Some(node), cluster_stats: Vec::new() };
        // A channel that is new has room.
        let _ = sending.try_send(first);
        tokio::spawn(stream(link, requests));
        streams.insert(Arc::clone(id), Stream { number: report.stream, requests: sending });
    }
    let cluster_stats = clusters.iter().map(stats).collect();
    if let Some(stream) = streams.get_mut(id) {
        stream.number = stream.number.max(report.stream);
        let _ = stream.requests.try_send(LoadStatsRequest { node: None, cluster_stats });
    }
}

/// One proxy's stream to the controller. What the controller wants is what it is told.
async fn stream(link: Link, requests: mpsc::Receiver<LoadStatsRequest>) {
    let mut client = lrs::LoadReportingServiceClient::new(link.channel);
    let told = client.stream_load_stats(ReceiverStream::new(requests)).await;
    let ended = match told {
        Ok(answers) => {
            let mut answers = answers.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return,
                    Err(status) => break status,
                }
            }
        }
        Err(status) => status,
    };
    tracing::debug!(status = %ended, "load reports were not taken");
}

fn stats(load: &ClusterLoad) -> ClusterStats {
    let seconds = i64::try_from(load.period.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(load.period.subsec_nanos()).unwrap_or(0);
    ClusterStats {
        cluster_name: load.cluster.clone(),
        upstream_locality_stats: vec![UpstreamLocalityStats {
            total_successful_requests: load.issued.saturating_sub(load.errors),
            total_error_requests: load.errors,
            total_issued_requests: load.issued,
            total_requests_in_progress: load.in_progress,
            ..UpstreamLocalityStats::default()
        }],
        load_report_interval: Some(protobuf::Duration { seconds, nanos }),
        ..ClusterStats::default()
    }
}
