//! `start`, `step`, `pause`, `resume`, `rollback`, `approve`.

use plan::command::{Ask, Command, Scope};
use plan::{Actor, Mode, Stage};

use crate::world::{World, approve, ask, parsed, plan, rollback, shift, step};

/// Started, and this many steps taken, with the gate approved.
pub(crate) fn at_step(steps: u16) -> World {
    let mut world = World::with(plan("p"));
    world.does(Command::Start(parsed("p")));
    world.does(approve("p", "sign-off"));
    for _ in 0..steps {
        world.acked();
        world.advance("p").unwrap();
    }
    world.acked();
    world
}

fn run(world: &World) -> (u16, Stage) {
    match world.mode("p") {
        Mode::Running(run) | Mode::Paused(run) | Mode::Expired(run) => (run.step, run.stage),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_step_ends_the_bake_and_nothing_else() {
    let mut world = World::with(plan("p"));
    world.does(Command::Start(parsed("p")));
    // Nobody has acked the start.
    let refused = world.command(step("p", &[])).unwrap_err();
    assert_eq!((refused.code(), refused.clear().unwrap()), ("acks", "crossfade sinks".into()));
    let done = world.reasoned(step("p", &["acks"])).unwrap();
    assert_eq!(done.notes, ["acks overridden"]);
    assert_eq!((world.splits("p"), run(&world)), (vec![1000, 1000], (1, Stage::Bake)));
    world.acked();
    world.does(step("p", &[]));
    world.acked();
    assert_eq!(world.command(step("p", &[])).unwrap_err().code(), "gate");
    world.reasoned(step("p", &["sign-off"])).unwrap();
    world.acked();
    world.does(step("p", &[]));
    assert_eq!(world.splits("p"), [10_000, 10_000]);
    // The end of the last bake needs every sink, whoever asks.
    world.owes(&["p"]);
    let refused = world.reasoned(step("p", &["acks"])).unwrap_err();
    assert_eq!(refused.code(), "acks");
    world.acked();
    world.does(step("p", &[]));
    assert_eq!(world.mode("p"), Mode::Complete);
}

#[test]
fn pause_and_resume_keep_the_place() {
    let mut world = at_step(2);
    world.does(Command::Pause(parsed("p")));
    world.acked();
    assert_eq!(world.advance("p").unwrap_err().code(), "not-due");
    assert_eq!(world.command(step("p", &[])).unwrap_err().clear().unwrap(), "crossfade resume p");
    world.later(7200);
    assert_eq!(world.expire("p").unwrap_err().code(), "not-due");
    world.does(Command::Resume(parsed("p")));
    assert_eq!(run(&world), (2, Stage::Bake));
    // `expires` counts from the resume.
    assert_eq!(world.expire("p").unwrap_err().code(), "not-due");
    world.later(3600);
    world.expire("p").unwrap();
    assert_eq!((world.splits("p"), run(&world)), (vec![1000, 1000], (1, Stage::Bake)));
}

/// From splits set by hand, `resume` goes to the first step above every service's split.
#[test]
fn resume_from_manual() {
    for (a, b, expected, then) in [
        (0, 0, (0, Stage::Onward), [1000, 1000]),
        (5, 0, (0, Stage::Onward), [1000, 1000]),
        (10, 10, (1, Stage::Onward), [2500, 2500]),
        (30, 5, (2, Stage::Onward), [5000, 5000]),
        (100, 30, (3, Stage::Onward), [10_000, 10_000]),
        (100, 100, (4, Stage::Bake), [10_000, 10_000]),
    ] {
        let mut world = World::with(plan("p"));
        world.does(approve("p", "sign-off"));
        // A first shift away, so that each case is manual also where it is at 0.
        world.does(shift("p", None, 1));
        world.does(shift("p", Some("a"), a));
        let _ = world.command(shift("p", Some("b"), b)).unwrap();
        world.does(Command::Resume(parsed("p")));
        assert_eq!(run(&world), expected, "{a} {b}");
        world.acked();
        if expected.1 == Stage::Onward {
            world.advance("p").unwrap();
        }
        assert_eq!(world.splits("p"), then, "{a} {b}");
    }
}

#[test]
fn a_rollback_takes_along_what_comes_after_and_leaves_the_rest() {
    let mut world = at_step(2);
    let done = world.does(Command::Rollback(Scope::Service(parsed("p/b"))));
    assert_eq!((world.splits("p"), done.notes), (vec![2500, 0], vec![]));
    assert_eq!(world.mode("p"), Mode::RolledBack);
    let done = world.does(Command::Rollback(Scope::Service(parsed("p/a"))));
    assert_eq!((world.splits("p"), done.notes), (vec![0, 0], vec![]));
    let mut world = at_step(2);
    let done = world.does(Command::Rollback(Scope::Service(parsed("p/a"))));
    assert_eq!(world.splits("p"), [0, 0]);
    assert_eq!(done.notes, ["p/b comes after a: 25% to 0%"]);
}

#[test]
fn rollback_of_all_is_one_record_and_skips_what_is_retired() {
    let mut world = at_step(4);
    world.complete("p").unwrap();
    world.does(Command::Retire(parsed("p")));
    for name in ["q", "r"] {
        world.does(Command::Apply(plan(name).into()));
        world.does(shift(name, None, 20));
    }
    let before = world.state.token().revision;
    let done = world.does(Command::Rollback(Scope::All));
    assert_eq!(world.state.token().revision, before + 1);
    assert_eq!(done.plans.len(), 2);
    assert_eq!((world.splits("q"), world.splits("r")), (vec![0, 0], vec![0, 0]));
    assert_eq!(world.splits("p"), [10_000, 10_000]);
    world.already(Command::Rollback(Scope::All));
}

#[test]
fn approvals_count_people_and_a_rollback_voids_them() {
    let mut spec = plan("p");
    spec.gates[0].test = plan::spec::GateTest::Manual { approvers: 2 };
    let mut world = World::with(spec);
    let by = |name| Ask { actor: Actor::new(name), ..ask(approve("p", "sign-off")) };
    assert!(world.ask(by("alice")).unwrap().changed);
    let again = world.ask(by("alice")).unwrap();
    assert!(!again.changed);
    assert_eq!(again.notes, ["alice has approved it before, and counts once"]);
    assert_eq!(world.command(shift("p", None, 30)).unwrap_err().code(), "gate");
    assert!(world.ask(by("bob")).unwrap().changed);
    world.does(shift("p", None, 30));
    world.does(rollback("p"));
    world.resume("p").unwrap();
    assert_eq!(world.command(shift("p", None, 30)).unwrap_err().code(), "gate");
}

#[test]
fn a_restored_plan_waits_for_whoever_says_where_traffic_goes() {
    let mut world = at_step(2);
    let before = world.state.token();
    world.restored();
    let token = world.state.token();
    assert_eq!(token.incarnation, before.incarnation + 1);
    world.acked();
    assert_eq!(world.advance("p").unwrap_err().code(), "not-due");
    let waits = |world: &World| world.state.plan(&parsed("p")).unwrap().restored;
    world.does(Command::Pause(parsed("p")));
    assert!(waits(&world));
    world.does(Command::Resume(parsed("p")));
    assert!(!waits(&world));
    world.acked();
    world.advance("p").unwrap();
}
