//! Which hosts' tables are rendered: those of agents that are connected, or were.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use plan::Snapshot;
use xds::own::{self, Concern, Hosts};
use xds::{Client, Edit, Scope};

use crate::identity::Authority;

/// The most scopes that are rendered: as many as there may be hosts with services of their own.
const SCOPES_MAX: usize = 10_000;

/// How long a scope is rendered after the last agent has gone that sees it: longer than hosts take
/// to restart. Who comes later waits for its table as at first.
const KEPT: Duration = Duration::from_secs(3_600);

/// Says which services concern a host.
pub trait Concerns: Send + Sync + Debug {
    /// Those of this agent.
    fn of(&self, client: &Client) -> Concern;
}

/// Every service concerns every host: where nobody proves who he is.
#[derive(Clone, Copy, Debug)]
struct Everything;

impl Concerns for Everything {
    fn of(&self, _: &Client) -> Concern {
        Concern::All
    }
}

/// As its token said; a machine that is not known, or is no VM, is concerned by nothing.
impl Concerns for Authority {
    fn of(&self, client: &Client) -> Concern {
        let known = client.identity.as_ref().and_then(|it| self.services_of(&it.name));
        match known {
            Some(services) if services.is_empty() => Concern::All,
            Some(services) => Concern::Only(Arc::new(services.into_iter().collect())),
            None => Concern::Only(Arc::new(BTreeSet::new())),
        }
    }
}

/// By identity where there are any.
pub(super) fn concerns(identity: Option<&Authority>) -> Arc<dyn Concerns> {
    match identity {
        Some(identity) => Arc::new(identity.clone()),
        None => Arc::new(Everything),
    }
}

/// Whether this client is an agent on a host.
pub(super) fn is_agent(client: &Client) -> bool {
    client.says("role") == Some("agent")
}

/// What is rendered for hosts.
#[derive(Debug, Default)]
pub(super) struct HostTables {
    wanted: BTreeMap<Scope, Concern>,
    /// Of `wanted`: since when nobody has seen it.
    unused: BTreeMap<Scope, Duration>,
    rendered: Hosts,
}

impl HostTables {
    /// These clients are connected, and no others. Whether other tables are wanted now.
    pub(super) fn used(
        &mut self,
        clients: &[Arc<Client>],
        concerns: &dyn Concerns,
        now: Duration,
    ) -> bool {
        let mut changed = false;
        let mut used = BTreeSet::new();
        for client in clients.iter().filter(|client| is_agent(client)) {
            let concern = concerns.of(client);
            let scope = concern.scope(&client.id);
            self.unused.remove(&scope);
            used.insert(scope.clone());
            if self.wanted.get(&scope) == Some(&concern) {
                continue;
            }
            if self.wanted.len() >= SCOPES_MAX
                && !self.wanted.contains_key(&scope)
                && !self.withdraw_longest()
            {
                let what = "there are too many hosts with services of their own";
                tracing::error!(host = %client.id, what);
                continue;
            }
            self.wanted.insert(scope, concern);
            changed = true;
        }
        for scope in self.wanted.keys().filter(|scope| !used.contains(*scope)) {
            self.unused.entry(scope.clone()).or_insert(now);
        }
        changed
    }

    /// When a scope is to be withdrawn.
    pub(super) fn due(&self) -> Option<Duration> {
        self.unused.values().min().map(|since| since.saturating_add(KEPT))
    }

    /// Withdraws the scopes whose time is over. Whether there were any.
    pub(super) fn pass(&mut self, now: Duration) -> bool {
        let over = self.unused.extract_if(.., |_, since| since.saturating_add(KEPT) <= now);
        let over: Vec<Scope> = over.map(|(scope, _)| scope).collect();
        for scope in &over {
            self.wanted.remove(scope);
        }
        !over.is_empty()
    }

    /// Withdraws the scope that nobody has seen for longest; whether there is one.
    fn withdraw_longest(&mut self) -> bool {
        let longest = self.unused.iter().min_by_key(|(_, since)| **since);
        let Some(longest) = longest.map(|(scope, _)| scope.clone()) else { return false };
        self.unused.remove(&longest);
        self.wanted.remove(&longest);
        true
    }

    /// What leads to this snapshot.
    pub(super) fn edits(&mut self, snapshot: &Snapshot) -> Vec<Edit> {
        let (rendered, edits) = own::host_tables(snapshot, &self.wanted, &self.rendered);
        self.rendered = rendered;
        edits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every host has a service of its own.
    #[derive(Debug)]
    struct OfOnesOwn;

    impl Concerns for OfOnesOwn {
        fn of(&self, _: &Client) -> Concern {
            Concern::Only(Arc::new(BTreeSet::new()))
        }
    }

    fn agents(names: impl IntoIterator<Item = usize>) -> Vec<Arc<Client>> {
        let agent = |n: usize| Client {
            id: format!("vm-{n}").into(),
            cluster: "".into(),
            says: [("role".to_owned(), "agent".to_owned())].into(),
            agent: "".into(),
            version: None,
            identity: None,
        };
        names.into_iter().map(|n| Arc::new(agent(n))).collect()
    }

    #[test]
    fn what_no_host_has_seen_for_an_hour_is_withdrawn() {
        let mut tables = HostTables::default();
        let at = Duration::from_secs;
        assert!(tables.used(&agents([1, 2]), &OfOnesOwn, at(0)));
        assert_eq!(tables.due(), None);
        assert!(!tables.used(&agents([1]), &OfOnesOwn, at(10)));
        assert!(!tables.used(&agents([1, 2]), &OfOnesOwn, at(20)), "back in time");
        assert!(!tables.used(&agents([1]), &OfOnesOwn, at(30)));
        assert_eq!(tables.due(), Some(at(3_630)));
        assert!(!tables.pass(at(3_629)));
        assert!(tables.pass(at(3_630)));
        assert_eq!((tables.wanted.len(), tables.due()), (1, None));
        assert!(tables.used(&agents([1, 2]), &OfOnesOwn, at(4_000)), "rendered anew");
    }

    #[test]
    fn a_host_finds_room_where_others_are_gone() {
        let mut tables = HostTables::default();
        let at = Duration::from_secs;
        tables.used(&agents(0..SCOPES_MAX), &OfOnesOwn, at(0));
        assert!(!tables.used(&agents(0..=SCOPES_MAX), &OfOnesOwn, at(1)), "all are there");
        tables.used(&agents(1..SCOPES_MAX), &OfOnesOwn, at(2));
        assert!(tables.used(&agents(1..=SCOPES_MAX), &OfOnesOwn, at(3)));
        assert_eq!(tables.wanted.len(), SCOPES_MAX);
        assert!(!tables.wanted.contains_key(&Scope::from("host/vm-0")));
    }
}
