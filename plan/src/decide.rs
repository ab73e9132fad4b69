//! The rules. All of them, and nowhere else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{Ask, Cause, Command};
use crate::decide::draft::Draft;
use crate::ledger::Ledger;
use crate::measure::Measured;
use crate::name::{HostName, PlanName};
use crate::record::{CauseSummary, Record, UsedKey};
use crate::state::State;
use crate::state::keys::Kept;
use crate::time::Timestamp;
use crate::token::Token;

mod automation;
mod done;
mod draft;
mod edit;
mod find;
mod limits;
mod near;
mod neighbours;
mod observe;
pub(crate) mod place;
mod refused;
mod retire;
mod rollback;
pub(crate) mod run;
mod shift;
pub(crate) mod traffic;
mod words;

pub use crate::decide::edit::PLANS_MAX;
pub use crate::decide::refused::{Change, Phase, Refused, RefusedKind, Verb};

/// What is known at the moment of a decision, beside the state.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The wall clock. Orders nothing; freezes and `expires` read it.
    pub now: Timestamp,
    /// How long this controller has run, on a clock that never jumps. Bakes count it.
    pub uptime: Duration,
    /// What sinks have applied.
    pub ledger: Ledger,
    /// What traffic did.
    pub measured: Measured,
    /// The addresses that zone texts hold at host names of plans, without the plan.
    pub zone_answers: BTreeMap<HostName, Vec<IpAddr>>,
}

/// What the rules say to a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// This record would make it so.
    Commit(Box<Record>),
    /// Nothing would change, or the idempotency key was used for the same ask before.
    Already(Done),
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// The record that did it; where nothing changed, the newest.
    pub token: Token,
    /// The plans it touched, with their revisions.
    pub plans: Vec<(PlanName, u64)>,
    /// Whether it made a record.
    pub changed: bool,
    /// Whether the same ask with the same idempotency key had done it before.
    pub repeated: bool,
    /// What else it did: services taken along, limits overridden.
    pub notes: Vec<String>,
}

impl State {
    /// The rules: the record that would make it so, or why not.
    ///
    /// # Errors
    /// The rules forbid it; nothing changes.
    pub fn decide(&self, cause: &Cause, facts: &Facts) -> Result<Decided, Refused> {
        match cause {
            Cause::Operator(ask) => self.decide_ask(ask, facts),
            Cause::Automation(cause) => {
                let (draft, command) = automation::automation(self, cause, facts)?;
                Ok(self.close(draft, facts, None, |_| CauseSummary::Automation { command }))
            }
            Cause::Observed(seen) => {
                let (draft, what) = observe::observe(self, seen);
                Ok(self.close(draft, facts, None, |_| CauseSummary::Observed { what }))
            }
        }
    }

    fn decide_ask(&self, ask: &Ask, facts: &Facts) -> Result<Decided, Refused> {
        let used = ask.key.as_ref().map(|key| UsedKey { key: key.clone(), ask: ask.digest() });
        if let Some(used) = &used
            && let Some(kept) = self.keys.find(&used.key)
        {
            return kept.again(used);
        }
        self.check_revision(ask)?;
        let draft = self.draft(ask, facts)?;
        let summary = |notes| CauseSummary::Operator {
            actor: ask.actor.clone(),
            command: ask.command.to_string(),
            reason: ask.reason.clone(),
            notes,
        };
        Ok(self.close(draft, facts, used, summary))
    }

    /// Only if the plan's revision is still the one that was named; a plan that is not there is at
    /// 0. Commands on several plans compare nothing.
    fn check_revision(&self, ask: &Ask) -> Result<(), Refused> {
        let (Some(given), Some(name)) = (ask.if_revision, ask.command.plan()) else {
            return Ok(());
        };
        let current = match &ask.command {
            Command::Apply(_) => self.plans.get(name).map_or(0, |plan| plan.revision),
            Command::Start(_)
            | Command::Step { .. }
            | Command::Shift { .. }
            | Command::Pause(_)
            | Command::Resume(_)
            | Command::Rollback(_)
            | Command::Approve { .. }
            | Command::Retire(_)
            | Command::Delete(_)
            | Command::Reload(_) => find::plan(self, name)?.revision,
        };
        if given == current {
            return Ok(());
        }
        Err(Refused::Stale { plan: name.clone(), given, current })
    }

    fn draft(&self, ask: &Ask, facts: &Facts) -> Result<Draft, Refused> {
        let plan = |name| find::plan(self, name);
        match &ask.command {
            Command::Apply(spec) => edit::apply(self, spec, facts),
            Command::Start(name) => run::start(plan(name)?, facts.now),
            Command::Step { plan: name, overrides } => {
                run::step(plan(name)?, overrides, ask, facts)
            }
            Command::Shift { plan: name, service, split, overrides } => {
                shift::shift(plan(name)?, service.as_ref(), *split, overrides, ask, facts)
            }
            Command::Pause(name) => run::pause(plan(name)?),
            Command::Resume(name) => run::resume(plan(name)?, ask.if_revision, facts.now),
            Command::Rollback(scope) => rollback::rollback(self, scope),
            Command::Approve { plan: name, gate } => run::approve(plan(name)?, gate, ask),
            Command::Retire(name) => retire::retire(plan(name)?, facts),
            Command::Delete(name) => retire::delete(plan(name)?),
            Command::Reload(changes) => edit::reload(self, changes, facts),
        }
    }

    /// A draft with puts becomes the next record; one without says that nothing would change.
    fn close(
        &self,
        draft: Draft,
        facts: &Facts,
        key: Option<UsedKey>,
        cause: impl FnOnce(Vec<String>) -> CauseSummary,
    ) -> Decided {
        let Draft { puts, notes, about } = draft;
        if puts.is_empty() {
            let revision = |name: PlanName| Some((name.clone(), self.plans.get(&name)?.revision));
            return Decided::Already(Done {
                token: self.token,
                plans: about.into_iter().filter_map(revision).collect(),
                changed: false,
                repeated: false,
                notes,
            });
        }
        Decided::Commit(Box::new(Record {
            token: self.token.next(),
            parent: self.digest,
            at: facts.now,
            cause: cause(notes),
            key,
            puts,
        }))
    }
}

impl Kept {
    /// What a key that was used says to an ask: the same again, or no.
    fn again(&self, used: &UsedKey) -> Result<Decided, Refused> {
        if self.ask != used.ask {
            return Err(Refused::KeyReused { key: used.key.clone() });
        }
        Ok(Decided::Already(Done { repeated: true, ..self.done.clone() }))
    }
}
