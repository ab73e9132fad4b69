//! The fold: leaves that stay, TTLs, checkpoints, and records that do not fit.

use std::sync::Arc;

use plan::command::{Ask, Command};
use plan::{Broken, Motion, Record, State};

use crate::run::at_step;
use crate::world::{World, ask, key, parsed, plan, rollback, shift};

#[test]
fn an_unchanged_leaf_is_the_same_arc() {
    let mut world = World::with(plan("p"));
    world.does(Command::Apply(plan("q").into()));
    world.does(shift("p", None, 10));
    let before = Arc::clone(world.state.snapshot());
    world.does(shift("p", Some("a"), 20));
    let after = world.state.snapshot();
    let same: Vec<_> =
        before.services.iter().zip(after.services.iter()).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
    assert_eq!(same, [false, true, true, true]);
    assert!(Arc::ptr_eq(&before.zones, &after.zones));
    assert_eq!(after.services[0].since, after.token);
    assert_eq!(world.state.plan(&parsed("p")).unwrap().rendered, after.token);
    assert!(world.state.plan(&parsed("q")).unwrap().rendered < after.token);
}

#[test]
fn motion_and_ttl_follow_the_mode() {
    let show = |world: &World| {
        let leaf = world.state.snapshot().service(&parsed("p/a")).unwrap();
        (leaf.motion, leaf.ttls[0])
    };
    let mut world = World::with(plan("p"));
    assert_eq!(show(&world), (Motion::Steady, 60));
    world.later(5);
    world.does(Command::Start(parsed("p")));
    assert_eq!(show(&world), (Motion::Moving, 5));
    assert_eq!(world.state.plan(&parsed("p")).unwrap().moving_since, world.facts.now);
    world.does(Command::Pause(parsed("p")));
    assert_eq!(show(&world), (Motion::Moving, 5));
    world.does(rollback("p"));
    assert_eq!(show(&world), (Motion::RolledBack, 5));
    world.restored();
    assert_eq!(show(&world), (Motion::Restored, 5));
    world.resume("p").unwrap();
    assert_eq!(show(&world), (Motion::Steady, 60));
    let mut world = at_step(4);
    world.complete("p").unwrap();
    assert_eq!(show(&world), (Motion::Steady, 60));
}

#[test]
fn a_checkpoint_comes_up_as_what_it_was_and_any_flipped_bit_is_found() {
    let mut world = at_step(2);
    let keyed = Ask { key: Some(key("k")), ..ask(Command::Pause(parsed("p"))) };
    let done = world.ask(keyed.clone()).unwrap();
    let bytes = world.state.checkpoint();
    let mut again = World { state: State::from_checkpoint(&bytes).unwrap(), ..world.clone() };
    assert_eq!(again.state.snapshot(), world.state.snapshot());
    assert!(again.state.plans().eq(world.state.plans()));
    let repeated = again.ask(keyed).unwrap();
    assert!(repeated.repeated && repeated.token == done.token);
    for at in (0..bytes.len()).step_by(37) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        assert!(State::from_checkpoint(&flipped).is_err(), "byte {at}");
    }
}

#[test]
fn a_record_that_does_not_fit_is_refused() {
    let world = at_step(1);
    let last = world.log.last().unwrap();
    let state = world.log[..world.log.len() - 1].iter();
    let before = state.fold(State::empty(), |state, record| state.apply(record).unwrap());
    assert_eq!(before.apply(last).unwrap().digest(), world.state.digest());
    let broken = |change: &dyn Fn(&mut Record)| {
        let mut record = last.clone();
        change(&mut record);
        before.apply(&record).unwrap_err()
    };
    let parent = broken(&|record| record.parent = plan::Digest::ZERO);
    assert!(matches!(parent, Broken::Parent { .. }));
    for change in [
        (|record| record.token.revision += 1) as fn(&mut Record),
        |record| record.token.revision -= 1,
        |record| record.token.incarnation += 1,
    ] {
        assert!(matches!(broken(&change), Broken::Order { .. }));
    }
    let plan = broken(&|record| record.puts = vec![plan::Put::NoApprovals(parsed("x"))]);
    assert!(matches!(plan, Broken::UnknownPlan { .. }));
    let split = plan::Split::LEGACY;
    let service =
        broken(&|record| record.puts = vec![plan::Put::Split { service: parsed("p/x"), split }]);
    assert!(matches!(service, Broken::UnknownService { .. }));
}

#[test]
fn a_key_is_good_for_one_ask() {
    let mut world = World::with(plan("p"));
    let keyed = |command| Ask { key: Some(key("k")), ..ask(command) };
    let first = world.ask(keyed(shift("p", None, 10))).unwrap();
    world.does(shift("p", None, 20));
    let again = world.ask(keyed(shift("p", None, 10))).unwrap();
    assert!(again.repeated);
    assert_eq!((again.token, again.plans), (first.token, first.plans));
    assert_eq!(world.splits("p"), [2000, 2000]);
    assert_eq!(world.ask(keyed(shift("p", None, 11))).unwrap_err().code(), "key-reused");
}
