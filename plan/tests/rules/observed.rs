//! Health.

use plan::command::{Cause, Observation};
use plan::{Side, snapshot::Snapshot};

use crate::world::{World, parsed, plan, shift};

fn serving(snapshot: &Snapshot) -> (Vec<String>, bool) {
    let leaf = snapshot.service(&parsed("p/a")).unwrap();
    let pool = leaf.serving.target().unwrap();
    (pool.serving.iter().map(ToString::to_string).collect(), pool.degraded)
}

#[test]
fn those_that_do_not_fail_count_and_the_last_good_set_is_kept() {
    let mut world = World::with(plan("p"));
    world.does(shift("p", None, 20));
    let revision = world.revision("p");
    for (failing, expected, degraded, changed) in [
        (&[1][..], &["10.9.1.2"][..], false, true),
        (&[1], &["10.9.1.2"], false, false),
        (&[1, 2], &["10.9.1.2"], true, true),
        (&[1, 2, 9], &["10.9.1.2"], true, false),
        (&[2], &["10.9.1.1"], false, true),
        (&[], &["10.9.1.1", "10.9.1.2"], false, true),
        (&[1, 2], &["10.9.1.1", "10.9.1.2"], true, true),
    ] {
        let done = world.fails("p", "a", Side::Target, failing);
        assert_eq!(done.changed, changed, "{failing:?}");
        let expected = expected.iter().map(ToString::to_string).collect();
        assert_eq!(serving(world.state.snapshot()), (expected, degraded), "{failing:?}");
    }
    assert_eq!(world.revision("p"), revision, "health makes no operator's revision stale");
    assert!(world.state.token().revision > revision);
}

#[test]
fn unknown_services_are_ignored() {
    let mut world = World::with(plan("p"));
    let seen = ["p/x", "x/a"].map(|service| Observation::Health {
        service: parsed(service),
        side: Side::Legacy,
        failing: [parsed("10.0.1.1")].into(),
    });
    assert!(!world.cause(&Cause::Observed(seen.to_vec())).unwrap().changed);
}

/// Many observations are one record, and the last word on a side counts.
#[test]
fn observations_are_coalesced() {
    let mut world = World::with(plan("p"));
    let health = |service: &str, failing: &[&str]| Observation::Health {
        service: parsed(service),
        side: Side::Target,
        failing: failing.iter().map(|endpoint| parsed(endpoint)).collect(),
    };
    let before = world.state.token().revision;
    let seen = vec![
        health("p/a", &["10.9.1.1"]),
        health("p/b", &["10.9.2.1"]),
        health("p/a", &["10.9.1.2"]),
    ];
    assert!(world.cause(&Cause::Observed(seen)).unwrap().changed);
    assert_eq!(world.state.token().revision, before + 1);
    assert_eq!(serving(world.state.snapshot()).0, ["10.9.1.1"]);
}
