//! The stream of load reports.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::Stream;
use proto::envoy::service::load_stats::v3::load_reporting_service_server::{
    LoadReportingService, LoadReportingServiceServer,
};
use proto::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::client::Client;
use crate::lrs::{CLUSTERS_MAX, ClusterLoad, interval, wanted};

/// How many reports may wait to be read. More are dropped and counted: the next one comes soon.
const WAITING_MAX: usize = 4_096;
/// The longest report, in bytes.
const REPORT_BYTES_MAX: usize = 16 << 20;

/// What one proxy did since it last reported.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// Who.
    pub client: Arc<Client>,
    /// What it did. `None`: its stream has ended, and what it had under way is not known any more.
    pub clusters: Option<Vec<ClusterLoad>>,
}

/// Where reports arrive.
#[derive(Debug)]
pub struct LoadReports {
    /// In the order in which they came.
    pub reports: mpsc::Receiver<LoadReport>,
    /// Reports that were dropped because too many waited.
    pub dropped: Arc<AtomicU64>,
    /// Clusters that were not believed.
    pub absurd: Arc<AtomicU64>,
}

/// The gRPC service, and where its reports arrive.
pub fn service() -> (LoadReportingServiceServer<impl LoadReportingService>, LoadReports) {
    let (sender, reports) = mpsc::channel(WAITING_MAX);
    let inbox =
        Inbox { sender, dropped: Arc::default(), absurd: Arc::default(), open: Arc::default() };
    let seen = LoadReports {
        reports,
        dropped: Arc::clone(&inbox.dropped),
        absurd: Arc::clone(&inbox.absurd),
    };
    let server = LoadReportingServiceServer::new(inbox);
    (server.max_decoding_message_size(REPORT_BYTES_MAX), seen)
}

#[derive(Clone)]
struct Inbox {
    sender: mpsc::Sender<LoadReport>,
    dropped: Arc<AtomicU64>,
    absurd: Arc<AtomicU64>,
    /// Streams that are open.
    open: Arc<AtomicUsize>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl LoadReportingService for Inbox {
    type StreamLoadStatsStream =
        Pin<Box<dyn Stream<Item = Result<LoadStatsResponse, Status>> + Send>>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let stream = Reporting::new(self.clone(), request.into_inner());
        let answers = futures::stream::unfold(stream, |mut stream| async move {
            let answer = stream.next().await?;
            Some((answer, stream))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// One proxy's stream.
struct Reporting {
    inbox: Inbox,
    incoming: Option<Streaming<LoadStatsRequest>>,
    client: Option<Arc<Client>>,
    /// Clusters whose numbers were not believed, as [`shown`]: told once each.
    doubted: BTreeSet<String>,
    told: Option<std::time::Duration>,
}

impl Reporting {
    /// The most clusters that are remembered as not believed.
    const DOUBTED_MAX: usize = 100;

    fn new(inbox: Inbox, incoming: Streaming<LoadStatsRequest>) -> Self {
        inbox.open.fetch_add(1, Ordering::Relaxed);
        Self { inbox, incoming: Some(incoming), client: None, doubted: BTreeSet::new(), told: None }
    }

    /// The next answer: what is to be reported, said again where that changed.
    async fn next(&mut self) -> Option<Result<LoadStatsResponse, Status>> {
        loop {
            let message = match self.incoming.as_mut()?.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return None,
                Err(status) => {
                    self.incoming = None;
                    return Some(Err(status));
                }
            };
            if let Err(status) = self.take(message) {
                self.incoming = None;
                return Some(Err(status));
            }
            let interval = interval(self.inbox.open.load(Ordering::Relaxed));
            if self.told != Some(interval) {
                self.told = Some(interval);
                return Some(Ok(wanted(interval)));
            }
        }
    }

    fn take(&mut self, message: LoadStatsRequest) -> Result<(), Status> {
        let client = match (&self.client, &message.node) {
            (Some(client), _) => Arc::clone(client),
            (None, Some(node)) => {
                let client = Client::read(node);
                let client = client.map_err(|close| Status::invalid_argument(close.message))?;
                Arc::clone(self.client.insert(Arc::new(client)))
            }
            (None, None) => {
                return Err(Status::invalid_argument("the first report must have a node"));
            }
        };
        if message.cluster_stats.len() > CLUSTERS_MAX {
            return Err(Status::resource_exhausted("a report has at most 100000 clusters"));
        }
        if message.cluster_stats.is_empty() {
            return Ok(());
        }
        let mut clusters = Vec::with_capacity(message.cluster_stats.len());
        for stats in &message.cluster_stats {
            match ClusterLoad::read(stats) {
                Ok(load) => clusters.push(load),
                Err(absurd) => self.doubt(&client, &stats.cluster_name, absurd),
            }
        }
        self.hand_in(LoadReport { client, clusters: Some(clusters) });
        Ok(())
    }

    fn doubt(&mut self, client: &Client, cluster: &str, absurd: crate::lrs::Absurd) {
        self.inbox.absurd.fetch_add(1, Ordering::Relaxed);
        let cluster = shown(cluster);
        let room = self.doubted.len() < Self::DOUBTED_MAX;
        if room && self.doubted.insert(cluster.clone()) {
            tracing::warn!(node = %client.id, %cluster, %absurd, "a load report is not believed");
        }
    }

    fn hand_in(&self, report: LoadReport) {
        if self.inbox.sender.try_send(report).is_err() {
            self.inbox.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.inbox.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = self.client.take() {
            self.hand_in(LoadReport { client, clusters: None });
        }
    }
}

/// As much of a cluster's name as is told and remembered: the longest report is one name.
fn shown(cluster: &str) -> String {
    /// In characters.
    const MAX: usize = 120;
    let mut chars = cluster.chars();
    let head: String = chars.by_ref().take(MAX).collect();
    let head = head.escape_debug();
    match chars.next() {
        None => head.to_string(),
        Some(_) => format!("{head}…"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_in_a_line_whatever_its_length() {
        let long = "é".repeat(1 << 20);
        for (name, is) in [
            ("shop/orders/target", "shop/orders/target".to_owned()),
            ("two\nlines\u{1b}[31m", r"two\nlines\u{1b}[31m".to_owned()),
            (&long, format!("{}…", "é".repeat(120))),
        ] {
            assert_eq!(shown(name), is);
        }
    }
}
