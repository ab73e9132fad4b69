//! Shares of identities: whoever has a certificate keeps nobody out who has another.

use std::sync::Arc;

use proto::envoy::service::load_stats::v3::LoadStatsRequest;
use proto::envoy::service::load_stats::v3::load_reporting_service_client as load;
use tonic::transport::Channel;
use tonic::{Code, Status};
use xds::server::Limits;

use crate::identity::{Issuer, Leaf, Porter, connect, issuer, tls};
use crate::world::{Delta, World, assert_status, clusters, in_time, named, node, until};

/// Two machines and a server that knows them.
struct Two {
    world: World,
    ours: Issuer,
    leaves: [Leaf; 2],
}

impl Two {
    async fn new(limits: Limits) -> Self {
        let (ours, porter) = (issuer(), Porter::new());
        let leaves = ["vm-1", "vm-2"].map(|name| {
            let leaf = Leaf::of(&ours, name);
            porter.knows(&leaf, name);
            leaf
        });
        let tls = tls(&ours, &Leaf::of(&ours, "controller.test"));
        let world = World::guarded(limits, Some(tls), Some(Arc::clone(&porter) as _)).await;
        world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
        Self { world, ours, leaves }
    }

    /// A connection of `vm-1` or `vm-2`.
    async fn connect(&self, which: usize) -> Channel {
        connect(&self.world, &self.ours.pem(), Some(&self.leaves[which - 1])).await.unwrap()
    }

    async fn open(&self, which: usize, channel: &Channel) -> Result<Delta, Status> {
        let id = format!("vm-{which}");
        let mut stream =
            Delta::open_as(channel.clone(), node(&id, Some("agent")), &clusters()).await?;
        assert_eq!(stream.took().await.len(), 1);
        Ok(stream)
    }

    fn refused(&self) -> u64 {
        self.world.meter.counts().bad["share"]
    }
}

#[tokio::test]
async fn connections_of_one_leave_room_for_another() {
    let limits = Limits { connections_per_identity: 2, connections: 4, ..Limits::default() };
    let two = Two::new(limits).await;
    let (a, b) = (two.connect(1).await, two.connect(1).await);
    let first = two.open(1, &a).await.unwrap();
    let _second = two.open(1, &b).await.unwrap();
    let over = two.connect(1).await;
    let refused = two.open(1, &over).await.err().unwrap();
    assert_status(&refused, Code::ResourceExhausted, "`vm-1` has 2 connections");
    assert!(two.refused() > 0);
    let other = two.connect(2).await;
    let _other = two.open(2, &other).await.expect("another has its own share");
    // What was taken is given back, and the one that waits has it.
    drop((first, a));
    until(|| two.world.meter.counts().connections == 3).await;
    two.open(1, &over).await.expect("there is room again");
}

/// Those over a share are cut as those on which nobody is known.
#[tokio::test]
async fn connections_over_a_share_do_not_stay() {
    let limits = Limits {
        connections_per_identity: 1,
        stranger: std::time::Duration::from_millis(200),
        ..Limits::default()
    };
    let two = Two::new(limits).await;
    let own = two.connect(1).await;
    let mut stream = two.open(1, &own).await.unwrap();
    let _over = two.connect(1).await;
    until(|| two.world.meter.counts().bad["stranger"] == 1).await;
    until(|| two.world.meter.counts().connections == 1).await;
    two.world.resources.replace(&clusters(), "2", named(&[("a", "2")]));
    assert_eq!(stream.took().await.len(), 1, "that within it goes on");
}

#[tokio::test]
async fn streams_of_one_leave_room_for_another() {
    let limits = Limits { streams_per_identity: 3, streams: 4, ..Limits::default() };
    let two = Two::new(limits).await;
    let (a, b) = (two.connect(1).await, two.connect(1).await);
    let mut held = vec![two.open(1, &a).await.unwrap(), two.open(1, &b).await.unwrap()];
    // Streams of other services are of the same share.
    let mut loads = load::LoadReportingServiceClient::new(a.clone());
    let said = LoadStatsRequest { node: Some(node("vm-1", None)), cluster_stats: Vec::new() };
    let (says, saying) = tokio::sync::mpsc::channel(1);
    says.send(said).await.unwrap();
    let saying = tokio_stream::wrappers::ReceiverStream::new(saying);
    let reports = in_time(loads.stream_load_stats(saying)).await.unwrap();
    for channel in [&a, &b] {
        let refused = two.open(1, channel).await.err().unwrap();
        assert_status(&refused, Code::ResourceExhausted, "`vm-1` has 3 streams");
    }
    assert_eq!((two.refused(), two.world.meter.counts().refused), (2, 2));
    let other = two.connect(2).await;
    let _others = [two.open(2, &other).await.unwrap(), two.open(2, &other).await.unwrap()];
    held.pop();
    until(|| two.world.meter.counts().streams == 3).await;
    two.open(1, &b).await.expect("its place is free again");
    drop((reports, says));
}

#[tokio::test]
async fn who_opens_without_end_takes_nobodys_turn() {
    let limits = Limits { streams_per_identity: 5, openings_per_identity: 1, ..Limits::default() };
    let two = Two::new(limits).await;
    let a = two.connect(1).await;
    let (mut opened, mut refused) = (0, None);
    while refused.is_none() {
        refused = two.open(1, &a).await.map(drop).err();
        opened += usize::from(refused.is_none());
        assert!(opened < 100, "at one a second it has to be refused before");
        until(|| two.world.meter.counts().streams == 0).await;
    }
    let refused = refused.unwrap();
    assert_status(&refused, Code::ResourceExhausted, "`vm-1` opens streams faster");
    assert!(opened >= 5, "{opened}");
    let other = two.connect(2).await;
    two.open(2, &other).await.expect("another's turn is its own");
}
