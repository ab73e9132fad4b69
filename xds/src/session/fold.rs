//! Tables in: what they change becomes due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::{PlanName, Token};

use crate::name::Name;
use crate::session::Variant;
use crate::session::watch::{Cause, Start, Watch, Wildcard};
use crate::table::{Gone, Resource, Table, Tables};
use crate::version::Version;

/// What a fold tells the stream.
#[derive(Debug, Default)]
pub(super) struct Folded {
    /// Plans of what the client had when it came.
    pub(super) plans: BTreeSet<PlanName>,
    /// So much was removed since this stream last looked that names were forgotten.
    pub(super) lost: bool,
}

impl Watch {
    /// Looks at tables. O(changed), or O(subscribed) the first time.
    pub(super) fn fold(&mut self, tables: &Tables, variant: Variant) -> Folded {
        let mut folded = Folded::default();
        if tables.generation() <= self.looked && self.start.is_none() {
            return folded;
        }
        let Some(table) = tables.table(&self.scope, &self.type_url) else { return folded };
        match self.start.take() {
            Some(start) => self.begin(*start, table, tables, &mut folded),
            None if table.changed() > self.looked => {
                folded.lost = self.change(table, tables, variant);
            }
            None => self.looked = tables.generation(),
        }
        self.token = tables.token();
        self.catch_up(table, tables, &mut folded);
        folded
    }

    fn begin(&mut self, start: Start, table: &Table, tables: &Tables, folded: &mut Folded) {
        self.looked = tables.generation();
        self.token = tables.token();
        self.names.share_all(table);
        match start {
            Start::Delta(versions) => self.begin_delta(versions, table, tables, folded),
            Start::Sotw(version) => self.begin_sotw(&version, table, tables, folded),
        }
    }

    fn begin_delta(
        &mut self,
        mut versions: BTreeMap<String, String>,
        table: &Table,
        tables: &Tables,
        folded: &mut Folded,
    ) {
        // A client that knows nothing may wait for a first answer, however empty.
        self.greet = self.wildcard != Wildcard::No && versions.is_empty();
        let read = |text: String| (!text.is_empty()).then(|| Version::parse(&text));
        let resources: Vec<Arc<Resource>> = self.covered(table).cloned().collect();
        for resource in resources {
            match versions.remove(resource.name().as_str()).and_then(read) {
                Some(version) if version == *resource.version() => {
                    folded.plans.extend(resource.plans.iter().cloned());
                }
                version => self.claim(resource.name(), &resource.plans, version, tables),
            }
        }
        let nothing: Arc<[PlanName]> = Arc::new([]);
        let missing: Vec<Name> =
            self.names.iter().filter(|name| table.of(name).is_none()).cloned().collect();
        for name in missing {
            let version = versions.remove(name.as_str()).and_then(read);
            self.claim(&name, &nothing, version, tables);
        }
        if self.wildcard != Wildcard::No {
            for (name, version) in versions {
                self.claim(&Name::new(&name), &nothing, read(version), tables);
            }
        }
    }

    /// Makes due what a client has in another version, or not at all.
    fn claim(
        &mut self,
        name: &Name,
        plans: &Arc<[PlanName]>,
        version: Option<Version>,
        tables: &Tables,
    ) {
        let since = version.as_ref().and_then(Version::since);
        let through = since.unwrap_or(Token::NEVER).min(tables.token());
        let cause = Cause { held: version.is_some(), through, asked: true, urgent: false };
        self.mark(name, plans, cause);
        if since.is_some_and(|since| since > tables.token())
            && let Some(due) = self.due.get_mut(name)
        {
            due.behind = version.map(Box::new);
        }
    }

