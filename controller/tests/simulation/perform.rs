//! Doing what cores say, one thing at a time, and carrying out what reached the store.

use std::sync::Arc;

use controller::core::expected::CELL;
use controller::core::{Input, Output};
use controller::store::{AppendError, Fault, ROWS_MAX, Store, StoreError, Urgency};
use futures::FutureExt;
use plan::{CauseSummary, Done, Record, State, Token};

use crate::node::Work;
use crate::oracle::{Rule, Violation, hold};
use crate::world::{Plant, World};

impl World {
    /// The next thing that a core said.
    pub(crate) fn perform(&mut self, node: usize) -> Result<(), Violation> {
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        let Some(output) = live.outbox.pop_front() else { return Ok(()) };
        match output {
            Output::Append(batch, urgency) => {
                self.planted_at_append(node, &batch)?;
                let tokens: Vec<String> = batch.iter().map(|r| r.token.to_string()).collect();
                self.note(format!("controller {node} appends {} {urgency:?}", tokens.join(" ")));
                self.work(node, Work::Append { batch, urgency });
            }
            Output::Reload { after, reopen } => self.work(node, Work::Reload { after, reopen }),
            Output::Publish(state) => self.publish(node, &state)?,
            Output::Reply(to, answer) => {
                let op = live.asks.remove(&to.0);
                if let Some(op) = op {
                    self.answered(op, &answer)?;
                }
            }
            Output::Keep(list) => live.keep = Some(list),
            Output::Wake(at) => live.wake = Some(at),
            Output::Forgotten(..) | Output::Stopped => {}
        }
        Ok(())
    }

    fn work(&mut self, node: usize, work: Work) {
        if let Some(live) = self.nodes[node].as_mut() {
            assert!(live.work.is_none(), "one append or reload at a time");
            live.work = Some(work);
        }
    }

    /// Faults planted between the core and the store.
    fn planted_at_append(&mut self, node: usize, batch: &[Record]) -> Result<(), Violation> {
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        match self.plant {
            Some(Plant::PublishEarly) => {
                let mut state: State = live.core.state().as_ref().clone();
                for record in batch {
                    state = state.apply(record).unwrap();
                }
                self.publish(node, &Arc::new(state))
            }
            Some(Plant::ReplyEarly) => {
                let op = batch.iter().find_map(|record| {
                    let op = self.ops.iter().position(|op| op.is_in(record))?;
                    Some((op, Done::of(record)))
                });
                op.map_or(Ok(()), |(op, done)| self.answered(op, &Ok(done)))
            }
            _ => Ok(()),
        }
    }

    fn publish(&mut self, node: usize, state: &Arc<State>) -> Result<(), Violation> {
        let token = state.token();
        let durable = self.oracle.digests.get(&token) == Some(&state.digest());
        hold(Rule::PublishedIsDurable, durable, || {
            format!("controller {node} serves {token}, which is not in the log")
        })?;
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        let before = live.published;
        hold(Rule::Monotone, token > before, || {
            format!("controller {node} serves {token} after {before}")
        })?;
        live.published = token;
        live.planes.mesh_inbox = Some(Arc::clone(state.snapshot()));
        live.planes.dns_inbox = Some(Arc::clone(state.snapshot()));
        self.note(format!("controller {node} publishes {token}"));
        Ok(())
    }

    /// Carries out what is under way to the store, or brings its answer back.
    pub(crate) fn go_on(&mut self, node: usize) -> Result<(), Violation> {
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        let Some(work) = live.work.take() else { return Ok(()) };
        match work {
            Work::Append { batch, urgency } => self.append(node, batch, urgency),
            Work::Reload { after, reopen } => self.reload(node, after, reopen),
            Work::Answer { mut input, batch } => {
                self.planted_at_answer(node, &mut input, &batch);
                self.note(format!("controller {node} hears {}", brief(&input)));
                self.feed(node, input)
            }
        }
    }

    fn append(
        &mut self,
        node: usize,
        batch: Vec<Record>,
        urgency: Urgency,
    ) -> Result<(), Violation> {
        let fault = self.rng.below(1_000);
        let Some(live) = self.nodes[node].as_ref() else { return Ok(()) };
        let fault = match fault {
            _ if self.calm => None,
            0..60 => Some(Fault::UnknownWritten),
            60..110 => Some(Fault::UnknownLost),
            110..130 => Some(Fault::Failed),
            130..140 => Some(Fault::Full),
            140..150 => Some(Fault::Stale),
            _ => None,
        };
        fault.into_iter().for_each(|fault| live.store.inject(fault));
        let result = live.store.append(&batch, urgency).now_or_never().unwrap();
        match (&result, fault) {
            (Err(AppendError::Stale { .. }), None) => {
                self.seen.note("stale append refused");
                self.lost_race(&batch);
            }
            (Err(AppendError::Unknown), Some(Fault::UnknownWritten)) => {
                self.seen.note("unknown outcome: written");
            }
            (Err(AppendError::Unknown), _) => self.seen.note("unknown outcome: lost"),
            _ => {}
        }
        self.note(format!("  the store: {fault:?} {result:?}"));
        self.work(node, Work::Answer { input: Input::Appended(result), batch });
        self.read_log()
    }

