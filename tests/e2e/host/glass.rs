//! Break-glass on the VM: legacy at once, with no controller and the agent hung.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::main_job::{LOGICAL, PLAN};
use super::peers::sides;
use super::world::{Agent, World, until};

/// How many clients are looked at.
const CLIENTS: u16 = 100;

fn at_half(test: &str) -> Option<(World, Agent, Vec<char>)> {
    let world = World::new(test, PLAN)?;
    let agent = world.joined(&["--no-names"]);
    world.shift("orders", "50%");
    let sides = sides(&world.net, CLIENTS, LOGICAL);
    assert!(sides.contains(&'L') && sides.contains(&'T'));
    Some((world, agent, sides))
}

#[track_caller]
fn all_on_legacy(world: &World) {
    let now = sides(&world.net, CLIENTS, LOGICAL);
    assert!(now.iter().all(|side| *side == 'L'), "{now:?}");
}

/// The acts that are written down, without their times and digests.
fn acts(world: &World) -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(world.data().join("break-glass.log")).unwrap_or_default();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (word("act"), word("by"), word("reason"))
    };
    text.lines().map(line).collect()
}

#[test]
fn a_hung_agent_and_no_controller() {
    let Some((mut world, agent, before)) = at_half("a_hung_agent_and_no_controller") else {
        return;
    };
    agent.signal(Signal::SIGSTOP);
    world.kill_controller();
    let began = Instant::now();
    world.vm(&["agent", "rollback", "--reason", "errors at target"]).ok();
    let took = began.elapsed();
    all_on_legacy(&world);
    eprintln!("crossfade agent rollback with a stopped agent: {took:?}, with its namespaces");
    assert_eq!(acts(&world)[0].0, "rollback");
    assert_eq!(acts(&world)[0].2, "errors at target");
    world.vm(&["agent", "rollback", "--undo"]).ok();
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before);
    let file = world.data().join("rollback.nft");
    let began = Instant::now();
    world.net.vm.run("nft", &["-f", file.to_str().unwrap()]);
    let took = began.elapsed();
    all_on_legacy(&world);
    eprintln!("nft -f rollback.nft with a stopped agent: {took:?}");
    world.net.vm.run("nft", &["delete", "table", "inet", "crossfade_rollback"]);
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before, "undone by deleting it");
}

#[test]
fn the_controller_hears_of_it_and_ends_it() {
    let test = "the_controller_hears_of_it_and_ends_it";
    let Some((world, agent, _)) = at_half(test) else { return };
    world.vm(&["agent", "rollback", "--reason", "errors at target"]).ok();
    all_on_legacy(&world);
    assert!(world.until_nacked().contains("break-glass"));
    let status = until("the agent says so", || {
        world.status().filter(|status| status["breakGlass"][0] == "*")
    });
    assert!(status["broken"].is_null(), "{status}");
    // It outlives the agent, and a rise of the split.
    agent.kill();
    let _agent = Agent::start(&world);
    world.controller().run(&["shift", "orders", "75%", "--no-wait"]).ok();
    all_on_legacy(&world);
    until("the restarted agent refuses", || world.sink().filter(|it| it["connected"] == true));
    assert!(world.until_nacked().contains("break-glass"));
    let holds = world.controller().json(&["status", "shop"])["holds"].to_string();
    assert!(holds.contains("break-glass"), "{holds}");
    world.rollback("orders");
    until("it is dissolved", || (!world.rules().contains("crossfade_rollback")).then_some(()));
    world.until_acked();
    let acts: Vec<String> = acts(&world).into_iter().map(|(act, _, _)| act).collect();
    assert_eq!(acts, ["rollback", "dissolved"]);
    all_on_legacy(&world);
}

#[test]
fn what_nft_did_is_written_down() {
    let Some((world, _agent, before)) = at_half("what_nft_did_is_written_down") else { return };
    let file = world.data().join("rollback.nft");
    world.net.vm.run("nft", &["-f", file.to_str().unwrap()]);
    all_on_legacy(&world);
    assert!(world.until_nacked().contains("break-glass"));
    world.net.vm.run("nft", &["delete", "table", "inet", "crossfade_rollback"]);
    world.until_acked();
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before);
    let acts: Vec<_> = acts(&world).into_iter().map(|(act, by, _)| (act, by)).collect();
    let nft = |act: &str| (act.to_owned(), "nft".to_owned());
    assert_eq!(acts, [nft("rollback"), nft("undo")]);
}
