//! What a replica holds and answers: tables and texts to a catalog, with break-glass over it.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use dns::{Catalog, CatalogError};
use plan::endpoint::Pool;
use plan::snapshot::{Motion, Service, Serving, Zone};
use plan::{Digest, PlanName, ServiceId, Snapshot, Split, Token, ZoneName};
use xds::follow::{Held, Item, Refusal};
use xds::own::{ZoneTable, ZoneText};
use xds::{Name, TypeUrl, Version};

use crate::following::moved_by_restore;
use crate::glass::{Force, Glass};

/// What a replica holds and answers.
pub(super) struct State {
    tables: BTreeMap<PlanName, (Version, ZoneTable)>,
    texts: BTreeMap<ZoneName, (Version, ZoneText)>,
    glass: Glass,
    /// Leaves that break-glass changed, by what they were: the same leaf twice is the same pointer.
    taken_back: BTreeMap<ServiceId, [Arc<Service>; 2]>,
    /// The zones as the catalog has them.
    good: BTreeMap<ZoneName, Arc<Zone>>,
    /// What is wrong with the newest text of a zone.
    bad: BTreeMap<ZoneName, String>,
    /// Texts that tables name and that have not come.
    missing: BTreeSet<ZoneName>,
    through: Token,
    catalog: Arc<Catalog>,
    services: Arc<[Arc<Service>]>,
}

impl State {
    /// Nothing held.
    pub(super) fn new(glass: Glass) -> Self {
        Self {
            tables: BTreeMap::new(),
            texts: BTreeMap::new(),
            glass,
            taken_back: BTreeMap::new(),
            good: BTreeMap::new(),
            bad: BTreeMap::new(),
            missing: BTreeSet::new(),
            through: Token::NEVER,
            catalog: Arc::new(Catalog::empty()),
            services: Arc::new([]),
        }
    }

    /// What is answered from.
    pub(super) const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The leaves as they are answered.
    pub(super) const fn services(&self) -> &Arc<[Arc<Service>]> {
        &self.services
    }

    /// The newest tables that anything was taken of.
    pub(super) const fn through(&self) -> Token {
        self.through
    }

    /// What is in force here.
    pub(super) const fn glass(&self) -> &Glass {
        &self.glass
    }

    /// Other acts of break-glass.
    pub(super) fn break_glass(&mut self, glass: Glass) {
        self.glass = glass;
        self.rebuild();
    }

    /// Takes up what is held; it has been checked.
    pub(super) fn take(&mut self, held: &Held) {
        if held.type_url.as_str() == TypeUrl::ZONE_TABLE {
            self.take_tables(held);
        } else {
            self.take_texts(held);
        }
        self.through = self.through.max(held.newest());
    }

    fn take_tables(&mut self, held: &Held) {
        let mut tables = BTreeMap::new();
        for (name, item) in &held.resources {
            let Ok(plan) = name.as_str().parse::<PlanName>() else { continue };
            let old = self.tables.remove(&plan);
            let table = match old {
                Some((version, table)) if version == item.version => table,
                old => match ZoneTable::decode(&item.body) {
                    Ok(table) => match old {
                        Some((_, old)) => table.reusing(&old),
                        None => table,
                    },
                    Err(error) => {
                        tracing::error!(plan = %plan, %error, "a table held is none");
                        continue;
                    }
                },
            };
            tables.insert(plan, (item.version.clone(), table));
        }
        self.tables = tables;
    }

    fn take_texts(&mut self, held: &Held) {
        let mut texts = BTreeMap::new();
        for (name, item) in &held.resources {
            let Ok(zone) = name.as_str().parse::<ZoneName>() else { continue };
            let text = match self.texts.remove(&zone) {
                Some((version, text)) if version == item.version => text,
                _ => match ZoneText::decode(&item.body) {
                    Ok(text) => text,
                    Err(error) => {
                        tracing::error!(zone = %zone, %error, "a zone text held is none");
                        continue;
                    }
                },
            };
            texts.insert(zone, (item.version.clone(), text));
        }
        self.texts = texts;
    }

