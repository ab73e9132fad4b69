//! The mesh plane: snapshots to xDS resources, acks and load reports back.
//!
//! The same server feeds followers of our own (DNS replicas, relays), so this plane also speaks for
//! them, in the planes that they are receivers of.

mod between;
mod clear;
mod conflicts;
mod doors;
mod drain;
mod foreign;
mod hosts;
mod leaving;
mod load;
mod quiet;
mod reported;
mod revoked;
mod sinks;
mod texts;
mod viewer;
#[cfg(test)]
mod world;

use std::sync::Arc;
use std::time::Duration;

use plan::{Plane, Snapshot, Standing};
use tokio::sync::{mpsc, watch};
use xds::lrs::LoadReports;
use xds::own::{self, Own};
use xds::registry::{Publisher, Registry, Standings};
use xds::render::{self, Rendered, Wanted};
use xds::server::{RoutesError, Server, serving, standard_routes};
use xds::session::Rules;
use xds::{Client, Edit, Tables, TypeUrl, Urgency};

use crate::clock::Clock;
use crate::handle::ForgetKnock;
use crate::identity::Authority;
use crate::planes::PlanePort;
use crate::planes::mesh::doors::{Coming, Doors};
use crate::planes::mesh::drain::Drain;
use crate::planes::mesh::foreign::Foreign;
use crate::planes::mesh::hosts::HostTables;
use crate::planes::mesh::leaving::Leaving;
use crate::planes::mesh::load::Load;
use crate::planes::mesh::quiet::Quiet;
use crate::planes::mesh::reported::Reported;
use crate::planes::mesh::revoked::Revoked;
use crate::planes::mesh::sinks::Sinks;
use crate::planes::mesh::texts::Texts;
use crate::planes::reports::{self, InForce, Reports, Said};
use crate::store::Store;

pub use crate::planes::mesh::hosts::Concerns;
pub use crate::planes::mesh::viewer::Roles;

/// What the mesh plane is connected by.
#[derive(Debug)]
pub struct MeshPort {
    /// As every plane.
    pub port: PlanePort,
    /// For the DNS replicas.
    pub replicas: Followers,
    /// For the agents on hosts.
    pub hosts: Followers,
    /// Where zone texts are.
    pub store: Arc<dyn Store>,
    /// For the times of acks and counts.
    pub clock: Clock,
    /// Who gives machines their identities; `None`: nobody proves who he is.
    pub identity: Option<Authority>,
    /// Where receivers are forgotten that go for good.
    pub(crate) forget: mpsc::Sender<ForgetKnock>,
}

/// What followers in a plane that is not the mesh say.
#[derive(Debug)]
pub struct Followers {
    /// How far they are.
    pub standing: watch::Sender<Standing>,
    /// What they counted.
    pub counts: watch::Sender<plan::Counts>,
}

/// What every stream of the server goes by.
pub fn rules(identity: Option<&Authority>) -> Rules {
    let concerns = hosts::concerns(identity);
    let own = [TypeUrl::ZONE_TABLE, TypeUrl::ZONE, TypeUrl::HOST_TABLE, TypeUrl::REVOCATIONS];
    Rules {
        viewer: Arc::new(Roles { concerns }),
        types: render::TYPES.into_iter().chain(own).map(TypeUrl::new).collect(),
        limits: xds::session::Limits::default(),
    }
}

/// Serves snapshots by `server` until `stop` is ready.
///
/// # Errors
/// The services' descriptions cannot be read, which is an error of the build.
pub async fn serve(
    ports: MeshPort,
    server: Server,
    stop: impl Future<Output = ()>,
) -> Result<(), RoutesError> {
    let (mut routes, health) = standard_routes().await?;
    let is_ours = |cluster: &str| render::side_of(cluster).is_some();
    let clock = xds::server::Clock::since(ports.clock.started());
    let (load_service, loads) = xds::lrs::service(is_ours, clock);
    let (report_service, reports) = reports::service(ports.identity.clone());
    serving(&health, &load_service).await;
    serving(&health, &report_service).await;
    routes.add_service(load_service).add_service(report_service);
    if let Some(identity) = &ports.identity {
        let enroll = identity.enroll_service();
        serving(&health, &enroll).await;
        routes.add_service(enroll);
    }
    let (publisher, registry) = (server.publisher(), server.registry());
    let plane = run(ports, publisher, Back { registry, loads, reports });
    let served = server.serve(routes.routes(), stop);
    tokio::pin!(served);
    tokio::select! {
        () = plane => served.await,
        () = &mut served => {}
    }
    Ok(())
}

