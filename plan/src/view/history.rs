//! The log as an audit trail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Actor;
use crate::name::PlanName;
use crate::record::{CauseSummary, Put, Record};
use crate::state::{Mode, Run, Stage};
use crate::time::Timestamp;

/// One record of the log: who, what, when, why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The incarnation of the log.
    pub incarnation: u32,
    /// The record's number.
    pub revision: u64,
    /// When, by the controller's wall clock.
    pub at: Timestamp,
    /// Who caused it.
    pub kind: EntryKind,
    /// Who asked; `null` for what nobody asked.
    pub actor: Option<Actor>,
    /// What: a command line without its program, or what was seen.
    pub what: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// What else it did: services taken along, limits overridden.
    pub notes: Vec<String>,
    /// The plans that it changed.
    pub plans: Vec<PlanName>,
    /// What it changed, a line each.
    pub changes: Vec<String>,
    /// The digest of the record, 64 hexadecimal digits.
    pub digest: String,
    /// The digest of the record before.
    pub parent: String,
}

/// What caused a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Somebody asked.
    Operator,
    /// A plan acted by itself.
    Automation,
    /// Endpoints or health changed.
    Observed,
    /// The log was restored from a backup.
    Restored,
}

/// A record as an audit entry.
pub fn history(record: &Record) -> Entry {
    let mut plans: Vec<PlanName> = record.puts.iter().map(|put| put.plan().clone()).collect();
    plans.sort_unstable();
    plans.dedup();
    let mut entry = Entry {
        incarnation: record.token.incarnation,
        revision: record.token.revision,
        at: record.at,
        kind: EntryKind::Operator,
        actor: None,
        what: String::new(),
        reason: None,
        notes: Vec::new(),
        plans,
        changes: record.puts.iter().map(change).collect(),
        digest: record.digest().to_string(),
        parent: record.parent.to_string(),
    };
    tell(&record.cause, &mut entry);
    entry
}

fn tell(cause: &CauseSummary, entry: &mut Entry) {
    match cause {
        CauseSummary::Operator { actor, command, reason, notes } => {
            entry.actor = Some(actor.clone());
            entry.what.clone_from(command);
            entry.reason.clone_from(reason);
            entry.notes.clone_from(notes);
        }
        CauseSummary::Automation { command } => {
            entry.kind = EntryKind::Automation;
            entry.what.clone_from(command);
        }
        CauseSummary::Observed { what } => {
            entry.kind = EntryKind::Observed;
            entry.what = what.join("; ");
        }
        CauseSummary::Restored { actor, from } => {
            entry.kind = EntryKind::Restored;
            entry.actor = Some(actor.clone());
            entry.what = format!("restore from {from}");
        }
    }
}

/// One change in a line. The file of a plan is not repeated here: `get` shows it.
fn change(put: &Put) -> String {
    match put {
        Put::Plan(plan) => {
            format!(
                "{}: plan of {} services, {} steps",
                plan.name,
                plan.services.len(),
                plan.steps.len()
            )
        }
        Put::Mode { plan, mode } => format!("{plan}: {}", mode_words(*mode)),
        Put::Split { service, split } => format!("{service}: {split}"),
        Put::Approval { plan, gate, actor } => format!("{plan}: gate {gate} approved by {actor}"),
        Put::NoApprovals(plan) => format!("{plan}: approvals void"),
        Put::Health { service, side, failing, pool } => {
            let kept = if pool.degraded { ", the last good set is kept" } else { "" };
            let count = pool.serving.as_slice().len();
            format!("{service}: {side} has {} failing, {count} serving{kept}", failing.len())
        }
        Put::Restored { plan, waits: true } => format!("{plan}: waits for an operator"),
        Put::Restored { plan, waits: false } => format!("{plan}: an operator has acted"),
        Put::Released(plan) => format!("{plan}: its names leave"),
        Put::Deleted(plan) => format!("{plan}: deleted"),
    }
}

fn mode_words(mode: Mode) -> String {
    match mode {
        Mode::Ready => "ready".to_owned(),
        Mode::Running(Run { step, stage: Stage::Onward, .. }) => {
            format!("running, after step {step}")
        }
        Mode::Running(Run { step, stage: Stage::Bake, .. }) => format!("running, in step {step}"),
        Mode::Manual => "moved by hand".to_owned(),
        Mode::Paused(run) => format!("paused in step {}", run.step),
        Mode::Expired(run) => format!("expired, back in step {}", run.step),
        Mode::RolledBack => "rolled back".to_owned(),
        Mode::Complete => "complete".to_owned(),
        Mode::Retired => "retired".to_owned(),
    }
}
