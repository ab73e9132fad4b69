//! What an agent holds, put together: tables of plans to the leaves of this host, and to rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use agent::dataplane::Forget;
use agent::rules::{self, Compiled, Host, Marks, Pieces, Reject, Table};
use bytes::Bytes;
use plan::snapshot::Service;
use plan::spec::Clients;
use plan::{PlanName, ServiceId, Side, Split, Token};
use xds::follow::{Held, Item};
use xds::own::HostTable;
use xds::{TypeUrl, Version};

use crate::following::moved_by_restore;
use crate::host::files::{self, Settings};
use crate::host::survey;
use crate::verbs::{Failure, chain};

/// What is held, and the host that it is for.
#[derive(Clone, Debug)]
pub(crate) struct World {
    tables: BTreeMap<PlanName, (Version, HostTable)>,
    /// Plans that are held and cannot be in force here, each with the reason: others go on.
    refused: BTreeMap<PlanName, String>,
    /// Plans whose tables are held and cannot be read, each with the reason: those of a newer
    /// agent, where an older package was put in its place.
    unreadable: BTreeMap<PlanName, String>,
    /// This host, as it was last looked at.
    pub(crate) host: Host,
    /// Which service has which mark in flows.
    pub(crate) marks: Marks,
    /// The newest tables that anything was taken of.
    pub(super) through: Token,
    /// Of the last rules: most services of the next are the same.
    pieces: Pieces,
    /// The table that was judged last, as it came: mostly it is taken next.
    judged: Option<(Bytes, HostTable)>,
}

/// What the rules of break-glass are made of.
#[derive(Debug)]
pub(super) struct GlassOf {
    leaves: Vec<Arc<Service>>,
    host: Host,
    marks: Marks,
}

impl World {
    /// Nothing held.
    pub(crate) fn new(host: Host, marks: Marks) -> Self {
        Self {
            tables: BTreeMap::new(),
            refused: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            host,
            marks,
            through: Token::NEVER,
            pieces: Pieces::default(),
            judged: None,
        }
    }

