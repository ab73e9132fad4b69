//! The next certificates.

use std::path::Path;
use std::time::Duration;

use agent::identity::{Health, Store};
use xds::join::{Kind, Ticket};

use crate::authority::{DAY, Spoil};
use crate::world::{Folder, World, in_time, join};

/// More than half a day and a tenth of it.
const DUE: Duration = Duration::from_secs(14 * 3_600);

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(entry.path().read_link().unwrap(), to).unwrap();
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn it_is_renewed_with_a_new_key_at_half_its_life() {
    let (world, folder) = (World::start().await, Folder::new());
    let mut last = world.join(&folder, "vm-1").await;
    let mut keeper = world.keeper(&folder.identity());
    let newest = keeper.identity();
    assert!(in_time(keeper.step(world.now(), 0)).await > Duration::ZERO);
    assert_eq!(newest.borrow().chain, last.chain, "it is too early");
    for _ in 0..4 {
        let now = world.pass(DUE);
        in_time(keeper.step(now, 0)).await;
        let next = newest.borrow().clone();
        assert!(next.not_after > last.not_after);
        assert_ne!(next.key.public(), last.key.public());
        assert!(matches!(*keeper.health().borrow(), Health::Fine { renews } if renews > now));
        let kept = Store::open(&folder.identity()).unwrap();
        assert_eq!(
            (kept.damaged.len(), kept.identity.as_ref().unwrap().key.public()),
            (0, next.key.public())
        );
        let generations = folder
            .identity()
            .read_dir()
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir());
        assert_eq!(generations.count(), 2);
        last = kept.identity.unwrap();
    }
}

