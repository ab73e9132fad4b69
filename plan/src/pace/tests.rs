use super::*;
use crate::command::{Command, Observation};
use crate::fixture;
use crate::record::Put;
use crate::spec::Plan;
use crate::split::Side;
use crate::token::Token;
use crate::view::world::{World, sink, standing};

fn started() -> World {
    let mut world = World::new(fixture::plan());
    world.ask(Command::Start(world.name())).unwrap();
    world.arrive();
    world.pass(0);
    world
}

/// In the first step's bake.
fn baking() -> World {
    let mut world = started();
    world.live(60);
    assert!(matches!(world.plan().mode, Mode::Running(Run { step: 1, stage: Stage::Bake, .. })));
    world
}

fn seconds(world: &World) -> Option<u64> {
    world.pace.baked(&world.name(), world.facts.uptime).map(|baked| baked.as_secs())
}

#[test]
fn the_first_step_waits_for_the_steady_ttl() {
    let mut world = started();
    let due = world.pass(59);
    assert_eq!(due.causes, []);
    assert_eq!(due.wake, Some(Duration::from_secs(30 + 60)));
    let due = world.pass(1);
    assert!(matches!(due.causes[..], [Automation::Advance { .. }]), "{due:?}");
}

#[test]
fn a_jump_of_the_wall_clock_does_not_shorten_the_ttl() {
    let mut world = started();
    world.facts.now = world.facts.now.after(Duration::from_secs(86_400));
    assert_eq!(world.pass(59).causes, []);
}

#[test]
fn a_restart_begins_every_timer_again() {
    let mut world = baking();
    world.pass(9);
    assert_eq!(seconds(&world), Some(9));
    world.pace = Pace::default();
    world.facts.uptime = Duration::ZERO;
    let due = world.pass(0);
    assert_eq!((due.causes.len(), due.wake), (0, Some(Duration::from_secs(30))), "settling");
    assert_eq!(world.pass(29).causes, []);
    assert_eq!(seconds(&world), Some(0), "no bake starts before the window is over");
    let due = world.pass(1);
    assert_eq!((due.causes.len(), due.wake), (0, Some(Duration::from_secs(40))), "a whole bake");
    assert_eq!(world.pass(10).causes.len(), 1);
}

#[test]
fn the_window_can_be_shorter() {
    let mut world = started();
    world.pace = Pace::new(Settings { settle: Duration::from_secs(1), ..Settings::default() });
    world.facts.uptime = Duration::ZERO;
    assert_eq!(world.pass(0).wake, Some(Duration::from_secs(1)));
    assert_eq!(world.pace.settling(&world.facts), Some(Duration::from_secs(1)));
    world.pass(1);
    assert_eq!(world.pace.settling(&world.facts), None);
}

#[test]
fn a_plan_walks_all_its_steps() {
    let mut world = started();
    world.live(60);
    let mut splits = vec![world.plan().highest().bp()];
    while world.plan().mode != Mode::Complete {
        if world.plan().highest().bp() == 2500 {
            let (plan, gate) = (world.name(), "sign-off".parse().unwrap());
            world.ask(Command::Approve { plan, gate }).unwrap();
        }
        assert_eq!(world.pass(9).causes, [], "before the bake is over");
        world.live(1);
        splits.push(world.plan().highest().bp());
        assert!(splits.len() < 10, "{splits:?}");
    }
    assert_eq!(splits, [100, 1000, 2500, 5000, 7500, 10_000, 10_000]);
}

#[test]
fn bakes_count_while_converged_and_healthy() {
    let orders = || "shop/orders".parse().unwrap();
    let all = |world: &World| {
        let service = world.plan().spec.service(&"orders".parse().unwrap()).unwrap();
        service.target.iter().copied().collect()
    };
    let lag = |world: &mut World| {
        let before = Token { revision: world.state.token().revision - 1, ..world.state.token() };
        world.facts.ledger.set(Plane::Dns, standing(before, vec![sink("dns/local", before)]));
    };
    let ail = |world: &mut World| {
        let (service, side, failing) = (orders(), Side::Target, all(world));
        world.observe(Observation::Health { service, side, failing });
        world.arrive();
    };
    let heal = |world: &mut World| {
        let (service, side, failing) = (orders(), Side::Target, BTreeSet::new());
        world.observe(Observation::Health { service, side, failing });
        world.arrive();
    };
    struct Case<'a> {
        what: &'a str,
        harm: &'a dyn Fn(&mut World),
        repair: &'a dyn Fn(&mut World),
        lasts: u64,
        baked: u64,
    }
    for Case { what, harm, repair, lasts, baked } in [
        Case { what: "a short lag", harm: &lag, repair: &World::arrive, lasts: 5, baked: 4 },
        Case { what: "a long lag", harm: &lag, repair: &World::arrive, lasts: 6, baked: 0 },
        Case { what: "a short failure", harm: &ail, repair: &heal, lasts: 5, baked: 4 },
        Case { what: "a long failure", harm: &ail, repair: &heal, lasts: 6, baked: 0 },
    ] {
        let mut world = baking();
        world.pass(4);
        harm(&mut world);
        world.pass(0);
        assert_eq!(world.pass(lasts).causes, [], "{what}");
        repair(&mut world);
        world.pass(0);
        assert_eq!(seconds(&world), Some(baked), "{what}");
        assert_eq!(world.pass(10 - baked - 1).causes, [], "{what}");
        assert_eq!(world.pass(1).causes.len(), 1, "{what}");
    }
}

