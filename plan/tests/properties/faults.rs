//! Rules with one fault each. They stay here, so that the watch is seen to find them.

use plan::command::{Automation, Cause, Command};
use plan::record::CauseSummary;
use plan::{
    Actor, Decided, Facts, Mode, Put, Record, Refused, Run, ServiceId, Split, Stage, State,
    Timestamp, Token,
};

use crate::bench::Rules;

/// A fault, and the invariant that it breaks.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) breaks: u8,
    pub(crate) rules: Box<dyn Rules>,
}

/// All of them.
pub(crate) fn faults() -> Vec<Fault> {
    fn fault(name: &'static str, breaks: u8, rules: impl Rules + 'static) -> Fault {
        Fault { name, breaks, rules: Box::new(rules) }
    }
    vec![
        fault("splits are rounded to whole percents", 3, Rewrites(round)),
        fault("a side is served by the other one's endpoints", 3, Rewrites(foreign_pool)),
        fault("a failing side does not say so", 3, Rewrites(not_degraded)),
        fault("a rollback does not latch", 4, Rewrites(no_latch)),
        fault("a rollback leaves one service", 4, Rewrites(leaves_one)),
        fault("a rolled-back plan resumes without its revision", 4, Grants(resume_anyway)),
        fault("a restored plan does not wait", 4, RestoresAwake),
        fault("a restore keeps the incarnation", 12, RestoresInPlace),
        fault("a rollback asks for acks", 5, RollbackWantsAcks),
        fault("a rollback is refused while paused", 5, RollbackWantsNoPause),
        fault("automation goes on in a pause", 7, Grants(advance_in_pause)),
        fault("automation overrides maxStep", 8, Grants(advance_too_far)),
        fault("automation does not wait for acks", 8, Grants(advance_without_acks)),
        fault("a plan is complete while a sink lags", 8, Grants(complete_without_acks)),
        fault("a key is forgotten", 10, Rewrites(forget_key)),
        fault("a plan in use is deleted", 12, Grants(delete_in_use)),
        fault("the log loses a record", 12, LosesRecords),
        fault("a host in two plans", 13, Grants(apply_taken_host)),
        fault("other client rows on the way", 13, Grants(apply_moving)),
        fault("another salt with every rise", 14, ResaltsOnRise),
    ]
}

/// Changes what the rules have decided.
struct Rewrites(fn(&mut Record));

impl Rules for Rewrites {
    fn decide(&self, state: &State, cause: &Cause, facts: &Facts) -> Result<Decided, Refused> {
        let mut decided = state.decide(cause, facts)?;
        if let Decided::Commit(record) = &mut decided {
            (self.0)(record);
        }
        Ok(decided)
    }
}

fn round(record: &mut Record) {
    for put in &mut record.puts {
        if let Put::Split { split, .. } = put {
            *split = Split::from_bp(split.bp() / 100 * 100).unwrap();
        }
    }
}

fn foreign_pool(record: &mut Record) {
    let other = crate::world::service("x", "x", 77, &[]).legacy;
    for put in &mut record.puts {
        if let Put::Health { pool, .. } = put {
            pool.serving = other.clone();
        }
    }
}

fn not_degraded(record: &mut Record) {
    for put in &mut record.puts {
        if let Put::Health { pool, .. } = put {
            pool.degraded = false;
        }
    }
}

fn is_rollback(record: &Record) -> bool {
    match &record.cause {
        CauseSummary::Operator { command, .. } => command.starts_with("rollback"),
        _ => false,
    }
}

fn no_latch(record: &mut Record) {
    let rollback = is_rollback(record);
    for put in &mut record.puts {
        if let Put::Mode { mode, .. } = put
            && rollback
        {
            *mode = Mode::Manual;
        }
    }
}

fn leaves_one(record: &mut Record) {
    if is_rollback(record)
        && let Some(at) = record.puts.iter().position(|put| matches!(put, Put::Split { .. }))
    {
        record.puts.remove(at);
    }
}

fn forget_key(record: &mut Record) {
    record.key = None;
}

/// Does what the rules have refused.
struct Grants(fn(&State, &Cause, &Facts, &Refused) -> Option<Vec<Put>>);

impl Rules for Grants {
    fn decide(&self, state: &State, cause: &Cause, facts: &Facts) -> Result<Decided, Refused> {
        let refused = match state.decide(cause, facts) {
            Err(refused) => refused,
            decided => return decided,
        };
        match (self.0)(state, cause, facts, &refused) {
            Some(puts) => Ok(Decided::Commit(Box::new(record(state, facts.now, puts)))),
            None => Err(refused),
        }
    }
}

fn record(state: &State, at: Timestamp, puts: Vec<Put>) -> Record {
    let cause = CauseSummary::Automation { command: "planted".to_owned() };
    Record { token: state.token().next(), parent: state.digest(), at, cause, key: None, puts }
}

fn resume_anyway(_: &State, _: &Cause, _: &Facts, refused: &Refused) -> Option<Vec<Put>> {
    let Refused::RevisionNeeded { plan, .. } = refused else { return None };
    Some(vec![Put::Mode { plan: plan.clone(), mode: Mode::Manual }])
}

/// The next step of a run, without a question.
fn advanced(state: &State, cause: &Cause, facts: &Facts, run: Run) -> Option<Vec<Put>> {
    let Cause::Automation(Automation::Advance { plan, .. }) = cause else { return None };
    let state = state.plan(plan)?;
    let to = state.spec.steps.get(usize::from(run.step))?.split;
    let puts = state.services.iter().filter(|(_, service)| service.split < to).map(|(name, _)| {
        let service = ServiceId { plan: plan.clone(), service: name.clone() };
        Put::Split { service, split: to }
    });
    let run = Run { step: run.step + 1, stage: Stage::Bake, entered: facts.now };
    Some(puts.chain([Put::Mode { plan: plan.clone(), mode: Mode::Running(run) }]).collect())
}

