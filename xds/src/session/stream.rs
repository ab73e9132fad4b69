//! The engine of one stream.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{Client, Identity, View};
use crate::name::Name;
use crate::session::due::{Item, Push};
use crate::session::encode::{self, Head};
use crate::session::fold::Folded;
use crate::session::gate::{Gates, PATIENCE};
use crate::session::kind::Kind;
use crate::session::nonce::Nonces;
use crate::session::pick::{Pass, Picked, Picker};
use crate::session::watch::{Arrival, Cause, Watch};
use crate::session::{Next, Opened, Progress, Response, Rules, Variant, standing};
use crate::table::{Generation, Resource, Table, Tables};

/// The most responses of one type that wait for acks: rollbacks do not wait for them, but a client
/// that never acks is not sent more for ever.
const OUT_MAX: usize = 64;

/// How long a stream counts as not having looked at anything after it asked for a type that it had
/// not asked for before. A client that comes again asks for one type after the other, and what it
/// has of one says nothing of the others.
pub(super) const SETTLING: Duration = Duration::from_millis(250);

/// One stream of one client: what it subscribes to, what it was sent, what it took.
///
/// Sans-IO: requests and tables in, responses out; time is an argument.
#[derive(Debug)]
pub struct Session {
    pub(super) opened: Opened,
    pub(super) rules: Arc<Rules>,
    /// Who the client was proved to be.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) client: Option<(Arc<Client>, View)>,
    /// In the order in which they are sent.
    pub(super) watches: Vec<Watch>,
    pub(super) nonces: Nonces,
    /// Clusters sent on this stream before it asked for endpoint sets: whatever versions it then
    /// says it has of those, they are sent.
    pub(super) sent_clusters: BTreeSet<Name>,
    /// Clusters that arrived, whose endpoint sets the client has not asked for yet; since when.
    pub(super) warming: Vec<(Name, Duration)>,
    pub(super) progress: Progress,
    /// With these tables there was nothing to do.
    pub(super) idle: Option<Generation>,
    /// When a gate opens by itself.
    wake: Option<Duration>,
    /// Until when it may ask for further types.
    pub(super) settles: Option<Duration>,
    /// Names were forgotten that this client may have: it must come again and say what it has.
    pub(super) lost: bool,
}

impl Session {
    /// A stream that was just opened.
    pub fn new(opened: Opened, rules: Arc<Rules>) -> Self {
        Self {
            opened,
            rules,
            identity: None,
            client: None,
            watches: Vec::new(),
            nonces: Nonces::default(),
            sent_clusters: BTreeSet::new(),
            warming: Vec::new(),
            progress: Progress::default(),
            idle: None,
            wake: None,
            settles: None,
            lost: false,
        }
    }

    /// The client was proved to be this, where proofs are asked for: what it says of itself must
    /// agree with that.
    #[must_use]
    pub fn of(self, identity: Option<Arc<Identity>>) -> Self {
        Self { identity, ..self }
    }

    /// Who is at the other end, once it has said so.
    pub fn client(&self) -> Option<&Arc<Client>> {
        self.client.as_ref().map(|(client, _)| client)
    }

    /// Who it is, and what it sees.
    pub(crate) const fn met(&self) -> Option<&(Arc<Client>, View)> {
        self.client.as_ref()
    }

    /// Whether the client has acked everything that it has asked for so far.
    pub fn is_in_step(&self) -> bool {
        !self.watches.iter().any(|watch| watch.start.is_some() || watch.lags())
    }

