//! What must hold, read from the log itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plan::{CauseSummary, Digest, Mode, Put, Record, ServiceId, State, Token};

/// What must hold; the numbers are those of the design's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// 1 and 12: each record links to the one before; one per revision.
    OneChain,
    /// 2: what a controller publishes and a sink holds never goes back.
    Monotone,
    /// 4.
    NoResurrection,
    /// 5: behind one append of others at most, and never refused for any passing reason.
    RollbackIsNext,
    /// 5: with a store that can write it is done.
    RollbackIsDone,
    /// 6: connected sinks reach it.
    RollbackConverges,
    /// 7 and 8: a plan acts by itself only while it runs, one step at a time.
    AutomationOnlyWhenRunning,
    /// 8 and 11: and only once every expected sink holds the step before.
    AutomationOnlyWhenConverged,
    /// 9: whoever was told so finds it in the log.
    AcknowledgedIsDurable,
    /// 9: nothing is served before.
    PublishedIsDurable,
    /// What is said to have failed is not in the log.
    RefusedIsNotDone,
    /// 10.
    Once,
    /// Everyone who asks a living controller is answered.
    Answered,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is broken: {}", self.rule, self.detail)
    }
}

/// Fails with the rule unless it holds.
pub(crate) fn hold(
    rule: Rule,
    holds: bool,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { rule, detail: detail() }) }
}

/// What happened at all; a run in which one of these never happened proves little.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// Everything that has to happen in a normal run.
const MUST_HAPPEN: &[&str] = &[
    "stale append refused",
    "rollback lost a race, then won",
    "unknown outcome: written",
    "unknown outcome: lost",
    "crash between commit and publish",
    "crash with an append in flight",
    "append of a dead controller refused",
    "append of a dead controller landed",
    "nack, then rollback",
    "pause during a step",
    "automation advanced",
    "plan complete",
    "rollback with the disk full",
    "ordinary command refused with the disk full",
    "shift refused as stale after a lost race",
    "repeated command answered from the log",
    "sink refused an older snapshot",
    "several commands in one append",
    "automation held for a sink that is away",
    "two controllers",
];

impl Seen {
    pub(crate) fn note(&mut self, what: &'static str) {
        debug_assert!(MUST_HAPPEN.contains(&what), "{what}");
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    pub(crate) fn never(&self) -> Vec<&'static str> {
        MUST_HAPPEN.iter().copied().filter(|what| !self.counts.contains_key(what)).collect()
    }
}

/// The log as the oracle has read it.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) state: State,
    pub(crate) digests: BTreeMap<Token, Digest>,
    /// Every command by its reason, which names it.
    pub(crate) asked: BTreeMap<String, Token>,
    /// Services that a rollback took back and no `resume` has freed.
    latched: BTreeSet<ServiceId>,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let (digests, asked) = (BTreeMap::new(), BTreeMap::new());
        Self { state: State::empty(), digests, asked, latched: BTreeSet::new() }
    }

    /// Takes the next record of the log.
    pub(crate) fn read(&mut self, record: &Record, seen: &mut Seen) -> Result<(), Violation> {
        let before = self.state.clone();
        let after = before
            .apply(record)
            .map_err(|broken| Violation { rule: Rule::OneChain, detail: broken.to_string() })?;
        if let CauseSummary::Operator { reason: Some(reason), .. } = &record.cause {
            let first = self.asked.insert(reason.clone(), record.token);
            hold(Rule::Once, first.is_none(), || format!("{reason} again at {}", record.token))?;
        }
        match &record.cause {
            CauseSummary::Operator { command, .. } => self.latch(command, record, &before),
            CauseSummary::Automation { .. } => Self::automation(record, &before, seen)?,
            CauseSummary::Observed { .. } | CauseSummary::Restored { .. } => {}
        }
        for put in &record.puts {
            let Put::Split { service, split } = put else { continue };
            let was = before.plan(&service.plan).and_then(|p| p.services.get(&service.service));
            let rises = was.is_some_and(|was| was.split < *split);
            let latched = self.latched.contains(service);
            hold(Rule::NoResurrection, !(rises && latched), || {
                format!("{service} rises to {split} at {}", record.token)
            })?;
        }
        self.digests.insert(record.token, after.digest());
        self.state = after;
        Ok(())
    }

    fn latch(&mut self, command: &str, record: &Record, before: &State) {
        if command.starts_with("rollback") {
            let taken = record.puts.iter().filter_map(|put| match put {
                Put::Split { service, .. } => Some(service.clone()),
                _ => None,
            });
            self.latched.extend(taken);
            for put in &record.puts {
                let Put::Mode { plan, mode: Mode::RolledBack } = put else { continue };
                let Some(at) = before.plan(plan) else { continue };
                if !command.contains('/') {
                    self.latched.extend(
                        at.services.keys().map(|service| ServiceId {
                            plan: plan.clone(),
                            service: service.clone(),
                        }),
                    );
                }
            }
        } else if command.starts_with("resume") {
            let plans: BTreeSet<_> = record.puts.iter().map(Put::plan).collect();
            self.latched.retain(|service| !plans.contains(&service.plan));
        }
    }

    fn automation(record: &Record, before: &State, seen: &mut Seen) -> Result<(), Violation> {
        for put in &record.puts {
            let Put::Mode { plan, mode } = put else { continue };
            let was = before.plan(plan).map(|plan| plan.mode);
            let (one_on, complete) = match (was, mode) {
                (Some(Mode::Running(was)), Mode::Running(now)) => (now.step == was.step + 1, false),
                (Some(Mode::Running(_)), Mode::Complete) => (true, true),
                (Some(Mode::Running(_)), Mode::Expired(_)) => (true, false),
                _ => (false, false),
            };
            hold(Rule::AutomationOnlyWhenRunning, one_on, || {
                format!("{plan} went from {was:?} to {mode:?} by itself at {}", record.token)
            })?;
            seen.note(if complete { "plan complete" } else { "automation advanced" });
        }
        Ok(())
    }
}
