//! Those who ask: commands, repeats of lost ones, and what the answers must mean.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use controller::core::AskError;
use plan::spec::{ClientRow, Clients, Plan};
use plan::{
    Actor, Ask, CauseSummary, Command, Done, Key, Mode, PlanName, Plane, Record, RefusedKind,
    Scope, ServiceId, ServiceName, Split, State, Token,
};

use crate::oracle::{Rule, Violation, hold};
use crate::rng::Rng;
use crate::world::World;

/// One ask, through all its repeats.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) ask: Ask,
    pub(crate) tries: u32,
    pub(crate) stage: Stage,
    /// An append that held it was refused as stale.
    pub(crate) lost_race: bool,
}

impl Op {
    /// Whether this record is of it.
    pub(crate) fn is_in(&self, record: &Record) -> bool {
        let CauseSummary::Operator { reason, .. } = &record.cause else { return false };
        reason.is_some() && *reason == self.ask.reason
    }
}

/// Where an ask is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waits to be sent, again or for the first time.
    Waiting,
    /// A controller has it.
    Sent { node: usize },
    /// Answered, or given up after it was lost.
    Over,
}

pub(crate) fn is_rollback(ask: &Ask) -> bool {
    matches!(ask.command, Command::Rollback(_))
}

pub(crate) fn shop() -> PlanName {
    "shop".parse().unwrap()
}

/// The demo plan with mesh clients and a gate less.
pub(crate) fn plan(bake: u64) -> Plan {
    let mut plan = plan::fixture::plan();
    let networks = vec!["10.8.0.0/16".parse().unwrap()];
    let rows = vec![ClientRow { networks, plane: Plane::Mesh }];
    plan.clients = Arc::new(Clients { rows, ..Clients::default() });
    plan.gates.clear();
    plan.steps.drain(1..5);
    for step in &mut plan.steps {
        step.gates.clear();
        step.bake = Duration::from_secs(bake);
    }
    plan
}

/// Something that an operator might ask of this state.
pub(crate) fn ask(rng: &mut Rng, state: &State, number: usize) -> Ask {
    let name = shop();
    let plan = state.plan(&name);
    let revision = plan.map(|plan| plan.revision);
    let mut if_revision = if rng.chance(150) { revision } else { None };
    let service = || -> ServiceName { "orders".parse().unwrap() };
    let command = match (plan.map(|plan| plan.mode), rng.below(100)) {
        (None, _) => Command::Apply(Arc::new(self::plan(10))),
        (Some(Mode::Ready), 0..60) => Command::Start(name),
        (Some(Mode::RolledBack | Mode::Manual | Mode::Paused(_)), 0..40) => {
            if_revision = revision;
            Command::Resume(name)
        }
        (Some(Mode::Running(_)), 0..40) => Command::Step { plan: name, overrides: BTreeSet::new() },
        (_, 0..70) => Command::Shift {
            plan: name,
            service: rng.chance(500).then(service),
            split: Split::from_bp(u16::try_from(rng.below(101) * 100).unwrap()).unwrap(),
            overrides: BTreeSet::new(),
        },
        (_, 70..80) => Command::Pause(name),
        (_, 80..84) => Command::Apply(Arc::new(self::plan(10 + rng.below(3)))),
        (_, 84..90) => Command::Rollback(Scope::All),
        (_, 90..95) => Command::Rollback(Scope::Plan(name)),
        (_, _) => Command::Rollback(Scope::Service(ServiceId { plan: name, service: service() })),
    };
    if matches!(command, Command::Rollback(_)) {
        if_revision = None;
    }
    let name = format!("op-{number}");
    let keyed = matches!(command, Command::Rollback(_)) || rng.chance(700);
    let key = keyed.then(|| Key::try_from(name.clone()).unwrap());
    Ask { command, if_revision, key, actor: Actor::new("operator"), reason: Some(name) }
}

impl World {
    /// An answer reached whoever asked.
    pub(crate) fn answered(
        &mut self,
        op: usize,
        answer: &Result<Done, AskError>,
    ) -> Result<(), Violation> {
        let said = match answer {
            Ok(done) => format!(
                "done at {} changed={} repeated={}",
                done.token, done.changed, done.repeated
            ),
            Err(error) => format!("error: {error}"),
        };
        self.note(format!("  op {op} answered: {said}"));
        let rollback = is_rollback(&self.ops[op].ask);
        let reason = self.ops[op].ask.reason.as_deref().unwrap_or_default();
        let in_log = self.oracle.asked.get(reason).copied();
        match answer {
            Ok(done) if done.changed => {
                hold(Rule::AcknowledgedIsDurable, in_log == Some(done.token), || {
                    format!("op {op} is said to be done at {}, the log has {in_log:?}", done.token)
                })?;
                if rollback && self.ops[op].lost_race {
                    self.seen.note("rollback lost a race, then won");
                }
                if rollback && self.disk_full {
                    self.seen.note("rollback with the disk full");
                }
                if done.repeated {
                    self.seen.note("repeated command answered from the log");
                }
            }
            Ok(done) if done.repeated => {
                hold(Rule::AcknowledgedIsDurable, in_log.is_some(), || {
                    format!("op {op} is said to be a repeat; the log has nothing of it")
                })?;
                self.seen.note("repeated command answered from the log");
            }
            Ok(done) => {
                let token = done.token;
                let there = token == Token::START || self.oracle.digests.contains_key(&token);
                hold(Rule::AcknowledgedIsDurable, there, || {
                    format!("op {op} is said to change nothing at {token}, which is not in the log")
                })?;
            }
            Err(AskError::Unknown { .. }) => {}
            Err(error) => self.failed(op, error, in_log.is_some())?,
        }
        let again = match answer {
            Ok(_) | Err(AskError::Refused(_)) => false,
            Err(_) => rollback || (self.ops[op].ask.key.is_some() && self.rng.chance(600)),
        };
        self.ops[op].stage = if again { Stage::Waiting } else { Stage::Over };
        Ok(())
    }

    /// An answer that says that nothing was written.
    fn failed(&mut self, op: usize, error: &AskError, in_log: bool) -> Result<(), Violation> {
        let Op { ask, tries, lost_race, .. } = &self.ops[op];
        // An earlier try may have been lost with its answer and be in the log all the same.
        hold(Rule::RefusedIsNotDone, *tries > 1 || !in_log, || {
            format!("op {op} is said to have failed ({error}) but is in the log")
        })?;
        if let AskError::Refused(refused) = error
            && *lost_race
            && refused.kind() == RefusedKind::Stale
            && ask.if_revision.is_none()
        {
            self.seen.note("shift refused as stale after a lost race");
        }
        if matches!(error, AskError::Full { .. }) && !is_rollback(ask) {
            self.seen.note("ordinary command refused with the disk full");
        }
        if is_rollback(ask) {
            let fine = match error {
                AskError::Refused(refused) => refused.kind() == RefusedKind::NotFound,
                AskError::Full { break_glass } | AskError::Store { break_glass, .. } => {
                    break_glass.is_some() && !self.calm
                }
                AskError::Stopped => true,
                _ => false,
            };
            hold(Rule::RollbackIsNext, fine, || format!("rollback {op} failed: {error}"))?;
        }
        Ok(())
    }
}
