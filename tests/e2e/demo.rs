//! `crossfade demo` goes well, with the real clients it has.

use serde_json::Value;

use crate::harness::crossfade;

#[test]
fn the_demo_walks_up_and_back_and_nobody_moves_back_while_rising() {
    let said = crossfade(&["demo", "-o", "json"]).ok();
    let outcome: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(outcome["movedBackWhileRising"], 0);
    assert_eq!(outcome["failed"], 0);
    let scenes = outcome["scenes"].as_array().unwrap();
    let of = |field: &str| -> Vec<i64> {
        scenes.iter().map(|scene| scene[field].as_i64().unwrap_or(-1)).collect()
    };
    assert_eq!(of("intendedBp"), [0, 100, 1000, 5000, 10_000, 0]);
    assert_eq!(of("ackedBp"), of("intendedBp"));
    // 1 000 clients: five standard deviations of a binomial are 16, 47 and 79 clients.
    for (landed, (intended, slack)) in of("landedBp").iter().zip([
        (0, 0),
        (100, 160),
        (1000, 480),
        (5000, 800),
        (10_000, 0),
        (0, 0),
    ]) {
        assert!((landed - intended).abs() <= slack, "{landed} for {intended}");
    }
    assert_eq!(scenes[5]["movedBack"], 1000, "everyone came back");
    for scene in scenes {
        assert_eq!(scene["measuredBp"], scene["landedBp"], "what was measured is what happened");
    }
}
