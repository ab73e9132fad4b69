//! Which hosts' tables are rendered: those of agents that are connected, or were.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use plan::Snapshot;
use xds::own::{self, Concern, Hosts};
use xds::{Client, Edit, Scope};

use crate::identity::Authority;

/// The most scopes that are rendered: as many as there may be hosts with services of their own.
const SCOPES_MAX: usize = 10_000;

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
    rendered: Hosts,
}

impl HostTables {
    /// These clients are connected. Whether other tables are wanted now.
    pub(super) fn used(&mut self, clients: &[Arc<Client>], concerns: &dyn Concerns) -> bool {
        let mut changed = false;
        for client in clients.iter().filter(|client| is_agent(client)) {
            let concern = concerns.of(client);
            let scope = concern.scope(&client.id);
            if self.wanted.get(&scope) == Some(&concern) {
                continue;
            }
            if self.wanted.len() >= SCOPES_MAX && !self.wanted.contains_key(&scope) {
                let what = "there are too many hosts with services of their own";
                tracing::error!(host = %client.id, what);
                continue;
            }
            self.wanted.insert(scope, concern);
            changed = true;
        }
        changed
    }

    /// What leads to this snapshot.
    pub(super) fn edits(&mut self, snapshot: &Snapshot) -> Vec<Edit> {
        let (rendered, edits) = own::host_tables(snapshot, &self.wanted, &self.rendered);
        self.rendered = rendered;
        edits
    }
}
