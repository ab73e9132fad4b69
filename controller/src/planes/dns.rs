//! The DNS plane in this process: snapshots to catalogs, catalogs to the server's threads.
//!
//! One sink, `dns/local`. A zone text that is missing or no zone is refused by the sink in the name
//! of the plan that owns it; the zone is then served as it was, and everything else goes on: a
//! rollback never waits for a zone text to be mended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dns::{Catalog, CatalogError, Server};
use plan::snapshot::{Service, Zone};
use plan::{
    Count, Digest, HostName, Nack, PlanName, Plane, Sink, SinkId, Snapshot, Standing, Timestamp,
    Token, ZoneName,
};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::planes::PlanePort;
use crate::store::Store;
use crate::zones;

/// The id of the one sink.
pub const SINK: &str = "dns/local";

/// How often the server's counts are read while somebody asks it anything.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How long after a zone text could not be had it is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The most words of a refusal that are kept, in bytes: several problems with their places.
const DETAIL_MAX: usize = 2_000;

/// What the DNS plane is connected by.
#[derive(Debug)]
pub struct DnsPort {
    /// As every plane.
    pub port: PlanePort,
    /// The catalog in force, for those who want to know an answer.
    pub catalog: watch::Sender<Arc<Catalog>>,
    /// What zone texts hold at the plans' host names.
    pub zone_answers: watch::Sender<BTreeMap<HostName, Vec<IpAddr>>>,
    /// Where zone texts are.
    pub store: Arc<dyn Store>,
    /// For the times of acks and counts.
    pub clock: Clock,
}

/// Serves snapshots by `server` until the controller has gone.
pub async fn run(ports: DnsPort, server: Arc<Server>) {
    prepare(ports).await.run(server).await;
}

/// The plane with the catalog of the newest snapshot made, so that a server can be opened with it:
/// nobody is told that a zone is not here because it is still being read.
pub async fn prepare(ports: DnsPort) -> Prepared {
    let mut plane = DnsPlane::new(Arc::clone(&ports.store), ports.clock);
    let snapshot = Arc::clone(&ports.port.snapshots.borrow());
    let made = plane.next(&snapshot).await;
    Prepared { ports, plane, first: (snapshot, made) }
}

/// The DNS plane before its server.
#[derive(Debug)]
pub struct Prepared {
    ports: DnsPort,
    plane: DnsPlane,
    first: (Arc<Snapshot>, Made),
}

impl Prepared {
    /// What the server shall answer from at first.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.plane.catalog)
    }

    /// Serves snapshots by `server` until the controller has gone.
    pub async fn run(self, server: Arc<Server>) {
        let Self { ports, mut plane, first } = self;
        let DnsPort { port, catalog, zone_answers, clock, store: _ } = ports;
        let PlanePort { mut snapshots, standing, counts } = port;
        let counts = Counting { counts, epoch: AtomicU64::new(0) };
        let counting = count(Arc::clone(&server), &counts, clock);
        let publisher = server.publisher();
        let serving = async {
            let mut before = Arc::new(Snapshot::empty());
            let (mut snapshot, mut made) = first;
            loop {
                publisher.publish(Arc::clone(&made.catalog)).await;
                counts.moved(&before, &snapshot, clock.now());
                before = Arc::clone(&snapshot);
                catalog.send_replace(Arc::clone(&made.catalog));
                standing.send_replace(plane.standing(&snapshot));
                if made.answers_changed {
                    zone_answers.send_replace(zones::answers(&made.catalog, &snapshot));
                }
                let again = async {
                    if plane.refused.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                };
                tokio::select! {
                    changed = snapshots.changed() => if changed.is_err() { return },
                    () = again => {}
                }
                snapshot = Arc::clone(&snapshots.borrow_and_update());
                made = plane.next(&snapshot).await;
            }
        };
        tokio::select! {
            () = serving => {}
            () = counting => {}
        }
    }
}

/// What was counted, which a moved split makes void: nobody must take it for the new one's.
struct Counting {
    counts: watch::Sender<plan::Counts>,
    /// Raised with every snapshot; what was read under an older one is not said.
    epoch: AtomicU64,
}

