//! Requests: nobody is lost, nobody goes back, the way down is the way up.

use crate::harness::Scratch;
use crate::mesh::world::{World, counts, shift, until_acked, until_listening};

const WORLD: World = World(62);

/// Source addresses. A share of them is off by five standard deviations once in millions of runs.
const CLIENTS: u32 = 2_000;

/// `scripts/bench mesh` does 1 000.
const SHIFTS: u32 = 100;

#[test]
fn clients_follow_a_shift_and_retrace_it_under_load() {
    let scratch = Scratch::new();
    let controller = WORLD.controller(&scratch, "http", "127.0.0.1:0");
    let _backends = WORLD.backends("http");
    let _envoy = WORLD.envoy(&scratch, &controller, "edge-http");
    until_acked(&controller, "edge-http");
    until_listening(&format!("{}:8080", WORLD.gateway()));
    let mut load = WORLD.load("http", CLIENTS);
    assert!(load.sweep().iter().all(|target| !target), "everybody begins on legacy");

    let mut constant = WORLD.load("http", 200);
    constant.ask("start 8");
    let mut ways = vec![("0%".to_owned(), load.sweep())];
    for percent in ["0.5%", "5%", "25%", "70%", "99.99%", "100%"] {
        shift(&controller, percent);
        let (now, (_, before)) = (load.sweep(), ways.last().unwrap());
        let back = before.iter().zip(&now).filter(|(before, now)| **before && !**now).count();
        assert_eq!(back, 0, "{percent}: moved back while rising");
        assert_eq!(load.sweep(), now, "{percent}: the same side every time");
        share_is(percent, &now);
        ways.push((percent.to_owned(), now));
    }
    let up = constant.ask("report");
    assert_eq!(up["failures"], 0, "{up}");
    let moves = counts(&up, "moves");
    assert_eq!(moves.keys().collect::<Vec<_>>(), ["legacy>target"], "{up}");

    for (percent, sides) in ways.iter().rev().skip(1) {
        shift(&controller, percent);
        assert_eq!(load.sweep(), *sides, "{percent}: on the way down as on the way up");
    }
    let down = constant.ask("stop");
    assert_eq!(down["failures"], 0, "{down}");
    assert!(!counts(&down, "moves").contains_key("legacy>target"), "{down}");
}

/// As many as the split says, within five standard deviations; exactly so at both ends.
fn share_is(percent: &str, sides: &[bool]) {
    let share: f64 = percent.trim_end_matches('%').parse::<f64>().unwrap() / 100.0;
    let (all, target) = (sides.len() as f64, sides.iter().filter(|target| **target).count() as f64);
    let sigma = (all * share * (1.0 - share)).sqrt();
    assert!((target - all * share).abs() <= 5.0 * sigma, "{percent}: {target} of {all}");
}

#[test]
fn shifts_and_rollbacks_under_load_fail_no_request() {
    let world = World(64);
    let scratch = Scratch::new();
    let controller = world.controller(&scratch, "http", "127.0.0.1:0");
    let _backends = world.backends("http");
    let _envoy = world.envoy(&scratch, &controller, "edge-many");
    until_acked(&controller, "edge-many");
    until_listening(&format!("{}:8080", world.gateway()));
    let mut load = world.load("http", 500);
    load.ask("start 8");
    for n in 1..=SHIFTS {
        shift(&controller, &format!("{}%", n * 37 % 101));
    }
    controller.run(&["rollback", "mesh/web", "--wait=20s"]).ok();
    let told = load.ask("stop");
    assert_eq!(told["failures"], 0, "{told}");
    assert!(told["requests"].as_u64().unwrap() > 500, "{told}");
    assert!(load.sweep().iter().all(|target| !target), "everybody is on legacy after a rollback");
    let status = controller.json(&["status", "mesh"]);
    assert_eq!(status["services"][0]["planes"]["mesh"]["ackedBp"], 0, "{status}");
}
