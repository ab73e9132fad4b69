//! What must always hold, over random histories of commands, acks, nacks, restarts and clock jumps;
//! and the same watch over rules with planted faults, each of which it must find.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on fails"
)]

#[expect(dead_code, reason = "the rules' own tests use all of it")]
#[path = "../world/world.rs"]
mod world;

mod actions;
mod bench;
mod clients;
mod faults;
mod sinks;
mod specs;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::actions::{Action, history};
use crate::bench::{Bench, Real, Rules};
use crate::faults::faults;
use crate::watch::Violation;

/// Histories of the normal run, in all.
const HISTORIES: u32 = 10_000;

/// Threads that share them.
const THREADS: u32 = 4;

/// In how many histories a planted fault must be found.
const FOUND_WITHIN: u32 = 4_000;

fn runner(seed: u8, cases: u32) -> TestRunner {
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
}

/// What happened in histories, so that none of the properties holds for want of a case.
fn played(rules: &dyn Rules, actions: &[Action], reached: &Reached) -> Result<(), Violation> {
    let mut bench = Bench::new(rules);
    for action in actions {
        bench.act(action)?;
    }
    bench.finish()?;
    reached.add(&bench);
    Ok(())
}

#[derive(Default)]
struct Reached {
    records: AtomicU64,
    refused: AtomicU64,
    by_automation: AtomicU64,
    completed: AtomicU64,
    repeated: AtomicU64,
    resumed_after_rollback: AtomicU64,
    restarts: AtomicU64,
}

impl Reached {
    fn add(&self, bench: &Bench<'_>) {
        let add = |sum: &AtomicU64, n: usize| {
            sum.fetch_add(u64::try_from(n).unwrap(), Ordering::Relaxed);
        };
        add(&self.records, bench.log.len());
        add(&self.refused, bench.seen.refused);
        add(&self.by_automation, bench.seen.by_automation);
        add(&self.completed, bench.seen.completed);
        add(&self.repeated, bench.seen.repeated);
        add(&self.resumed_after_rollback, bench.seen.resumed_after_rollback);
        add(&self.restarts, bench.seen.restarts);
    }
}

#[test]
fn the_invariants_hold_in_every_history() {
    let reached = Reached::default();
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            let reached = &reached;
            scope.spawn(move || {
                let mut runner = runner(u8::try_from(seed).unwrap(), HISTORIES / THREADS);
                let outcome = runner.run(&history(), |actions| {
                    played(&Real, &actions, reached)
                        .map_err(|violation| TestCaseError::fail(violation.to_string()))
                });
                if let Err(TestError::Fail(why, history)) = outcome {
                    let lines: Vec<_> =
                        history.iter().map(|action| format!("  {action:?}")).collect();
                    panic!("{why}\nafter\n{}", lines.join("\n"));
                }
                outcome.unwrap();
            });
        }
    });
    for (what, sum, least) in [
        ("records", reached.records, 100_000),
        ("refusals", reached.refused, 50_000),
        ("moves by automation", reached.by_automation, 3_000),
        ("plans completed", reached.completed, 10),
        ("repeated keys", reached.repeated, 300),
        ("resumed after a rollback", reached.resumed_after_rollback, 300),
        ("restarts", reached.restarts, 5_000),
    ] {
        let sum = sum.into_inner();
        assert!(sum >= least, "{what}: {sum} in {HISTORIES} histories");
    }
}

/// Each fault breaks the invariant that it was planted against, and the watch says so.
#[test]
fn every_planted_fault_is_found() {
    for fault in faults() {
        let mut runner = runner(7, FOUND_WITHIN);
        let reached = Reached::default();
        let outcome =
            runner.run(&history(), |actions| match played(&*fault.rules, &actions, &reached) {
                Err(violation) if violation.invariant == fault.breaks => {
                    Err(TestCaseError::fail(violation.to_string()))
                }
                Ok(()) | Err(_) => Ok(()),
            });
        match outcome {
            Err(TestError::Fail(..)) => {}
            other => panic!("`{}` was not found: {other:?}", fault.name),
        }
    }
}