    /// What the agent of this directory holds, running or not, for a command. Nobody is asked for
    /// anything, and settings that cannot be read hold nothing up.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(crate) fn read(directory: &Path) -> Result<Self, Failure> {
        Self::read_for(directory, survey::kept)
    }

    /// The same before the network is up.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn at_boot(directory: &Path) -> Result<Self, Failure> {
        Self::read_for(directory, survey::at_boot)
    }

    fn read_for(
        directory: &Path,
        host: fn(&Path, Option<&Settings>) -> Host,
    ) -> Result<Self, Failure> {
        let settings = files::settings(directory).unwrap_or_else(|error| {
            eprintln!("crossfade: {}; going on without", chain(&error));
            None
        });
        let host = host(directory, settings.as_ref());
        let mut world = Self::new(host, files::marks(directory));
        let held = Held::read(directory, &TypeUrl::from(TypeUrl::HOST_TABLE))
            .map_err(|error| Failure::Failed(chain(&error)))?;
        world.take(&held);
        // What the agent refuses is not in force, so that nothing may take hold of it either. There
        // are marks then where they were lost: without one a service would be left out.
        world.compile().map_err(Failure::Failed)?;
        Ok(world)
    }

    /// Takes up what is held; it has been checked.
    pub(crate) fn take(&mut self, held: &Held) {
        let mut tables = BTreeMap::new();
        let judged = self.judged.take();
        self.unreadable.clear();
        for (name, item) in &held.resources {
            let Ok(plan) = name.as_str().parse::<PlanName>() else { continue };
            let table = match self.tables.remove(&plan) {
                Some((version, table)) if version == item.version => table,
                old => match read(&item.body, judged.as_ref(), old.as_ref().map(|(_, it)| it)) {
                    Ok(table) => table,
                    Err(error) => {
                        tracing::error!(plan = %plan, %error, "a table held is none");
                        let why = format!("what is held of it cannot be read: {error}");
                        self.unreadable.insert(plan.clone(), why);
                        // What it was before stays.
                        let Some(before) = old else { continue };
                        before.1
                    }
                },
            };
            tables.insert(plan, (item.version.clone(), table));
        }
        self.tables = tables;
        self.through = self.through.max(held.newest());
    }

    /// The leaves that can be in force, sorted by id.
    pub(crate) fn leaves(&self) -> Vec<Arc<Service>> {
        self.merged(None).services
    }

    /// Their logical addresses.
    pub(crate) fn addresses(&self) -> BTreeSet<IpAddr> {
        self.leaves().iter().filter_map(|leaf| leaf.spec.address).collect()
    }

    /// The plans that cannot be in force here, and why.
    pub(super) const fn refused(&self) -> &BTreeMap<PlanName, String> {
        &self.refused
    }

    /// The plans whose tables cannot be read, and why.
    pub(super) const fn unreadable(&self) -> &BTreeMap<PlanName, String> {
        &self.unreadable
    }

    /// Every service that is held, in force or not.
    pub(super) fn held(&self) -> BTreeSet<ServiceId> {
        let tables = self.tables.values();
        tables.flat_map(|(_, table)| table.services.iter().map(|leaf| leaf.id.clone())).collect()
    }

    /// Everything that can be in force as one table; with `new` in place of what is held of its
    /// plan.
    pub(crate) fn merged(&self, new: Option<(&PlanName, &HostTable)>) -> HostTable {
        let held = self.tables.iter().filter(|(plan, _)| !self.refused.contains_key(*plan));
        let mut tables: BTreeMap<&PlanName, &HostTable> =
            held.map(|(plan, (_, table))| (plan, table)).collect();
        tables.extend(new);
        let services = tables.values().flat_map(|table| table.services.iter().cloned());
        HostTable { services: services.collect() }
    }

    /// The rules of break-glass, for the services that are covered.
    pub(crate) fn rollback(&self, covers: impl Fn(&ServiceId) -> bool) -> Table {
        let mut table = self.merged(None);
        table.services.retain(|leaf| covers(&leaf.id));
        rules::rollback(&table, &self.host, &self.marks)
    }

    /// What the rules of break-glass for all that is held are made of.
    pub(super) fn glass_of(&self) -> GlassOf {
        GlassOf { leaves: self.leaves(), host: self.host.clone(), marks: self.marks.clone() }
    }

    /// Whether they are the same as when they were made of this.
    pub(super) fn has_glass_of(&self, of: &GlassOf) -> bool {
        let same = |(old, new): (&Arc<Service>, &Arc<Service>)| rules::rollback::is_same(old, new);
        let leaves = self.leaves();
        self.host == of.host
            && self.marks == of.marks
            && leaves.len() == of.leaves.len()
            && of.leaves.iter().zip(&leaves).all(same)
    }

    /// The rules for all that is held and can be in force. Services that are new have marks then.
    ///
    /// # Errors
    /// There are none, which an empty world has.
    pub(crate) fn compile(&mut self) -> Result<Compiled, String> {
        let before = std::mem::take(&mut self.refused);
        match self.whole() {
            Ok(compiled) => Ok(compiled),
            // One plan must not hold up another's rollback: each is tried beside those before it,
            // those first that were in force.
            Err(_) => {
                let mut plans: Vec<PlanName> = self.tables.keys().cloned().collect();
                plans.sort_by_key(|plan| before.contains_key(plan));
                let all = std::mem::take(&mut self.tables);
                for plan in &plans {
                    let Some(held) = all.get(plan) else { continue };
                    self.tables.insert(plan.clone(), held.clone());
                    if let Err(why) = self.whole() {
                        self.tables.remove(plan);
                        self.refused.insert(plan.clone(), why);
                    }
                }
                self.tables = all;
                self.whole()
            }
        }
    }

    /// The same without these plans too, which the kernel refuses, each with the reason.
    ///
    /// # Errors
    /// What is left cannot be compiled.
    pub(super) fn without(
        &mut self,
        refused: BTreeMap<PlanName, String>,
    ) -> Result<Compiled, String> {
        self.refused = refused;
        self.whole()
    }

    fn whole(&mut self) -> Result<Compiled, String> {
        let table = self.merged(None);
        self.marks = marks(&self.marks, &table)?;
        let compiled = rules::compile_after(&self.pieces, &table, &self.host, &self.marks);
        let compiled = compiled.map_err(reasons)?;
        self.pieces = compiled.pieces.clone();
        Ok(compiled)
    }

    /// All flows that our rules sent on, of services that went too; of others none, as of those
    /// that docker sends on where legacy is left alone.
    pub(super) fn sent_on(&self) -> Forget {
        let merged = self.merged(None).services;
        let stays = |id: &ServiceId| {
            let leaf = merged.binary_search_by(|leaf| leaf.id.cmp(id)).ok();
            let leaf = leaf.and_then(|at| merged.get(at));
            leaf.is_some_and(|leaf| rules::legacy_stays(leaf, &self.host, None))
        };
        let mut marked = BTreeSet::new();
        for (id, mark) in self.marks.all() {
            marked.insert((mark, Side::Target));
            if !stays(id) {
                marked.insert((mark, Side::Legacy));
            }
        }
        Forget { marked, connections: true, translated: true, ..Forget::default() }
    }

    /// Judges the table of one plan beside those that are held of others.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(super) fn check(
        &mut self,
        name: &str,
        body: &Bytes,
        held: Option<&Item>,
    ) -> Result<(), String> {
        let plan: PlanName =
            name.parse().map_err(|_| "it is not called as a plan is".to_owned())?;
        let table = HostTable::decode(body).map_err(|error| error.to_string())?;
        let in_force = self.tables.get(&plan);
        let table = reusing(table, in_force.map(|(_, table)| table));
        if let Some(leaf) = table.services.iter().find(|leaf| leaf.id.plan != plan) {
            return Err(format!("it holds {}", leaf.id));
        }
        let old = held.and_then(|item| match in_force {
            Some((version, table)) if *version == item.version => Some(table.clone()),
            _ => HostTable::decode(&item.body).ok(),
        });
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
        let judged = rules::judge(&self.pieces, &merged, &self.host, &marks);
        self.pieces = judged.map_err(reasons)?;
        self.judged = Some((body.clone(), table));
        Ok(())
    }

    /// The plans that have any of these services at a split over 0.
    pub(super) fn above_legacy(&self, within: impl Fn(&ServiceId) -> bool) -> Vec<PlanName> {
        let above = |leaf: &Arc<Service>| leaf.serving.split() > Split::LEGACY && within(&leaf.id);
        let plans = self.tables.iter().filter(|(_, (_, table))| table.services.iter().any(above));
        plans.map(|(plan, _)| plan.clone()).collect()
    }

    /// Whether no service is held at all, in force or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.values().all(|(_, table)| table.services.is_empty())
    }

    /// The plans that are held.
    pub(super) fn plans(&self) -> impl Iterator<Item = &PlanName> {
        let unreadable = self.unreadable.keys();
        self.tables.keys().chain(unreadable.filter(|plan| !self.tables.contains_key(*plan)))
    }
}