/// What comes back from clients.
struct Back {
    /// Who is connected and how far.
    registry: Registry,
    /// What proxies did.
    loads: LoadReports,
    /// What receivers of our own say.
    reports: Reports,
}

/// Serves snapshots by `publisher` until the controller has gone.
async fn run(ports: MeshPort, publisher: Publisher, back: Back) {
    let mut plane = MeshPlane::new(ports, publisher);
    let Back { registry, mut loads, mut reports } = back;
    let mut standings = registry.standings();
    let mut clients = registry.clients();
    let mut tick = tokio::time::interval(COUNT_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    plane.doors(&clients.borrow_and_update());
    plane.publish().await;
    loop {
        let due = plane.due().map(|uptime| plane.clock.at(uptime));
        tokio::select! {
            // What is to go out goes first.
            biased;
            () = sleep_until(due) => plane.pass().await,
            changed = plane.port.snapshots.changed() => {
                if changed.is_err() {
                    return;
                }
                plane.committed();
            }
            Ok(()) = clients.changed() => plane.doors(&clients.borrow_and_update()),
            () = plane.revoked.changed() => {
                // Another machine may have the name of one that is still here.
                plane.doors(&clients.borrow());
                plane.quiet.changed(plane.clock.uptime(), false);
            }
            Ok(()) = standings.changed() => {
                let standings = Arc::clone(&standings.borrow_and_update());
                plane.standing(&standings);
            }
            said = reports.next() => {
                let is_relay = said.client.says("role") == Some("relay");
                if said.report.as_ref().is_some_and(|report| report.leaving) {
                    tokio::spawn(plane.leaving.clone().let_go(Arc::clone(&said.client)));
                }
                let own = plane.own_words(said);
                plane.reported.take(own, plane.clock.uptime());
                if is_relay {
                    let standings = Arc::clone(&standings.borrow());
                    plane.standing(&standings);
                }
            }
            Some(report) = loads.next() => plane.loaded(&report),
            _ = tick.tick() => plane.counted(),
        }
    }
}

/// How often what was counted is said, if it changed.
const COUNT_EVERY: Duration = Duration::from_secs(1);

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// From snapshots to tables, and from what clients say to standings and counts.
struct MeshPlane {
    port: PlanePort,
    replicas: Followers,
    hosts: Followers,
    clock: Clock,
    publisher: Publisher,
    /// The snapshot that is taken up; rendered when it is quiet.
    snapshot: Arc<Snapshot>,
    rendered: Rendered,
    own: Own,
    tables: Arc<Tables>,
    doors: Doors,
    trust_domain: Option<Arc<str>>,
    /// Whether any replica was ever connected: nobody else sees our own tables.
    replicas_came: bool,
    concerns: Arc<dyn Concerns>,
    host_tables: HostTables,
    texts: Texts,
    quiet: Quiet,
    drain: Drain,
    load: Load,
    foreign: Foreign,
    sinks: Sinks,
    reported: Reported,
    leaving: Leaving,
    revoked: Revoked,
    /// What was last said of the mesh.
    said: Standing,
}

impl MeshPlane {
    fn new(ports: MeshPort, publisher: Publisher) -> Self {
        let MeshPort { port, replicas, hosts, store, clock, identity, forget } = ports;
        let snapshot = Arc::clone(&port.snapshots.borrow());
        let mut load = Load::default();
        // What was there before this process counts as soon as it has arrived.
        for change in between::changes(&Snapshot::empty(), &snapshot) {
            load.changed(&change);
        }
        if identity.is_none() {
            clear::tell(&Snapshot::empty(), &snapshot);
        }
        Self {
            snapshot,
            port,
            replicas,
            hosts,
            clock,
            publisher,
            rendered: Rendered::default(),
            own: Own::default(),
            tables: Arc::new(Tables::empty()),
            doors: Doors::default(),
            trust_domain: identity.as_ref().map(|it| it.trust_domain().as_str().into()),
            replicas_came: false,
            concerns: hosts::concerns(identity.as_ref()),
            host_tables: HostTables::default(),
            texts: Texts::new(store),
            quiet: Quiet::default(),
            drain: Drain::default(),
            load,
            foreign: Foreign::default(),
            sinks: Sinks::new(clock),
            reported: Reported::default(),
            revoked: Revoked::of(identity.as_ref()),
            leaving: Leaving { forget, identity },
            said: Standing { through: plan::Token::NEVER, sinks: Arc::new([]) },
        }
    }

    /// Takes up the newest snapshot; it goes out when it is quiet, or at once where anybody is
    /// taken back.
    fn committed(&mut self) {
        let snapshot = Arc::clone(&self.port.snapshots.borrow_and_update());
        let now = self.clock.uptime();
        let mut urgent = false;
        for change in between::changes(&self.snapshot, &snapshot) {
            urgent |= quiet::takes_back(&change);
            self.drain.changed(&change, now);
            self.load.changed(&change);
        }
        if self.trust_domain.is_none() {
            clear::tell(&self.snapshot, &snapshot);
        }
        self.snapshot = snapshot;
        self.quiet.changed(now, urgent);
    }

    /// Renders for the doors that somebody comes by.
    fn doors(&mut self, clients: &[Arc<Client>]) {
        let now = self.clock.uptime();
        let came = self.replicas_came;
        let concerns = self.concerns.as_ref();
        let mut coming: Vec<Coming<'_>> = Vec::new();
        for client in clients {
            let machine = client.identity.as_ref().map(|identity| &identity.name);
            match viewer::door(client, concerns) {
                Ok(Some(door)) => coming.push((machine, door)),
                Ok(None) if hosts::is_agent(client) => {}
                Ok(None) => self.replicas_came = true,
                Err(_) => {}
            }
        }
        let others = self.doors.used(&coming, now) | self.host_tables.used(clients, concerns, now);
        self.doors.tell();
        if others || self.replicas_came != came {
            self.quiet.changed(now, false);
        }
    }

    /// When something is to go out.
    fn due(&self) -> Option<Duration> {
        let kept = [self.doors.due(), self.host_tables.due()];
        let dues = [self.quiet.due(), self.drain.due(), self.texts.due()];
        dues.into_iter().chain(kept).flatten().min()
    }

    /// Sends out what is due.
    async fn pass(&mut self) {
        let now = self.clock.uptime();
        if self.drain.pass(now) | self.doors.pass(now) | self.host_tables.pass(now) {
            self.quiet.changed(now, false);
        }
        if self.quiet.due().is_some_and(|due| due <= now)
            || self.texts.due().is_some_and(|due| due <= now)
        {
            self.publish().await;
        }
    }

    async fn publish(&mut self) {
        let urgency = if self.quiet.take() { Urgency::Urgent } else { Urgency::Ordinary };
        let (snapshot, drained) = (&self.snapshot, self.drain.drained());
        let (doors, trust_domain) = (self.doors.rendered(), self.trust_domain.as_ref());
        let wanted = Wanted { snapshot, drained, doors, trust_domain };
        let (rendered, mut edits) = render::envoy(&wanted, &self.rendered);
        conflicts::tell(self.rendered.conflicts(), rendered.conflicts());
        self.rendered = rendered;
        if self.replicas_came {
            edits.extend(self.own_tables(urgency).await);
        }
        edits.extend(self.host_tables.edits(&self.snapshot));
        edits.extend(self.revoked.edits());
        let snapshot = &self.snapshot;
        self.tables = Arc::new(self.tables.next(snapshot.token, urgency, edits));
        self.publisher.publish(Arc::clone(&self.tables));
    }

    /// What replicas follow. A rollback needs no zone text, and waits for none.
    async fn own_tables(&mut self, urgency: Urgency) -> Vec<Edit> {
        let now = self.clock.uptime();
        if urgency == Urgency::Ordinary {
            self.texts.read(&self.snapshot, now).await;
        }
        let texts = &self.texts;
        let (own, edits) = own::tables(&self.snapshot, &mut |digest| texts.get(digest), &self.own);
        self.own = own;
        if urgency == Urgency::Urgent && !self.own.missing().is_empty() {
            self.quiet.changed(now, false);
        }
        edits
    }

    /// Says how far the clients are.
    fn standing(&mut self, standings: &Standings) {
        let mut planes = self.sinks.standings(standings);
        let plans = |relay: &str| self.sinks.plans_of(relay);
        let behind: Vec<_> = self.reported.behind(self.clock, plans).map(Arc::new).collect();
        let mut mesh = planes.remove(&Plane::Mesh).unwrap_or_else(|| self.said.clone());
        if !behind.is_empty() {
            let mut sinks: Vec<_> = mesh.sinks.iter().cloned().chain(behind).collect();
            // A client that calls itself as a relay's client is called is the one that is here.
            sinks.sort_by(|a, b| a.id.cmp(&b.id));
            sinks.dedup_by(|a, b| a.id == b.id);
            mesh.sinks = sinks.into();
        }
        self.load.arrived(self.clock.uptime(), |plan| {
            // Only who owes anything is looked at closely: few do.
            let owing = |sink: &&Arc<plan::Sink>| !sink.owes.is_empty() && !sink.is_away();
            mesh.through < self.snapshot.token
                || mesh.sinks.iter().filter(owing).any(|sink| sink.owes(plan))
        });
        self.said = mesh.clone();
        self.port.standing.send_replace(mesh);
        for (plane, followers) in [(Plane::Dns, &self.replicas), (Plane::Host, &self.hosts)] {
            if let Some(standing) = planes.remove(&plane) {
                // A plane without followers has nothing to say by us: `no-sink` is for planes that
                // nobody speaks for.
                let silent = |said: &Standing| said.through == plan::Token::NEVER;
                if !standing.sinks.is_empty() || !silent(&followers.standing.borrow()) {
                    followers.standing.send_replace(standing);
                }
            }
        }
    }

    /// What a machine says of its own: of services that concern it, in the plane that it is in.
    fn own_words(&self, mut said: Said) -> Said {
        let proved = said.client.identity.as_ref().is_some_and(|it| it.kind.is_agent());
        if let Some(report) = &mut said.report
            && (proved || hosts::is_agent(&said.client))
        {
            let concern = self.concerns.of(&said.client);
            let is_its = |id: &_| concern.has(id) && self.snapshot.service(id).is_some();
            report.counts.retain(|(at, id, ..)| *at == Plane::Host && is_its(id));
            report.stragglers.retain(|(id, _)| is_its(id));
            report.notes.retain(|(id, _)| is_its(id));
            let overrides = std::mem::take(&mut report.overrides);
            let own = |mut it: InForce| it.retain(is_its).then_some(it);
            report.overrides = overrides.into_iter().filter_map(own).collect();
        }
        said
    }

    /// Takes up what a proxy did with services that concern it.
    fn loaded(&mut self, report: &xds::lrs::LoadReport) {
        let node = &report.client.id;
        match &report.clusters {
            Some(clusters) => {
                let (concerns, snapshot) = (self.concerns.as_ref(), self.snapshot.as_ref());
                let own = self.foreign.sift(&report.client, clusters, concerns, snapshot);
                self.load.report((node, report.stream), &own, self.clock.uptime());
            }
            None => self.load.gone(node, report.stream),
        }
    }

    /// Says what was counted, where that changed.
    fn counted(&self) {
        let say = |counts: &watch::Sender<plan::Counts>, new: plan::Counts| {
            counts.send_if_modified(|last| {
                let changed = *last != new;
                if changed {
                    *last = new;
                }
                changed
            });
        };
        say(&self.port.counts, self.load.counts());
        say(&self.replicas.counts, self.reported.counts(Plane::Dns, &self.snapshot));
        say(&self.hosts.counts, self.reported.counts(Plane::Host, &self.snapshot));
    }
}
