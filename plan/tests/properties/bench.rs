//! Plays a history against rules, under the eyes of the watch.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use plan::command::{Ask, Automation, Cause, Command, Observation, Override, Scope};
use plan::{
    Actor, Decided, Done, Facts, PlanName, Record, Refused, ServiceId, Side, State, Timestamp,
    Token, record,
};

use crate::actions::{Action, How, Revision};
use crate::sinks::Sinks;
use crate::specs::{PLANS, SERVICES, SPLITS, variant};
use crate::watch::{Committed, Violation, Watch};
use crate::world::{key, parsed};

/// The rules as a controller uses them; a planted fault replaces one of these.
pub(crate) trait Rules: Sync {
    fn decide(&self, state: &State, cause: &Cause, facts: &Facts) -> Result<Decided, Refused> {
        state.decide(cause, facts)
    }

    fn restore(&self, state: &State, now: Timestamp) -> Record {
        state.restore(&Actor::new("alice"), now)
    }

    fn store(&self, log: &mut Vec<(Token, Vec<u8>)>, record: &Record) {
        log.push((record.token, record.encode()));
    }
}

/// The rules that are.
pub(crate) struct Real;

impl Rules for Real {}

/// What a history reached.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) refused: usize,
    pub(crate) by_automation: usize,
    pub(crate) completed: usize,
    pub(crate) repeated: usize,
    pub(crate) resumed_after_rollback: usize,
    pub(crate) restarts: usize,
}

/// A controller and its sinks, with a watch on them.
pub(crate) struct Bench<'a> {
    rules: &'a dyn Rules,
    state: State,
    pub(crate) log: Vec<(Token, Vec<u8>)>,
    checkpoint: Option<(usize, Vec<u8>)>,
    sinks: Sinks,
    now: Timestamp,
    /// Asks with a key, in order.
    keyed: Vec<Cause>,
    watch: Watch,
    pub(crate) seen: Seen,
}

impl<'a> Bench<'a> {
    /// With both plans applied.
    pub(crate) fn new(rules: &'a dyn Rules) -> Self {
        let mut bench = Self {
            rules,
            state: State::empty(),
            log: Vec::new(),
            checkpoint: None,
            sinks: Sinks::new(),
            now: Timestamp::from_millis(1_800_000_000_000),
            keyed: Vec::new(),
            watch: Watch::default(),
            seen: Seen::default(),
        };
        let how = How { key: None, revision: Revision::None, actor: 0 };
        for plan in 0..2 {
            bench.act(&Action::Apply { plan, variant: 0, how }).unwrap();
        }
        bench
    }

    /// One thing happens.
    pub(crate) fn act(&mut self, action: &Action) -> Result<(), Violation> {
        match action {
            Action::Process => self.sinks.process(self.state.token()),
            Action::Ack { sink } => self.sinks.ack(*sink),
            Action::AckAll => {
                self.sinks.process(self.state.token());
                (0..2).for_each(|sink| self.sinks.ack(sink));
            }
            Action::Nack { sink, plan } => self.sinks.refuse(*sink, plan_name(*plan)),
            Action::Leave { sink } => self.sinks.leave(*sink),
            Action::Clock { seconds } => {
                self.now = Timestamp::from_millis(self.now.millis() + seconds * 1_000);
            }
            Action::Restart { checkpoint } => self.restart(*checkpoint)?,
            Action::Restore => {
                let record = self.rules.restore(&self.state, self.now);
                self.commit(None, record)?;
            }
            other => {
                if let Some(cause) = self.cause(other) {
                    self.decide(&cause)?;
                }
            }
        }
        self.rollback_is_possible()
    }

