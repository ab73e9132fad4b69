//! An Envoy behind a relay: it starts with every controller dead, and is seen and measured like any
//! other.

use crate::following::Follower;
use crate::harness::Scratch;
use crate::mesh::world::{PORT, World, counts, shift, until, until_acked, until_listening};

#[test]
fn an_envoy_behind_a_relay_is_measured_and_starts_with_every_controller_dead() {
    let world = World(82);
    let scratch = Scratch::new();
    let controller = world.controller(&scratch, "http", "127.0.0.1:0");
    let _backends = world.backends("http");
    let data = scratch.path().join("relay");
    let bind = world.gateway();
    let args = ["relay", "--node", "rl", "--role", "gateway", "--bind", &bind];
    let relay = Follower::start("xds", &args, controller.xds, &data);
    let gateway = format!("{}:{PORT}", world.gateway());
    let envoy = world.envoy_of("gateway", &scratch, relay.address, "edge-rl");
    until_acked(&controller, "rl/edge-rl");
    until_listening(&gateway);
    shift(&controller, "100%");
    let mut load = world.load("http", 200);
    assert!(load.sweep().iter().all(|target| *target));
    load.ask("start 4");
    until("its load is counted", || {
        let status = controller.json(&["status", "mesh"]);
        let measured = &status["services"][0]["planes"]["mesh"]["measured"];
        (measured["basis"] == "requests" && measured["bp"] == 10_000).then_some(())
    });
    let told = load.ask("stop");
    assert_eq!(counts(&told, "sides").keys().collect::<Vec<_>>(), ["target"], "{told}");

    let xds = controller.xds;
    drop(envoy);
    relay.kill();
    controller.kill();
    // Nobody knows the plan but the relay's disk.
    let relay = Follower::start("xds", &args, xds, &data);
    let _envoy = world.envoy_of("gateway", &scratch, relay.address, "edge-rl");
    until_listening(&gateway);
    assert!(load.sweep().iter().all(|target| *target), "as it was");
}
