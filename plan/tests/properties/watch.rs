//! The watch: what must hold of every step of a history, told apart from the rules' own code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plan::command::{Automation, Cause, Command, Key, Scope};
use plan::{Decided, Done, Mode, PlanName, Put, Record, Refused, ServiceId, Split, State, Token};

use crate::sinks::Sinks;

mod leaves;

/// An invariant that does not hold, by its number in the design.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: u8,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.what)
    }
}

fn must(holds: bool, invariant: u8, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, what: what() }) }
}

/// A record that was committed. Without a cause it is a restore.
pub(crate) struct Committed<'a> {
    pub(crate) before: &'a State,
    pub(crate) cause: Option<&'a Cause>,
    pub(crate) record: &'a Record,
    pub(crate) after: &'a State,
}

impl Committed<'_> {
    pub(crate) fn completes(&self) -> bool {
        self.after.plans().any(|(name, after)| {
            let was = self.before.plan(name).map(|before| before.mode);
            after.mode == Mode::Complete && was != Some(Mode::Complete)
        })
    }

    fn command(&self) -> Option<&Command> {
        match self.cause {
            Some(Cause::Operator(ask)) => Some(&ask.command),
            Some(Cause::Automation(_) | Cause::Observed(_)) | None => None,
        }
    }

    /// Services that were served before and are served now, with both splits.
    fn splits(&self) -> impl Iterator<Item = (&ServiceId, Split, Split)> {
        self.after.snapshot().services.iter().filter_map(|after| {
            let before = self.before.snapshot().service(&after.id)?;
            Some((&after.id, before.serving.split(), after.serving.split()))
        })
    }

    fn rises(&self) -> impl Iterator<Item = (&ServiceId, Split, Split)> {
        self.splits().filter(|(_, from, to)| from < to)
    }
}

/// What was promised so far.
#[derive(Default)]
pub(crate) struct Watch {
    /// Rolled back, at this revision.
    back: BTreeMap<PlanName, u64>,
    /// Paused by an operator, who has not acted since.
    paused: BTreeSet<PlanName>,
    /// Restored, no operator has acted since.
    waiting: BTreeSet<PlanName>,
    /// Retired.
    ended: BTreeSet<PlanName>,
    /// Keys that took effect: for what, and in which record.
    keys: BTreeMap<Key, (String, Token)>,
}

impl Watch {
    pub(crate) fn has_ended(&self, plan: &PlanName) -> bool {
        self.ended.contains(plan)
    }

    /// 10: a key takes effect once, for one ask, and says the same again.
    pub(crate) fn answered(
        &mut self,
        cause: &Cause,
        decided: &Result<Decided, Refused>,
    ) -> Result<(), Violation> {
        let Cause::Operator(ask) = cause else { return Ok(()) };
        let Some(key) = &ask.key else { return Ok(()) };
        let text = format!("{:?} {:?} {:?}", ask.command, ask.if_revision, ask.actor);
        match (self.keys.get(key), decided) {
            (None, Ok(Decided::Commit(record))) => {
                self.keys.insert(key.clone(), (text, record.token));
            }
            (None, Ok(Decided::Already(done))) => {
                must(!done.repeated, 10, || format!("{key:?} was never used: {done:?}"))?;
            }
            (None, Err(_)) => {}
            (Some((used, token)), Ok(Decided::Already(done))) => {
                let same = *used == text && done.repeated && done.token == *token;
                must(same, 10, || format!("{key:?} did {used} at {token}, now {text}: {done:?}"))?;
            }
            (Some((used, _)), Ok(Decided::Commit(_))) => {
                must(false, 10, || format!("{key:?} takes effect twice: {used}, {text}"))?;
            }
            (Some((used, _)), Err(refused)) => {
                let reused = matches!(refused, Refused::KeyReused { .. }) && *used != text;
                must(reused, 10, || format!("{key:?} for {text}: {refused}"))?;
            }
        }
        Ok(())
    }

    /// What an operator was told is so: at its split, rolled back, paused.
    pub(crate) fn agreed(
        &mut self,
        cause: &Cause,
        done: &Done,
        now: &State,
    ) -> Result<(), Violation> {
        let Cause::Operator(ask) = cause else { return Ok(()) };
        if done.repeated {
            return Ok(());
        }
        let split = |id: &ServiceId| now.snapshot().service(id).map(|leaf| leaf.serving.split());
        match &ask.command {
            Command::Shift { plan, service: Some(service), split: to, .. } => {
                let id = ServiceId { plan: plan.clone(), service: service.clone() };
                must(split(&id) == Some(*to), 3, || format!("{id} is not at {to}"))?;
            }
            Command::Rollback(scope) => {
                for leaf in now.snapshot().services.iter() {
                    let taken = match scope {
                        Scope::All => !self.ended.contains(&leaf.id.plan),
                        Scope::Plan(plan) => leaf.id.plan == *plan,
                        Scope::Service(id) => leaf.id == *id,
                    };
                    let legacy = leaf.serving.split() == Split::LEGACY;
                    must(!taken || legacy, 4, || format!("{} was not rolled back", leaf.id))?;
                }
            }
            Command::Pause(plan) => {
                self.paused.insert(plan.clone());
            }
            Command::Apply(_)
            | Command::Start(_)
            | Command::Step { .. }
            | Command::Shift { .. }
            | Command::Resume(_)
            | Command::Approve { .. }
            | Command::Retire(_)
            | Command::Delete(_)
            | Command::Reload(_) => {}
        }
        Ok(())
    }