    /// How far the stream is, as of the last [`Session::poll`] that said [`Next::Wait`].
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What to do next. Call it after a request, with every new statement of tables and when the
    /// moment has come that it named, until it says [`Next::Wait`].
    ///
    /// With nothing changed since it last said so it costs next to nothing.
    pub fn poll(&mut self, tables: &Tables, now: Duration) -> Next {
        let due = self.wake.is_some_and(|wake| wake <= now);
        if self.idle == Some(tables.generation()) && !due {
            return Next::Wait(self.wake);
        }
        self.idle = None;
        self.look(tables);
        self.warming.retain(|(_, since)| since.saturating_add(PATIENCE) > now);
        self.wake = None;
        for pass in [Pass::Updates, Pass::Removals] {
            for at in 0..self.watches.len() {
                if let Some(response) = self.push(at, pass, tables, now) {
                    return Next::Send(response);
                }
            }
        }
        standing::refresh(&mut self.progress, &self.watches, tables);
        self.settles = self.settles.filter(|until| *until > now);
        if self.settles.is_some() {
            self.progress.seen = Generation::default();
            self.wake = [self.wake, self.settles].into_iter().flatten().min();
        }
        self.watches.iter_mut().for_each(Watch::shrink);
        if self.warming.is_empty() {
            self.warming = Vec::new();
        }
        self.idle = Some(tables.generation());
        Next::Wait(self.wake)
    }

    /// Every type looks at the same tables before anything of them is sent: gates depend on it.
    fn look(&mut self, tables: &Tables) {
        let is_there = self.client.as_ref().is_none_or(|(_, view)| view.is_there(tables));
        for watch in &mut self.watches {
            let begins = watch.start.is_some();
            if begins && !is_there {
                continue;
            }
            let Folded { plans, lost } = watch.fold(tables, self.opened.variant);
            standing::add_plans(&mut self.progress, plans.iter());
            if lost {
                // Its ack is a request, and that can be answered by closing.
                watch.greet = true;
                self.lost = true;
            }
            if begins && watch.start.is_none() && watch.kind == Kind::Endpoints {
                let table = tables.table(&watch.scope, &watch.type_url);
                for name in std::mem::take(&mut self.sent_clusters) {
                    again(watch, table, &name, false);
                }
            }
        }
    }

    /// The next response of a type, if there is one to send.
    fn push(&mut self, at: usize, pass: Pass, tables: &Tables, now: Duration) -> Option<Response> {
        let watch = self.watches.get(at)?;
        let outstanding = watch.out.len();
        let nothing = watch.due.is_empty() && !watch.greet;
        if nothing || outstanding >= OUT_MAX || (outstanding > 0 && !watch.urgent) {
            return None;
        }
        if watch.start.is_some() || watch.world.behind.is_some() {
            return None;
        }
        let table = tables.table(&watch.scope, &watch.type_url)?;
        if table.is_partial() && self.opened.variant == Variant::Sotw && watch.kind.is_whole() {
            // Whatever is not in it would be deleted.
            return None;
        }
        let gates = Gates { watches: &self.watches, tables, warming: &self.warming };
        let bytes = self.rules.limits.response_bytes;
        let variant = self.opened.variant;
        let picked = Picker { gates, table, variant, pass, bytes, now }.pick(watch);
        self.wake = [self.wake, picked.wake].into_iter().flatten().min();
        let watch = self.watches.get_mut(at)?;
        for name in &picked.settled {
            watch.due.remove(name);
        }
        for (name, waits) in &picked.waiting {
            if let Some(due) = watch.due.get_mut(name) {
                due.waits = *waits;
            }
        }
        let left = watch.due.len().saturating_sub(picked.send.len());
        let whole = variant == Variant::Sotw && watch.kind.is_whole();
        // Whatever is not in it would be deleted, and we cannot know what that is.
        let unknown = whole && !watch.world.is_known() && left > 0 && picked.wake.is_some();
        let empty = picked.send.is_empty() && !(watch.greet && left == 0);
        if empty || unknown || (outstanding > 0 && !picked.urgent) {
            return None;
        }
        Some(self.send(at, picked, table, tables))
    }

