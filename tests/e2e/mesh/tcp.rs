//! Long connections: a shift moves only new ones and closes none.

use crate::harness::Scratch;
use crate::mesh::world::{World, shift, until_acked, until_listening};

const WORLD: World = World(66);

const LONG: u64 = 50;

/// `scripts/bench mesh` does 1 000.
const SHIFTS: u32 = 100;

#[test]
fn shifts_close_no_tcp_connection() {
    let scratch = Scratch::new();
    let controller = WORLD.controller(&scratch, "tcp", "127.0.0.1:0");
    let _backends = WORLD.backends("tcp");
    let _envoy = WORLD.envoy(&scratch, &controller, "edge-tcp");
    until_acked(&controller, "edge-tcp");
    until_listening(&format!("{}:8080", WORLD.gateway()));
    let mut load = WORLD.load("tcp", 200);
    load.ask(&format!("start {LONG}"));
    let mut moved = Vec::new();
    for n in 1..=SHIFTS {
        shift(&controller, &format!("{}%", n * 37 % 101));
    }
    for (percent, expected) in [("100%", true), ("0%", false)] {
        shift(&controller, percent);
        let sides = load_of_new(WORLD);
        moved.push(sides.iter().all(|target| *target == expected));
    }
    assert_eq!(moved, [true, true], "new connections follow");
    let told = load.ask("report");
    assert_eq!(told["failures"], 0, "{told}");
    assert_eq!(told["closed"], 0, "{told}");
    assert_eq!(told["open"], LONG, "{told}");
    assert!(told["moves"].as_object().unwrap().is_empty(), "a connection stays: {told}");
}

/// New connections of other clients.
fn load_of_new(world: World) -> Vec<bool> {
    world.load("tcp", 100).sweep()
}
