//! One type on one stream: what is subscribed to, and what has not arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::{PlanName, Token};

use crate::name::{Name, Scope, TypeUrl};
use crate::session::due::{Denied, Due, Push};
use crate::session::kind::Kind;
use crate::session::names::Names;
use crate::session::world::World;
use crate::table::{Generation, Resource, Table};
use crate::version::Version;

/// Whether everything is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wildcard {
    /// Names only.
    No,
    /// Because the first request had no names.
    Legacy,
    /// `*` is among the names.
    Explicit,
}

/// One type on one stream.
///
/// Of a client that is in step there are only names here and one generation: what is neither in
/// `due`, `out` nor `denied` is as the table was at `looked`.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) type_url: TypeUrl,
    pub(super) kind: Kind,
    pub(super) scope: Scope,
    pub(super) names: Names,
    pub(super) wildcard: Wildcard,
    /// SotW: a request had names, so that one without means none.
    pub(super) named: bool,
    /// SotW: names that a stale request did not have. If the next one has them again, the client
    /// has let them go meanwhile.
    pub(super) lapsed: BTreeSet<Name>,
    /// What the client said that it has; until the table is there.
    pub(super) start: Option<Box<Start>>,
    /// Changes of the table up to this are in `due`.
    pub(super) looked: Generation,
    /// The token of those tables.
    pub(super) token: Token,
    pub(super) due: BTreeMap<Name, Due>,
    /// Not acknowledged, oldest first.
    pub(super) out: Vec<Push>,
    pub(super) denied: BTreeMap<Name, Denied>,
    /// A response is expected even if there is nothing in it.
    pub(super) greet: bool,
    /// Something in `due` does not wait for acks.
    pub(super) urgent: bool,
    /// The newest nonce; 0: none.
    pub(super) nonce: u64,
    /// What only state of the world needs.
    pub(super) world: World,
}

/// What the client said with its first request of a type.
#[derive(Debug)]
pub(super) enum Start {
    /// Name to version.
    Delta(BTreeMap<String, String>),
    /// The version of all.
    Sotw(String),
}

/// Why something becomes due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause {
    /// The client has what was there before, unless something else is known.
    pub(super) held: bool,
    /// As [`Due::through`], unless something else is known.
    pub(super) through: Token,
    /// As [`Due::asked`].
    pub(super) asked: bool,
    /// As [`Due::urgent`].
    pub(super) urgent: bool,
}

/// What has become of a name on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The client has it, in this version or an older one.
    Here,
    /// It has not acknowledged any.
    Awaited,
    /// It refused all there was.
    Refused,
}

impl Watch {
    pub(super) fn new(type_url: TypeUrl, scope: Scope, start: Start) -> Self {
        Self {
            kind: Kind::of(&type_url),
            type_url,
            scope,
            names: Names::default(),
            wildcard: Wildcard::No,
            named: false,
            lapsed: BTreeSet::new(),
            start: Some(Box::new(start)),
            looked: Generation(0),
            token: Token::NEVER,
            due: BTreeMap::new(),
            out: Vec::new(),
            denied: BTreeMap::new(),
            greet: false,
            urgent: false,
            nonce: 0,
            world: World::default(),
        }
    }

    /// Whether this name is subscribed to.
    pub(super) fn covers(&self, name: &Name) -> bool {
        self.wildcard != Wildcard::No || self.names.contains(name)
    }

