//! Who is connected, and who waits for what.

use std::sync::Arc;

use plan::{PlanName, Token};
use xds::server::Limits;
use xds::{Change, Edit, Encoded, Tables, Urgency, Version};

use crate::world::{Delta, World, clusters, in_time, named, node, until};

fn shop() -> PlanName {
    "shop".parse().unwrap()
}

/// One cluster of a plan, in the scope that everybody sees.
fn edit(token: Token, body: &str) -> Edit {
    let version = Version::of(token, body.as_bytes());
    let encoded = Encoded::new(&clusters(), "orders".into(), version, body.as_bytes());
    let change =
        Change::Put { encoded: Arc::new(encoded), plans: Arc::new([shop()]), needs: Arc::new([]) };
    Edit { scope: "everybody".into(), type_url: clusters(), change }
}

fn publish(world: &World, revision: u64) -> Token {
    let token = Token { incarnation: 1, revision };
    let tables: &Tables = &world.publisher.tables();
    let edits = vec![edit(token, &revision.to_string())];
    world.publisher.publish(Arc::new(tables.next(token, Urgency::Ordinary, edits)));
    token
}

#[tokio::test]
async fn a_plan_is_owed_until_its_resources_are_acked() {
    let world = World::start(Limits::default()).await;
    let first = publish(&world, 1);
    let mut client = world.delta("d").await;
    let response = client.next().await.unwrap();
    let sink = world.sink("d", |sink| !sink.owes().is_empty()).await;
    assert_eq!(sink.owes().iter().collect::<Vec<_>>(), [&shop()]);
    client.ack(&response).await;
    world.sink("d", |sink| sink.owes().is_empty() && sink.progress.acked == first).await;

    let second = publish(&world, 2);
    let mut standings = world.registry.standings();
    let now = in_time(standings.wait_for(|now| now.through == second)).await.unwrap().clone();
    // Whether it has seen it or not, it owes.
    assert!(now.sink("d").unwrap().owes().contains(&shop()));
    assert_eq!(client.took().await.len(), 1);
    let now = in_time(standings.wait_for(|now| now.sink("d").unwrap().owes().is_empty()));
    assert_eq!(now.await.unwrap().through, second);
}

#[tokio::test]
async fn streams_of_one_node_are_one_sink() {
    let world = World::start(Limits::default()).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let mut one = world.delta("n").await;
    one.took().await;
    let mut two = world.delta("n").await;
    let response = two.next().await.unwrap();
    world.sink("n", |sink| sink.streams == 2 && sink.progress.acked == Token::NEVER).await;
    two.ack(&response).await;
    world.sink("n", |sink| sink.streams == 2 && sink.progress.acked > Token::NEVER).await;
    assert_eq!(world.registry.sessions().len(), 2);
    drop(one);
    world.sink("n", |sink| sink.streams == 1).await;
}

#[tokio::test]
async fn who_leaves_is_told_with_the_time_and_forgotten_when_he_is_back() {
    let world = World::start(Limits::default()).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let mut client = world.delta("n").await;
    client.took().await;
    world.sink("n", |_| true).await;
    drop(client);
    let mut standings = world.registry.standings();
    let gone = in_time(standings.wait_for(|now| now.sinks.is_empty() && now.away.len() == 1));
    let state = gone.await.unwrap().away[0].clone();
    assert_eq!((&*state.client.id, state.streams), ("n", 0));
    assert!(state.left.unwrap() >= state.since);
    let mut back = world.delta("n").await;
    back.took().await;
    let back = in_time(standings.wait_for(|now| now.sinks.len() == 1 && now.away.is_empty()));
    assert!(back.await.unwrap().sinks[0].left.is_none());
}

#[tokio::test]
async fn clients_of_a_new_kind_are_announced() {
    let world = World::start(Limits::default()).await;
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let mut clients = world.registry.clients();
    let roles = |clients: &[Arc<xds::Client>]| -> Vec<Option<String>> {
        clients.iter().map(|client| client.says("role").map(str::to_owned)).collect()
    };
    let mut streams = Vec::new();
    for (id, role) in [("a", None), ("b", Some("gateway")), ("c", Some("gateway"))] {
        let channel = world.channel().await;
        let stream = Delta::open_as(channel, node(id, role), &clusters()).await.unwrap();
        streams.push(stream);
        world.sink(id, |_| true).await;
    }
    let both = [None, Some("gateway".to_owned())];
    in_time(clients.wait_for(|now| roles(now) == both)).await.unwrap();
    drop(streams.pop());
    until(|| world.meter.counts().streams == 2).await;
    drop(streams.pop());
    in_time(clients.wait_for(|now| roles(now) == [None])).await.unwrap();
}
