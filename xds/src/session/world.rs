//! State of the world: what a response has beside what changed, and what it is called.

use std::sync::Arc;

use plan::Token;

use crate::name::Name;
use crate::session::due::Item;
use crate::session::watch::{Watch, Wildcard};
use crate::table::{Resource, Table};
use crate::version::Version;

/// What only state of the world needs of a stream and type.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Of clusters and listeners: what the client took, sorted by name, so that a response can
    /// repeat what must not change yet. `None` while we cannot know.
    base: Option<Box<[Arc<Resource>]>>,
    /// Other names were asked for before the client's version could be compared: it may not have
    /// what that version says.
    pub(super) renewed: bool,
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

    /// What the client took of this name.
    pub(super) fn of(&self, name: &Name) -> Option<&Arc<Resource>> {
        find(self.base.as_deref()?, name)
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
    /// All that a response of clusters or listeners has: what changed and may be sent, and else
    /// what the client has already, or was sent last. Sorted by name.
    pub(super) fn whole(&self, table: &Table) -> Vec<Arc<Resource>> {
        let waits = |name: &Name| self.due.contains_key(name) || self.denied.contains_key(name);
        let newest = self.out.last().and_then(|push| push.world.as_deref());
        let old = newest.or(self.world.base.as_deref()).unwrap_or_default();
        let now = self.covered(table).filter_map(|resource| {
            let name = resource.name();
            if waits(name) { find(old, name) } else { Some(resource) }
        });
        // What is to go, but not yet.
        let lingers = |old: &&Arc<Resource>| {
            table.of(old.name()).is_none() && waits(old.name()) && self.covers(old.name())
        };
        let mut whole: Vec<Arc<Resource>> =
            now.chain(old.iter().filter(lingers)).cloned().collect();
        whole.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        whole
    }

    /// The version of what the client has once it takes this response: of all in it, or where it
    /// has changes alone, of all that is subscribed to without what the client was not sent or has
    /// not acked. Its token is never older than that of anything the client may have.
    pub(super) fn world_version(
        &self,
        table: &Table,
        items: &[Item],
        whole: Option<&[Arc<Resource>]>,
    ) -> String {
        let is_all = self.due.is_empty() && self.denied.is_empty();
        if let Some(label) = table.label().filter(|_| is_all) {
            return label.to_owned();
        }
        if let Some(whole) = whole {
            return version_of(whole.iter().map(|resource| (resource, true)));
        }
        let is_sent = |name: &Name| items.binary_search_by(|item| item.name.cmp(name)).is_ok();
        let waits = |name: &Name| {
            self.due.contains_key(name)
                || self.denied.contains_key(name)
                || (self.out.iter().any(|push| push.item(name).is_some()) && !is_sent(name))
        };
        version_of(self.covered(table).map(|resource| (resource, !waits(resource.name()))))
    }

    /// The version of everything that it subscribes to.
    pub(super) fn full_version(&self, table: &Table) -> String {
        // Which names a client had that names them is not known from a label.
        let all = self.wildcard != Wildcard::No;
        if let Some(label) = table.label().filter(|_| all) {
            return label.to_owned();
        }
        version_of(self.covered(table).map(|resource| (resource, true)))
    }
}

/// The resource of this name in a list that is sorted by name.
fn find<'a>(list: &'a [Arc<Resource>], name: &Name) -> Option<&'a Arc<Resource>> {
    let at = list.binary_search_by(|resource| resource.name().cmp(name)).ok()?;
    list.get(at)
}

/// The version of a set: the newest of its tokens and a hash of its names and versions, whatever
/// their order; so it is the same after a restart. Where versions are not ours: the hash. What is
/// with `false` is left out of the hash, so that this is no version of the whole set.
fn version_of<'a>(resources: impl Iterator<Item = (&'a Arc<Resource>, bool)>) -> String {
    let mut since = Some(Token::NEVER);
    let mut hash = 0;
    for (resource, is_in) in resources {
        since = since.zip(resource.version().since()).map(|(a, b)| a.max(b));
        hash ^= if is_in { resource.encoded.identity() } else { 0 };
    }
    match since {
        Some(since) => Version::Ours { since, hash }.to_string(),
        None => format!("{hash:016x}"),
    }
}
