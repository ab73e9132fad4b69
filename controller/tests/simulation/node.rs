//! One controller: its core, what it still has to do, and what is under way to the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use controller::core::expected::{CELL, Expected};
use controller::core::{Asked, Core, Input, Output, ReplyTo};
use controller::store::{Memory, Store, Urgency};
use futures::FutureExt;
use plan::{CauseSummary, Mode, Plane, Put, Record, State, Token};

use crate::client::{Stage, is_rollback};
use crate::oracle::{Rule, Violation, hold};
use crate::sinks::Planes;
use crate::world::{Plant, World};

/// A controller that lives.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) core: Core,
    pub(crate) store: Memory,
    pub(crate) booted: Duration,
    /// What the core said and what is not done yet, in order.
    pub(crate) outbox: VecDeque<Output>,
    pub(crate) work: Option<Work>,
    pub(crate) keep: Option<Vec<u8>>,
    pub(crate) sinks_version: Option<u64>,
    /// The uptime at which it wants to be woken.
    pub(crate) wake: Option<Duration>,
    /// Who waits for which answer.
    pub(crate) asks: BTreeMap<u64, usize>,
    /// Rollbacks that were handed in and are not answered.
    pub(crate) rollbacks: BTreeSet<usize>,
    pub(crate) published: Token,
    pub(crate) planes: Planes,
    /// With a fault planted: rollbacks that wait their turn like everyone.
    pub(crate) held: VecDeque<usize>,
    /// With a fault planted: automation that insists.
    pub(crate) stubborn: Vec<Record>,
}

/// What is under way to the store.
#[derive(Debug)]
pub(crate) enum Work {
    Append {
        batch: Vec<Record>,
        urgency: Urgency,
    },
    Reload {
        after: Token,
        reopen: bool,
    },
    /// Carried out; the answer is on its way back.
    Answer {
        input: Input,
        batch: Vec<Record>,
    },
}

impl World {
    /// A controller starts from what the store holds.
    pub(crate) fn boot(&mut self, node: usize) -> Result<(), Violation> {
        let store = self.store.another();
        let loaded = store.load().now_or_never().unwrap().unwrap();
        let mut state = State::empty();
        for record in &loaded.tail {
            state = state
                .apply(record)
                .map_err(|broken| Violation { rule: Rule::OneChain, detail: broken.to_string() })?;
        }
        let cell = store.cell(CELL).now_or_never().unwrap().unwrap();
        let expected = cell.as_ref().map(|cell| Expected::decode(&cell.bytes).unwrap());
        let state = Arc::new(state);
        self.note(format!("controller {node} starts at {}", state.token()));
        let snapshot = Arc::clone(state.snapshot());
        let planes = Planes {
            mesh_inbox: Some(Arc::clone(&snapshot)),
            dns_inbox: Some(snapshot),
            ..Planes::default()
        };
        self.nodes[node] = Some(Live {
            published: state.token(),
            core: Core::new(state, expected.unwrap_or_default()),
            store,
            booted: self.uptime,
            outbox: VecDeque::new(),
            work: None,
            keep: None,
            sinks_version: cell.map(|cell| cell.version),
            wake: None,
            asks: BTreeMap::new(),
            rollbacks: BTreeSet::new(),
            planes,
            held: VecDeque::new(),
            stubborn: Vec::new(),
        });
        self.feed(node, Input::Wake)
    }

    /// A controller dies at once. What is under way to the store may still arrive there.
    pub(crate) fn crash(&mut self, node: usize) {
        let Some(live) = self.nodes[node].take() else { return };
        self.note(format!("controller {node} dies"));
        let unpublished = live.outbox.iter().any(|output| matches!(output, Output::Publish(_)));
        let committed =
            matches!(&live.work, Some(Work::Answer { input: Input::Appended(Ok(())), .. }));
        if unpublished || committed {
            self.seen.note("crash between commit and publish");
        }
        match live.work {
            Some(Work::Append { batch, urgency }) => {
                self.seen.note("crash with an append in flight");
                if self.rng.chance(600) {
                    self.zombies.push((live.store, batch, urgency));
                }
            }
            Some(Work::Reload { .. } | Work::Answer { .. }) | None => {}
        }
        for op in &mut self.ops {
            if op.stage == (Stage::Sent { node }) {
                // Whoever asked hears nothing: some ask again, with the same key.
                let keyed = op.ask.key.is_some();
                let again = is_rollback(&op.ask) || (keyed && self.rng.chance(700));
                op.stage = if again { Stage::Waiting } else { Stage::Over };
            }
        }
        for sink in &mut self.sinks {
            if sink.connected == Some(node) {
                sink.connected = None;
            }
        }
    }

