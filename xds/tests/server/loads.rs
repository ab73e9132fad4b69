use proto::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};
use proto::envoy::service::load_stats::v3::load_reporting_service_client as lrs;
use proto::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use proto::google::protobuf;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use xds::lrs::LoadReport;
use xds::server::Limits;

use crate::world::{World, in_time, node, until};

struct Proxy {
    requests: mpsc::Sender<LoadStatsRequest>,
    answers: Streaming<LoadStatsResponse>,
}

impl Proxy {
    /// Opens a stream and waits until it is told how often to report.
    async fn open(world: &World, id: &str) -> Self {
        let (requests, outgoing) = mpsc::channel(64);
        let first = LoadStatsRequest { node: Some(node(id, None)), cluster_stats: Vec::new() };
        requests.send(first).await.unwrap();
        let mut client = lrs::LoadReportingServiceClient::new(world.channel().await);
        let call = client.stream_load_stats(ReceiverStream::new(outgoing));
        let mut answers = in_time(call).await.unwrap().into_inner();
        let told = in_time(answers.message()).await.unwrap().unwrap();
        assert!(told.send_all_clusters && told.load_reporting_interval.is_some());
        Self { requests, answers }
    }

    async fn report(&self, clusters: &[&str]) {
        let stats = |name: &&str| ClusterStats {
            cluster_name: (*name).to_owned(),
            upstream_locality_stats: vec![UpstreamLocalityStats {
                total_issued_requests: 3,
                ..UpstreamLocalityStats::default()
            }],
            load_report_interval: Some(protobuf::Duration { seconds: 2, nanos: 0 }),
            ..ClusterStats::default()
        };
        let cluster_stats = clusters.iter().map(stats).collect();
        self.requests.send(LoadStatsRequest { node: None, cluster_stats }).await.unwrap();
    }

    /// Says nothing more and waits until the stream has ended.
    async fn leave(mut self) {
        drop(self.requests);
        assert_eq!(in_time(self.answers.message()).await.unwrap(), None);
    }
}

/// Who it is and which clusters it has.
fn told(report: &LoadReport) -> (&str, Option<Vec<&str>>) {
    let clusters = report.clusters.as_ref();
    let clusters = clusters.map(|all| all.iter().map(|load| &*load.cluster).collect());
    (&report.client.id, clusters)
}

#[tokio::test]
async fn reports_have_what_is_ours_and_ends_are_told_of_the_stream_that_ended() {
    let mut world = World::start(Limits::default()).await;
    let (silent, older) = (Proxy::open(&world, "b").await, Proxy::open(&world, "a").await);
    older.report(&["elsewhere"]).await;
    older.report(&["shop/one", "elsewhere", "shop/two"]).await;
    let first = in_time(world.loads.next()).await.unwrap();
    assert_eq!(told(&first), ("a", Some(vec!["shop/one", "shop/two"])));
    let newer = Proxy::open(&world, "a").await;
    newer.report(&["shop/one"]).await;
    let second = in_time(world.loads.next()).await.unwrap();
    assert!(second.stream > first.stream);
    // Nothing came of this one, so nothing ends.
    silent.leave().await;
    older.leave().await;
    let end = in_time(world.loads.next()).await.unwrap();
    assert_eq!((told(&end), end.stream), (("a", None), first.stream));
    newer.leave().await;
    let end = in_time(world.loads.next()).await.unwrap();
    assert_eq!((told(&end), end.stream), (("a", None), second.stream));
    world.stop().await;
}

#[tokio::test]
async fn a_stream_that_reports_far_too_often_is_not_read_as_often() {
    let mut world = World::start(Limits::default()).await;
    let proxy = Proxy::open(&world, "a").await;
    for _ in 0..200 {
        proxy.report(&["shop/one"]).await;
    }
    until(|| world.loads.counts().hurried > 0).await;
    assert_eq!(told(&in_time(world.loads.next()).await.unwrap()).0, "a");
    assert_eq!((world.loads.counts().dropped, world.loads.counts().absurd), (0, 0));
    world.stop().await;
}
