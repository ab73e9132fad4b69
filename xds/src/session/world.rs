//! State of the world: what a response has beside what changed, and what it is called.

use std::sync::Arc;

use plan::Token;

use crate::name::Name;
use crate::session::watch::{Watch, Wildcard};
use crate::table::{Resource, Table};
use crate::version::Version;

/// What only state of the world needs of a stream and type.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Of clusters and listeners: what the client took, sorted by name, so that a response can
    /// repeat what must not change yet. `None` while we cannot know.
    base: Option<Box<[Arc<Resource>]>>,
    /// The client's version, while that is newer than the tables.
    pub(super) behind: Option<Box<Version>>,
}

impl World {
    /// Whether it is known what the client has.
    pub(super) const fn is_known(&self) -> bool {
        self.base.is_some()
    }

    /// The client has exactly this.
    pub(super) fn set(&mut self, mut base: Vec<Arc<Resource>>) {
        base.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        self.base = Some(base.into());
    }

    /// What the client has of this name.
    pub(super) fn of(&self, name: &Name) -> Option<&Arc<Resource>> {
        let base = self.base.as_deref()?;
        let at = base.binary_search_by(|resource| resource.name().cmp(name)).ok()?;
        base.get(at)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Resource) -> bool) {
        if let Some(base) = &mut self.base
            && base.iter().any(|resource| !keep(resource))
        {
            *base = base.iter().filter(|resource| keep(resource)).cloned().collect();
        }
    }
}

impl Watch {
    /// All that a response of clusters or listeners has: what changed and may be sent, and what the
    /// client has already.
    pub(super) fn whole(&self, table: &Table) -> Vec<Arc<Resource>> {
        let waits = |name: &Name| self.due.contains_key(name) || self.denied.contains_key(name);
        let mut whole: Vec<Arc<Resource>> = self
            .covered(table)
            .filter_map(|resource| {
                if waits(resource.name()) { self.world.of(resource.name()) } else { Some(resource) }
            })
            .cloned()
            .collect();
        let base = self.world.base.iter().flatten();
        // What is to go, but not yet.
        whole.extend(
            base.filter(|old| table.of(old.name()).is_none() && waits(old.name())).cloned(),
        );
        whole
    }

    /// The version of what the client has once it takes the response that is being made: of all in
    /// it, or where that has changes alone, of what is subscribed to; without what the client was
    /// not sent or has not acked.
    pub(super) fn world_version(&self, table: &Table, whole: Option<&[Arc<Resource>]>) -> String {
        let settled = self.due.is_empty() && self.denied.is_empty();
        if let Some(label) = table.label().filter(|_| settled) {
            return label.to_owned();
        }
        let is_acked = |resource: &&Arc<Resource>| {
            self.out.iter().all(|push| push.item(resource.name()).is_none())
        };
        if let Some(whole) = whole {
            return version_of(whole.iter().filter(is_acked));
        }
        let waits = |name: &Name| self.due.contains_key(name) || self.denied.contains_key(name);
        version_of(self.covered(table).filter(|resource| !waits(resource.name())).filter(is_acked))
    }

    /// The version of everything that it subscribes to.
    pub(super) fn full_version(&self, table: &Table) -> String {
        // Which names a client had that names them is not known from a label.
        let all = self.wildcard != Wildcard::No;
        if let Some(label) = table.label().filter(|_| all) {
            return label.to_owned();
        }
        version_of(self.covered(table))
    }
}

/// The version of a set: the newest of its tokens and a hash of its names and versions, whatever
/// their order; so it is the same after a restart. Where versions are not ours: the hash.
fn version_of<'a>(resources: impl Iterator<Item = &'a Arc<Resource>>) -> String {
    let mut since = Some(Token::NEVER);
    let mut hash = 0;
    for resource in resources {
        since = since.zip(resource.version().since()).map(|(a, b)| a.max(b));
        hash ^= resource.encoded.identity();
    }
    match since {
        Some(since) => Version::Ours { since, hash }.to_string(),
        None => format!("{hash:016x}"),
    }
}
