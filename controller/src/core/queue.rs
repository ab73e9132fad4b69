//! The lanes in which commands wait.

use std::collections::VecDeque;

use plan::{Ask, Automation, Cause, Command, Digest, Observation, PlanName, Refused, State, Token};

use crate::core::{Asked, ReplyTo};

/// The most commands that wait, rollbacks aside. At the slowest disk that is still of use (10
/// commits a second, [`BATCH_MAX`] commands each) the last one waits three seconds.
pub const ORDINARY_MAX: usize = 1_024;

/// The most rollbacks that wait inside the core. One more is not refused: the pump leaves it in its
/// channel, and whoever asked waits there.
pub const URGENT_MAX: usize = 1_024;

/// The most commands in one append: large enough that 200 writers share few commits, small enough
/// that a rollback behind it waits for milliseconds.
pub const BATCH_MAX: usize = 32;

/// Something that waits for its commit.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) what: What,
    /// Records of it whose outcome is not known: one of them may yet be found in the log.
    pub(super) attempts: Vec<(Token, Digest)>,
    /// The revision of its plan when it was first decided.
    pub(super) base: Option<Base>,
    /// How often the store failed on it.
    pub(super) failures: u32,
}

/// What a command was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    plan: PlanName,
    /// The plan's revision; 0: there was no such plan.
    revision: u64,
}

/// What waits.
#[derive(Debug)]
pub(super) enum What {
    Ask(Box<Asked>, ReplyTo),
    Automation(Automation),
    Observed(Vec<Observation>),
}

impl Pending {
    pub(super) const fn new(what: What) -> Self {
        Self { what, attempts: Vec::new(), base: None, failures: 0 }
    }

    pub(super) fn is_rollback(&self) -> bool {
        matches!(&self.what, What::Ask(asked, _) if is_rollback(&asked.ask))
    }

    pub(super) fn cause(&self) -> Cause {
        match &self.what {
            What::Ask(asked, _) => Cause::Operator(asked.ask.clone()),
            What::Automation(automation) => Cause::Automation(automation.clone()),
            What::Observed(seen) => Cause::Observed(seen.clone()),
        }
    }

    /// The refusal of a command whose plan somebody else moved since it was first decided.
    /// Rollbacks and pauses never mind: they mean the same on any base.
    pub(super) fn stale(&self, state: &State) -> Option<Refused> {
        let base = self.base.as_ref()?;
        let current = revision(state, &base.plan);
        let moved = current != base.revision;
        moved.then(|| Refused::Stale { plan: base.plan.clone(), given: base.revision, current })
    }

    /// Notes what it is decided on.
    pub(super) fn pin(&mut self, state: &State) {
        if let What::Ask(asked, _) = &self.what
            && let Some(plan) = pinned(&asked.ask.command)
        {
            self.base = Some(Base { plan: plan.clone(), revision: revision(state, plan) });
        }
    }
}

fn revision(state: &State, plan: &PlanName) -> u64 {
    state.plan(plan).map_or(0, |plan| plan.revision)
}

/// Whether this ask takes the urgent lane.
pub(super) const fn is_rollback(ask: &Ask) -> bool {
    matches!(ask.command, Command::Rollback(_))
}

/// The plan whose revision counts, for commands that mean something else on another.
pub(super) fn pinned(command: &Command) -> Option<&PlanName> {
    match command {
        Command::Apply(plan) => Some(&plan.name),
        Command::Start(plan)
        | Command::Step { plan, .. }
        | Command::Shift { plan, .. }
        | Command::Resume(plan)
        | Command::Approve { plan, .. }
        | Command::Retire(plan)
        | Command::Delete(plan) => Some(plan),
        Command::Pause(_) | Command::Rollback(_) | Command::Reload(_) => None,
    }
}

/// Who waits, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    urgent: VecDeque<Pending>,
    ordinary: VecDeque<Pending>,
}

impl Queue {
    pub(super) fn ordinary_len(&self) -> usize {
        self.ordinary.len()
    }

    pub(super) fn urgent_len(&self) -> usize {
        self.urgent.len()
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.lane(&pending).push_back(pending);
    }

    /// Puts something back to where it was taken from.
    pub(super) fn push_front(&mut self, pending: Pending) {
        self.lane(&pending).push_front(pending);
    }

    pub(super) fn pop_urgent(&mut self) -> Option<Pending> {
        self.urgent.pop_front()
    }

    pub(super) fn pop_ordinary(&mut self) -> Option<Pending> {
        self.ordinary.pop_front()
    }

    /// Takes out all that `wanted` wants.
    pub(super) fn take(&mut self, mut wanted: impl FnMut(&Pending) -> bool) -> Vec<Pending> {
        let mut taken = Vec::new();
        for lane in [&mut self.urgent, &mut self.ordinary] {
            for pending in std::mem::take(lane) {
                if wanted(&pending) {
                    taken.push(pending);
                } else {
                    lane.push_back(pending);
                }
            }
        }
        taken
    }

    /// All that waits, rollbacks first.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.urgent.iter_mut().chain(&mut self.ordinary)
    }

    fn lane(&mut self, pending: &Pending) -> &mut VecDeque<Pending> {
        if pending.is_rollback() { &mut self.urgent } else { &mut self.ordinary }
    }
}
