//! Where load reports wait to be read: first in, first out, so that a stream's end comes after all
//! that it said.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::lrs::LoadReport;

/// How many reports may wait. More are dropped and counted: the next one comes soon.
const WAITING_MAX: usize = 4_096;
/// How many clusters may wait, of all reports: three of the longest, some 40 MB.
const CLUSTERS_WAITING_MAX: usize = 300_000;

/// What was left out of account.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// As [`super::LoadCounts::dropped`].
    pub(super) dropped: AtomicU64,
    /// As [`super::LoadCounts::hurried`].
    pub(super) hurried: AtomicU64,
    /// As [`super::LoadCounts::absurd`].
    pub(super) absurd: AtomicU64,
}

/// Both ends of a queue.
pub(super) fn queue() -> (Writer, Reader) {
    let shared = Arc::new(Shared::default());
    let (bell, rings) = mpsc::channel(1);
    (Writer { shared: Arc::clone(&shared), bell }, Reader { shared, rings })
}

/// Where streams hand in.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Full: it has been rung, and nobody has looked yet.
    bell: mpsc::Sender<()>,
}

/// Where what was handed in is read.
#[derive(Debug)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    rings: mpsc::Receiver<()>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Reports, at most [`WAITING_MAX`], and ends: each of a stream of which a report was taken
    /// in. So there are no more ends than streams that are open and reports that wait.
    entries: VecDeque<LoadReport>,
    reports: usize,
    clusters: usize,
}

impl Writer {
    /// Takes in a report if there is room. Whether there was; if not, that is counted.
    pub(super) fn report(&self, report: LoadReport) -> bool {
        let taken = self.with(|waiting| waiting.report(report));
        if !taken {
            self.tally().dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Takes in the end of a stream of which a report was taken in.
    pub(super) fn end(&self, end: LoadReport) {
        self.with(|waiting| waiting.entries.push_back(end));
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    fn with<T>(&self, then: impl FnOnce(&mut Waiting) -> T) -> T {
        let done = self.shared.with(then);
        // Full: it rings already. Closed: nobody reads.
        let _ = self.bell.try_send(());
        done
    }
}

impl Reader {
    /// The next; `None` when there is none and no writer any more. Loses nothing when dropped
    /// before it is ready.
    pub(super) async fn next(&mut self) -> Option<LoadReport> {
        loop {
            if let Some(report) = self.pop() {
                return Some(report);
            }
            if self.rings.recv().await.is_none() {
                return self.pop();
            }
        }
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    fn pop(&self) -> Option<LoadReport> {
        self.shared.with(Waiting::pop)
    }
}

impl Shared {
    /// Whoever panicked while holding it left at most a number that is too high.
    fn with<T>(&self, then: impl FnOnce(&mut Waiting) -> T) -> T {
        then(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Waiting {
    fn report(&mut self, report: LoadReport) -> bool {
        let clusters = self.clusters.saturating_add(report.len());
        if self.reports >= WAITING_MAX || clusters > CLUSTERS_WAITING_MAX {
            return false;
        }
        self.reports += 1;
        self.clusters = clusters;
        self.entries.push_back(report);
        true
    }

    fn pop(&mut self) -> Option<LoadReport> {
        let report = self.entries.pop_front()?;
        if report.clusters.is_some() {
            self.reports = self.reports.saturating_sub(1);
            self.clusters = self.clusters.saturating_sub(report.len());
        }
        Some(report)
    }
}

impl LoadReport {
    fn len(&self) -> usize {
        self.clusters.as_ref().map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::envoy::config::core::v3::Node;

    use super::*;
    use crate::client::Client;
    use crate::lrs::{CLUSTERS_MAX, ClusterLoad};

    /// A report of so many clusters, or an end.
    fn entry(stream: u64, clusters: Option<usize>) -> LoadReport {
        let client = Client::read(&Node { id: "edge".to_owned(), ..Node::default() }).unwrap();
        let load = ClusterLoad {
            cluster: String::new(),
            issued: 1,
            errors: 0,
            in_progress: 0,
            period: Duration::from_secs(2),
        };
        let clusters = clusters.map(|clusters| vec![load; clusters]);
        LoadReport { client: Arc::new(client), stream, clusters }
    }

    #[test]
    fn reports_and_clusters_are_bounded_and_ends_are_not_lost() {
        struct Case {
            clusters: usize,
            room: usize,
        }
        for Case { clusters, room } in [
            Case { clusters: 1, room: WAITING_MAX },
            Case { clusters: CLUSTERS_MAX, room: CLUSTERS_WAITING_MAX / CLUSTERS_MAX },
        ] {
            let (writer, reader) = queue();
            let taken = (0..=room).filter(|_| writer.report(entry(1, Some(clusters)))).count();
            assert_eq!((taken, writer.tally().dropped.load(Ordering::Relaxed)), (room, 1));
            writer.end(entry(1, None));
            assert!(!writer.report(entry(2, Some(clusters))));
            // What is read makes room.
            assert!(reader.pop().unwrap().clusters.is_some());
            assert!(writer.report(entry(2, Some(clusters))));
            let rest: Vec<_> = std::iter::from_fn(|| reader.pop()).collect();
            let order: Vec<_> = rest.iter().map(|it| (it.stream, it.clusters.is_none())).collect();
            let told = [(1, true), (2, false)];
            assert_eq!(order[room - 1..], told, "the end comes after what the stream said");
            assert!((0..room).all(|_| writer.report(entry(3, Some(clusters)))));
        }
    }

    #[tokio::test]
    async fn all_is_read_before_the_queue_ends() {
        let (writer, mut reader) = queue();
        let other = writer.clone();
        let reading = tokio::spawn(async move {
            let mut streams = Vec::new();
            while let Some(report) = reader.next().await {
                streams.push(report.stream);
            }
            streams
        });
        for stream in 0..100 {
            assert!(writer.report(entry(stream, Some(1))));
            tokio::task::yield_now().await;
        }
        drop(writer);
        other.end(entry(100, None));
        drop(other);
        assert_eq!(reading.await.unwrap(), (0..=100).collect::<Vec<_>>());
    }
}