impl Counting {
    /// Voids what was counted for services whose split is another one now. Until the threads'
    /// tables are read again, anybody may have been given the answer of before.
    fn moved(&self, before: &Snapshot, after: &Snapshot, now: Timestamp) {
        self.counts.send_if_modified(|last| {
            self.epoch.fetch_add(1, Ordering::Relaxed);
            let moved = moved(before, after);
            if moved.is_empty() {
                return false;
            }
            let mut services = last.services.as_ref().clone();
            for was in moved {
                let count = services.entry(was.id.clone()).or_default();
                let longest = was.ttls.iter().max().copied().unwrap_or(0);
                let until = now.after(Duration::from_secs(longest.into()));
                let old_until = count.old_until.max(Some(until));
                *count = Count { old_until, ..Count::default() };
            }
            last.services = Arc::new(services);
            true
        });
    }
}

/// The services whose split is another one now, as they were. Both lists are sorted, and most of
/// their leaves are the same.
fn moved<'a>(before: &'a Snapshot, after: &Snapshot) -> Vec<&'a Arc<Service>> {
    let mut were = before.services.iter().peekable();
    let mut moved = Vec::new();
    for service in after.services.iter() {
        if were.next_if(|was| Arc::ptr_eq(was, service)).is_some() {
            continue;
        }
        while were.next_if(|was| was.id < service.id).is_some() {}
        let other = |was: &&Arc<Service>| {
            was.id == service.id && was.serving.split() != service.serving.split()
        };
        moved.extend(were.next_if(other));
    }
    moved
}

/// Says what the server counted, now and then, until nobody listens.
async fn count(server: Arc<Server>, counting: &Counting, clock: Clock) {
    let counts = &counting.counts;
    let mut every = tokio::time::interval(COUNT_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = counts.closed() => return,
            _ = every.tick() => {}
        }
        let epoch = counting.epoch.load(Ordering::Relaxed);
        let (server, now) = (Arc::clone(&server), clock.now());
        let Ok(read) = tokio::task::spawn_blocking(move || server.counts(now)).await else {
            return;
        };
        counts.send_if_modified(|last| {
            // Under the channel's lock, as `moved` is: no snapshot came between reading and saying.
            let changed = *last != read && epoch == counting.epoch.load(Ordering::Relaxed);
            if changed {
                *last = read;
            }
            changed
        });
    }
}

/// From snapshots to catalogs, keeping the last good text of every zone.
#[derive(Debug)]
struct DnsPlane {
    store: Arc<dyn Store>,
    clock: Clock,
    catalog: Arc<Catalog>,
    /// The zones as the catalog has them, which may be older than the snapshot's.
    served: BTreeMap<ZoneName, Arc<Zone>>,
    /// What is wrong with the newest text of a zone.
    refused: BTreeMap<ZoneName, Refusal>,
    /// The newest token up to which everything was taken.
    whole: Token,
    since: Timestamp,
}

#[derive(Clone, Debug)]
struct Refusal {
    plan: PlanName,
    token: Token,
    detail: String,
    at: Timestamp,
}

/// A catalog for the next snapshot.
#[derive(Debug)]
struct Made {
    catalog: Arc<Catalog>,
    /// Zones or names came, went or changed.
    answers_changed: bool,
}