fn marks(marks: &Marks, table: &HostTable) -> Result<Marks, String> {
    let with_address = table.services.iter().filter(|leaf| leaf.spec.address.is_some());
    marks.assign(with_address.map(|leaf| &leaf.id)).map_err(|full| full.to_string())
}

/// The most reasons that are told at once: an operator reads them on one line.
const REASONS_MAX: usize = 5;

fn reasons(rejects: Vec<Reject>) -> String {
    let more = rejects.len().saturating_sub(REASONS_MAX);
    let mut reasons: Vec<String> =
        rejects.iter().take(REASONS_MAX).map(ToString::to_string).collect();
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    reasons.join("; ")
}

/// The table of this body, which may be the one that was judged last.
fn read(
    body: &Bytes,
    judged: Option<&(Bytes, HostTable)>,
    before: Option<&HostTable>,
) -> Result<HostTable, xds::own::Reject> {
    match judged.filter(|(of, _)| of == body) {
        Some((_, table)) => Ok(table.clone()),
        None => HostTable::decode(body).map(|table| reusing(table, before)),
    }
}

/// The table with the leaves of `before` where they are equal, so that who compares pointers sees
/// what changed.
fn reusing(mut table: HostTable, before: Option<&HostTable>) -> HostTable {
    let Some(before) = before else { return table };
    let clients = shared(&table, before);
    let mut before = before.services.iter().peekable();
    for leaf in &mut table.services {
        if let Some(clients) = &clients {
            Arc::make_mut(leaf).clients = Arc::clone(clients);
        }
        while before.next_if(|old| old.id < leaf.id).is_some() {}
        if let Some(old) = before.next_if(|old| *old == leaf) {
            *leaf = Arc::clone(old);
        }
    }
    table
}