    /// Hands an ask to a controller.
    pub(crate) fn send(&mut self, op: usize, node: usize) -> Result<(), Violation> {
        let said = format!("op {op} to controller {node}: {:?}", self.ops[op].ask.command);
        self.note(said);
        self.ops[op].stage = Stage::Sent { node };
        self.ops[op].tries += 1;
        let rollback = is_rollback(&self.ops[op].ask);
        let not_next = self.plant == Some(Plant::RollbackNotNext);
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        if rollback {
            live.rollbacks.insert(op);
        }
        if rollback && not_next && (live.work.is_some() || live.core.waiting() > 0) {
            live.held.push_back(op);
            return Ok(());
        }
        self.hand_in(op, node)
    }

    pub(crate) fn hand_in(&mut self, op: usize, node: usize) -> Result<(), Violation> {
        self.last_reply += 1;
        let reply = self.last_reply;
        let asked = Box::new(Asked::from(self.ops[op].ask.clone()));
        if let Some(live) = self.nodes[node].as_mut() {
            live.asks.insert(reply, op);
        }
        self.feed(node, Input::Ask(asked, ReplyTo(reply)))
    }

    /// One input for a core; its outputs wait to be done, one by one.
    pub(crate) fn feed(&mut self, node: usize, input: Input) -> Result<(), Violation> {
        let (now, uptime) = (self.wall, self.uptime);
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        let outputs = live.core.handle(input, now, uptime.saturating_sub(live.booted));
        for output in outputs {
            if let Output::Append(batch, _) = &output {
                let batch = batch.clone();
                self.begins(node, &batch)?;
            }
            let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
            if let Output::Reply(to, _) = &output
                && let Some(op) = live.asks.get(&to.0)
            {
                live.rollbacks.remove(op);
            }
            live.outbox.push_back(output);
        }
        Ok(())
    }

    /// A core wants to append: is it the rollback's turn, and may automation act?
    fn begins(&mut self, node: usize, batch: &[Record]) -> Result<(), Violation> {
        let Some(live) = self.nodes[node].as_ref() else { return Ok(()) };
        let rollback = |record: &Record| {
            matches!(
                &record.cause,
                CauseSummary::Operator { command, .. } if command.starts_with("rollback")
            )
        };
        let waits = live.rollbacks.iter().next().copied();
        let others = batch.iter().find(|record| !rollback(record)).map(|record| &record.cause);
        hold(Rule::RollbackIsNext, waits.is_none() || others.is_none(), || {
            format!("rollback {waits:?} waits at controller {node}, which appends {others:?}")
        })?;
        let several = batch.len() > 1;
        for record in batch {
            self.may_act(node, record)?;
        }
        if several {
            self.seen.note("several commands in one append");
        }
        Ok(())
    }

    /// Automation moves on only once every expected sink holds the step before.
    fn may_act(&mut self, node: usize, record: &Record) -> Result<(), Violation> {
        let (CauseSummary::Automation { .. }, Some(live)) = (&record.cause, &self.nodes[node])
        else {
            return Ok(());
        };
        let state = live.core.state();
        for put in &record.puts {
            let Put::Mode { plan, mode } = put else { continue };
            let Some(at) = state.plan(plan).filter(|_| !matches!(mode, Mode::Expired(_))) else {
                continue;
            };
            let leaves = state.snapshot().services.iter().filter(|leaf| leaf.id.plan == *plan);
            let newest = leaves.map(|leaf| leaf.since).max().unwrap_or_default();
            for sink in self.sinks.iter().filter(|sink| self.listed.contains(&sink.id)) {
                hold(Rule::AutomationOnlyWhenConverged, sink.held >= newest, || {
                    let mode = at.mode;
                    format!("{} holds {}, {plan} is {mode:?} at {newest}", sink.id, sink.held)
                })?;
            }
            if self.nodes.len() == 1 {
                // What it relied on once, no restart may lose.
                let ledger = &live.core.facts().ledger;
                let relied = ledger.expected(Plane::Mesh, plan).map(|sink| sink.id.clone());
                self.listed.extend(relied);
            }
        }
        Ok(())
    }
}
