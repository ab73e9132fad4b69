//! A state under the rules, and what is rendered of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use plan::fixture::plan_from;
use plan::split::Split;
use plan::{Actor, Ask, Cause, Command, Decided, Facts, Observation, ServiceId, State};
use xds::render::{Door, Rendered, Role, Wanted, envoy};
use xds::{Edit, Tables, Urgency};

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) facts: Facts,
    pub(crate) drained: BTreeSet<ServiceId>,
    pub(crate) doors: BTreeSet<Door>,
    pub(crate) trust_domain: Arc<str>,
}

impl World {
    pub(crate) fn new(plan: &str) -> Self {
        let doors = Role::ALL.into_iter().map(Door::of).collect();
        let facts = Facts::default();
        let (state, drained) = (State::empty(), BTreeSet::new());
        let mut world = Self { state, facts, drained, doors, trust_domain: "corp.example".into() };
        world.add(plan);
        world
    }

    pub(crate) fn add(&mut self, plan: &str) {
        self.ask(Command::Apply(Arc::new(plan_from(plan))));
    }

    pub(crate) fn ask(&mut self, command: Command) {
        let actor = Actor::new("alice");
        let reason = Some("planned".to_owned());
        let ask = Ask { command, if_revision: None, key: None, actor, reason };
        self.take(&Cause::Operator(ask));
    }

    /// As the rules have it; what they refuse changes nothing.
    pub(crate) fn take(&mut self, cause: &Cause) {
        if let Ok(Decided::Commit(record)) = self.state.decide(cause, &self.facts) {
            self.state = self.state.apply(&record).unwrap();
        }
    }

    pub(crate) fn shift(&mut self, service: Option<&str>, bp: u16) {
        let plans: Vec<_> = self.state.plans().map(|(name, _)| name.clone()).collect();
        for plan in plans {
            let service = service.map(|name| name.parse().unwrap());
            let split = Split::from_bp(bp).unwrap();
            self.ask(Command::Shift { plan, service, split, overrides: BTreeSet::new() });
        }
    }

    /// These endpoints of the service's legacy side fail, and no others.
    pub(crate) fn fail(&mut self, service: &str, failing: &[&str]) {
        let observation = Observation::Health {
            service: format!("shop/{service}").parse().unwrap(),
            side: plan::Side::Legacy,
            failing: failing.iter().map(|text| text.parse().unwrap()).collect(),
        };
        self.take(&Cause::Observed(vec![observation]));
    }

    pub(crate) fn wanted(&self) -> Wanted<'_> {
        let (snapshot, drained, doors) = (self.state.snapshot(), &self.drained, &self.doors);
        Wanted { snapshot, drained, doors, trust_domain: Some(&self.trust_domain) }
    }

    pub(crate) fn render(&self, before: &Rendered) -> (Rendered, Vec<Edit>) {
        envoy(&self.wanted(), before)
    }

    /// As after a fresh start, for these doors.
    pub(crate) fn tables(&self, doors: &[Door]) -> Tables {
        let doors = doors.iter().cloned().collect();
        let (_, edits) = envoy(&Wanted { doors: &doors, ..self.wanted() }, &Rendered::default());
        Tables::empty().next(self.state.token(), Urgency::Ordinary, edits)
    }
}
