//! The controller or the proxy dies; traffic goes on, and what comes back has what it should.

use std::net::TcpListener;

use crate::harness::Scratch;
use crate::mesh::world::{World, shift, until, until_acked, until_listening};

#[test]
fn traffic_outlives_the_controller_and_a_restarted_envoy_comes_back_with_its_split() {
    let world = World(68);
    let scratch = Scratch::new();
    // An address that no other test uses: a port that is free stays free.
    let free = TcpListener::bind("127.68.0.99:0").unwrap().local_addr().unwrap().to_string();
    let controller = world.controller(&scratch, "http", &free);
    let _backends = world.backends("http");
    let mut envoy = world.envoy(&scratch, &controller, "edge-restarts");
    until_acked(&controller, "edge-restarts");
    until_listening(&format!("{}:8080", world.gateway()));
    shift(&controller, "40%");
    let mut load = world.load("http", 300);
    let before = load.sweep();
    load.ask("start 4");

    controller.kill();
    assert_eq!(load.sweep(), before, "without a controller as with it");
    let controller = world.controller(&scratch, "http", &free);
    until_acked(&controller, "edge-restarts");
    assert_eq!(load.sweep(), before, "after its restart as before");
    until("what was there before the restart is measured", || {
        let status = controller.json(&["status", "mesh"]);
        let measured = &status["services"][0]["planes"]["mesh"]["measured"];
        measured["samples"].as_u64().filter(|samples| *samples > 0)
    });
    shift(&controller, "60%");
    let after = load.sweep();
    assert!(before.iter().zip(&after).all(|(before, after)| !before || *after));
    let told = load.ask("stop");
    assert_eq!(told["failures"], 0, "{told}");

    envoy.restart("edge-restarts");
    let gone = |sink: &serde_json::Value| sink["connected"] == true && sink["lag"] == 0;
    until("the new Envoy takes connections", || {
        let sinks = controller.json(&["sinks"]);
        let sink = sinks.as_array()?.iter().find(|sink| sink["id"] == "edge-restarts")?;
        (gone(sink) && load.ask("sweep")["failures"] == 0).then_some(())
    });
    assert_eq!(load.sweep(), after, "a new Envoy splits as the old one did");
}