fn advance_in_pause(
    state: &State,
    cause: &Cause,
    facts: &Facts,
    refused: &Refused,
) -> Option<Vec<Put>> {
    let Refused::NotDue { plan } = refused else { return None };
    let Mode::Paused(run) = state.plan(plan)?.mode else { return None };
    advanced(state, cause, facts, run)
}

fn advance_too_far(
    state: &State,
    cause: &Cause,
    facts: &Facts,
    refused: &Refused,
) -> Option<Vec<Put>> {
    let Refused::MaxStep { service, .. } = refused else { return None };
    let Mode::Running(run) = state.plan(&service.plan)?.mode else { return None };
    advanced(state, cause, facts, run)
}

fn advance_without_acks(
    state: &State,
    cause: &Cause,
    facts: &Facts,
    refused: &Refused,
) -> Option<Vec<Put>> {
    let Refused::Acks { plan, .. } = refused else { return None };
    let Mode::Running(run) = state.plan(plan)?.mode else { return None };
    advanced(state, cause, facts, run)
}

fn complete_without_acks(_: &State, _: &Cause, _: &Facts, refused: &Refused) -> Option<Vec<Put>> {
    let Refused::Acks { plan, overridable: false } = refused else { return None };
    Some(vec![Put::Mode { plan: plan.clone(), mode: Mode::Complete }])
}

fn delete_in_use(_: &State, cause: &Cause, _: &Facts, refused: &Refused) -> Option<Vec<Put>> {
    let (Cause::Operator(ask), Refused::Phase { plan, .. }) = (cause, refused) else { return None };
    matches!(ask.command, Command::Delete(_)).then(|| vec![Put::Deleted(plan.clone())])
}

fn applied(cause: &Cause) -> Option<Vec<Put>> {
    let Cause::Operator(ask) = cause else { return None };
    let Command::Apply(spec) = &ask.command else { return None };
    Some(vec![Put::Plan(spec.clone())])
}

fn apply_taken_host(_: &State, cause: &Cause, _: &Facts, refused: &Refused) -> Option<Vec<Put>> {
    matches!(refused, Refused::HostTaken { .. }).then(|| applied(cause))?
}

fn apply_moving(_: &State, cause: &Cause, _: &Facts, refused: &Refused) -> Option<Vec<Put>> {
    matches!(refused, Refused::WouldMove { .. }).then(|| applied(cause))?
}

struct RestoresAwake;

impl Rules for RestoresAwake {
    fn restore(&self, state: &State, now: Timestamp) -> Record {
        let mut record = state.restore(&Actor::new("alice"), now);
        record.puts.clear();
        record
    }
}

struct RestoresInPlace;

impl Rules for RestoresInPlace {
    fn restore(&self, state: &State, now: Timestamp) -> Record {
        let mut record = state.restore(&Actor::new("alice"), now);
        record.token.incarnation = state.token().incarnation;
        record
    }
}

struct RollbackWantsAcks;

impl Rules for RollbackWantsAcks {
    fn decide(&self, state: &State, cause: &Cause, facts: &Facts) -> Result<Decided, Refused> {
        if let Cause::Operator(ask) = cause
            && let Command::Rollback(_) = ask.command
            && let Some(plan) = ask.command.plan()
            && let Some(found) = state.plan(plan)
            && !facts.ledger.converged(&found.spec, found.rendered)
        {
            return Err(Refused::Acks { plan: plan.clone(), overridable: true });
        }
        state.decide(cause, facts)
    }
}

struct RollbackWantsNoPause;

impl Rules for RollbackWantsNoPause {
    fn decide(&self, state: &State, cause: &Cause, facts: &Facts) -> Result<Decided, Refused> {
        if let Cause::Operator(ask) = cause
            && let Command::Rollback(_) = ask.command
            && let Some(plan) = ask.command.plan()
            && let Some(found) = state.plan(plan)
            && matches!(found.mode, Mode::Paused(_))
        {
            return Err(Refused::NotDue { plan: plan.clone() });
        }
        state.decide(cause, facts)
    }
}

struct LosesRecords;

impl Rules for LosesRecords {
    fn store(&self, log: &mut Vec<(Token, Vec<u8>)>, record: &Record) {
        if !record.token.revision.is_multiple_of(7) {
            log.push((record.token, record.encode()));
        }
    }
}

struct ResaltsOnRise;

impl Rules for ResaltsOnRise {
    fn decide(&self, state: &State, cause: &Cause, facts: &Facts) -> Result<Decided, Refused> {
        let mut decided = state.decide(cause, facts)?;
        if let Decided::Commit(record) = &mut decided {
            let moved = record.puts.iter().find_map(|put| match put {
                Put::Split { service, split } => Some((service.clone(), *split)),
                _ => None,
            });
            if let Some((id, split)) = moved
                && let Some(plan) = state.plan(&id.plan)
                && plan.services[&id.service].split < split
            {
                let mut spec = plan::Plan::clone(&plan.spec);
                for service in &mut spec.services {
                    let salt = format!("{}'", service.salt).into();
                    std::sync::Arc::make_mut(service).salt = salt;
                }
                record.puts.push(Put::Plan(spec.into()));
            }
        }
        Ok(decided)
    }
}
