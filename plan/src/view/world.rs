//! A state with its facts and its clockwork, for tests: commands go through the rules and the fold.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Status;
use crate::command::{Actor, Ask, Automation, Cause, Command, Observation, Override};
use crate::decide::{Decided, Facts, Refused};
use crate::ledger::{Sink, SinkId, Standing};
use crate::name::{PlanName, ServiceName};
use crate::pace::{Due, Pace};
use crate::record::Record;
use crate::spec::{Plan, Plane};
use crate::split::Split;
use crate::state::{PlanState, State};
use crate::time::Timestamp;
use crate::token::Token;

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) facts: Facts,
    pub(crate) pace: Pace,
    pub(crate) records: Vec<Record>,
}

impl World {
    /// 2026-01-01T00:00:00Z, with this plan applied, a DNS sink there, and the window of reconnects
    /// over.
    pub(crate) fn new(plan: Plan) -> Self {
        let facts = Facts {
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            uptime: Duration::from_secs(30),
            ..Facts::default()
        };
        let mut world =
            Self { state: State::empty(), facts, pace: Pace::default(), records: Vec::new() };
        world.facts.ledger.committed(world.state.snapshot());
        world.ask(Command::Apply(Arc::new(plan))).unwrap();
        world.arrive();
        world
    }

    pub(crate) fn name(&self) -> PlanName {
        self.state.plans().next().unwrap().0.clone()
    }

    pub(crate) fn plan(&self) -> &PlanState {
        self.state.plans().next().unwrap().1
    }

    pub(crate) fn status(&self) -> Status {
        super::status(&self.state, &self.facts, &self.pace, &self.name()).unwrap()
    }

    pub(crate) fn ask(&mut self, command: Command) -> Result<(), Refused> {
        self.ask_at(command, None)
    }

    pub(crate) fn ask_at(&mut self, command: Command, at: Option<u64>) -> Result<(), Refused> {
        let ask = Ask {
            command,
            if_revision: at,
            key: None,
            actor: Actor::new("alice"),
            reason: Some("planned".to_owned()),
        };
        self.take(&Cause::Operator(ask))
    }

    pub(crate) fn observe(&mut self, observation: Observation) {
        self.take(&Cause::Observed(vec![observation])).unwrap();
    }

    pub(crate) fn automate(&mut self, cause: Automation) {
        self.take(&Cause::Automation(cause)).unwrap();
    }

    pub(crate) fn shift(&mut self, service: Option<&str>, bp: u16) {
        let plan = self.name();
        let service = service.map(|name| name.parse::<ServiceName>().unwrap());
        let split = Split::from_bp(bp).unwrap();
        let overrides = BTreeSet::from([Override::Gate("sign-off".parse().unwrap())]);
        self.ask(Command::Shift { plan, service, split, overrides }).unwrap();
    }

    fn take(&mut self, cause: &Cause) -> Result<(), Refused> {
        if let Decided::Commit(record) = self.state.decide(cause, &self.facts)? {
            self.state = self.state.apply(&record).unwrap();
            self.records.push(*record);
            self.facts.ledger.committed(self.state.snapshot());
        }
        Ok(())
    }

    /// Everything committed arrives at `dns/local`.
    pub(crate) fn arrive(&mut self) {
        let head = self.state.token();
        self.facts.ledger.set(Plane::Dns, standing(head, vec![sink("dns/local", head)]));
    }

    /// Both clocks move on; whatever is due is returned, not done.
    pub(crate) fn pass(&mut self, seconds: u64) -> Due {
        let step = Duration::from_secs(seconds);
        self.facts.uptime += step;
        self.facts.now = self.facts.now.after(step);
        self.pace.due(&self.state, &self.facts)
    }

    /// As [`World::pass`], and what is due is done and arrives at once.
    pub(crate) fn live(&mut self, seconds: u64) {
        for cause in self.pass(seconds).causes {
            self.automate(cause);
        }
        self.arrive();
        self.pass(0);
    }
}

pub(crate) fn standing(through: Token, sinks: Vec<Sink>) -> Standing {
    Standing { through, sinks: sinks.into_iter().map(Arc::new).collect() }
}

/// A connected DNS sink that owes nothing.
pub(crate) fn sink(id: &str, acked: Token) -> Sink {
    Sink {
        id: SinkId::new(id),
        plane: Plane::Dns,
        kind: "dns".to_owned(),
        version: None,
        plans: None,
        since: Some(Timestamp::default()),
        left: None,
        acked,
        owes: BTreeSet::new(),
        nack: None,
    }
}