    /// Makes the catalog of all of this. A zone whose text is missing or is no zone stays as it
    /// was, and everything else goes on.
    pub(super) fn rebuild(&mut self) {
        let services = self.leaves();
        let mut zones = self.zones();
        let texts: BTreeMap<Digest, Arc<str>> =
            self.texts.values().map(|(_, text)| (text.digest, Arc::clone(&text.text))).collect();
        self.bad.clear();
        loop {
            let snapshot = Snapshot {
                token: self.through,
                services: Arc::clone(&services),
                zones: zones.clone().into(),
                ..Snapshot::empty()
            };
            match self.catalog.next(&snapshot, &mut |digest| texts.get(digest).cloned()) {
                Ok(catalog) => {
                    self.catalog = Arc::new(catalog);
                    break;
                }
                Err(error) => {
                    let (name, words) = words(&error);
                    let Some(at) = zones.iter().position(|zone| zone.name.as_str() == name) else {
                        tracing::error!(%error, "no catalog could be made");
                        return;
                    };
                    let zone = zones.remove(at);
                    if let Some(good) = self.good.get(&zone.name).filter(|good| **good != zone) {
                        zones.insert(at, Arc::clone(good));
                    }
                    self.bad.insert(zone.name.clone(), words);
                }
            }
        }
        self.services = services;
        self.good = zones.into_iter().map(|zone| (zone.name.clone(), zone)).collect();
    }

    /// All leaves, sorted by id, with what break-glass makes of them.
    fn leaves(&mut self) -> Arc<[Arc<Service>]> {
        let mut taken_back = BTreeMap::new();
        let mut leaves = Vec::new();
        for leaf in self.tables.values().flat_map(|(_, table)| &table.services) {
            let back = self.glass.covers(&leaf.id) && leaf.serving.split() > Split::LEGACY;
            if !back {
                leaves.push(Arc::clone(leaf));
                continue;
            }
            let pair = match self.taken_back.remove(&leaf.id) {
                Some(pair) if Arc::ptr_eq(&pair[0], leaf) => pair,
                _ => [Arc::clone(leaf), Arc::new(on_legacy(leaf))],
            };
            leaves.push(Arc::clone(&pair[1]));
            taken_back.insert(leaf.id.clone(), pair);
        }
        self.taken_back = taken_back;
        leaves.into()
    }

    /// All zones, sorted by name, with the texts that are held. While a zone goes from one plan to
    /// another both may name it: the newer one counts.
    fn zones(&mut self) -> Vec<Arc<Zone>> {
        self.missing.clear();
        let mut zones: BTreeMap<ZoneName, Arc<Zone>> = BTreeMap::new();
        for zone in self.tables.values().flat_map(|(_, table)| &table.zones) {
            if zones.get(&zone.name).is_none_or(|other| other.since < zone.since) {
                zones.insert(zone.name.clone(), Arc::clone(zone));
            }
        }
        zones.retain(|name, zone| {
            let Some(digest) = zone.text else { return true };
            let held = self.texts.get(name).map(|(_, text)| text.digest);
            if held != Some(digest) {
                self.missing.insert(name.clone());
                *zone = Arc::new(Zone { text: held, ..Zone::clone(zone) });
            }
            held.is_some()
        });
        zones.into_values().collect()
    }

    /// What is not followed, of the resources of a type.
    pub(super) fn refused(&self, type_url: &TypeUrl) -> Vec<Refusal> {
        if type_url.as_str() == TypeUrl::ZONE {
            let refusal = |(zone, why): (&ZoneName, &String)| Refusal {
                name: Some(Name::new(zone.as_str())),
                why: why.clone(),
            };
            return self.bad.iter().map(refusal).collect();
        }
        self.tables.iter().filter_map(|(plan, (_, table))| self.complaint(plan, table)).collect()
    }

    fn complaint(&self, plan: &PlanName, table: &ZoneTable) -> Option<Refusal> {
        let above = table.services.iter().filter(|leaf| leaf.serving.split() > Split::LEGACY);
        let mut kept = above.filter_map(|leaf| Some((leaf, self.glass.on(&leaf.id)?)));
        let (leaf, force) = kept.next()?;
        let rest = kept.map(|(leaf, _)| leaf);
        let services = listed(iter::once(leaf).chain(rest).map(|leaf| leaf.id.service.as_str()));
        let Force { since, by, .. } = force;
        let why = format!(
            "break-glass in force since {since} by {by}: rolled back here ({services}); roll back \
             at the controller, or undo it here"
        );
        Some(Refusal { name: Some(Name::new(plan.as_str())), why })
    }

    /// What has not come; `None`: nothing is missing.
    pub(super) fn waits(&self) -> Option<String> {
        let zones: Vec<&str> = self.missing.iter().map(ZoneName::as_str).collect();
        (!zones.is_empty()).then(|| format!("the text of zone {} has not come", zones.join(", ")))
    }

