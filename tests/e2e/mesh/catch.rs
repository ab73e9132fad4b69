//! Stragglers: clients that reach the side that the plan does not say.

use crate::harness::Scratch;
use crate::mesh::world::{PORT, Peer, World, counts, shift, until_acked, until_listening};

/// Where the gateway's own connections come from: loopback's usual source.
const EGRESS: &str = "127.0.0.1/32";

#[test]
fn who_reaches_the_target_is_sent_back_only_by_a_rollback() {
    let world = World(76);
    let scratch = Scratch::new();
    let controller = world.controller(&scratch, "http", "127.0.0.1:0");
    let _backends = world.backends("http");
    let _envoy = world.envoy_as("catch", &scratch, &controller, "catch-1");
    until_acked(&controller, "catch-1");
    until_listening(&format!("{}:{PORT}", world.gateway()));
    // These clients keep an old answer: the gateway's address.
    let mut load = world.load("http", 100);
    assert!(load.sweep().iter().all(|target| *target), "before the first step the target is open");
    for percent in ["50%", "100%", "10%"] {
        shift(&controller, percent);
        assert!(load.sweep().iter().all(|target| *target), "{percent}: nobody is sent back");
    }
    controller.run(&["rollback", "mesh/web", "--wait=20s"]).ok();
    assert!(load.sweep().iter().all(|target| !target), "rolled back: all are");
    let revision = controller.revision("mesh");
    controller.run(&["resume", "mesh", "--if-revision", &revision, "--no-wait"]).ok();
    shift(&controller, "20%");
    assert!(load.sweep().iter().all(|target| *target), "moving again: the target is open");
}

#[test]
fn an_agent_frozen_at_100_percent_makes_no_loop_of_a_rollback() {
    let world = World(78);
    let scratch = Scratch::new();
    let controller = world.controller(&scratch, "http", "127.0.0.1:0");
    let _target = world.target_backend("http");
    let (gateway, legacy) =
        (format!("{}:{PORT}", world.gateway()), format!("{}:{PORT}", world.legacy()));
    let mut frozen = Peer::python("forwarder.py", &[&legacy, &gateway, EGRESS, "legacy"]);
    frozen.told();
    let _envoy = world.envoy_as("catch", &scratch, &controller, "catch-2");
    until_acked(&controller, "catch-2");
    until_listening(&gateway);
    shift(&controller, "100%");
    // These clients have the VM's own address hard-coded.
    let mut load = world.load_to("http", &legacy, 100);
    assert!(load.sweep().iter().all(|target| *target), "caught, and sent to target");
    let report = frozen.ask("report");
    assert_eq!((&report["forwarded"], &report["served"]), (&100.into(), &0.into()), "{report}");
    controller.run(&["rollback", "mesh/web", "--wait=20s"]).ok();
    assert!(load.sweep().iter().all(|target| !target), "caught, sent back, and served by the VM");
    let report = frozen.ask("report");
    assert_eq!(report["forwarded"], 100, "each once: no loop; {report}");
    // The gateway keeps its connections to the VM.
    assert!((1..=100).contains(&report["served"].as_u64().unwrap()), "{report}");
    let mut constant = world.load_to("http", &legacy, 50);
    constant.ask("start 4");
    shift_back_and_forth(&controller);
    let told = constant.ask("stop");
    assert_eq!(told["failures"], 0, "{told}");
    assert!(counts(&told, "sides").contains_key("target"), "{told}");
}

fn shift_back_and_forth(controller: &crate::harness::Controller) {
    for _ in 0..3 {
        let revision = controller.revision("mesh");
        controller.run(&["resume", "mesh", "--if-revision", &revision, "--no-wait"]).ok();
        shift(controller, "100%");
        controller.run(&["rollback", "mesh/web", "--wait=20s"]).ok();
    }
}
