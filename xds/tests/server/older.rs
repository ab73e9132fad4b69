//! A follower asks an older server for something that it does not know.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use xds::follow::dial::Dial;
use xds::follow::{Again, Applied, Follower, Held, Item, Settings, Sink, node};
use xds::server::Limits;
use xds::{Name, TypeUrl};

use crate::world::{World, clusters, in_time, named};

/// Tells of what it was given.
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

#[tokio::test]
async fn what_an_older_server_does_not_know_is_followed_without() {
    let world = World::start(Limits::default()).await;
    let directory = std::env::temp_dir().join(format!("crossfade-older-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    world.resources.replace(&clusters(), "1", named(&[("a", "1")]));
    let (follower, _) = Follower::open(Settings {
        node: node("relay-1", "2", &[]),
        types: vec![clusters()],
        extra: vec![TypeUrl::REVOCATIONS.into()],
        dial: Dial::new(&[world.address.to_string()], None).unwrap(),
        directory: directory.clone(),
    })
    .unwrap();
    let mut away = follower.away();
    let (takes, mut taken) = watch::channel(0);
    let (links, _) = watch::channel(None);
    let (_again, again) = watch::channel(Again::default());
    let following = tokio::spawn(follower.run(Takes(takes), links, again, || 0));
    in_time(taken.wait_for(|count| *count == 1)).await.unwrap();
    world.resources.replace(&clusters(), "2", named(&[("a", "1"), ("b", "1")]));
    in_time(taken.wait_for(|count| *count == 2)).await.unwrap();
    assert_eq!(*away.borrow_and_update(), None);
    following.abort();
    std::fs::remove_dir_all(&directory).unwrap();
}
