//! The stream of load reports.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::Stream;
use proto::envoy::service::load_stats::v3::load_reporting_service_server::{
    LoadReportingService, LoadReportingServiceServer,
};
use proto::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use tonic::{Request, Response, Status, Streaming};

use crate::client::{Client, Identity};
use crate::lrs::queue::{Reader, Writer, queue};
use crate::lrs::{CLUSTERS_MAX, ClusterLoad, Often, interval, wanted};
use crate::server::Clock;

/// The longest report, in bytes.
const REPORT_BYTES_MAX: usize = 16 << 20;

/// What one proxy did since it last reported.
#[derive(Debug)]
pub struct LoadReport {
    /// Who.
    pub client: Arc<Client>,
    /// On which of the service's streams; a later one has a higher number.
    pub stream: u64,
    /// What it did. `None`: its stream has ended, and what it had under way is not known any more.
    pub clusters: Option<Vec<ClusterLoad>>,
}

/// Where reports arrive.
#[derive(Debug)]
pub struct LoadReports {
    reader: Reader,
}

/// What was left out of account since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadCounts {
    /// Reports that were dropped because too many waited.
    pub dropped: u64,
    /// Reports that were dropped because their stream reports far more often than it was told.
    pub hurried: u64,
    /// Clusters that were not believed.
    pub absurd: u64,
}

impl LoadReports {
    /// The next report, in the order in which they came, each stream's end after all that it
    /// said; `None` when the service is no more. Loses nothing when dropped before it is ready.
    pub async fn next(&mut self) -> Option<LoadReport> {
        self.reader.next().await
    }

    /// What was left out.
    pub fn counts(&self) -> LoadCounts {
        let tally = self.reader.tally();
        LoadCounts {
            dropped: tally.dropped.load(Ordering::Relaxed),
            hurried: tally.hurried.load(Ordering::Relaxed),
            absurd: tally.absurd.load(Ordering::Relaxed),
        }
    }
}

/// The gRPC service, and where its reports arrive. Of clusters only those are read whose names
/// are to be kept.
pub fn service(
    keep: fn(&str) -> bool,
    clock: Clock,
) -> (LoadReportingServiceServer<impl LoadReportingService>, LoadReports) {
    let (writer, reader) = queue();
    let inbox = Inbox { writer, keep, clock, open: Arc::default(), next: Arc::default() };
    let server = LoadReportingServiceServer::new(inbox);
    (server.max_decoding_message_size(REPORT_BYTES_MAX), LoadReports { reader })
}

#[derive(Clone)]
struct Inbox {
    writer: Writer,
    keep: fn(&str) -> bool,
    clock: Clock,
    /// Streams that are open.
    open: Arc<AtomicUsize>,
    /// The number of the next stream.
    next: Arc<AtomicU64>,
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
        let identity = request.extensions().get::<Arc<Identity>>().cloned();
        let stream = Reporting::new(self.clone(), request.into_inner(), identity);
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
    number: u64,
    often: Often,
    /// A report of it was taken in, so its end is to be told.
    reported: bool,
    incoming: Option<Streaming<LoadStatsRequest>>,
    /// Who it was proved to be.
    identity: Option<Arc<Identity>>,
    client: Option<Arc<Client>>,
    /// Clusters whose numbers were not believed, as [`shown`]: told once each.
    doubted: BTreeSet<String>,
    told: Option<Duration>,
}

impl Reporting {
    /// The most clusters that are remembered as not believed.
    const DOUBTED_MAX: usize = 100;

    fn new(
        inbox: Inbox,
        incoming: Streaming<LoadStatsRequest>,
        identity: Option<Arc<Identity>>,
    ) -> Self {
        inbox.open.fetch_add(1, Ordering::Relaxed);
        let number = inbox.next.fetch_add(1, Ordering::Relaxed);
        Self {
            inbox,
            number,
            often: Often::default(),
            reported: false,
            incoming: Some(incoming),
            identity,
            client: None,
            doubted: BTreeSet::new(),
            told: None,
        }
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
        let client =
            Client::of_reports(&mut self.client, message.node.as_ref(), self.identity.as_ref())?;
        if message.cluster_stats.len() > CLUSTERS_MAX {
            return Err(Status::resource_exhausted("a report has at most 100000 clusters"));
        }
        if message.cluster_stats.is_empty() {
            return Ok(());
        }
        if !self.often.take(self.inbox.clock.uptime()) {
            self.inbox.writer.tally().hurried.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let keep = self.inbox.keep;
        let mut clusters = Vec::new();
        for stats in message.cluster_stats.iter().filter(|stats| keep(&stats.cluster_name)) {
            match ClusterLoad::read(stats) {
                Ok(load) => clusters.push(load),
                Err(absurd) => self.doubt(&client, &stats.cluster_name, absurd),
            }
        }
        if clusters.is_empty() {
            return Ok(());
        }
        clusters.shrink_to_fit();
        let report = LoadReport { client, stream: self.number, clusters: Some(clusters) };
        self.reported |= self.inbox.writer.report(report);
        Ok(())
    }

    fn doubt(&mut self, client: &Client, cluster: &str, absurd: crate::lrs::Absurd) {
        self.inbox.writer.tally().absurd.fetch_add(1, Ordering::Relaxed);
        let cluster = shown(cluster);
        let room = self.doubted.len() < Self::DOUBTED_MAX;
        if room && self.doubted.insert(cluster.clone()) {
            tracing::warn!(node = %client.id, %cluster, %absurd, "a load report is not believed");
        }
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.inbox.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = self.client.take().filter(|_| self.reported) {
            self.inbox.writer.end(LoadReport { client, stream: self.number, clusters: None });
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
