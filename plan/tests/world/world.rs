//! A controller without its pumps: a state, the facts beside it and the log that made it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use plan::command::{Ask, Automation, Cause, Command, Key, Observation, Override, Scope};
use plan::endpoint::{Endpoint, Endpoints};
use plan::policy::Policy;
use plan::spec::{
    Affinity, Clients, Gate, GateTest, Plan, Port, Protocol, Service, Step, Strategy, Ttl,
    ZoneSource, ZoneSpec,
};
use plan::{
    Actor, Decided, Done, Facts, Ledger, Plane, Record, Refused, Side, Sink, SinkId, Split,
    Standing, State, Timestamp,
};

/// What is written in tests, as what it means.
pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn percent(percent: u16) -> Split {
    Split::from_bp(percent * 100).unwrap()
}

/// A service with two endpoints a side; `net` makes its addresses its own.
pub(crate) fn service(plan: &str, name: &str, net: u8, after: &[&str]) -> Service {
    let endpoints = |side: u8| {
        let ip = |host| IpAddr::V4(Ipv4Addr::new(10, side, net, host));
        let endpoint = |host| Endpoint { address: ip(host), port: None };
        Endpoints::new(vec![endpoint(1), endpoint(2)]).unwrap()
    };
    Service {
        name: parsed(name),
        hosts: vec![parsed(&format!("{name}.{plan}.example"))],
        address: Some(IpAddr::V4(Ipv4Addr::new(10, 0, net, 10))),
        ports: vec![Port {
            name: parsed("http"),
            port: NonZeroU16::new(8080).unwrap(),
            protocol: Protocol::Http,
        }],
        affinity: Affinity::ClientIp,
        salt: format!("{plan}/{name}").into(),
        legacy: endpoints(0),
        target: endpoints(9),
        after: after.iter().map(|name| parsed(name)).collect(),
        preserve_source: false,
    }
}

/// Services `a`, and `b` after it; steps of 10, 25 (gate `sign-off`, expires), 50 and 100 %.
pub(crate) fn plan(name: &str) -> Plan {
    let step = |split, gates: &[&str], expires| Step {
        split: percent(split),
        bake: Duration::from_secs(60),
        expires,
        gates: gates.iter().map(|gate| parsed(gate)).collect(),
    };
    Plan {
        name: parsed(name),
        strategy: Strategy::Gradual,
        zones: vec![ZoneSpec {
            name: parsed(&format!("{name}.example")),
            source: ZoneSource::Own,
            ttl: Ttl::default(),
        }],
        clients: Arc::new(Clients::default()),
        services: vec![
            Arc::new(service(name, "a", 1, &[])),
            Arc::new(service(name, "b", 2, &["a"])),
        ],
        steps: vec![
            step(10, &[], None),
            step(25, &["sign-off"], Some(Duration::from_secs(3600))),
            step(50, &[], None),
            step(100, &[], None),
        ],
        gates: vec![Gate { name: parsed("sign-off"), test: GateTest::Manual { approvers: 1 } }],
        policy: Policy::default(),
        gateways: [].into(),
    }
}

/// Those who ask in tests.
pub(crate) fn ask(command: Command) -> Ask {
    Ask { command, if_revision: None, key: None, actor: Actor::new("alice"), reason: None }
}

pub(crate) fn key(text: &str) -> Key {
    Key::try_from(text.to_owned()).unwrap()
}

pub(crate) fn shift(plan: &str, service: Option<&str>, split: u16) -> Command {
    shift_over(plan, service, split, &[])
}

pub(crate) fn shift_over(plan: &str, service: Option<&str>, split: u16, over: &[&str]) -> Command {
    let (plan, service) = (parsed(plan), service.map(parsed));
    Command::Shift { plan, service, split: percent(split), overrides: overrides(over) }
}

pub(crate) fn step(plan: &str, over: &[&str]) -> Command {
    Command::Step { plan: parsed(plan), overrides: overrides(over) }
}

pub(crate) fn rollback(plan: &str) -> Command {
    Command::Rollback(Scope::Plan(parsed(plan)))
}

pub(crate) fn approve(plan: &str, gate: &str) -> Command {
    Command::Approve { plan: parsed(plan), gate: parsed(gate) }
}

fn overrides(names: &[&str]) -> BTreeSet<Override> {
    names.iter().map(|name| parsed(name)).collect()
}

/// One controller.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) facts: Facts,
    pub(crate) log: Vec<Record>,
}

impl World {
    pub(crate) fn new() -> Self {
        let facts = Facts { now: Timestamp::from_millis(1_800_000_000_000), ..Facts::default() };
        Self { state: State::empty(), facts, log: Vec::new() }
    }

    /// With this plan applied.
    pub(crate) fn with(plan: Plan) -> Self {
        let mut world = Self::new();
        world.does(Command::Apply(Arc::new(plan)));
        world
    }