    /// Everything that must hold of a record; whether it resumed a plan that was rolled back.
    pub(crate) fn committed(
        &mut self,
        step: &Committed<'_>,
        sinks: &Sinks,
    ) -> Result<bool, Violation> {
        let resumed = self.operator_acts(step);
        leaves::whole(step)?;
        leaves::split_once(step)?;
        leaves::monotone(step)?;
        self.order(step)?;
        self.nothing_rises_again(step)?;
        self.pause_absorbs(step)?;
        bounded(step, sinks)?;
        self.in_use_stays(step)?;
        self.remember(step);
        Ok(resumed)
    }

    /// Promises that end because an operator acts.
    fn operator_acts(&mut self, step: &Committed<'_>) -> bool {
        let (Some(Cause::Operator(ask)), Some(command)) = (step.cause, step.command()) else {
            return false;
        };
        let moves = match command {
            Command::Start(_)
            | Command::Step { .. }
            | Command::Shift { .. }
            | Command::Resume(_)
            | Command::Rollback(_) => true,
            Command::Apply(_)
            | Command::Pause(_)
            | Command::Approve { .. }
            | Command::Retire(_)
            | Command::Delete(_)
            | Command::Reload(_) => false,
        };
        if moves {
            for put in &step.record.puts {
                self.paused.remove(put.plan());
                self.waiting.remove(put.plan());
            }
        }
        let Command::Resume(plan) = command else { return false };
        let named = self.back.get(plan).is_some_and(|back| ask.if_revision >= Some(*back));
        named && self.back.remove(plan).is_some()
    }

    /// 12: one record for each revision, linked.
    fn order(&self, step: &Committed<'_>) -> Result<(), Violation> {
        let (before, record, after) = (step.before, step.record, step.after);
        let next = record.token.revision == before.token().revision + 1
            && record.token.incarnation >= before.token().incarnation
            && after.token() == record.token
            && after.snapshot().token == record.token;
        must(next, 12, || format!("{} after {}", record.token, before.token()))?;
        let linked = record.parent == before.digest() && after.digest() == record.digest();
        must(linked, 12, || format!("record {} is not linked", record.token))?;
        let higher = step.cause.is_some() || record.token.incarnation > before.token().incarnation;
        must(higher, 4, || "a restore has the same incarnation".to_owned())
    }

    /// 4: what was taken back, or came up from a backup, stays until an operator says so.
    fn nothing_rises_again(&self, step: &Committed<'_>) -> Result<(), Violation> {
        for (id, from, to) in step.rises() {
            let waits = self.waiting.contains(&id.plan);
            must(!waits, 4, || format!("{id} rose to {to} in a restored plan"))?;
            let back = self.back.get(&id.plan);
            must(back.is_none(), 4, || format!("{id}: {from} to {to} after rollback at {back:?}"))?;
        }
        Ok(())
    }

    /// 7: after a pause nothing moves until an operator acts.
    fn pause_absorbs(&self, step: &Committed<'_>) -> Result<(), Violation> {
        for (id, from, to) in step.splits().filter(|(_, from, to)| from != to) {
            let paused = self.paused.contains(&id.plan);
            must(!paused, 7, || format!("{id} went from {from} to {to} in a paused plan"))?;
        }
        Ok(())
    }

    /// 12: nothing in use is deleted.
    fn in_use_stays(&self, step: &Committed<'_>) -> Result<(), Violation> {
        for before in step.before.snapshot().services.iter() {
            let gone = step.after.snapshot().service(&before.id).is_none();
            let used = before.serving.split() != Split::LEGACY;
            let ended = self.ended.contains(&before.id.plan)
                || matches!(step.command(), Some(Command::Retire(_)));
            must(!gone || !used || ended, 12, || format!("{} left while in use", before.id))?;
        }
        Ok(())
    }

    fn remember(&mut self, step: &Committed<'_>) {
        let named: BTreeSet<&PlanName> = step.record.puts.iter().map(Put::plan).collect();
        for plan in named {
            match step.command() {
                Some(Command::Rollback(_)) => {
                    self.back.insert(plan.clone(), step.record.token.revision);
                }
                Some(Command::Retire(_)) => {
                    self.ended.insert(plan.clone());
                }
                Some(Command::Delete(_)) => {
                    self.back.remove(plan);
                    self.paused.remove(plan);
                    self.waiting.remove(plan);
                    self.ended.remove(plan);
                }
                _ => {}
            }
        }
        if step.cause.is_none() {
            self.waiting.extend(step.before.plans().map(|(name, _)| name.clone()));
        }
    }
}

/// 8: automation raises by no more than maxStep and only what every sink has followed; a plan is
/// complete only when all have.
fn bounded(step: &Committed<'_>, sinks: &Sinks) -> Result<(), Violation> {
    for (name, after) in step.after.plans() {
        let was = step.before.plan(name).map(|before| before.mode);
        if after.mode == Mode::Complete && was != Some(Mode::Complete) {
            let there = sinks.hold_all_of(name) && after.all_at(Split::TARGET);
            must(there, 8, || format!("{name} is complete while a sink lags"))?;
        }
    }
    let Some(Cause::Automation(cause)) = step.cause else { return Ok(()) };
    let plan = cause.plan();
    let lowers = matches!(cause, Automation::Expire { .. });
    for (id, from, to) in step.rises() {
        must(!lowers && id.plan == *plan, 8, || format!("{cause:?} raised {id}"))?;
        let most = step.before.plan(plan).and_then(|plan| plan.spec.policy.max_step);
        let most = most.unwrap_or(Split::TARGET).bp();
        must(to.bp() - from.bp() <= most, 8, || format!("{id}: {from} to {to} by itself"))?;
        must(sinks.hold_all_of(plan), 8, || format!("{id} rose while a sink lags"))?;
    }
    Ok(())
}