    /// The log is whole, and whoever changes it is found out.
    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        self.restart(true)?;
        let bad = |what: &str| Violation { invariant: 12, what: what.to_owned() };
        let verify = |log: &[(Token, Vec<u8>)]| {
            let records = log.iter().map(|(token, bytes)| (*token, Cow::Borrowed(&**bytes)));
            record::verify(records)
                .and_then(|whole| whole.against(self.state.token(), self.state.digest()))
        };
        if let Err(error) = verify(&self.log) {
            return Err(bad(&format!("an honest log is refused: {error}")));
        }
        // Where to tamper follows from the history, so that each one does it elsewhere; one in four
        // does it at all, which is enough and spares time.
        let seed = self
            .state
            .digest()
            .bytes()
            .iter()
            .take(6)
            .fold(0, |sum, b| sum * 256 + usize::from(*b));
        if seed % 4 != 0 {
            return Ok(());
        }
        let at = seed / 4 % self.log.len();
        let mut edited = self.log.clone();
        let bytes = &mut edited[at].1;
        let byte = seed / 7 % bytes.len();
        bytes[byte] ^= 1;
        let mut dropped = self.log.clone();
        dropped.remove(at);
        let mut swapped = self.log.clone();
        swapped.swap(at, seed / 3 % self.log.len());
        for (log, what) in [(edited, "edited"), (dropped, "dropped"), (swapped, "reordered")] {
            if log != self.log && verify(&log).is_ok() {
                return Err(bad(&format!("a record was {what}, and nobody noticed")));
            }
        }
        Ok(())
    }

    fn decide(&mut self, cause: &Cause) -> Result<(), Violation> {
        if let Cause::Operator(Ask { key: Some(_), .. }) = cause {
            self.keyed.push(cause.clone());
        }
        let facts = self.facts();
        let decided = self.rules.decide(&self.state, cause, &facts);
        self.watch.answered(cause, &decided)?;
        match decided {
            Err(_) => self.seen.refused += 1,
            Ok(Decided::Already(done)) => {
                self.seen.repeated += usize::from(done.repeated);
                self.watch.agreed(cause, &done, &self.state)?;
            }
            Ok(Decided::Commit(record)) => self.commit(Some(cause), *record)?,
        }
        Ok(())
    }

    fn commit(&mut self, cause: Option<&Cause>, record: Record) -> Result<(), Violation> {
        let after = self.state.apply(&record).map_err(|broken| Violation {
            invariant: 12,
            what: format!("the fold refuses what was decided: {broken}"),
        })?;
        let before = std::mem::replace(&mut self.state, after);
        let after = &self.state;
        let committed = Committed { before: &before, cause, record: &record, after };
        let resumed = self.watch.committed(&committed, &self.sinks)?;
        self.seen.resumed_after_rollback += usize::from(resumed);
        self.seen.by_automation += usize::from(matches!(cause, Some(Cause::Automation(_))));
        self.seen.completed += usize::from(committed.completes());
        if let Some(cause) = cause {
            self.watch.agreed(cause, &Done::of(&record), after)?;
        }
        self.sinks.published(before.snapshot(), after.snapshot());
        self.rules.store(&mut self.log, &record);
        Ok(())
    }

    /// Comes up again from what is on disk, as it was.
    fn restart(&mut self, from_checkpoint: bool) -> Result<(), Violation> {
        self.seen.restarts += 1;
        let bad = |what: String| Violation { invariant: 12, what };
        let (done, mut state) = match &self.checkpoint {
            Some((done, bytes)) if from_checkpoint => {
                let state = State::from_checkpoint(bytes);
                (*done, state.map_err(|broken| bad(format!("checkpoint: {broken}")))?)
            }
            _ => (0, State::empty()),
        };
        for (_, bytes) in self.log.iter().skip(done) {
            let record = Record::decode(bytes).map_err(|error| bad(error.to_string()))?;
            state = state.apply(&record).map_err(|broken| bad(format!("log: {broken}")))?;
        }
        let same = state.token() == self.state.token()
            && state.digest() == self.state.digest()
            && state.snapshot() == self.state.snapshot()
            && state.plans().eq(self.state.plans());
        if !same {
            return Err(bad("another state came up than went down".to_owned()));
        }
        self.checkpoint = Some((self.log.len(), state.checkpoint()));
        self.state = state;
        Ok(())
    }

    /// Whatever else is the case, a rollback would be taken now.
    fn rollback_is_possible(&self) -> Result<(), Violation> {
        let facts = [Facts { now: self.now, ..Facts::default() }, self.facts()];
        for (plan, before) in self.state.plans() {
            let ask = crate::world::ask(Command::Rollback(Scope::Plan(plan.clone())));
            let cause = Cause::Operator(ask);
            for facts in &facts {
                let decided = self.rules.decide(&self.state, &cause, facts);
                if !self.watch.has_ended(plan)
                    && let Err(refused) = decided
                {
                    let what = format!("rollback in {:?}: {refused}", before.mode);
                    return Err(Violation { invariant: 5, what });
                }
            }
        }
        Ok(())
    }

    fn facts(&self) -> Facts {
        // The zone files of `q` answer the target already, those of `p` do not.
        let target = |net| vec![IpAddr::from([10, 9, net, 1])];
        let answers = [("a.q.example", target(1)), ("b.q.example", target(2))];
        Facts {
            now: self.now,
            uptime: Duration::ZERO,
            ledger: self.sinks.ledger(),
            zone_answers: answers.into_iter().map(|(host, a)| (parsed(host), a)).collect(),
            ..Facts::default()
        }
    }

    fn cause(&self, action: &Action) -> Option<Cause> {
        let (command, how) = match action {
            Action::Repeat { back } => {
                return self.keyed.iter().rev().nth(usize::from(*back)).cloned();
            }
            Action::Automation { plan, kind, stale } => {
                return Some(Cause::Automation(self.automation(*plan, *kind, *stale)));
            }
            Action::Health { plan, service, target, failing } => {
                return self.health(*plan, *service, *target, *failing).map(Cause::Observed);
            }
            Action::Apply { plan, variant: v, how } => {
                (Command::Apply(Arc::new(variant(*plan, *v))), how)
            }
            Action::Start { plan, how } => (Command::Start(plan_name(*plan)), how),
            Action::Step { plan, over, how } => {
                let overrides = overrides(*over);
                (Command::Step { plan: plan_name(*plan), overrides }, how)
            }
            Action::Shift { plan, service, split, over, how } => {
                let service = service.map(|service| parsed(SERVICES[usize::from(service)]));
                let split = plan::Split::from_bp(SPLITS[usize::from(*split)]).unwrap();
                let (plan, overrides) = (plan_name(*plan), overrides(*over));
                (Command::Shift { plan, service, split, overrides }, how)
            }
            Action::Pause { plan, how } => (Command::Pause(plan_name(*plan)), how),
            Action::Resume { plan, how } => (Command::Resume(plan_name(*plan)), how),
            Action::Rollback { scope, how } => (Command::Rollback(scope_of(*scope)), how),
            Action::Approve { plan, how } => {
                let gate = parsed("sign-off");
                (Command::Approve { plan: plan_name(*plan), gate }, how)
            }
            Action::Retire { plan, how } => (Command::Retire(plan_name(*plan)), how),
            Action::Delete { plan, how } => (Command::Delete(plan_name(*plan)), how),
            Action::Process
            | Action::Ack { .. }
            | Action::AckAll
            | Action::Nack { .. }
            | Action::Leave { .. }
            | Action::Clock { .. }
            | Action::Restart { .. }
            | Action::Restore => return None,
        };
        Some(Cause::Operator(self.ask(command, how)))
    }

    fn ask(&self, command: Command, how: &How) -> Ask {
        let current = command.plan().and_then(|plan| Some(self.state.plan(plan)?.revision));
        let if_revision = match how.revision {
            Revision::None => None,
            Revision::Current => current,
            Revision::Older(by) => current.map(|current| current.saturating_sub(by.into())),
        };
        Ask {
            command,
            if_revision,
            key: how.key.map(|n| key(&format!("key-{n}"))),
            actor: Actor::new(["alice", "bob"][usize::from(how.actor)]),
            reason: Some("in a test".to_owned()),
        }
    }

    fn automation(&self, plan: u8, kind: u8, stale: bool) -> Automation {
        let plan = plan_name(plan);
        let current = self.state.plan(&plan).map_or(0, |plan| plan.revision);
        let seen = current.saturating_sub(stale.into());
        match kind {
            0 => Automation::Advance { plan, seen },
            1 => Automation::Complete { plan, seen },
            _ => Automation::Expire { plan, seen },
        }
    }

    fn health(&self, plan: u8, service: u8, target: bool, failing: u8) -> Option<Vec<Observation>> {
        let service =
            ServiceId { plan: plan_name(plan), service: parsed(SERVICES[usize::from(service)]) };
        let spec = &self.state.snapshot().service(&service)?.spec;
        let (side, all) = match target {
            true => (Side::Target, &spec.target),
            false => (Side::Legacy, &spec.legacy),
        };
        let fails = |i: &usize| failing & (1 << i) != 0;
        let failing = (0..2).filter(fails).map(|i| all.as_slice()[i]).collect();
        Some(vec![Observation::Health { service, side, failing }])
    }
}

fn plan_name(plan: u8) -> PlanName {
    parsed(PLANS[usize::from(plan)])
}

fn scope_of(scope: u8) -> Scope {
    match scope {
        0 => Scope::All,
        1 | 2 => Scope::Plan(plan_name(scope - 1)),
        _ => {
            let scope = scope - 3;
            let service = parsed(SERVICES[usize::from(scope / 2)]);
            Scope::Service(ServiceId { plan: plan_name(scope % 2), service })
        }
    }
}

fn overrides(bits: u8) -> std::collections::BTreeSet<Override> {
    let all =
        [Override::Acks, Override::MaxStep, Override::Freeze, Override::Gate(parsed("sign-off"))];
    let chosen = |(i, _): &(usize, Override)| bits & (1 << i) != 0;
    all.into_iter().enumerate().filter(chosen).map(|(_, limit)| limit).collect()
}