#[test]
fn an_approval_does_not_start_the_bake_again() {
    let mut world = baking();
    world.pass(4);
    let (plan, gate) = (world.name(), "sign-off".parse().unwrap());
    world.ask(Command::Approve { plan, gate }).unwrap();
    world.arrive();
    world.pass(0);
    assert_eq!(seconds(&world), Some(4));
}

#[test]
fn a_pause_stops_every_timer() {
    let mut world = baking();
    world.pass(4);
    world.ask(Command::Pause(world.name())).unwrap();
    world.arrive();
    assert_eq!(world.pass(3_600), Due::default());
    assert_eq!(seconds(&world), None);
    world.ask(Command::Resume(world.name())).unwrap();
    world.arrive();
    world.pass(0);
    assert_eq!(seconds(&world), Some(0), "the bake starts again");
}

/// The plan with `expires` of 20 s on every step but the last.
fn expiring() -> Plan {
    let mut plan = fixture::plan();
    let last = plan.steps.len() - 1;
    plan.steps[..last].iter_mut().for_each(|step| step.expires = Some(Duration::from_secs(20)));
    plan
}

#[test]
fn a_step_expires_by_stored_time_unless_it_can_go_on() {
    let mut world = World::new(expiring());
    world.ask(Command::Start(world.name())).unwrap();
    world.arrive();
    world.pass(0);
    world.live(60);
    world.live(10);
    world.live(10);
    assert_eq!(world.plan().highest().bp(), 2500, "at the step that waits for its gate");
    let due = world.pass(15);
    assert_eq!(
        (due.causes.len(), due.wake),
        (0, Some(world.facts.uptime + Duration::from_secs(5)))
    );
    let mut paused = World { state: world.state.clone(), facts: world.facts.clone(), ..world };
    let due = paused.pass(5);
    assert!(matches!(due.causes[..], [Automation::Expire { .. }]), "{due:?}");
    let (plan, gate) = (paused.name(), "sign-off".parse().unwrap());
    paused.ask(Command::Approve { plan, gate }).unwrap();
    let due = paused.pass(0);
    assert!(matches!(due.causes[..], [Automation::Advance { .. }]), "onward first: {due:?}");
    paused.ask(Command::Pause(paused.name())).unwrap();
    assert_eq!(paused.pass(3_600), Due::default(), "suspended while paused");
}

#[test]
fn a_wall_clock_deadline_is_looked_at_again_within_a_minute() {
    let mut plan = expiring();
    plan.steps[0].bake = Duration::from_secs(7_200);
    plan.steps[0].expires = Some(Duration::from_secs(10_000));
    let mut world = World::new(plan);
    world.ask(Command::Start(world.name())).unwrap();
    world.arrive();
    world.pass(0);
    world.live(60);
    assert_eq!(world.pass(1).wake, Some(world.facts.uptime + GLANCE));
}

#[test]
fn nothing_moves_after_a_restore_or_without_sinks() {
    let mut world = baking();
    world.facts.ledger.set(Plane::Dns, standing(world.state.token(), vec![]));
    assert_eq!(world.pass(3_600), Due::default(), "no sink");
    let mut world = baking();
    let record = world.state.restore(&crate::Actor::new("alice"), world.facts.now);
    assert!(record.puts.iter().any(|put| matches!(put, Put::Restored { waits: true, .. })));
    world.state = world.state.apply(&record).unwrap();
    world.arrive();
    assert_eq!(world.pass(3_600), Due::default(), "restored");
    let mut world = started();
    let record = world.state.restore(&crate::Actor::new("alice"), world.facts.now);
    world.state = world.state.apply(&record).unwrap();
    world.arrive();
    assert_eq!(world.pass(1), Due::default(), "restored before the first step");
}
