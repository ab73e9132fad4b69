//! What is held, as tables to serve: the same versions, the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::identity::{Identity, List};
use plan::{PlanName, Token};
use xds::follow::{Held, Item};
use xds::join::Pin;
use xds::render::{Secrets, secrets, side_of};
use xds::{Change, Edit, Encoded, Name, Tables, TypeUrl, Urgency};

use crate::relay::{names, revoked};

/// Where everything is.
pub(super) const SCOPE: &str = "relay";

/// What is served, and of what it was made.
pub(super) struct Served {
    tables: Arc<Tables>,
    held: BTreeMap<TypeUrl, Arc<Held>>,
    /// Which certificates were taken back: for the proxies' authorities, not to be served as it is.
    revoked: Option<Arc<Held>>,
}

impl Served {
    pub(super) fn nothing() -> Self {
        Self { tables: Arc::new(Tables::empty()), held: BTreeMap::new(), revoked: None }
    }

    pub(super) fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    /// Takes up which certificates were taken back.
    pub(super) fn revoke(&mut self, held: &Arc<Held>) {
        self.revoked = Some(Arc::clone(held));
    }

    /// The lists that this identity's proxies are given, PEM: one of each authority, or none at
    /// all. A proxy with any list refuses whom an authority without one has signed, so it goes
    /// without where one is missing.
    pub(super) fn lists(&self, identity: &Identity) -> String {
        let Some(held) = &self.revoked else { return String::new() };
        let list = |authority: &Pin| revoked::held(held, authority, identity);
        let lists: Option<Vec<List>> = identity.authorities().iter().map(list).collect();
        lists.unwrap_or_default().iter().map(List::pem).collect()
    }

    /// Takes up what is held of one type. A type of which nothing was ever taken is not there:
    /// whoever asks for it waits.
    ///
    /// A relay does not know what is urgent, and serves few: nothing waits for acks.
    pub(super) fn take(&mut self, held: &Arc<Held>) {
        if held.newest() == Token::NEVER {
            return;
        }
        let before = self.held.insert(held.type_url.clone(), Arc::clone(held));
        let edit = |change| Edit { scope: SCOPE.into(), type_url: held.type_url.clone(), change };
        let mut edits = Vec::new();
        if before.is_none() {
            edits.push(edit(Change::Declare));
        }
        let old = |name: &Name| before.as_ref().and_then(|before| before.resources.get(name));
        for (name, item) in &held.resources {
            if old(name).is_none_or(|old| old.version != item.version) {
                edits.push(edit(self.put(&held.type_url, name, item)));
            }
        }
        let gone = before.iter().flat_map(|before| before.resources.keys());
        let gone = gone.filter(|name| !held.resources.contains_key(*name));
        edits.extend(gone.map(|name| edit(Change::Remove(name.clone()))));
        // The newest of all types: a proxy that had something of another type from here is never
        // ahead of what is served.
        let through = self.tables.token().max(held.newest());
        self.tables = Arc::new(self.tables.next(through, Urgency::Urgent, edits));
    }

    /// Puts what proxies show. It is of no snapshot, so the token stays.
    pub(super) fn put_secrets(&mut self, pem: Secrets<'_>) {
        let edits = secrets(&SCOPE.into(), pem).to_vec();
        self.tables = Arc::new(self.tables.next(Token::NEVER, Urgency::Ordinary, edits));
    }

    fn put(&self, type_url: &TypeUrl, name: &Name, item: &Item) -> Change {
        let encoded = Encoded::new(type_url, name.clone(), item.version.clone(), &item.body);
        let needs = self.needs(type_url, item);
        let named = needs.iter().map(Name::as_str).chain([name.as_str()]);
        let plans: BTreeSet<PlanName> =
            named.filter_map(|name| Some(side_of(name)?.0.plan)).collect();
        Change::Put {
            encoded: Arc::new(encoded),
            plans: plans.into_iter().collect(),
            needs: needs.into(),
        }
    }

    /// The clusters that a route or a listener names: they come first.
    fn needs(&self, type_url: &TypeUrl, item: &Item) -> Vec<Name> {
        let sends = [TypeUrl::ROUTES, TypeUrl::LISTENER, TypeUrl::EXTENSION];
        let clusters = self.held.get(&TypeUrl::from(TypeUrl::CLUSTER));
        match clusters {
            Some(clusters) if sends.contains(&type_url.as_str()) => {
                names::within(&item.body, &mut |text| {
                    let name = Name::new(text);
                    clusters.resources.contains_key(&name).then_some(name)
                })
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
