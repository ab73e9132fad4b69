//! Make before break, gated on the acks of this one stream.
//!
//! A route that names a new cluster is sent once the cluster has arrived; a cluster goes once what
//! named it has let go. A gate is only about what the client does not have at all: what it has in
//! an older version blocks nothing.

use std::time::Duration;

use crate::name::Name;
use crate::session::due::Due;
use crate::session::kind::Kind;
use crate::session::watch::{Arrival, Watch};
use crate::table::{Generation, Resource, Tables};

/// How long a gate waits for acks. A client that takes longer to take a cluster is not helped by
/// withholding its routes; Envoy itself gives up on warming after 15 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Whether something may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// At once.
    Open,
    /// Not before an ack, or [`PATIENCE`].
    Closed,
    /// Not before the client takes what it has refused.
    Refused,
}

/// What gates look at.
#[derive(Debug)]
pub(super) struct Gates<'a> {
    pub(super) watches: &'a [Watch],
    pub(super) tables: &'a Tables,
    /// Clusters that were just acked, whose endpoint sets the client is about to ask for.
    pub(super) warming: &'a [(Name, Duration)],
}

impl Gates<'_> {
    fn watch(&self, kind: Kind) -> Option<&Watch> {
        self.watches.iter().find(|watch| watch.kind == kind)
    }

    /// Whether this resource may be sent: every cluster it needs that exists, and that the stream
    /// subscribes to, is here; and likewise its endpoint set.
    pub(super) fn of(&self, resource: &Resource) -> Gate {
        let mut gate = Gate::Open;
        for name in resource.needs.iter() {
            for kind in [Kind::Clusters, Kind::Endpoints] {
                match self.need(kind, name) {
                    Gate::Open => {}
                    Gate::Closed => gate = Gate::Closed,
                    Gate::Refused => return Gate::Refused,
                }
            }
        }
        gate
    }

    fn need(&self, kind: Kind, name: &Name) -> Gate {
        let Some(watch) = self.watch(kind) else { return Gate::Open };
        let table = self.tables.table(&watch.scope, &watch.type_url);
        if table.is_none_or(|table| table.of(name).is_none()) {
            return Gate::Open;
        }
        if !watch.covers(name) {
            let asks_soon =
                kind == Kind::Endpoints && self.warming.iter().any(|(warming, _)| warming == name);
            return if asks_soon { Gate::Closed } else { Gate::Open };
        }
        match watch.arrival(name) {
            Arrival::Here => Gate::Open,
            Arrival::Awaited => Gate::Closed,
            Arrival::Refused => Gate::Refused,
        }
    }

    /// Whether a cluster or endpoint set may be taken away: nothing that changed with it, or
    /// before it, is on its way, and the client has not refused to let go.
    pub(super) fn removal(&self, kind: Kind, name: &Name, due: &Due) -> Gate {
        let clusters = (kind == Kind::Endpoints).then(|| self.watch(Kind::Clusters)).flatten();
        if clusters.is_some_and(|clusters| clusters.awaits(name)) {
            return Gate::Closed;
        }
        let mut gate = Gate::Open;
        for watch in self.watches.iter().filter(|watch| watch.kind.refers()) {
            if watch.keeps(due) {
                return Gate::Refused;
            }
            if watch.oldest().is_some_and(|oldest| oldest <= due.generation) {
                gate = Gate::Closed;
            }
        }
        gate
    }
}

impl Watch {
    /// Whether something of this name is unsent or unacknowledged.
    fn awaits(&self, name: &Name) -> bool {
        self.due.contains_key(name) || self.out.iter().any(|push| push.item(name).is_some())
    }

    /// When the oldest of what is unsent or unacknowledged became due.
    fn oldest(&self) -> Option<Generation> {
        let out = self.out.iter().flat_map(|push| &push.items).filter(|item| !item.moot);
        self.due.values().chain(out.map(|item| &item.due)).map(|due| due.generation).min()
    }

    /// Whether the client refused something of the same plans: it keeps what it had, which may need
    /// what is to go.
    fn keeps(&self, gone: &Due) -> bool {
        self.denied.values().filter(|denied| denied.due.held).any(|denied| {
            denied.due.generation <= gone.generation
                && (denied.due.plans.is_empty()
                    || gone.plans.is_empty()
                    || denied.due.plans.iter().any(|plan| gone.plans.contains(plan)))
        })
    }
}
