//! What of all that is due may be sent now.

use std::sync::Arc;
use std::time::Duration;

use plan::PlanName;

use crate::name::Name;
use crate::session::Variant;
use crate::session::due::Due;
use crate::session::encode;
use crate::session::gate::{Gate, Gates, PATIENCE};
use crate::session::watch::Watch;
use crate::table::{Resource, Table};

/// Removals of clusters and endpoint sets come after everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// All else.
    Updates,
    /// Those.
    Removals,
}

/// What was picked of one type.
#[derive(Debug, Default)]
pub(super) struct Picked {
    /// Sorted by name; `None`: it is gone.
    pub(super) send: Vec<(Name, Option<Arc<Resource>>)>,
    /// Due no more: there is nothing to say of them.
    pub(super) settled: Vec<Name>,
    /// Since when they wait at a gate, where that is news.
    pub(super) waiting: Vec<(Name, Option<Duration>)>,
    /// When the first gate opens by itself.
    pub(super) wake: Option<Duration>,
    /// Something in `send` does not wait for acks.
    pub(super) urgent: bool,
}

/// What may be picked.
#[derive(Debug)]
pub(super) struct Picker<'a> {
    pub(super) gates: Gates<'a>,
    pub(super) table: &'a Table,
    pub(super) variant: Variant,
    pub(super) pass: Pass,
    /// The most bytes of a Delta response.
    pub(super) bytes: usize,
    pub(super) now: Duration,
}

impl Picker<'_> {
    /// Picks from one type of the stream.
    pub(super) fn pick(&self, watch: &Watch) -> Picked {
        let mut picked = Picked::default();
        let mut bytes = 0_usize;
        let mut group: Option<(bool, &[PlanName])> = None;
        for (name, due) in &watch.due {
            if due.behind.is_some() {
                continue;
            }
            let resource = self.table.of(name);
            if resource.is_none() && self.table.is_partial() {
                // It may be there: known once the table is whole, which wakes the stream.
                continue;
            }
            if resource.is_none() && self.is_silent(watch) {
                picked.settled.push(name.clone());
                continue;
            }
            let is_of_group = match group {
                Some((true, plans)) => due.alone && *plans == *due.plans,
                Some((false, _)) => !due.alone,
                None => true,
            };
            if !is_of_group || !self.may_go(watch, name, due, resource, &mut picked) {
                continue;
            }
            bytes = bytes.saturating_add(
                resource.map_or_else(|| encode::removed_len(name), |r| r.encoded.delta().len()),
            );
            if self.variant == Variant::Delta && !picked.send.is_empty() && bytes > self.bytes {
                break;
            }
            group.get_or_insert((due.alone, &due.plans));
            picked.urgent |= due.urgent;
            picked.send.push((name.clone(), resource.cloned()));
        }
        picked
    }

    /// Whether a type's removals are left unsaid: state of the world says only of clusters and
    /// listeners what is gone.
    fn is_silent(&self, watch: &Watch) -> bool {
        self.variant == Variant::Sotw && !watch.kind.is_whole()
    }

    fn may_go(
        &self,
        watch: &Watch,
        name: &Name,
        due: &Due,
        resource: Option<&Arc<Resource>>,
        picked: &mut Picked,
    ) -> bool {
        let gate = match resource {
            Some(resource) if resource.needs.is_empty() => Gate::Open,
            Some(resource) => self.gates.of(resource),
            None if !watch.kind.goes_last() || (due.asked && !due.held) => Gate::Open,
            None if self.pass == Pass::Updates => return false,
            None => self.gates.removal(watch.kind, name, due),
        };
        match gate {
            Gate::Open => true,
            Gate::Refused => {
                // Patience begins when there is something to wait for again.
                if due.waits.is_some() {
                    picked.waiting.push((name.clone(), None));
                }
                false
            }
            Gate::Closed => {
                let since = due.waits.unwrap_or_else(|| {
                    picked.waiting.push((name.clone(), Some(self.now)));
                    self.now
                });
                let opens = since.saturating_add(PATIENCE);
                if opens <= self.now {
                    return true;
                }
                picked.wake = Some(picked.wake.map_or(opens, |wake| wake.min(opens)));
                false
            }
        }
    }
}