    fn send(&mut self, at: usize, picked: Picked, table: &Arc<Table>, tables: &Tables) -> Response {
        let (number, nonce) = self.nonces.next();
        #[expect(clippy::expect_used, reason = "`push` has just read it")]
        let watch = self.watches.get_mut(at).expect("a type that is watched");
        watch.greet = false;
        watch.nonce = number;
        let mut items = Vec::with_capacity(picked.send.len());
        for (name, resource) in &picked.send {
            if let Some((name, due)) = watch.due.remove_entry(name) {
                let sent = resource
                    .as_ref()
                    .map(|resource| resource.version().since().unwrap_or_else(|| tables.token()));
                items.push(Item { name, due, sent, moot: false });
            }
        }
        watch.urgent = watch.due.values().any(|due| due.urgent);
        let alone = items.iter().any(|item| item.due.alone);
        let changed = || picked.send.iter().filter_map(|(_, resource)| resource.as_ref());
        let whole = self.opened.variant == Variant::Sotw && watch.kind.is_whole();
        let world = whole.then(|| watch.whole(table).into_boxed_slice());
        let version = match self.opened.variant {
            Variant::Delta => tables.token().to_string(),
            Variant::Sotw => watch.world_version(table, &items, world.as_deref()),
        };
        let head = Head { version: &version, type_url: &watch.type_url, nonce: &nonce };
        let parts = match (self.opened.variant, &world) {
            (Variant::Delta, _) => {
                let gone = picked.send.iter().filter(|(_, resource)| resource.is_none());
                let gone: Vec<&Name> = gone.map(|(name, _)| name).collect();
                encode::delta(&head, changed(), &gone)
            }
            (Variant::Sotw, Some(all)) => encode::sotw(&head, all.iter()),
            (Variant::Sotw, None) => encode::sotw(&head, changed()),
        };
        let type_url = watch.type_url.clone();
        watch.out.push(Push { nonce: number, alone, items, world });
        if watch.kind == Kind::Clusters {
            self.resend_endpoints(at, tables);
        }
        let resources = parts.len().saturating_sub(1);
        Response { type_url, nonce, parts, resources }
    }

    /// A cluster that changes warms again, and waits for an answer to its request for endpoints
    /// "even if the endpoints have not changed" (xds_protocol.rst; envoy#13009).
    fn resend_endpoints(&mut self, at: usize, tables: &Tables) {
        let Some((before, rest)) = self.watches.split_at_mut_checked(at) else { return };
        let Some((clusters, after)) = rest.split_first_mut() else { return };
        let Some(push) = clusters.out.last() else { return };
        let endpoints = before.iter_mut().chain(after).find(|watch| watch.kind == Kind::Endpoints);
        let sent = push.items.iter().filter(|item| item.sent.is_some());
        match endpoints.filter(|endpoints| endpoints.start.is_none()) {
            Some(endpoints) => {
                let table = tables.table(&endpoints.scope, &endpoints.type_url);
                // Of a state of the world that we do not know anything may be a change.
                let all = push.world.is_some() && !clusters.world.is_known();
                for item in sent.filter(|item| all || item.due.held) {
                    again(endpoints, table, &item.name, item.due.urgent);
                }
            }
            None if self.opened.only.is_some() => {}
            None => {
                let room = self.rules.limits.names.saturating_sub(self.sent_clusters.len());
                self.sent_clusters.extend(sent.take(room).map(|item| item.name.clone()));
            }
        }
    }

    /// Clusters that arrived for the first time: their endpoint sets will be asked for.
    pub(super) fn warm(&mut self, new: Vec<Name>, tables: &Tables, now: Duration) {
        let Some(endpoints) = self.watches.iter().find(|watch| watch.kind == Kind::Endpoints)
        else {
            return;
        };
        let Some(table) = tables.table(&endpoints.scope, &endpoints.type_url) else { return };
        let asked = |name: &Name| endpoints.covers(name) || table.of(name).is_none();
        self.warming.extend(new.into_iter().filter(|name| !asked(name)).map(|name| (name, now)));
    }
}

/// Sends an endpoint set whether it changed or not.
fn again(endpoints: &mut Watch, table: Option<&Arc<Table>>, name: &Name, urgent: bool) {
    let resource: Option<&Arc<Resource>> = table.and_then(|table| table.of(name));
    let Some(resource) = resource.filter(|_| endpoints.covers(name)) else { return };
    let held = endpoints.arrival(name) == Arrival::Here;
    let through = if held { endpoints.token } else { plan::Token::NEVER };
    let cause = Cause { held, through, asked: true, urgent };
    endpoints.mark(name, &resource.plans, cause);
}
