//! What is left on the side that lost is closed when its time is over, and nothing else.

use crate::harness::Scratch;
use crate::mesh::world::{World, counts, shift, until, until_acked, until_listening};

const WORLD: World = World(80);

const LONG: u64 = 50;

#[test]
fn long_connections_to_the_side_that_lost_are_closed() {
    let scratch = Scratch::new();
    let controller = WORLD.controller(&scratch, "tcp", "127.0.0.1:0");
    let plan = std::fs::read_to_string(scratch.path().join("plan.yaml")).unwrap();
    let plan = scratch.file("drain.yaml", &(plan + "  policy: { drain: 3s }\n"));
    controller.run(&["apply", plan.to_str().unwrap(), "--no-wait", "--reason", "drain"]).ok();
    let _backends = WORLD.backends("tcp");
    let _envoy = WORLD.envoy(&scratch, &controller, "edge-drain");
    until_acked(&controller, "edge-drain");
    until_listening(&format!("{}:8080", WORLD.gateway()));
    for (percent, winner, way) in
        [("100%", "target", "legacy>target"), ("0%", "legacy", "target>legacy")]
    {
        shift(&controller, "50%");
        let mut load = WORLD.load("tcp", 200);
        load.ask(&format!("start {LONG}"));
        let before = until("both sides have connections", || {
            let told = load.ask("report");
            let sides = counts(&told, "sides");
            (told["open"] == LONG && sides.len() == 2).then_some(told)
        });
        assert_eq!(before["closed"], 0, "{before}");
        shift(&controller, percent);
        // Each closed connection is opened anew at once, and that works: it is then on the side
        // that won. The rest were there all the time. It is over when each had its say repeatedly.
        let (mut closed, mut moved, mut agreed) = (0, 0, 0);
        until("only the winner has connections", || {
            let told = load.ask("report");
            closed += told["closed"].as_u64().unwrap();
            assert_eq!(told["failures"], told["closed"], "{told}");
            let moves = counts(&told, "moves");
            moved += moves.get(way).copied().unwrap_or(0);
            assert!(moves.keys().all(|key| key == way), "{told}");
            let sides = counts(&told, "sides");
            let all = sides.keys().all(|side| side == winner) && told["open"] == LONG;
            agreed = if all { agreed + sides.get(winner).copied().unwrap_or(0) } else { 0 };
            (agreed > 4 * LONG).then_some(())
        });
        assert!(0 < closed && closed < LONG && closed == moved, "{closed} closed, {moved} moved");
        // Back at once, while the side still fails its checks.
        shift(&controller, if winner == "target" { "0%" } else { "100%" });
        let mut fresh = WORLD.load("tcp", 200);
        let target = fresh.sweep();
        assert!(target.iter().all(|target| *target == (winner == "legacy")), "{target:?}");
    }
}