    /// The plans that break-glass concerns: the controller is to say them again.
    pub(super) fn concerned(&self) -> Vec<(TypeUrl, Name)> {
        let all = self.glass.force.iter().any(|force| force.service.is_none());
        let named = |plan: &PlanName| {
            let services = self.glass.force.iter().filter_map(|force| force.service.as_ref());
            all || services.into_iter().any(|service| service.plan == *plan)
        };
        let plans = self.tables.keys().filter(|plan| named(plan));
        plans.map(|plan| (TypeUrl::ZONE_TABLE.into(), Name::new(plan.as_str()))).collect()
    }

    /// What is no longer needed, as the controller itself says legacy: `confirmed` are the plans
    /// that it has said on this connection.
    pub(super) fn dissolved(&self, confirmed: &BTreeSet<PlanName>) -> Vec<Option<ServiceId>> {
        let said = |plan: &PlanName| confirmed.contains(plan);
        let done = |force: &&Force| match &force.service {
            Some(id) => said(&id.plan) && self.split(id) == Split::LEGACY,
            None => {
                !self.tables.is_empty()
                    && self.tables.iter().all(|(plan, (_, table))| {
                        said(plan)
                            && table.services.iter().all(|s| s.serving.split() == Split::LEGACY)
                    })
            }
        };
        self.glass.force.iter().filter(done).map(|force| force.service.clone()).collect()
    }

    /// The controller's split of a service; legacy where there is no such service.
    fn split(&self, id: &ServiceId) -> Split {
        let table = self.tables.get(&id.plan).map(|(_, table)| table);
        let leaf = table.and_then(|table| table.services.iter().find(|leaf| leaf.id == *id));
        leaf.map_or(Split::LEGACY, |leaf| leaf.serving.split())
    }
}

/// The service as if its split were 0. Where the legacy side is no longer known, the plan's own
/// endpoints of it are.
fn on_legacy(leaf: &Service) -> Service {
    let legacy = leaf
        .serving
        .legacy()
        .cloned()
        .unwrap_or_else(|| Pool { serving: leaf.spec.legacy.clone(), degraded: false });
    let serving = Serving::Legacy { legacy, target: leaf.serving.target().cloned() };
    Service { serving, motion: Motion::RolledBack, ..leaf.clone() }
}

/// Judges a resource by itself.
///
/// # Errors
/// Why it is not taken.
pub(super) fn check(
    type_url: &TypeUrl,
    name: &str,
    body: &Bytes,
    held: Option<&Item>,
) -> Result<(), String> {
    let (found, what) = if type_url.as_str() == TypeUrl::ZONE_TABLE {
        let table = ZoneTable::decode(body).map_err(|error| error.to_string())?;
        restored(&table, held)?;
        (table.plan.as_str().to_owned(), "plan")
    } else {
        let text = ZoneText::decode(body).map_err(|error| error.to_string())?;
        (text.name.as_str().to_owned(), "zone")
    };
    if found == name { Ok(()) } else { Err(format!("it holds {what} {found}")) }
}

/// After a restore from backup whoever has anything keeps it until an operator acts.
fn restored(table: &ZoneTable, held: Option<&Item>) -> Result<(), String> {
    let Some(old) = held.and_then(|item| ZoneTable::decode(&item.body).ok()) else { return Ok(()) };
    match moved_by_restore(&old.services, &table.services) {
        Some(id) => Err(format!(
            "the controller was restored from a backup, and its {} is not what is held here: that \
             stays until an operator acts",
            id.service
        )),
        None => Ok(()),
    }
}

/// The zone and what is wrong with it.
fn words(error: &CatalogError) -> (String, String) {
    match error {
        CatalogError::NoText { zone, .. } => (zone.clone(), error.to_string()),
        CatalogError::Problems { zone, problems } => {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            (zone.clone(), format!("{error}: {first}"))
        }
    }
}

/// The first few of many names, and how many more there are: it is read on one line.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 5;
    let mut names = names;
    let first: Vec<&str> = names.by_ref().take(MOST).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_services_are_listed_on_a_line() {
        let names: Vec<String> = (1..=1000).map(|at| format!("s{at}")).collect();
        for (many, is) in [
            (1, "s1"),
            (5, "s1, s2, s3, s4, s5"),
            (6, "s1, s2, s3, s4, s5 and 1 more"),
            (1000, "s1, s2, s3, s4, s5 and 995 more"),
        ] {
            assert_eq!(listed(names.iter().take(many).map(String::as_str)), is);
        }
    }
}
