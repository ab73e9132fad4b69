//! Load reports: what proxies did, read with suspicion.
//!
//! A proxy opens a stream (`envoy.service.load_stats.v3`), names itself, is told what to report and
//! how often, and then says at every interval what it did since the last report. One TCP connection
//! counts as one request. A retry counts as issued; 4xx is success.

mod often;
mod queue;
mod service;

use std::time::Duration;

use proto::envoy::config::endpoint::v3::ClusterStats;
use proto::envoy::service::load_stats::v3::LoadStatsResponse;
use proto::google::protobuf;

use self::often::Often;
pub use self::service::{LoadCounts, LoadReport, LoadReports, service};

/// What one proxy did with one cluster during one interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterLoad {
    /// The cluster.
    pub cluster: String,
    /// Requests begun.
    pub issued: u64,
    /// Requests that ended badly: HTTP 5xx, and gRPC codes that mean the server's fault.
    pub errors: u64,
    /// Requests under way at the end of the interval.
    pub in_progress: u64,
    /// How long the interval was.
    pub period: Duration,
}

/// Why what a proxy says of a cluster is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absurd {
    /// No interval, a negative one, or one of more than a day.
    #[error("the interval is missing, negative or longer than a day")]
    Period,
    /// More requests than any proxy does; a negative number reads so too.
    #[error("more requests than a proxy can do")]
    Requests,
    /// No name, or too long a one.
    #[error("the cluster has no name, or one over 1 024 bytes")]
    Name,
}

/// The most clusters of one report that are read: 20 000 services with two sides.
pub const CLUSTERS_MAX: usize = 100_000;
/// The most requests a second that are believed of one proxy and cluster: ten times what the
/// fastest do.
const RATE_MAX: u64 = 10_000_000;
/// The most requests under way that are believed: each holds memory at the proxy.
const IN_PROGRESS_MAX: u64 = 100_000_000;
/// The longest interval that is believed.
const PERIOD_MAX: Duration = Duration::from_secs(86_400);
const NAME_BYTES_MAX: usize = 1_024;

impl ClusterLoad {
    /// Reads what a proxy says of one cluster.
    ///
    /// # Errors
    /// It cannot be so.
    pub fn read(stats: &ClusterStats) -> Result<Self, Absurd> {
        let cluster = &stats.cluster_name;
        if cluster.is_empty() || cluster.len() > NAME_BYTES_MAX {
            return Err(Absurd::Name);
        }
        let period = stats.load_report_interval.as_ref().and_then(period).ok_or(Absurd::Period)?;
        let most = RATE_MAX.saturating_mul(period.as_secs().saturating_add(1));
        let mut load =
            Self { cluster: cluster.clone(), issued: 0, errors: 0, in_progress: 0, period };
        for locality in &stats.upstream_locality_stats {
            load.issued = load.issued.saturating_add(locality.total_issued_requests);
            load.errors = load.errors.saturating_add(locality.total_error_requests);
            load.in_progress = load.in_progress.saturating_add(locality.total_requests_in_progress);
        }
        if load.issued > most || load.errors > most || load.in_progress > IN_PROGRESS_MAX {
            return Err(Absurd::Requests);
        }
        Ok(load)
    }
}

fn period(interval: &protobuf::Duration) -> Option<Duration> {
    let seconds = u64::try_from(interval.seconds).ok()?;
    let nanos = u32::try_from(interval.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let period = Duration::new(seconds, nanos);
    (period > Duration::ZERO && period <= PERIOD_MAX).then_some(period)
}

/// The shortest interval that any proxy is told.
const SHORT: Duration = Duration::from_secs(2);

/// How often a proxy is to report where there are so many: often enough to watch a shift, seldom
/// enough that reading all of them stays a small part of a core.
pub const fn interval(proxies: usize) -> Duration {
    /// So many proxies report every [`SHORT`].
    const FEW: usize = 200;
    const LONG: Duration = Duration::from_secs(10);
    if proxies <= FEW { SHORT } else { LONG }
}

/// What a proxy is told: every cluster it knows, at this interval.
pub fn wanted(interval: Duration) -> LoadStatsResponse {
    LoadStatsResponse {
        clusters: Vec::new(),
        load_reporting_interval: Some(protobuf::Duration {
            seconds: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(interval.subsec_nanos()).unwrap_or(0),
        }),
        report_endpoint_granularity: false,
        send_all_clusters: true,
    }
}

#[cfg(test)]
mod tests {
    use proto::envoy::config::endpoint::v3::UpstreamLocalityStats;

    use super::*;

    fn stats(issued: &[u64], interval: Option<(i64, i32)>) -> ClusterStats {
        ClusterStats {
            cluster_name: "shop/orders/http/target".to_owned(),
            upstream_locality_stats: issued
                .iter()
                .map(|issued| UpstreamLocalityStats {
                    total_issued_requests: *issued,
                    total_error_requests: 1,
                    total_requests_in_progress: 2,
                    ..UpstreamLocalityStats::default()
                })
                .collect(),
            load_report_interval: interval
                .map(|(seconds, nanos)| protobuf::Duration { seconds, nanos }),
            ..ClusterStats::default()
        }
    }

    #[test]
    fn localities_add_up() {
        let load = ClusterLoad::read(&stats(&[3, 4], Some((2, 500_000_000)))).unwrap();
        assert_eq!((load.issued, load.errors, load.in_progress), (7, 2, 4));
        assert_eq!(load.period, Duration::from_millis(2_500));
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let second = Some((1, 0));
        let nameless = ClusterStats { cluster_name: String::new(), ..stats(&[1], second) };
        let long = ClusterStats { cluster_name: "x".repeat(1_025), ..stats(&[1], second) };
        let cases = [
            (stats(&[1], None), Absurd::Period),
            (stats(&[1], Some((-1, 0))), Absurd::Period),
            (stats(&[1], Some((0, 0))), Absurd::Period),
            (stats(&[1], Some((1, -1))), Absurd::Period),
            (stats(&[1], Some((86_401, 0))), Absurd::Period),
            // -1 as the wire has it.
            (stats(&[u64::MAX], second), Absurd::Requests),
            (stats(&[u64::MAX, u64::MAX], second), Absurd::Requests),
            (nameless, Absurd::Name),
            (long, Absurd::Name),
        ];
        for (stats, absurd) in cases {
            assert_eq!(ClusterLoad::read(&stats), Err(absurd), "{stats:?}");
        }
    }
}