    fn begin_sotw(&mut self, text: &str, table: &Table, tables: &Tables, folded: &mut Folded) {
        if !self.world.renewed && text == self.full_version(table) {
            self.in_step(table, folded);
            return;
        }
        if text.is_empty() && self.kind.is_whole() {
            self.world.set(Vec::new());
        }
        self.greet = self.kind.is_whole();
        let version = Version::parse(text);
        if version.since().is_some_and(|since| since > tables.token()) {
            self.world.behind = Some(Box::new(version));
        }
        let resources: Vec<Arc<Resource>> = self.covered(table).cloned().collect();
        for resource in resources {
            let held = self.world.behind.is_some();
            let cause = Cause { held, through: Token::NEVER, asked: true, urgent: false };
            self.mark(resource.name(), &resource.plans, cause);
        }
    }

    /// State of the world: the client has it all.
    fn in_step(&mut self, table: &Table, folded: &mut Folded) {
        let resources: Vec<Arc<Resource>> = self.covered(table).cloned().collect();
        for resource in &resources {
            folded.plans.extend(resource.plans.iter().cloned());
        }
        if self.kind.is_whole() {
            self.world.set(resources);
        }
    }

    /// What is newer than the tables is compared as soon as they are as new.
    fn catch_up(&mut self, table: &Table, tables: &Tables, folded: &mut Folded) {
        let caught = |version: &Version| version.since() <= Some(tables.token());
        if self.world.behind.as_deref().is_some_and(caught)
            && let Some(version) = self.world.behind.take()
        {
            if !self.world.renewed && version.to_string() == self.full_version(table) {
                self.due.clear();
                self.greet = false;
                self.in_step(table, folded);
            }
            for due in self.due.values_mut() {
                // Which of them it has in some version is not known.
                due.held = false;
            }
        }
        self.due.retain(|name, due| {
            let Some(version) = due.behind.take_if(|version| caught(version)) else { return true };
            let resource = table.of(name).filter(|resource| *resource.version() == *version);
            if let Some(resource) = resource {
                folded.plans.extend(resource.plans.iter().cloned());
            }
            resource.is_none()
        });
    }

    /// True where names were forgotten that this client may have.
    fn change(&mut self, table: &Table, tables: &Tables, variant: Variant) -> bool {
        let changes = table.changes(self.looked);
        let before = self.looked;
        let urgent = tables.urgent() > before;
        let through = self.token;
        self.looked = tables.generation();
        for resource in &changes.changed {
            if !self.covers(resource.name()) {
                continue;
            }
            if resource.changed <= before {
                // Its plans or needs alone changed.
                if let Some(due) = self.due.get_mut(resource.name()) {
                    due.plans = Arc::clone(&resource.plans);
                }
                continue;
            }
            let held = resource.born <= before;
            self.mark(
                resource.name(),
                &resource.plans,
                Cause { held, through, asked: false, urgent },
            );
        }
        let cause = Cause { held: true, through, asked: false, urgent };
        for gone in &changes.gone {
            if self.covers(&gone.name) {
                self.gone(gone, cause, variant);
            }
        }
        if !changes.forgotten {
            return false;
        }
        let nothing: Arc<[PlanName]> = Arc::new([]);
        let missing: Vec<Name> =
            self.names.iter().filter(|name| table.of(name).is_none()).cloned().collect();
        for name in missing {
            self.gone(&Gone { name, plans: Arc::clone(&nothing) }, cause, variant);
        }
        // State of the world says what there is, not what is gone.
        self.wildcard != Wildcard::No && variant == Variant::Delta
    }

    /// A name was removed.
    fn gone(&mut self, gone: &Gone, cause: Cause, variant: Variant) {
        if variant == Variant::Sotw && !self.kind.is_whole() {
            self.due.remove(&gone.name);
            self.denied.remove(&gone.name);
            // Whatever the client says of it.
            for push in &mut self.out {
                if let Some(item) = push.item_mut(&gone.name) {
                    item.moot = true;
                }
            }
            return;
        }
        // Also what was never sent: it may have been another one of its name that the client has.
        self.mark(&gone.name, &gone.plans, cause);
    }
}