#[tokio::test]
async fn a_gateways_is_kept_as_a_gateways_and_as_nothing_else() {
    let (world, folder) = (World::start().await, Folder::new());
    let kind = Kind::Gateway("edge".parse().unwrap());
    world.authority.with(|state| state.gateways.insert("edge-1".to_owned(), kind.clone()));
    let ticket = Ticket { kind: kind.clone(), ..world.ticket("edge-1") };
    let first = join(&folder, &ticket, world.now()).await.unwrap();
    let id = "spiffe://crossfade.test/gateway/edge/edge-1";
    assert_eq!((first.spiffe_id().as_str(), &first.kind), (id, &kind));
    let mut keeper = world.keeper(&folder.identity());
    world.authority.with(|state| state.spoil = Some(Spoil::OtherKind));
    let now = world.pass(DAY * 6);
    let pause = in_time(keeper.step(now, 0)).await;
    let health = keeper.health().borrow().clone();
    let Health::Failing { why, .. } = health else { panic!("{health:?}") };
    assert!(why.contains("it is for agent, and this machine is gateway edge"), "{why}");
    let now = world.pass(pause);
    in_time(keeper.step(now, 0)).await;
    assert!(matches!(*keeper.health().borrow(), Health::Fine { .. }), "after a week away");
    let kept = Store::open(&folder.identity()).unwrap().identity.unwrap();
    assert_eq!((kept.spiffe_id().as_str(), kept.not_after > now), (id, true));

    world.pass(DAY * 9);
    in_time(keeper.step(world.now(), 0)).await;
    let health = keeper.health().borrow().clone();
    let Health::Lost { why } = health else { panic!("{health:?}") };
    assert!(why.contains("crossfade token create edge-1 --gateway edge"), "{why}");
    assert!(why.contains("crossfade relay join"), "{why}");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_with_the_same_key() {
    let (world, folder) = (World::start().await, Folder::new());
    world.join(&folder, "vm-1").await;
    let mut keeper = world.keeper(&folder.identity());
    let now = world.pass(DUE);
    world.authority.with(|state| state.spoil = Some(Spoil::Lost));
    let pause = in_time(keeper.step(now, 0)).await;
    assert!(pause > Duration::ZERO && pause <= Duration::from_millis(500), "{pause:?}");
    assert!(matches!(&*keeper.health().borrow(), Health::Failing { expired: false, .. }));

    // Killed meanwhile: who comes after it asks with what is on disk.
    let mut keeper = world.keeper(&folder.identity());
    let now = world.pass(pause);
    in_time(keeper.step(now, 0)).await;
    assert!(matches!(*keeper.health().borrow(), Health::Fine { .. }));
    assert!(world.authority.with(|state| state.frozen.is_empty()));
}

#[tokio::test]
async fn a_copied_key_freezes_both() {
    let (world, folder, thief) = (World::start().await, Folder::new(), Folder::new());
    world.join(&folder, "vm-1").await;
    copy(&folder.identity(), &thief.identity());
    let (mut ours, mut theirs) =
        (world.keeper(&folder.identity()), world.keeper(&thief.identity()));
    let now = world.pass(DUE);
    in_time(ours.step(now, 0)).await;
    assert!(matches!(*ours.health().borrow(), Health::Fine { .. }));
    let pause = in_time(theirs.step(now, 0)).await;
    assert!(pause >= Duration::from_secs(60), "{pause:?}: it is not asked all the time");
    in_time(ours.step(world.pass(DUE), 0)).await;
    for keeper in [&ours, &theirs] {
        let health = keeper.health().borrow().clone();
        let Health::Refused { why } = health else { panic!("{health:?}") };
        assert!(why.contains("its key was copied"), "{why}");
        assert!(why.contains("crossfade token create vm-1"), "{why}");
    }
}

#[tokio::test]
async fn it_is_kept_and_tried_while_the_controller_is_away() {
    let (mut world, folder) = (World::start().await, Folder::new());
    let first = world.join(&folder, "vm-1").await;
    let mut keeper = world.keeper(&folder.identity());
    world.stop().await;
    let mut longest = Duration::ZERO;
    let began = world.pass(DUE);
    for _ in 0..12 {
        let now = world.now();
        let pause = in_time(keeper.step(now, u64::MAX / 3)).await;
        longest = longest.max(pause);
        world.pass(Duration::from_secs(151));
        let health = keeper.health().borrow().clone();
        let Health::Failing { since, why, expired: false } = health else { panic!("{health:?}") };
        assert_eq!(since, began);
        assert!(why.contains("cannot connect"), "{why}");
    }
    assert!(longest >= Duration::from_secs(60), "{longest:?}");
    assert_eq!(keeper.identity().borrow().chain, first.chain);
    in_time(keeper.step(world.pass(DAY), 0)).await;
    assert!(matches!(&*keeper.health().borrow(), Health::Failing { expired: true, .. }));
}

#[tokio::test]
async fn a_week_after_its_end_it_comes_back_by_itself_and_then_never() {
    for (away, back) in
        [(DAY * 6, true), (DAY * 8 - Duration::from_secs(3_600), true), (DAY * 8, false)]
    {
        let (world, folder) = (World::start().await, Folder::new());
        let first = world.join(&folder, "vm-1").await;
        let now = world.pass(away + Duration::from_secs(60));
        let mut keeper = world.keeper(&folder.identity());
        in_time(keeper.step(now, 0)).await;
        let health = keeper.health().borrow().clone();
        assert_eq!(matches!(health, Health::Fine { .. }), back, "{away:?}: {health:?}");
        assert_eq!(keeper.identity().borrow().chain != first.chain, back);
        if !back {
            let Health::Lost { why } = health else { panic!("{health:?}") };
            assert!(why.contains("crossfade token create vm-1"), "{why}");
            assert!(why.contains("crossfade agent join"), "{why}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let (world, folder) = (World::start().await, Folder::new());
    let first = world.join(&folder, "vm-1").await;
    let mut keeper = world.keeper(&folder.identity());
    let mut now = world.pass(DUE);
    for spoil in [Spoil::OtherKey, Spoil::OtherName, Spoil::OtherAuthority, Spoil::NoChain] {
        world.authority.with(|state| state.spoil = Some(spoil));
        in_time(keeper.step(now, 0)).await;
        now = world.pass(Duration::from_secs(150));
        assert!(matches!(&*keeper.health().borrow(), Health::Failing { .. }), "{spoil:?}");
        assert_eq!(keeper.identity().borrow().chain, first.chain, "{spoil:?}");
    }
    in_time(keeper.step(now, 0)).await;
    assert!(matches!(*keeper.health().borrow(), Health::Fine { .. }));
}
