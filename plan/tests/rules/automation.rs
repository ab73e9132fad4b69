//! What a plan does by itself.

use plan::command::{Automation, Command};
use plan::policy::Policy;
use plan::{Mode, Stage};

use crate::run::at_step;
use crate::world::{World, parsed, percent, plan, shift};

#[test]
fn all_services_take_each_step_in_one_record_each() {
    let mut world = at_step(0);
    let start = world.state.token().revision;
    for (i, split) in [1000, 2500, 5000, 10_000].into_iter().enumerate() {
        world.acked();
        world.advance("p").unwrap();
        assert_eq!(world.splits("p"), [split, split]);
        assert_eq!(world.state.token().revision, start + 1 + u64::try_from(i).unwrap());
    }
    assert_eq!(world.advance("p").unwrap_err().code(), "not-due");
    world.acked();
    world.complete("p").unwrap();
    assert_eq!(world.mode("p"), Mode::Complete);
}

#[test]
fn it_never_lowers_anyone() {
    let mut world = World::with(plan("p"));
    world.does(shift("p", Some("a"), 20));
    world.does(Command::Resume(parsed("p")));
    world.acked();
    world.advance("p").unwrap();
    assert_eq!(world.splits("p"), [2500, 2500]);
}

/// A decision on a plan that has changed since is dropped.
#[test]
fn stale_decisions_are_dropped() {
    let mut world = at_step(1);
    let seen = world.revision("p") - 1;
    for cause in [
        Automation::Advance { plan: parsed("p"), seen },
        Automation::Complete { plan: parsed("p"), seen },
        Automation::Expire { plan: parsed("p"), seen },
    ] {
        assert_eq!(world.automation(cause).unwrap_err().code(), "stale");
    }
}

#[test]
fn it_keeps_every_limit() {
    let mut world = at_step(1);
    world.owes(&["p"]);
    assert_eq!(world.advance("p").unwrap_err().code(), "acks");
    // What another plan owes is its own affair.
    world.owes(&["q"]);
    world.advance("p").unwrap();

    let policy = Policy { max_step: Some(percent(10)), ..Policy::default() };
    let mut world = World::with(plan::Plan { policy, ..plan("p") });
    world.does(Command::Start(parsed("p")));
    world.acked();
    world.advance("p").unwrap();
    world.acked();
    let refused = world.advance("p").unwrap_err();
    assert_eq!(refused.clear().unwrap(), "crossfade shift p/a 20%");

    let mut world = World::with(plan("p"));
    world.does(Command::Start(parsed("p")));
    for _ in 0..2 {
        world.acked();
        world.advance("p").unwrap();
    }
    world.acked();
    assert_eq!(world.advance("p").unwrap_err().code(), "gate");
}

#[test]
fn expires_lowers_a_step_and_holds() {
    let mut world = at_step(2);
    world.later(3599);
    assert_eq!(world.expire("p").unwrap_err().code(), "not-due");
    world.later(1);
    world.expire("p").unwrap();
    assert_eq!(world.splits("p"), [1000, 1000]);
    assert!(matches!(world.mode("p"), Mode::Expired(run) if run.step == 1));
    world.acked();
    assert_eq!(world.advance("p").unwrap_err().code(), "not-due");
    world.does(Command::Resume(parsed("p")));
    assert!(matches!(world.mode("p"), Mode::Running(run) if run.stage == Stage::Bake));
}

/// A clock that jumps back delays `expires`; it never makes it happen early.
#[test]
fn expires_is_wall_time_from_when_the_step_was_entered() {
    let mut world = at_step(2);
    let entered = world.facts.now;
    world.facts.now = plan::Timestamp::from_millis(entered.millis() - 86_400_000);
    assert_eq!(world.expire("p").unwrap_err().code(), "not-due");
    world.facts.now = entered;
    world.later(3600);
    world.expire("p").unwrap();
}
