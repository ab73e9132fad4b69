//! What is served: immutable tables of named, encoded resources.
//!
//! [`Tables::next`] makes the next statement of everything from the one before and a list of edits;
//! what no edit names is shared with the one before. Making it costs O(edits) beside the copies of
//! a fixed number of pointers a touched table.

mod encoded;
mod shards;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use plan::{PlanName, Token};

use crate::name::{Name, Scope, TypeUrl};
use crate::table::shards::Shards;
use crate::version::Version;

pub use self::encoded::Encoded;
pub(crate) use self::encoded::{field_len, put_field};

/// Numbers the statements that one process made, from 1. Means nothing outside of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// One named resource of a table.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The one encoding, shared by all streams.
    pub encoded: Arc<Encoded>,
    /// The plans whose part it renders: they owe, and a nack holds them. Empty for library users.
    pub plans: Arc<[PlanName]>,
    /// The clusters that must have arrived at a stream before this may be sent on it.
    pub needs: Arc<[Name]>,
    /// When it came to be in its table.
    pub born: Generation,
    /// When it last changed.
    pub changed: Generation,
}

impl Resource {
    /// Its name.
    pub fn name(&self) -> &Name {
        &self.encoded.name
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.encoded.version
    }
}

/// A change to one named resource.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Who sees it.
    pub scope: Scope,
    /// Its type.
    pub type_url: TypeUrl,
    /// What to do.
    pub change: Change,
}

/// What an edit does.
#[derive(Clone, Debug)]
pub enum Change {
    /// Puts a resource in place of the one of its name, if there is one.
    Put {
        /// The resource.
        encoded: Arc<Encoded>,
        /// As [`Resource::plans`].
        plans: Arc<[PlanName]>,
        /// As [`Resource::needs`].
        needs: Arc<[Name]>,
    },
    /// Removes it.
    Remove(Name),
    /// Nothing, but from now on the table is there: who asks for it is told that it is empty. A
    /// table that is not there is not rendered yet, and whoever asks for it waits.
    Declare,
    /// From now on the table is not there, as before it was declared: whoever asks for it waits,
    /// and who had looked at it keeps what he has. For tables that nobody sees any more.
    Withdraw,
    /// From now on the table has not all that there is, or again has: what is not in it may be
    /// there all the same, and nobody is told that it is gone. So it is after a restore from
    /// backup, for plans that no operator has acted on yet: clients keep what they have.
    Partial(bool),
}

/// Whether an edit may wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// One push is outstanding on a stream and type at a time.
    Ordinary,
    /// A rollback: sent even while another push is unacknowledged.
    Urgent,
}

/// A statement of everything that is served.
#[derive(Clone, Debug)]
pub struct Tables {
    token: Token,
    generation: Generation,
    urgent: Generation,
    tables: BTreeMap<(Scope, TypeUrl), Arc<Table>>,
}

/// The resources of one type in one scope.
#[derive(Clone, Debug)]
pub struct Table {
    resources: Shards<Arc<Resource>>,
    /// Names that were removed, with when and for which plans; the newest [`Table::GONE_MAX`].
    gone: BTreeMap<Generation, Arc<[Gone]>>,
    gone_count: usize,
    /// Names removed before or at this are forgotten.
    gone_floor: Generation,
    /// The newest changes, oldest first; at most [`Table::RECENT_MAX`] batches.
    recent: Arc<[Arc<Batch>]>,
    /// Everything changed after this is in `recent`.
    recent_floor: Generation,
    /// When anything last changed.
    changed: Generation,
    /// Over the names and versions of all resources, whatever their order.
    hash: u64,
    /// What a library user calls the whole of it.
    label: Option<Arc<str>>,
    /// As [`Change::Partial`].
    partial: bool,
}

/// A name that was removed.
#[derive(Clone, Debug)]
pub struct Gone {
    /// The name.
    pub name: Name,
    /// The plans whose part it had rendered.
    pub plans: Arc<[PlanName]>,
}

/// What one generation changed in a table.
#[derive(Clone, Debug)]
struct Batch {
    generation: Generation,
    changed: Arc<[Arc<Resource>]>,
    gone: Arc<[Gone]>,
}

/// What changed in a table after some generation.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Resources that came or changed, each once, as they are now.
    pub changed: Vec<Arc<Resource>>,
    /// Names that were removed and have not come back.
    pub gone: Vec<Gone>,
    /// Removed names may have been forgotten since then: what a client has that is not in the table
    /// is to be removed.
    pub forgotten: bool,
}

