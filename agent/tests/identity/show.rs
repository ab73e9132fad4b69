//! Connections that show the newest identity.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent::identity::Newest;
use bytes::Bytes;
use plan::Timestamp;
use tokio::sync::watch;
use xds::follow::dial::{Dial, TlsSource as _};
use xds::follow::{self, Again, Applied, Follower, Held, Item, Sink, node};
use xds::{Name, TypeUrl};

use crate::world::{Folder, World, in_time, real_now};

const DUE: Duration = Duration::from_secs(14 * 3_600);

/// Takes everything, and says how many it has.
struct Takes(watch::Sender<usize>);

impl Sink for Takes {
    fn check(&mut self, _: &TypeUrl, _: &str, _: &Bytes, _: Option<&Item>) -> Result<(), String> {
        Ok(())
    }

    async fn apply(&mut self, held: &Arc<Held>, _: &[Name]) -> Applied {
        self.0.send_replace(held.resources.len());
        Applied::default()
    }

    async fn applied(&mut self, _: &TypeUrl) -> Applied {
        Applied::default()
    }
}

fn clusters() -> TypeUrl {
    TypeUrl::new(TypeUrl::CLUSTER)
}

fn named(names: &[&str]) -> BTreeMap<String, (String, Vec<u8>)> {
    names.iter().map(|name| ((*name).to_owned(), ("1".to_owned(), b"x".to_vec()))).collect()
}

#[tokio::test]
async fn a_stream_begins_again_with_the_newest() {
    // So that both certificates are valid now, by the clock that TLS goes by.
    let now = Timestamp::from_millis(real_now().millis() - i64::try_from(DUE.as_millis()).unwrap());
    let (world, folder) = (World::start_at(now).await, Folder::new());
    world.join(&folder, "vm-1").await;
    let mut keeper = world.keeper(&folder.identity());
    let newest = Newest(keeper.identity());
    let first = newest.shown();
    assert_eq!(first.server_name.as_deref(), Some("controller.crossfade.test"));
    let dial = Dial::with_source(&[world.address.to_string()], Arc::new(newest.clone())).unwrap();
    let (follower, _) = Follower::open(follow::Settings {
        node: node("vm-1", "0", &[("role", "agent")]),
        types: vec![clusters()],
        extra: Vec::new(),
        dial,
        directory: folder.0.clone(),
    })
    .unwrap();
    let (takes, mut taken) = watch::channel(0);
    let (links, _) = watch::channel(None);
    let (_again, again) = watch::channel(Again::default());
    let following = tokio::spawn(follower.run(Takes(takes), links, again, || 0));
    world.resources.replace(&clusters(), "1", named(&["a"]));
    in_time(taken.wait_for(|count| *count == 1)).await.unwrap();

    let mut standings = world.registry.standings();
    let is_there = |now: &Arc<xds::Standings>| now.sink("vm-1").is_some();
    let since = in_time(standings.wait_for(is_there)).await.unwrap().sink("vm-1").unwrap().since;

    // With the old certificate nobody is let in any more.
    in_time(keeper.step(world.pass(DUE), 0)).await;
    assert_ne!(newest.shown(), first);
    world.authority.revoked.send_modify(|times| *times += 1);
    let again = |now: &Arc<xds::Standings>| now.sink("vm-1").is_some_and(|sink| sink.since > since);
    in_time(standings.wait_for(again)).await.unwrap();
    world.resources.replace(&clusters(), "2", named(&["a", "b"]));
    in_time(taken.wait_for(|count| *count == 2)).await.unwrap();
    following.abort();
}
