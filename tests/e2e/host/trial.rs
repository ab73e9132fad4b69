//! A join that nobody confirms undoes itself.

use std::time::Duration;

use super::leave::{host, same, settled};
use super::main_job::PLAN;
use super::world::{Agent, World, until_within};

/// A trial of a minute, and some to undo.
const TRIAL: Duration = Duration::from_secs(90);

#[test]
fn a_join_that_loses_the_controller_undoes_itself() {
    let test = "a_join_that_loses_the_controller_undoes_itself";
    let Some(mut world) = World::beside(test, PLAN) else { return };
    let before = settled(&world);
    world.join_with(&world.token(&["vm-1"]), &[]).ok();
    let mut agent = Agent::start(&world);
    world.until_acked();
    world.kill_controller();
    assert_ne!(host(&world), before);
    let code = until_within(TRIAL, "the join undoes itself", || agent.has_ended());
    assert_eq!(code, 1, "{}", agent.log());
    let log = agent.log();
    assert!(log.contains("no controller is reached") && log.contains("join again"), "{log}");
    same(&before, &host(&world));
}

#[test]
fn a_join_that_nobody_confirms_undoes_itself() {
    let Some(world) = World::beside("a_join_that_nobody_confirms_undoes_itself", PLAN) else {
        return;
    };
    let before = settled(&world);
    world.join_with(&world.token(&["vm-1"]), &[]).ok();
    let agent = Agent::start(&world);
    world.until_acked();
    // Who restarts it does not win it.
    agent.kill();
    let mut agent = Agent::start(&world);
    let code = until_within(TRIAL, "the join undoes itself", || agent.has_ended());
    assert_eq!(code, 1, "{}", agent.log());
    let log = agent.log();
    assert!(log.contains("nobody confirmed the join"), "{log}");
    same(&before, &host(&world));
}
