//! A real Envoy refuses what it cannot do, in its own words; nobody else is held up.

use std::net::TcpListener;

use crate::harness::Scratch;
use crate::mesh::world::{PORT, World, until, until_acked, until_listening};

#[test]
fn a_refusal_is_shown_in_the_proxys_own_words_and_ends_when_its_cause_does() {
    let world = World(70);
    let scratch = Scratch::new();
    let controller = world.controller(&scratch, "http", "127.0.0.1:0");
    let _backends = world.backends("http");
    // Somebody else has the gateway's port, so its listener cannot be.
    let taken = TcpListener::bind((world.gateway(), PORT)).unwrap();
    let mut envoy = world.envoy(&scratch, &controller, "edge-refuses");
    let detail = until("it refuses", || {
        let sinks = controller.json(&["sinks"]);
        let sink = sinks.as_array()?.iter().find(|sink| sink["id"] == "edge-refuses")?;
        sink["nack"]["detail"].as_str().map(str::to_owned)
    });
    assert!(detail.contains("cannot bind") && detail.contains("in use"), "{detail}");
    let status = controller.run(&["status", "mesh"]).ok();
    assert!(status.contains("cannot bind"), "{status}");
    let json = controller.json(&["status", "mesh"]);
    let reasons: Vec<&str> = json["holds"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|hold| hold["reason"].as_str())
        .collect();
    assert!(reasons.contains(&"nacked"), "{json}");
    // Refused once, not in a loop.
    let refusals = || envoy.log().matches("cannot bind").count();
    let first = refusals();
    controller.run(&["shift", "mesh/web", "30%", "--wait=1s"]).fails(4);
    assert_eq!(refusals(), first, "what it refused is not sent again unchanged: {}", envoy.log());

    drop(taken);
    envoy.restart("edge-refuses");
    until_acked(&controller, "edge-refuses");
    until_listening(&format!("{}:{PORT}", world.gateway()));
    let sides = world.load("http", 300).sweep();
    assert!(sides.iter().any(|target| *target) && sides.iter().any(|target| !target));
}
