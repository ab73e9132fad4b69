//! `shift`, and the limits on raising.

use plan::Refused;
use plan::command::{Command, Scope};
use plan::policy::{Freeze, Policy};

use crate::world::{World, approve, parsed, percent, plan, shift, shift_over};

/// From 20 % and 10 %, everything that a shift may do.
#[test]
fn shifts() {
    struct Case {
        shift: Command,
        splits: [u16; 2],
        notes: usize,
    }
    for Case { shift, splits, notes } in [
        Case { shift: shift("p", Some("a"), 25), splits: [25, 10], notes: 0 },
        Case { shift: shift("p", Some("b"), 20), splits: [20, 20], notes: 0 },
        Case { shift: shift("p", None, 25), splits: [25, 25], notes: 0 },
        // Lowering takes along what comes after, and says so.
        Case { shift: shift("p", Some("a"), 5), splits: [5, 5], notes: 1 },
        Case { shift: shift("p", Some("a"), 15), splits: [15, 10], notes: 0 },
        Case { shift: shift("p", Some("b"), 0), splits: [20, 0], notes: 0 },
        Case { shift: shift("p", None, 0), splits: [0, 0], notes: 0 },
    ] {
        let mut world = World::with(plan("p"));
        world.does(self::shift("p", Some("a"), 20));
        world.does(self::shift("p", Some("b"), 10));
        let text = shift.to_string();
        let done = world.does(shift);
        assert_eq!(world.splits("p"), splits.map(|percent| percent * 100), "{text}");
        assert_eq!(done.notes.len(), notes, "{text}: {:?}", done.notes);
        assert_eq!(world.mode("p"), plan::Mode::Manual);
    }
}

#[test]
fn a_shift_to_where_everything_is_changes_nothing_by_hand() {
    let mut world = World::with(plan("p"));
    world.already(shift("p", None, 0));
    world.does(shift("p", None, 10));
    world.already(shift("p", None, 10));
    world.already(shift("p", Some("b"), 10));
}

/// Each limit holds, says what is allowed, and gives way to its override with a reason. Lowering
/// meets none of them.
#[test]
fn limits() {
    struct Case {
        name: &'static str,
        shift: Command,
        over: Command,
        policy: Policy,
        clear: Option<&'static str>,
    }
    let none = Policy::default;
    let quarter = || Policy { max_step: Some(percent(25)), ..none() };
    for case in [
        Case {
            name: "max-step",
            shift: shift("p", None, 40),
            over: shift_over("p", None, 40, &["max-step", "sign-off"]),
            policy: quarter(),
            clear: Some("crossfade shift p/a 25%"),
        },
        Case {
            name: "gate",
            shift: shift("p", Some("a"), 26),
            over: shift_over("p", Some("a"), 26, &["sign-off"]),
            policy: none(),
            clear: Some("crossfade approve p sign-off"),
        },
        Case {
            name: "freeze",
            shift: shift("p", None, 20),
            over: shift_over("p", None, 20, &["freeze"]),
            policy: Policy { freeze: vec![always()], ..none() },
            clear: None,
        },
    ] {
        let mut world = World::with(plan::Plan { policy: case.policy, ..plan("p") });
        let refused = world.command(case.shift).unwrap_err();
        assert_eq!((refused.code(), refused.clear().as_deref()), (case.name, case.clear));
        let before = world.splits("p");
        let refused = world.command(case.over.clone()).unwrap_err();
        assert_eq!(refused.code(), "reason-needed", "{}", case.name);
        assert_eq!(world.splits("p"), before);
        let done = world.reasoned(case.over).unwrap();
        assert!(done.notes.iter().any(|note| note.ends_with("overridden")), "{:?}", done.notes);
        world.does(shift("p", None, 0));
        assert_eq!(world.splits("p"), [0, 0]);
    }
}

/// Every minute begins a window of two.
fn always() -> Freeze {
    Freeze {
        cron: parsed("* * * * *"),
        lasts: std::time::Duration::from_secs(120),
        tz: parsed("UTC"),
    }
}

#[test]
fn a_service_is_never_above_those_it_comes_after() {
    let mut world = World::with(plan("p"));
    world.does(shift("p", Some("a"), 20));
    let refused = world.command(shift("p", Some("b"), 21)).unwrap_err();
    assert!(matches!(refused, Refused::After { allowed, .. } if allowed == percent(20)));
    assert_eq!(refused.clear().unwrap(), "crossfade shift p/b 20%");
    world.does(shift("p", Some("b"), 20));
    // As far as it may be: the other one goes first, and the command does clear the way.
    let refused = world.command(shift("p", Some("b"), 21)).unwrap_err();
    assert_eq!(refused.clear().unwrap(), "crossfade shift p/a 21%");
    world.does(shift("p", Some("a"), 21));
    world.does(shift("p", Some("b"), 21));
    // All together keep their order at any split.
    world.does(shift("p", None, 25));
}

#[test]
fn whole_asks_its_gates_before_anything_rises() {
    let mut spec = plan("p");
    spec.strategy = plan::spec::Strategy::Whole;
    spec.steps.drain(..3);
    spec.steps[0].gates = vec![parsed("sign-off")];
    let mut world = World::with(spec);
    assert_eq!(world.command(shift("p", None, 1)).unwrap_err().code(), "gate");
    world.does(Command::Start(parsed("p")));
    world.acked();
    assert_eq!(world.advance("p").unwrap_err().code(), "gate");
    world.does(approve("p", "sign-off"));
    world.acked();
    world.advance("p").unwrap();
    assert_eq!(world.splits("p"), [10_000, 10_000]);
    world.acked();
    world.complete("p").unwrap();
}

#[test]
fn nothing_rises_after_a_rollback_before_resume_names_its_revision() {
    let mut world = World::with(plan("p"));
    world.does(shift("p", None, 20));
    let back = world.does(Command::Rollback(Scope::All)).plans[0].1;
    for command in [shift("p", None, 1), shift("p", None, 0), Command::Start(parsed("p"))] {
        let refused = world.command(command).unwrap_err();
        assert_eq!(refused.clear().unwrap(), format!("crossfade resume p --if-revision {back}"));
    }
    let refused = world.command(Command::Resume(parsed("p"))).unwrap_err();
    assert_eq!(refused.clear().unwrap(), format!("crossfade resume p --if-revision {back}"));
    assert_eq!(refused.kind(), plan::RefusedKind::Stale);
    world.resume("p").unwrap();
    assert_eq!(world.mode("p"), plan::Mode::Ready);
    world.does(shift("p", None, 20));
}