impl DnsPlane {
    fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self {
            store,
            clock,
            catalog: Arc::new(Catalog::empty()),
            served: BTreeMap::new(),
            refused: BTreeMap::new(),
            whole: Token::NEVER,
            since: clock.now(),
        }
    }

    /// The catalog of a snapshot; zones whose text is not to be had stay as they were.
    async fn next(&mut self, snapshot: &Arc<Snapshot>) -> Made {
        let before = Arc::clone(&self.catalog);
        let mut refused = BTreeMap::new();
        let mut zones: Vec<Arc<Zone>> = snapshot.zones.to_vec();
        let texts = self.texts(&zones).await;
        loop {
            let effective = Snapshot { zones: zones.clone().into(), ..snapshot.as_ref().clone() };
            match catalog(&before, effective, &texts).await {
                Ok(catalog) => {
                    self.catalog = Arc::new(catalog);
                    break;
                }
                Err(error) => {
                    let zone = zone_of(&error);
                    let Some(at) = zones.iter().position(|leaf| leaf.name.as_str() == zone) else {
                        // Not one of ours: nothing can be left out, so all stays as it was.
                        tracing::error!(%error, "no catalog could be made");
                        break;
                    };
                    self.leave_out(&mut zones, at, words(&error), snapshot.token, &mut refused);
                }
            }
        }
        let hosts_same = before.names().services() == snapshot.services.len()
            && snapshot.services.iter().all(|service| service.since <= before.token);
        let zones_same = self.served.len() == zones.len()
            && zones.iter().all(|zone| self.served.get(&zone.name) == Some(zone));
        self.served = zones.into_iter().map(|zone| (zone.name.clone(), zone)).collect();
        if refused.is_empty() {
            self.whole = snapshot.token;
        }
        self.refused = refused;
        Made { catalog: Arc::clone(&self.catalog), answers_changed: !hosts_same || !zones_same }
    }

    /// The texts that the catalog does not hold yet.
    async fn texts(&self, zones: &[Arc<Zone>]) -> BTreeMap<Digest, Arc<str>> {
        let mut texts = BTreeMap::new();
        for zone in zones {
            let Some(digest) = zone.text else { continue };
            let held = self.served.get(&zone.name).is_some_and(|held| held.text == zone.text);
            if held || texts.contains_key(&digest) {
                continue;
            }
            match self.store.blob(digest).await {
                Ok(Some(bytes)) => match String::from_utf8(bytes) {
                    Ok(text) => drop(texts.insert(digest, Arc::from(text))),
                    Err(_) => tracing::error!(zone = %zone.name, "the zone text is no UTF-8"),
                },
                Ok(None) => tracing::error!(zone = %zone.name, %digest, "the zone text is missing"),
                Err(error) => tracing::error!(zone = %zone.name, %error, "no zone text"),
            }
        }
        texts
    }

    /// Puts the last good leaf of a zone in the place of one whose text is refused.
    fn leave_out(
        &self,
        zones: &mut Vec<Arc<Zone>>,
        at: usize,
        detail: String,
        token: Token,
        refused: &mut BTreeMap<ZoneName, Refusal>,
    ) {
        if at >= zones.len() {
            return;
        }
        let zone = zones.remove(at);
        if let Some(good) = self.served.get(&zone.name).filter(|good| **good != zone) {
            zones.insert(at, Arc::clone(good));
        }
        let known = self.refused.get(&zone.name).filter(|known| known.detail == detail);
        let refusal = known.cloned().unwrap_or_else(|| Refusal {
            plan: zone.plan.clone(),
            token: token.min(zone.since),
            detail,
            at: self.clock.now(),
        });
        refused.insert(zone.name.clone(), refusal);
    }

    fn standing(&self, snapshot: &Snapshot) -> Standing {
        let owes: BTreeSet<PlanName> = self.refused.values().map(|r| r.plan.clone()).collect();
        let nack = self.refused.values().max_by_key(|refusal| refusal.token).map(|newest| {
            let detail: Vec<&str> = self.refused.values().map(|r| r.detail.as_str()).collect();
            Nack {
                token: newest.token,
                plans: owes.clone(),
                detail: detail.join("; "),
                at: newest.at,
            }
        });
        let sink = Sink {
            id: SinkId::new(SINK),
            plane: Plane::Dns,
            kind: "dns".to_owned(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            plans: None,
            since: Some(self.since),
            left: None,
            acked: if self.refused.is_empty() { snapshot.token } else { self.whole },
            owes,
            nack,
        };
        Standing { through: snapshot.token, sinks: Arc::new([Arc::new(sink)]) }
    }
}

/// Makes the next catalog; on a thread of its own where zone texts have to be read.
async fn catalog(
    before: &Arc<Catalog>,
    snapshot: Snapshot,
    texts: &BTreeMap<Digest, Arc<str>>,
) -> Result<Catalog, CatalogError> {
    if texts.is_empty() {
        return before.next(&snapshot, &mut |_| None);
    }
    let (before, texts) = (Arc::clone(before), texts.clone());
    let read = move || before.next(&snapshot, &mut |digest| texts.get(digest).cloned());
    match tokio::task::spawn_blocking(read).await {
        Ok(made) => made,
        // The runtime is going down; nothing is served any more.
        Err(_) => std::future::pending().await,
    }
}

fn zone_of(error: &CatalogError) -> &str {
    match error {
        CatalogError::NoText { zone, .. } | CatalogError::Problems { zone, .. } => zone,
    }
}

/// The error with the first problems of a text.
fn words(error: &CatalogError) -> String {
    let mut words = error.to_string();
    if let CatalogError::Problems { problems, .. } = error {
        for problem in problems {
            if words.len() > DETAIL_MAX {
                break;
            }
            words.push_str(": ");
            words.push_str(&problem.to_string());
        }
    }
    words
}
