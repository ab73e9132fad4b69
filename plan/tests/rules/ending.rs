//! `retire` and `delete`.

use plan::Mode;
use plan::command::{Command, ZoneChange};
use plan::spec::ZoneSource;

use crate::run::at_step;
use crate::world::{World, parsed, plan, rollback};

fn complete() -> World {
    let mut world = at_step(4);
    world.complete("p").unwrap();
    world
}

fn answers(world: &mut World, addresses: &[(&str, &[&str])]) {
    let answers = addresses.iter().map(|(host, addresses)| {
        (parsed(host), addresses.iter().map(|address| parsed(address)).collect())
    });
    world.facts.zone_answers = answers.collect();
}

#[test]
fn names_stay_until_the_zone_answers_the_target() {
    let mut world = complete();
    let done = world.does(Command::Retire(parsed("p")));
    assert_eq!(done.notes[0], "a.p.example. 60 IN A 10.9.1.1");
    assert_eq!(done.notes.len(), 4);
    let again = world.command(Command::Retire(parsed("p"))).unwrap();
    assert_eq!((again.changed, again.notes), (false, done.notes), "told again");
    let leaf = world.state.snapshot().service(&parsed("p/a")).unwrap();
    assert_eq!((leaf.serving.split().bp(), leaf.ttls[0]), (10_000, 60));
    let reload = |text: &[u8]| {
        let source = ZoneSource::Blob(plan::Digest::of(text));
        Command::Reload(vec![ZoneChange { plan: parsed("p"), zone: parsed("p.example"), source }])
    };
    for (text, a) in
        [(&b"1"[..], &["10.0.1.1"][..]), (b"2", &[]), (b"3", &["10.9.1.1", "10.0.1.1"])]
    {
        answers(&mut world, &[("a.p.example", a), ("b.p.example", &["10.9.2.1"])]);
        world.does(reload(text));
        assert_eq!(world.state.snapshot().services.len(), 2, "{a:?}");
    }
    answers(&mut world, &[("a.p.example", &["10.9.1.1"]), ("b.p.example", &["10.9.2.2"])]);
    world.does(reload(b"4"));
    assert!(world.state.snapshot().services.is_empty());
    assert_eq!(world.state.snapshot().zones.len(), 1, "the zone goes on");
    world.does(Command::Delete(parsed("p")));
    assert!(world.state.snapshot().zones.is_empty());
}

#[test]
fn names_leave_at_once_where_the_zone_answers_already() {
    let mut world = complete();
    answers(&mut world, &[("a.p.example", &["10.9.1.1"]), ("b.p.example", &["10.9.2.2"])]);
    let done = world.does(Command::Retire(parsed("p")));
    assert!(done.notes.is_empty());
    assert!(world.state.snapshot().services.is_empty());
    assert_eq!(world.command(rollback("p")).unwrap_err().code(), "phase");
}

#[test]
fn delete_wants_a_plan_that_is_not_in_use() {
    let delete = || Command::Delete(parsed("p"));
    World::with(plan("p")).does(delete());
    let mut world = at_step(1);
    let refused = world.command(delete()).unwrap_err();
    assert_eq!(refused.clear().unwrap(), "crossfade rollback p");
    let mut world = complete();
    assert_eq!(world.command(delete()).unwrap_err().clear().unwrap(), "crossfade retire p");
    world.does(Command::Retire(parsed("p")));
    assert_eq!(world.mode("p"), Mode::Retired);
    world.does(delete());
    assert_eq!(world.command(delete()).unwrap_err().code(), "unknown-plan");
}