/// The clients before, if they are the same now: the services of a plan share theirs, and so they
/// are compared once and not with each.
fn shared(table: &HostTable, before: &HostTable) -> Option<Arc<Clients>> {
    let [now, before] = [table, before].map(|table| table.services.first());
    let (now, before) = (&now?.clients, &before?.clients);
    let of_all = table.services.iter().all(|leaf| Arc::ptr_eq(&leaf.clients, now));
    (of_all && now == before).then(|| Arc::clone(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::{held, item};

    fn in_force(world: &mut World) -> Vec<String> {
        let compiled = world.compile().unwrap();
        compiled.counted.keys().map(ToString::to_string).collect()
    }

    /// What an agent of before keeps on its disk has a field that is no more: 10.9.0.0/24 as
    /// `HostTable.egress`, number 4.
    #[test]
    fn what_an_earlier_agent_kept_is_in_force() {
        let half = Split::from_bp(5_000).unwrap();
        let (name, mut kept) = item("shop", "192.0.2.10", half, 1);
        let now = HostTable::decode(&kept.body).unwrap();
        let egress = [0x22, 8, 0x0a, 4, 10, 9, 0, 0, 0x10, 24];
        kept.body = [&kept.body[..], &egress].concat().into();
        kept.version = Version::of(Token { incarnation: 1, revision: 1 }, &kept.body);
        assert_eq!(HostTable::decode(&kept.body), Ok(now));
        let mut world = World::new(Host::new("10.50.0.1".parse().unwrap()), Marks::default());
        assert_eq!(world.check(name.as_str(), &kept.body, Some(&kept)), Ok(()));
        world.take(&held([(name, kept)]));
        assert_eq!(in_force(&mut world), ["shop/web"]);
    }

    /// The doctor looks whether others translate them.
    #[test]
    fn the_addresses_are_those_that_can_be_in_force() {
        let mut world = World::new(Host::new("10.50.0.1".parse().unwrap()), Marks::default());
        assert_eq!(world.addresses(), BTreeSet::new());
        let half = Split::from_bp(5_000).unwrap();
        let plans = [("book", "192.0.2.10"), ("shop", "192.0.2.11"), ("tool", "192.0.2.10")];
        let items = plans.map(|(plan, address)| item(plan, address, half, 1));
        world.take(&held(items));
        assert_eq!(in_force(&mut world), ["book/web", "shop/web"]);
        let expected = ["192.0.2.10", "192.0.2.11"].map(|address| address.parse().unwrap());
        assert_eq!(world.addresses(), expected.into());
    }

    /// What docker sends on of a legacy that is left alone is docker's.
    #[test]
    fn what_was_sent_on_is_ours_alone() {
        let mut world = World::new(Host::new("10.50.0.1".parse().unwrap()), Marks::default());
        world.take(&held([item("shop", "192.0.2.10", Split::TARGET, 1)]));
        world.compile().unwrap();
        let sides = |world: &World| {
            let sent_on = world.sent_on();
            assert!(sent_on.connections && sent_on.translated);
            sent_on.marked.into_iter().map(|(_, side)| side).collect::<Vec<_>>()
        };
        assert_eq!(sides(&world), [Side::Legacy, Side::Target]);
        let own = ["192.0.2.10", "10.30.0.2"].map(|own| own.parse::<IpAddr>().unwrap());
        world.host.own.extend(own);
        assert_eq!(sides(&world), [Side::Target]);
        // In no plan any more.
        world.take(&held([]));
        assert_eq!(sides(&world), [Side::Legacy, Side::Target]);
    }

    #[test]
    fn a_plan_that_cannot_be_holds_up_no_other() {
        let mut world = World::new(Host::new("10.50.0.1".parse().unwrap()), Marks::default());
        let half = Split::from_bp(5_000).unwrap();
        // Both at once, at one address: the first counts, and the other is told.
        let book = item("book", "192.0.2.10", half, 1);
        world.take(&held([book.clone(), item("shop", "192.0.2.10", half, 2)]));
        assert_eq!(in_force(&mut world), ["book/web"]);
        let refused: Vec<_> = world.refused().keys().map(ToString::to_string).collect();
        assert_eq!(refused, ["shop"]);
        // It moves away, and is in force.
        world.take(&held([book, item("shop", "192.0.2.11", half, 3)]));
        assert_eq!(in_force(&mut world), ["book/web", "shop/web"]);
        assert!(world.refused().is_empty());
        // What the host must not touch changes: the rollback of the other goes through.
        world.host.forbidden.push(rules::Forbidden {
            net: "192.0.2.10/32".parse().unwrap(),
            port: None,
            why: "a test says so".to_owned(),
        });
        let back = item("shop", "192.0.2.11", Split::LEGACY, 4);
        let (name, rollback) = (back.0.as_str().to_owned(), back.1.body.clone());
        assert_eq!(in_force(&mut world), ["shop/web"]);
        assert_eq!(world.check(&name, &rollback, None), Ok(()));
        world.take(&held([item("book", "192.0.2.10", half, 1), back]));
        assert_eq!(in_force(&mut world), ["shop/web"]);
        assert_eq!(world.leaves()[0].serving.split(), Split::LEGACY);
    }
}