    /// Decides, and takes the record into the log and the state.
    pub(crate) fn cause(&mut self, cause: &Cause) -> Result<Done, Refused> {
        match self.state.decide(cause, &self.facts)? {
            Decided::Already(done) => Ok(done),
            Decided::Commit(record) => {
                self.state = self.state.apply(&record).unwrap();
                let done = Done::of(&record);
                self.log.push(*record);
                Ok(done)
            }
        }
    }

    pub(crate) fn ask(&mut self, ask: Ask) -> Result<Done, Refused> {
        self.cause(&Cause::Operator(ask))
    }

    pub(crate) fn command(&mut self, command: Command) -> Result<Done, Refused> {
        self.ask(ask(command))
    }

    /// With `--reason`.
    pub(crate) fn reasoned(&mut self, command: Command) -> Result<Done, Refused> {
        self.ask(Ask { reason: Some("tested".to_owned()), ..ask(command) })
    }

    /// A command that must change something.
    pub(crate) fn does(&mut self, command: Command) -> Done {
        let text = command.to_string();
        let done = self.command(command).unwrap_or_else(|refused| panic!("{text}: {refused}"));
        assert!(done.changed, "{text}");
        done
    }

    /// A command that must be fine and change nothing.
    pub(crate) fn already(&mut self, command: Command) {
        let text = command.to_string();
        let done = self.command(command).unwrap_or_else(|refused| panic!("{text}: {refused}"));
        assert!(!done.changed, "{text}");
    }

    /// `resume` that names the plan's revision.
    pub(crate) fn resume(&mut self, plan: &str) -> Result<Done, Refused> {
        let if_revision = Some(self.revision(plan));
        self.ask(Ask { if_revision, ..ask(Command::Resume(parsed(plan))) })
    }

    pub(crate) fn advance(&mut self, plan: &str) -> Result<Done, Refused> {
        let seen = self.revision(plan);
        self.automation(Automation::Advance { plan: parsed(plan), seen })
    }

    pub(crate) fn complete(&mut self, plan: &str) -> Result<Done, Refused> {
        let seen = self.revision(plan);
        self.automation(Automation::Complete { plan: parsed(plan), seen })
    }

    pub(crate) fn expire(&mut self, plan: &str) -> Result<Done, Refused> {
        let seen = self.revision(plan);
        self.automation(Automation::Expire { plan: parsed(plan), seen })
    }

    pub(crate) fn automation(&mut self, cause: Automation) -> Result<Done, Refused> {
        self.cause(&Cause::Automation(cause))
    }

    /// Which endpoints of a side fail, by their last numbers.
    pub(crate) fn fails(&mut self, plan: &str, service: &str, side: Side, hosts: &[u8]) -> Done {
        let id = parsed(&format!("{plan}/{service}"));
        let spec = &self.state.snapshot().service(&id).unwrap().spec;
        let all = if side == Side::Legacy { &spec.legacy } else { &spec.target };
        let among = |endpoint: &&Endpoint| match endpoint.address {
            IpAddr::V4(v4) => hosts.contains(&v4.octets()[3]),
            IpAddr::V6(_) => false,
        };
        let failing = all.iter().filter(among).copied().collect();
        let seen = Observation::Health { service: id, side, failing };
        self.cause(&Cause::Observed(vec![seen])).unwrap()
    }

    /// Every sink has applied everything.
    pub(crate) fn acked(&mut self) {
        self.facts.ledger = ledger(&self.state, &[]);
    }

    /// One sink still owes these plans.
    pub(crate) fn owes(&mut self, plans: &[&str]) {
        self.facts.ledger = ledger(&self.state, plans);
    }

    pub(crate) fn later(&mut self, seconds: u64) {
        self.facts.now = self.facts.now.after(Duration::from_secs(seconds));
    }

    pub(crate) fn revision(&self, plan: &str) -> u64 {
        self.state.plan(&parsed(plan)).map_or(0, |plan| plan.revision)
    }

    /// `a` and `b`, in basis points.
    pub(crate) fn splits(&self, plan: &str) -> Vec<u16> {
        let plan = self.state.plan(&parsed(plan)).unwrap();
        plan.services.values().map(|service| service.split.bp()).collect()
    }

    pub(crate) fn mode(&self, plan: &str) -> plan::Mode {
        self.state.plan(&parsed(plan)).unwrap().mode
    }

    /// As after `restore`.
    pub(crate) fn restored(&mut self) {
        let record = self.state.restore(&Actor::new("alice"), self.facts.now);
        self.state = self.state.apply(&record).unwrap();
        self.log.push(record);
    }
}

/// A ledger of one DNS sink that has processed everything and owes only these plans.
pub(crate) fn ledger(state: &State, owes: &[&str]) -> Ledger {
    let mut ledger = Ledger::default();
    let sink = Sink {
        id: SinkId::new("dns/local"),
        plane: Plane::Dns,
        kind: "dns".to_owned(),
        version: None,
        plans: None,
        since: Some(Timestamp::default()),
        left: None,
        acked: state.token(),
        owes: owes.iter().map(|plan| parsed(plan)).collect(),
        nack: None,
    };
    ledger.set(Plane::Dns, Standing { through: state.token(), sinks: Arc::new([Arc::new(sink)]) });
    ledger
}
