//! A record in the making.

use crate::command::Override;
use crate::name::{PlanName, ServiceId, ServiceName};
use crate::record::Put;
use crate::split::Split;
use crate::state::{Mode, PlanState};

/// What a record would change. Without a put nothing would, and there is no record.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) puts: Vec<Put>,
    pub(super) notes: Vec<String>,
    /// The plans that were asked about, for an answer without a record.
    pub(super) about: Vec<PlanName>,
}

impl Draft {
    /// Nothing yet, about this plan.
    pub(super) fn about(plan: &PlanName) -> Self {
        Self { about: vec![plan.clone()], ..Self::default() }
    }

    /// Puts a mode, if it is another.
    pub(super) fn mode(&mut self, plan: &PlanState, mode: Mode) {
        if plan.mode != mode {
            self.puts.push(Put::Mode { plan: plan.spec.name.clone(), mode });
        }
    }

    /// Puts splits, each if it is another.
    pub(super) fn splits<'a>(
        &mut self,
        plan: &PlanState,
        moves: impl IntoIterator<Item = (&'a ServiceName, &'a Split)>,
    ) {
        for (name, split) in moves {
            if plan.services.get(name).is_some_and(|service| service.split != *split) {
                let service = ServiceId { plan: plan.spec.name.clone(), service: name.clone() };
                self.puts.push(Put::Split { service, split: *split });
            }
        }
    }

    /// An operator has said where traffic goes: a restored plan waits no longer.
    pub(super) fn acted(&mut self, plan: &PlanState) {
        if plan.restored {
            self.puts.push(Put::Restored { plan: plan.spec.name.clone(), waits: false });
        }
    }

    /// Tells which limits were overridden.
    pub(super) fn overridden(&mut self, used: &[Override]) {
        self.notes.extend(used.iter().map(|limit| format!("{limit} overridden")));
    }
}
