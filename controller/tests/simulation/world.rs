//! The world of one seed: who is in it, and what may happen next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use controller::core::Input;
use controller::store::{Memory, Urgency};
use plan::{
    Actor, Ask, Command, Key, Observation, Record, Scope, ServiceId, Side, SinkId, Split, Timestamp,
};

use crate::client::{self, Op, Stage, shop};
use crate::node::{Live, Work};
use crate::oracle::{Oracle, Rule, Seen, Violation, hold};
use crate::rng::Rng;
use crate::sinks::{MeshSink, NEVER};

/// Things that happen before the faults end.
const STEPS: u32 = 700;

/// Things that may happen after that until everything has to be quiet.
const CALM_STEPS: u32 = 6_000;

/// Commands of one seed.
const OPS: usize = 28;

/// Faults planted on purpose, each between a core and its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// States are published when their append begins.
    PublishEarly,
    /// Asks are answered when their append begins.
    ReplyEarly,
    /// Rollbacks wait in the common queue.
    RollbackNotNext,
    /// An unknown outcome is taken for a failure.
    UnknownIsFailed,
    /// Automation that lost a race is appended again as it was, on the new head.
    AutomationOnOldBase,
}

/// Everything in one seed.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) plant: Option<Plant>,
    pub(crate) history: Vec<String>,
    pub(crate) seen: Seen,
    pub(crate) oracle: Oracle,
    pub(crate) store: Memory,
    /// Since the world began, on a clock that never jumps.
    pub(crate) uptime: Duration,
    pub(crate) wall: Timestamp,
    pub(crate) nodes: Vec<Option<Live>>,
    pub(crate) zombies: Vec<(Memory, Vec<Record>, Urgency)>,
    pub(crate) sinks: Vec<MeshSink>,
    /// The sinks on the durable list, and those that automation relied on.
    pub(crate) listed: BTreeSet<SinkId>,
    pub(crate) ops: Vec<Op>,
    pub(crate) last_reply: u64,
    pub(crate) disk_full: bool,
    /// No more faults.
    pub(crate) calm: bool,
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Act {
    Perform(usize),
    Store(usize),
    Keep(usize),
    Wake(usize),
    Dns(usize),
    Mesh(usize),
    HandIn(usize),
    Hint(usize),
    Crash(usize),
    Boot(usize),
    NewOp,
    SendOp(usize),
    SinkTakes(usize),
    SinkConnects(usize),
    SinkLeaves(usize),
    Resend(usize),
    Observe,
    Time,
    ClockJump,
    Disk,
    Zombie,
}

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut rng = Rng::new(seed);
        let controllers = if rng.chance(400) { 2 } else { 1 };
        let sink = |index| MeshSink {
            id: SinkId::new(&format!("mesh/{index}")),
            held: NEVER,
            snapshot: None,
            acked_plan: false,
            connected: None,
            inbox: Vec::new(),
            refuses: false,
        };
        Self {
            rng,
            plant,
            history: Vec::new(),
            seen: Seen::default(),
            oracle: Oracle::new(),
            store: Memory::new(),
            uptime: Duration::ZERO,
            wall: Timestamp::from_millis(1_700_000_000_000),
            nodes: (0..controllers).map(|_| None).collect(),
            zombies: Vec::new(),
            sinks: (0..2).map(sink).collect(),
            listed: BTreeSet::new(),
            ops: Vec::new(),
            last_reply: 0,
            disk_full: false,
            calm: false,
        }
    }

    pub(crate) fn note(&mut self, what: String) {
        self.history.push(format!("{:>9.3} {what}", self.uptime.as_secs_f64()));
    }

    /// From the first start to the last rollback.
    pub(crate) fn live(&mut self) -> Result<(), Violation> {
        if self.nodes.len() == 2 {
            self.seen.note("two controllers");
        }
        for node in 0..self.nodes.len() {
            self.boot(node)?;
        }
        for _ in 0..STEPS {
            let act = self.choose();
            self.act(act)?;
        }
        self.end()
    }

    /// The faults end: everyone is answered, and a rollback of all reaches everyone.
    fn end(&mut self) -> Result<(), Violation> {
        self.note("the faults end".to_owned());
        self.calm = true;
        self.disk_full = false;
        self.store.drain();
        self.quiet()?;
        let name = "the-last".to_owned();
        let key = Some(Key::try_from(name.clone()).unwrap());
        let command = Command::Rollback(Scope::All);
        let actor = Actor::new("operator");
        let ask = Ask { command, if_revision: None, key, actor, reason: Some(name) };
        let last = self.ops.len();
        self.ops.push(Op { ask, tries: 0, stage: Stage::Waiting, lost_race: false });
        self.quiet()?;
        hold(Rule::Answered, self.ops[last].stage == Stage::Over, || "the last rollback".into())?;
        let Some(plan) = self.oracle.state.plan(&shop()) else { return Ok(()) };
        hold(Rule::RollbackIsDone, plan.all_at(Split::LEGACY), || format!("{:?}", plan.services))?;
        for sink in &self.sinks {
            let snapshot = sink.snapshot.as_ref();
            let back = snapshot.is_some_and(|snapshot| {
                snapshot.services.iter().all(|s| s.serving.split() == Split::LEGACY)
            });
            hold(Rule::RollbackConverges, back, || format!("{} holds {}", sink.id, sink.held))?;
        }
        Ok(())
    }

    /// Lets everything come to rest.
    fn quiet(&mut self) -> Result<(), Violation> {
        for _ in 0..CALM_STEPS {
            let busy = self.busy();
            if busy.is_empty() {
                return Ok(());
            }
            let act = busy[self.rng.index(busy.len())];
            self.act(act)?;
        }
        let waiting: Vec<usize> = self.waiting_ops().collect();
        hold(Rule::Answered, false, || format!("no rest; asks that wait: {waiting:?}"))
    }

    fn waiting_ops(&self) -> impl Iterator<Item = usize> {
        let ops = self.ops.iter().enumerate();
        ops.filter(|(_, op)| op.stage != Stage::Over).map(|(index, _)| index)
    }

    /// What is left to do when no more faults happen.
    fn busy(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for (node, live) in self.nodes.iter().enumerate() {
            match live {
                Some(live) => acts.extend(self.of_node(node, live).into_iter().map(|(act, _)| act)),
                None => acts.push(Act::Boot(node)),
            }
        }
        acts.retain(|act| !matches!(act, Act::Crash(_) | Act::Hint(_)));
        let head = self.oracle.state.token();
        for (node, live) in self.nodes.iter().enumerate() {
            let behind = live.as_ref().is_some_and(|live| live.core.state().token() < head);
            if behind && acts.is_empty() {
                // A reload that failed is tried again in a while.
                acts.extend([Act::Hint(node), Act::Time]);
            }
        }
        let waiting = self.ops.iter().enumerate().filter(|(_, op)| op.stage == Stage::Waiting);
        acts.extend(waiting.map(|(index, _)| Act::SendOp(index)));
        acts.extend((0..self.zombies.len().min(1)).map(|_| Act::Zombie));
        for (index, sink) in self.sinks.iter().enumerate() {
            if !sink.inbox.is_empty() {
                acts.push(Act::SinkTakes(index));
            } else if sink.connected.is_none() {
                acts.push(Act::SinkConnects(index));
            } else if sink.held < head && acts.is_empty() {
                acts.push(Act::Resend(index));
            }
        }
        let unanswered = self.ops.iter().any(|op| op.stage != Stage::Over);
        if acts.is_empty() && unanswered {
            acts.push(Act::Time);
        }
        acts
    }

    fn of_node(&self, node: usize, live: &Live) -> Vec<(Act, u64)> {
        if !live.outbox.is_empty() {
            return vec![(Act::Perform(node), 300), (Act::Crash(node), 3)];
        }
        let uptime = self.uptime.saturating_sub(live.booted);
        let idle = live.work.is_none() && live.core.waiting() == 0;
        let acts = [
            (live.work.is_some(), Act::Store(node), 60),
            (live.keep.is_some(), Act::Keep(node), 30),
            (live.wake.is_some_and(|wake| wake <= uptime), Act::Wake(node), 100),
            (live.planes.dns_inbox.is_some(), Act::Dns(node), 40),
            (live.planes.mesh_inbox.is_some(), Act::Mesh(node), 40),
            (!live.held.is_empty() && idle, Act::HandIn(node), 40),
            (self.nodes.len() > 1, Act::Hint(node), 8),
            (
                true,
                Act::Crash(node),
                if matches!(live.work, Some(Work::Append { .. })) { 4 } else { 1 },
            ),
        ];
        acts.into_iter().filter(|(may, ..)| *may).map(|(_, act, weight)| (act, weight)).collect()
    }

    fn choose(&mut self) -> Act {
        let mut acts: Vec<(Act, u64)> = Vec::new();
        for (node, live) in self.nodes.iter().enumerate() {
            match live {
                Some(live) => acts.extend(self.of_node(node, live)),
                None => acts.push((Act::Boot(node), 40)),
            }
        }
        if self.ops.len() < OPS {
            acts.push((Act::NewOp, 16));
        }
        for (index, op) in self.ops.iter().enumerate() {
            if op.stage == Stage::Waiting {
                acts.push((Act::SendOp(index), 30));
            }
        }
        for (index, sink) in self.sinks.iter().enumerate() {
            if !sink.inbox.is_empty() {
                acts.push((Act::SinkTakes(index), 60));
            }
            match sink.connected {
                None => acts.push((Act::SinkConnects(index), 30)),
                Some(_) => acts.extend([(Act::SinkLeaves(index), 1), (Act::Resend(index), 8)]),
            }
        }
        acts.extend([(Act::Observe, 4), (Act::Time, 40), (Act::ClockJump, 2), (Act::Disk, 2)]);
        if !self.zombies.is_empty() {
            acts.push((Act::Zombie, 10));
        }
        let total = acts.iter().map(|(_, weight)| weight).sum();
        let mut at = self.rng.below(total);
        let chosen = acts.into_iter().find(|(_, weight)| {
            let found = at < *weight;
            at = at.saturating_sub(*weight);
            found
        });
        chosen.map_or(Act::Time, |(act, _)| act)
    }

    fn act(&mut self, act: Act) -> Result<(), Violation> {
        match act {
            Act::Perform(node) => self.perform(node),
            Act::Store(node) => self.go_on(node),
            Act::Keep(node) => self.keep(node),
            Act::Wake(node) => {
                if let Some(live) = self.nodes[node].as_mut() {
                    live.wake = None;
                }
                self.feed(node, Input::Wake)
            }
            Act::Dns(node) => self.dns_takes(node),
            Act::Mesh(node) => self.mesh_takes(node),
            Act::HandIn(node) => {
                let op = self.nodes[node].as_mut().and_then(|live| live.held.pop_front());
                op.map_or(Ok(()), |op| self.hand_in(op, node))
            }
            Act::Hint(node) => self.feed(node, Input::Moved(self.oracle.state.token())),
            Act::Crash(node) => {
                self.crash(node);
                Ok(())
            }
            Act::Boot(node) => self.boot(node),
            Act::NewOp => {
                self.new_op();
                Ok(())
            }
            Act::SendOp(op) => match self.some_node() {
                Some(node) => self.send(op, node),
                None => Ok(()),
            },
            Act::SinkTakes(sink) => self.sink_takes(sink),
            Act::SinkConnects(sink) => match self.some_node() {
                Some(node) => self.sink_connects(sink, node),
                None => Ok(()),
            },
            Act::SinkLeaves(sink) => self.sink_leaves(sink),
            Act::Resend(sink) => {
                self.resend(sink);
                Ok(())
            }
            Act::Observe => self.observe(),
            Act::Time => {
                self.pass_time();
                Ok(())
            }
            Act::ClockJump => {
                let hours = self.rng.below(49);
                let millis = i64::try_from(hours).unwrap() * 3_600_000 - 86_400_000;
                self.wall = Timestamp::from_millis(self.wall.millis() + millis);
                self.note(format!("the wall clock jumps to {}", self.wall));
                Ok(())
            }
            Act::Disk => {
                self.disk_full = !self.disk_full && self.rng.chance(500);
                if self.disk_full {
                    self.store.fill()
                } else {
                    self.store.drain()
                }
                self.note(format!("the disk is full: {}", self.disk_full));
                Ok(())
            }
            Act::Zombie => self.zombie_arrives(),
        }
    }

    fn some_node(&mut self) -> Option<usize> {
        let living: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].is_some()).collect();
        if living.is_empty() { None } else { Some(living[self.rng.index(living.len())]) }
    }

    fn new_op(&mut self) {
        let Some(node) = self.some_node() else { return };
        let Some(live) = self.nodes[node].as_ref() else { return };
        let state = Arc::clone(live.core.state());
        let ask = client::ask(&mut self.rng, &state, self.ops.len());
        self.ops.push(Op { ask, tries: 0, stage: Stage::Waiting, lost_race: false });
    }

    fn observe(&mut self) -> Result<(), Violation> {
        let Some(node) = self.some_node() else { return Ok(()) };
        let plan = client::plan(10);
        let service = &plan.services[self.rng.index(plan.services.len())];
        let (side, all) = if self.rng.chance(500) {
            (Side::Legacy, &service.legacy)
        } else {
            (Side::Target, &service.target)
        };
        let failing = all.iter().filter(|_| self.rng.chance(300)).copied().collect();
        let service = ServiceId { plan: shop(), service: service.name.clone() };
        self.feed(node, Input::Observed(Observation::Health { service, side, failing }))
    }

    /// Time passes, mostly until somebody wants to be woken.
    fn pass_time(&mut self) {
        let wakes = self.nodes.iter().flatten().filter_map(|live| Some(live.booted + live.wake?));
        let next = wakes.filter(|wake| *wake > self.uptime).min();
        let millis = Duration::from_millis(self.rng.below(5_000));
        let until = match next {
            Some(next) if self.calm || self.rng.chance(600) => next,
            _ => self.uptime + millis,
        };
        let passed = until.saturating_sub(self.uptime);
        self.wall = self.wall.after(passed);
        self.uptime = until;
        let away = self.sinks.iter().any(|sink| sink.acked_plan && sink.connected.is_none());
        let runs = self
            .oracle
            .state
            .plan(&shop())
            .is_some_and(|plan| matches!(plan.mode, plan::Mode::Running(_)));
        if away && runs && passed > Duration::from_secs(1) {
            self.seen.note("automation held for a sink that is away");
        }
    }
}