    /// All resources that are subscribed to, as the table has them.
    pub(super) fn covered<'a>(
        &'a self,
        table: &'a Table,
    ) -> Box<dyn Iterator<Item = &'a Arc<Resource>> + 'a> {
        match self.wildcard {
            Wildcard::No => Box::new(self.names.iter().filter_map(|name| table.of(name))),
            Wildcard::Legacy | Wildcard::Explicit => Box::new(table.iter()),
        }
    }

    /// What has become of a name that is subscribed to and in the table.
    pub(super) fn arrival(&self, name: &Name) -> Arrival {
        let here = |held| if held { Arrival::Here } else { Arrival::Awaited };
        if self.start.is_some() {
            return Arrival::Awaited;
        }
        if let Some(due) = self.due.get(name) {
            return here(due.held);
        }
        if let Some(item) = self.out.iter().rev().find_map(|push| push.item(name)) {
            return here(item.due.held);
        }
        match self.denied.get(name) {
            Some(denied) if !denied.due.held => Arrival::Refused,
            _ => Arrival::Here,
        }
    }

    /// Makes a name due.
    pub(super) fn mark(&mut self, name: &Name, plans: &Arc<[PlanName]>, cause: Cause) {
        self.urgent |= cause.urgent;
        let denied = self.denied.remove(name);
        if let Some(due) = self.due.get_mut(name) {
            due.plans = Arc::clone(plans);
            // What went and came again before that was sent is new: whether the client ever had
            // the one before is not known.
            due.held &= cause.held;
            due.asked |= cause.asked;
            due.urgent |= cause.urgent;
            due.alone = false;
            return;
        }
        let sent = self.out.iter().rev().find_map(|push| push.item(name));
        let (held, through) = match (sent, &denied) {
            (Some(item), _) => (item.sent.is_some() && item.due.held, cause.through),
            (None, Some(denied)) => (denied.due.held, denied.due.through),
            (None, None) => (cause.held, cause.through),
        };
        let due = Due {
            plans: Arc::clone(plans),
            through,
            // What was refused still stands in the way of what it kept the client from letting go.
            generation: denied.map_or(self.looked, |denied| denied.due.generation),
            held,
            asked: cause.asked,
            urgent: cause.urgent,
            alone: false,
            waits: None,
            behind: None,
        };
        self.due.insert(name.clone(), due);
    }

    /// The client asked for a name, which it has or has not.
    pub(super) fn ask(&mut self, name: &Name, table: Option<&Arc<Table>>, had: bool) {
        if let Some(start) = self.start.as_deref_mut() {
            // Whatever version it said before: an empty one is none.
            if let Start::Delta(versions) = start {
                versions.insert(name.as_str().to_owned(), String::new());
            }
            return;
        }
        let resource = table.and_then(|table| table.of(name));
        // What changed after `looked` is found when the tables are next looked at.
        let known = had && resource.is_some_and(|resource| resource.born <= self.looked);
        let through = if known || resource.is_none() { self.token } else { Token::NEVER };
        let plans = resource.map_or_else(|| Arc::new([]) as Arc<[_]>, |r| Arc::clone(&r.plans));
        self.mark(name, &plans, Cause { held: known, through, asked: true, urgent: false });
        let behind = self.due.get_mut(name).and_then(|due| due.behind.as_deref_mut());
        if let Some(Version::Ours { hash, .. }) = behind {
            // It is answered even if it turns out to be what the client had.
            *hash = 0;
        }
    }

    /// The client wants something no more: nobody owes it that.
    pub(super) fn forget_uncovered(&mut self) {
        if self.wildcard != Wildcard::No {
            return;
        }
        let names = &self.names;
        self.due.retain(|name, _| names.contains(name));
        self.denied.retain(|name, _| names.contains(name));
        for push in &mut self.out {
            for item in &mut push.items {
                item.moot |= !names.contains(&item.name);
            }
        }
        self.world.retain(|resource| names.contains(resource.name()));
    }

    /// How many names are kept for it.
    pub(super) fn weight(&self) -> usize {
        let claims = match self.start.as_deref() {
            Some(Start::Delta(versions)) => versions.len(),
            Some(Start::Sotw(_)) | None => 0,
        };
        self.names.len().saturating_add(claims)
    }

    /// Whether anything is unsent, unacknowledged or refused.
    pub(super) fn lags(&self) -> bool {
        !self.due.is_empty() || !self.out.is_empty() || !self.denied.is_empty()
    }

    /// Gives memory back: a map that was emptied keeps a leaf, which is more than all the rest.
    pub(super) fn shrink(&mut self) {
        if self.due.is_empty() {
            self.due = BTreeMap::new();
        }
        if self.denied.is_empty() {
            self.denied = BTreeMap::new();
        }
        if self.lapsed.is_empty() {
            self.lapsed = BTreeSet::new();
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Everything that has not arrived.
    pub(super) fn exceptions(&self) -> impl Iterator<Item = &Due> {
        let out = self.out.iter().flat_map(|push| &push.items).filter(|item| !item.moot);
        let out = out.map(|item| &item.due);
        self.due.values().chain(out).chain(self.denied.values().map(|denied| &denied.due))
    }

    /// Adds names to the subscription.
    pub(super) fn subscribe(&mut self, names: &BTreeSet<Name>) {
        self.names.add(names);
    }
}