impl Tables {
    /// Nothing, as of no token. Generation 0.
    pub fn empty() -> Self {
        Self {
            token: Token::NEVER,
            generation: Generation(0),
            urgent: Generation(0),
            tables: BTreeMap::new(),
        }
    }

    /// The next statement: through this token, with these edits in this order.
    ///
    /// Putting what is there already (same version) changes nothing but plans and needs.
    #[must_use]
    pub fn next(&self, through: Token, urgency: Urgency, edits: Vec<Edit>) -> Self {
        let generation = Generation(self.generation.0.saturating_add(1));
        let mut next = self.clone();
        next.token = self.token.max(through);
        next.generation = generation;
        if urgency == Urgency::Urgent {
            next.urgent = generation;
        }
        let mut by_table: BTreeMap<(Scope, TypeUrl), Vec<Change>> = BTreeMap::new();
        for edit in edits {
            by_table.entry((edit.scope, edit.type_url)).or_default().push(edit.change);
        }
        for (key, mut changes) in by_table {
            let withdrawn = |change: &Change| matches!(change, Change::Withdraw);
            if let Some(at) = changes.iter().rposition(withdrawn) {
                next.tables.remove(&key);
                changes.drain(..=at);
                if changes.is_empty() {
                    continue;
                }
            }
            let before = self.generation;
            let table = next.tables.entry(key).or_insert_with(|| Arc::new(Table::since(before)));
            if let Some(changed) = table.next(generation, changes) {
                *table = Arc::new(changed);
            }
        }
        next
    }

    /// With a version of a whole table that is the caller's own: state-of-the-world clients are
    /// told it in place of ours once they have all of the table. Not compared with anything.
    #[must_use]
    pub fn labelled(mut self, scope: Scope, type_url: TypeUrl, label: &str) -> Self {
        let table = self.tables.entry((scope, type_url));
        let table = table.or_insert_with(|| Arc::new(Table::since(self.generation)));
        if table.label() != Some(label) {
            Arc::make_mut(table).label = Some(label.into());
        }
        self
    }

    /// The newest snapshot that is rendered here.
    pub const fn token(&self) -> Token {
        self.token
    }

    /// The number of this statement.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The newest statement that must not wait for acks.
    pub const fn urgent(&self) -> Generation {
        self.urgent
    }

    /// A table; `None` where nothing was ever put or declared: it is not rendered yet.
    pub fn table(&self, scope: &Scope, type_url: &TypeUrl) -> Option<&Arc<Table>> {
        // Two pointers are cloned; a map of maps would save that and cost clarity.
        self.tables.get(&(scope.clone(), type_url.clone()))
    }

    /// All tables.
    pub fn iter(&self) -> impl Iterator<Item = (&Scope, &TypeUrl, &Arc<Table>)> {
        self.tables.iter().map(|((scope, type_url), table)| (scope, type_url, table))
    }
}

impl Table {
    /// The most batches of changes that are kept: a stream that lags further looks at every
    /// resource it subscribes to instead.
    const RECENT_MAX: usize = 256;

    /// The most removed names that are kept.
    const GONE_MAX: usize = 65_536;

    /// An empty table that knows nothing of what was there up to this statement: one of its name
    /// may have been withdrawn.
    fn since(floor: Generation) -> Self {
        Self {
            resources: Shards::empty(),
            gone: BTreeMap::new(),
            gone_count: 0,
            gone_floor: floor,
            recent: Arc::new([]),
            recent_floor: floor,
            changed: Generation(0),
            hash: 0,
            label: None,
            partial: false,
        }
    }

    /// Whether what is not here may be there all the same ([`Change::Partial`]).
    pub const fn is_partial(&self) -> bool {
        self.partial
    }