    fn lost_race(&mut self, batch: &[Record]) {
        for record in batch {
            let op = self.ops.iter_mut().find(|op| op.is_in(record));
            if let Some(op) = op {
                op.lost_race = true;
            }
        }
    }

    fn reload(&mut self, node: usize, after: Token, reopen: bool) -> Result<(), Violation> {
        let fails = self.rng.chance(150) && !self.calm;
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        let result = if fails {
            Err(StoreError::Stopped)
        } else {
            if reopen {
                live.store.reload().now_or_never().unwrap().unwrap();
            }
            for mut record in std::mem::take(&mut live.stubborn) {
                let head = live.store.head().now_or_never().unwrap().unwrap();
                record.token = head.token.next();
                record.parent = head.digest;
                let batch = [record];
                let again = live.store.append(&batch, Urgency::Ordinary);
                let _ = again.now_or_never().unwrap();
            }
            let rows = live.store.rows(after, ROWS_MAX).now_or_never().unwrap();
            rows.map(|rows| rows.iter().map(|row| Record::decode(&row.bytes).unwrap()).collect())
        };
        self.work(node, Work::Answer { input: Input::Reloaded(result), batch: Vec::new() });
        self.read_log()
    }

    fn planted_at_answer(&mut self, node: usize, input: &mut Input, batch: &[Record]) {
        let Some(live) = self.nodes[node].as_mut() else { return };
        match (self.plant, &input) {
            (Some(Plant::UnknownIsFailed), Input::Appended(Err(AppendError::Unknown))) => {
                live.store.reload().now_or_never().unwrap().unwrap();
                *input = Input::Appended(Err(StoreError::Stopped.into()));
            }
            (Some(Plant::AutomationOnOldBase), Input::Appended(Err(AppendError::Stale { .. }))) => {
                let by_itself =
                    |record: &&Record| matches!(record.cause, CauseSummary::Automation { .. });
                live.stubborn.extend(batch.iter().filter(by_itself).cloned());
            }
            _ => {}
        }
    }

    /// An append of a dead controller reaches the store.
    pub(crate) fn zombie_arrives(&mut self) -> Result<(), Violation> {
        let at = self.rng.index(self.zombies.len());
        let (store, batch, urgency) = self.zombies.remove(at);
        let result = store.append(&batch, urgency).now_or_never().unwrap();
        self.note(format!("an append of a dead controller arrives: {result:?}"));
        match result {
            Ok(()) => self.seen.note("append of a dead controller landed"),
            Err(AppendError::Stale { .. }) => {
                self.seen.note("append of a dead controller refused");
            }
            Err(_) => {}
        }
        self.read_log()
    }

    /// Writes the list of expected sinks.
    pub(crate) fn keep(&mut self, node: usize) -> Result<(), Violation> {
        let fails = self.rng.chance(100) && !self.calm;
        let Some(live) = self.nodes[node].as_mut() else { return Ok(()) };
        let Some(list) = live.keep.take() else { return Ok(()) };
        let done = if fails {
            false
        } else {
            let swap = live.store.swap_cell(CELL, live.sinks_version, &list);
            match swap.now_or_never().unwrap() {
                Ok(version) => {
                    live.sinks_version = Some(version);
                    true
                }
                Err(controller::store::SwapError::Moved { version }) => {
                    live.sinks_version = version;
                    false
                }
                Err(_) => false,
            }
        };
        if done && self.nodes.len() == 1 {
            // With two controllers each knows the sinks that it has met.
            let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
            let ids = list["sinks"].as_object().unwrap().keys();
            self.listed.extend(ids.map(|id| plan::SinkId::new(id)));
        }
        self.feed(node, Input::Kept(done))
    }

    /// The oracle reads what is new in the log.
    pub(crate) fn read_log(&mut self) -> Result<(), Violation> {
        let reader = self.store.another();
        let after = self.oracle.state.token();
        for row in reader.rows(after, ROWS_MAX).now_or_never().unwrap().unwrap() {
            let record = Record::decode(&row.bytes).unwrap();
            self.note(format!("  log {}: {:?}", record.token, record.cause));
            self.notice(&record);
            self.oracle.read(&record, &mut self.seen)?;
        }
        Ok(())
    }

    /// Combinations that have to happen now and then.
    fn notice(&mut self, record: &Record) {
        let CauseSummary::Operator { command, .. } = &record.cause else { return };
        if command.starts_with("rollback") && self.sinks.iter().any(|sink| sink.refuses) {
            self.seen.note("nack, then rollback");
        }
        let revision = self.oracle.state.token().revision;
        let lag = self.sinks.iter().any(|sink| sink.acked_plan && sink.held.revision < revision);
        if command.starts_with("pause") && lag {
            self.seen.note("pause during a step");
        }
    }
}

fn brief(input: &Input) -> String {
    match input {
        Input::Reloaded(Ok(records)) => format!("Reloaded with {} records", records.len()),
        input => format!("{input:?}"),
    }
}
