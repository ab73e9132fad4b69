//! What an agent holds, put together: tables of plans to the leaves of this host, and to rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::rules::{self, Compiled, Host, Marks};
use bytes::Bytes;
use plan::snapshot::Service;
use plan::{PlanName, ServiceId, Split, Token};
use xds::Version;
use xds::follow::{Held, Item};
use xds::own::HostTable;

use crate::following::moved_by_restore;

/// What is held, and the host that it is for.
#[derive(Clone, Debug)]
pub(crate) struct World {
    tables: BTreeMap<PlanName, (Version, HostTable)>,
    /// This host, as it was last looked at.
    pub(crate) host: Host,
    /// Which service has which mark in flows.
    pub(crate) marks: Marks,
    /// The newest tables that anything was taken of.
    pub(super) through: Token,
}

impl World {
    /// Nothing held.
    pub(crate) fn new(host: Host, marks: Marks) -> Self {
        Self { tables: BTreeMap::new(), host, marks, through: Token::NEVER }
    }

    /// Takes up what is held; it has been checked.
    pub(crate) fn take(&mut self, held: &Held) {
        let mut tables = BTreeMap::new();
        for (name, item) in &held.resources {
            let Ok(plan) = name.as_str().parse::<PlanName>() else { continue };
            let table = match self.tables.remove(&plan) {
                Some((version, table)) if version == item.version => table,
                old => match HostTable::decode(&item.body) {
                    Ok(table) => reusing(table, old.as_ref().map(|(_, table)| table)),
                    Err(error) => {
                        tracing::error!(plan = %plan, %error, "a table held is none");
                        continue;
                    }
                },
            };
            tables.insert(plan, (item.version.clone(), table));
        }
        self.tables = tables;
        self.through = self.through.max(held.newest());
    }

    /// All leaves, sorted by id.
    pub(super) fn leaves(&self) -> Vec<Arc<Service>> {
        self.tables.values().flat_map(|(_, table)| table.services.iter().cloned()).collect()
    }

    /// Everything as one table; with `new` in place of what is held of its plan.
    pub(crate) fn merged(&self, new: Option<(&PlanName, &HostTable)>) -> HostTable {
        let mut tables: BTreeMap<&PlanName, &HostTable> =
            self.tables.iter().map(|(plan, (_, table))| (plan, table)).collect();
        tables.extend(new);
        let services = tables.values().flat_map(|table| table.services.iter().cloned()).collect();
        let egress: BTreeSet<_> =
            tables.values().flat_map(|table| table.egress.iter().copied()).collect();
        HostTable { host: String::new(), services, egress: egress.into_iter().collect() }
    }

    /// The rules for all that is held. Services that are new have marks then.
    ///
    /// # Errors
    /// Everything that this host must not, or cannot, do.
    pub(crate) fn compile(&mut self) -> Result<Compiled, String> {
        let table = self.merged(None);
        self.marks = marks(&self.marks, &table)?;
        compiled(&table, &self.host, &self.marks)
    }

    /// Judges the table of one plan beside those that are held of others.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(super) fn check(
        &self,
        name: &str,
        body: &Bytes,
        held: Option<&Item>,
    ) -> Result<(), String> {
        let plan: PlanName =
            name.parse().map_err(|_| "it is not called as a plan is".to_owned())?;
        let table = HostTable::decode(body).map_err(|error| error.to_string())?;
        if let Some(leaf) = table.services.iter().find(|leaf| leaf.id.plan != plan) {
            return Err(format!("it holds {}", leaf.id));
        }
        let old = held.and_then(|item| HostTable::decode(&item.body).ok());
        if let Some(old) = old
            && let Some(leaf) = moved_by_restore(&old.services, &table.services)
        {
            return Err(format!(
                "the controller was restored from a backup, and its {} is not what is held here: \
                 that stays until an operator acts",
                leaf.service
            ));
        }
        let merged = self.merged(Some((&plan, &table)));
        let marks = marks(&self.marks, &merged)?;
        compiled(&merged, &self.host, &marks).map(drop)
    }

    /// The plans that have any of these services at a split over 0.
    pub(super) fn above_legacy(&self, within: impl Fn(&ServiceId) -> bool) -> Vec<PlanName> {
        let above = |leaf: &Arc<Service>| leaf.serving.split() > Split::LEGACY && within(&leaf.id);
        let plans = self.tables.iter().filter(|(_, (_, table))| table.services.iter().any(above));
        plans.map(|(plan, _)| plan.clone()).collect()
    }

    /// The plans that are held.
    pub(super) fn plans(&self) -> impl Iterator<Item = &PlanName> {
        self.tables.keys()
    }
}

fn marks(marks: &Marks, table: &HostTable) -> Result<Marks, String> {
    let with_address = table.services.iter().filter(|leaf| leaf.spec.address.is_some());
    marks.assign(with_address.map(|leaf| &leaf.id)).map_err(|full| full.to_string())
}

/// The most reasons that are told at once: an operator reads them on one line.
const REASONS_MAX: usize = 5;

fn compiled(table: &HostTable, host: &Host, marks: &Marks) -> Result<Compiled, String> {
    rules::compile(table, host, marks).map_err(|rejects| {
        let more = rejects.len().saturating_sub(REASONS_MAX);
        let mut reasons: Vec<String> =
            rejects.iter().take(REASONS_MAX).map(ToString::to_string).collect();
        if more > 0 {
            reasons.push(format!("and {more} more"));
        }
        reasons.join("; ")
    })
}

/// The table with the leaves of `before` where they are equal, so that who compares pointers sees
/// what changed.
fn reusing(mut table: HostTable, before: Option<&HostTable>) -> HostTable {
    let Some(before) = before else { return table };
    for leaf in &mut table.services {
        let old = before.services.binary_search_by(|old| old.id.cmp(&leaf.id)).ok();
        if let Some(old) = old.and_then(|at| before.services.get(at)).filter(|old| *old == leaf) {
            *leaf = Arc::clone(old);
        }
    }
    table
}