    /// The resource of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(Name::hash_of(name), name)
    }

    /// The resource of this name.
    pub fn of(&self, name: &Name) -> Option<&Arc<Resource>> {
        self.resources.get(name.hash_value(), name.as_str())
    }

    /// All resources, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When anything last changed.
    pub const fn changed(&self) -> Generation {
        self.changed
    }

    /// Over the names and versions of all resources, whatever their order and history: the same
    /// after a restart.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// What a library user calls the whole of it.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// What changed after `since`: O(changed), or O(resources) for whoever lags far behind.
    pub fn changes(&self, since: Generation) -> Changes {
        if since >= self.changed {
            return Changes::default();
        }
        if since < self.recent_floor {
            return self.all_changes(since);
        }
        let mut changes = Changes::default();
        for batch in self.recent.iter().filter(|batch| batch.generation > since) {
            // Superseded by a later batch: left to that one.
            changes.changed.extend(
                batch
                    .changed
                    .iter()
                    .filter(|resource| {
                        self.of(resource.name()).is_some_and(|now| Arc::ptr_eq(now, resource))
                    })
                    .cloned(),
            );
            changes
                .gone
                .extend(batch.gone.iter().filter(|gone| self.of(&gone.name).is_none()).cloned());
        }
        dedup(&mut changes.gone);
        changes
    }

    fn all_changes(&self, since: Generation) -> Changes {
        let changed = self.iter().filter(|resource| resource.changed > since).cloned().collect();
        let after = (std::ops::Bound::Excluded(since), std::ops::Bound::Unbounded);
        let gone = self.gone.range(after).flat_map(|(_, gone)| gone.iter());
        let mut gone: Vec<Gone> =
            gone.filter(|gone| self.of(&gone.name).is_none()).cloned().collect();
        dedup(&mut gone);
        Changes { changed, gone, forgotten: since < self.gone_floor }
    }

    /// With these changes; `None` where they change nothing.
    fn next(&self, generation: Generation, changes: Vec<Change>) -> Option<Self> {
        let mut next = self.clone();
        let mut changed: BTreeMap<Name, Arc<Resource>> = BTreeMap::new();
        let mut gone: BTreeMap<Name, Gone> = BTreeMap::new();
        let mut same = true;
        for change in changes {
            match change {
                Change::Put { encoded, plans, needs } => {
                    let name = encoded.name.clone();
                    let old = next.of(&name).cloned();
                    let unchanged =
                        old.as_ref().filter(|old| old.encoded.version == encoded.version);
                    if unchanged.is_some_and(|old| old.plans == plans && old.needs == needs) {
                        continue;
                    }
                    same = false;
                    let resource = Arc::new(Resource {
                        born: old.as_ref().map_or(generation, |old| old.born),
                        changed: unchanged.map_or(generation, |old| old.changed),
                        encoded,
                        plans,
                        needs,
                    });
                    next.hash ^= old.as_ref().map_or(0, |old| old.encoded.identity());
                    next.hash ^= resource.encoded.identity();
                    next.resources.put(name.clone(), Arc::clone(&resource));
                    gone.remove(&name);
                    changed.insert(name, resource);
                }
                Change::Declare | Change::Withdraw => {}
                Change::Partial(partial) => {
                    same &= next.partial == partial;
                    next.partial = partial;
                }
                Change::Remove(name) => {
                    let Some(old) = next.resources.remove(&name) else { continue };
                    same = false;
                    next.hash ^= old.encoded.identity();
                    changed.remove(&name);
                    gone.insert(name.clone(), Gone { name, plans: Arc::clone(&old.plans) });
                }
            }
        }
        if same {
            return None;
        }
        next.changed = generation;
        next.remember(generation, changed.into_values().collect(), gone.into_values().collect());
        Some(next)
    }

    fn remember(
        &mut self,
        generation: Generation,
        changed: Arc<[Arc<Resource>]>,
        gone: Arc<[Gone]>,
    ) {
        if !gone.is_empty() {
            self.gone_count += gone.len();
            self.gone.insert(generation, Arc::clone(&gone));
            while self.gone_count > Self::GONE_MAX
                && let Some((oldest, names)) = self.gone.pop_first()
            {
                self.gone_count -= names.len();
                self.gone_floor = oldest;
            }
        }
        let batch = Arc::new(Batch { generation, changed, gone });
        let full = self.recent.len() >= Self::RECENT_MAX;
        if let (true, Some(oldest)) = (full, self.recent.first()) {
            self.recent_floor = oldest.generation;
        }
        let kept = self.recent.iter().skip(usize::from(full)).cloned();
        self.recent = kept.chain([batch]).collect();
    }
}

/// Each name once.
fn dedup(gone: &mut Vec<Gone>) {
    gone.sort_by(|a, b| a.name.cmp(&b.name));
    gone.dedup_by(|a, b| a.name == b.name);
}
