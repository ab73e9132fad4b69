//! The core under everything that can go wrong, decided by seeds.
//!
//! One or two controllers with a store in memory that loses answers, refuses and fills up; planes
//! and sinks that lag, lose, reorder, repeat and refuse; crashes between any two things that a
//! controller does; clocks that jump; appends of the dead that arrive late. What must always hold
//! is checked at every step by an oracle that reads the log. A seed that fails prints its history.
//!
//! Faults planted on purpose, between the core and its surroundings, show that the oracle sees
//! them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    reason = "all of it is a test: what does not hold has to fail"
)]

mod client;
mod dns_plane;
mod node;
mod oracle;
mod perform;
mod recording;
mod rng;
mod sinks;
mod world;
mod writers;

use crate::oracle::{Rule, Seen, Violation};
use crate::world::{Plant, World};

/// Seeds of the normal run.
const SEEDS: u64 = 1_200;

/// Within so many seeds a planted fault must show.
const PLANTED_SEEDS: u64 = 600;

fn run(seed: u64, plant: Option<Plant>) -> Result<Seen, (Violation, Vec<String>)> {
    let mut world = World::new(seed, plant);
    match world.live() {
        Ok(()) => Ok(world.seen),
        Err(violation) => Err((violation, world.history)),
    }
}

#[test]
fn what_must_hold_holds_whatever_goes_wrong() {
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        match run(seed, None) {
            Ok(of_seed) => seen.add(&of_seed),
            Err((violation, history)) => {
                let history = history.join("\n");
                panic!("{history}\nseed {seed}: {violation}");
            }
        }
    }
    println!("{seen:#?}");
    assert_eq!(seen.never(), Vec::<&str>::new(), "never happened in {SEEDS} seeds");
}

struct Case {
    plant: Plant,
    /// The rules that it breaks.
    breaks: &'static [Rule],
}

#[test]
fn planted_faults_are_seen() {
    let cases = [
        Case { plant: Plant::PublishEarly, breaks: &[Rule::PublishedIsDurable] },
        Case { plant: Plant::ReplyEarly, breaks: &[Rule::AcknowledgedIsDurable] },
        Case { plant: Plant::RollbackNotNext, breaks: &[Rule::RollbackIsNext] },
        Case { plant: Plant::UnknownIsFailed, breaks: &[Rule::RefusedIsNotDone] },
        Case {
            plant: Plant::AutomationOnOldBase,
            breaks: &[Rule::AutomationOnlyWhenRunning, Rule::NoResurrection],
        },
    ];
    for Case { plant, breaks } in cases {
        let caught = (0..PLANTED_SEEDS).find_map(|seed| run(seed, Some(plant)).err());
        let Some((violation, _)) = caught else {
            panic!("{plant:?} was not seen in {PLANTED_SEEDS} seeds");
        };
        assert!(breaks.contains(&violation.rule), "{plant:?} was seen as {violation}");
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in [3, 77] {
        let histories = [0, 1].map(|_| {
            let mut world = World::new(seed, None);
            let _ = world.live();
            world.history
        });
        assert!(histories[0].len() > 100);
        assert_eq!(histories[0], histories[1]);
    }
}
