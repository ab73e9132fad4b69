//! What relays: the part that follows, keeps and serves, for the verb and for an agent.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent::identity::Identity;
use bytes::Bytes;
use plan::Token;
use proto::envoy::config::core::v3::Node;
use tokio::sync::{Notify, oneshot, watch};
use xds::follow::dial::Dial;
use xds::follow::{self, Again, Applied, Follower, Held, Item, Link, Sink};
use xds::render::{self, Door, Secrets};
use xds::server::{Clock, Limits, Server, standard_routes};
use xds::session::{Close, Progress, Refused, Rules};
use xds::{Client, Name, Publisher, Registry, Standings, TypeUrl, View, Viewer};

use super::tables::{self, Served};
use super::{loads, report, revoked};
use crate::following;
use crate::verbs::Failure;

/// How long the controller's ack waits for those of the proxies: theirs are reported besides, and
/// one that does not answer must not hold up the next change.
const ACKS_MAX: Duration = Duration::from_millis(250);

/// What is relayed, for whom, and where.
pub(crate) struct Settings {
    /// What it is called among the controller's sinks.
    pub(crate) name: String,
    /// What it says under `crossfade.`: whose door it comes by.
    pub(crate) says: Vec<(&'static str, String)>,
    /// Whom it follows.
    pub(crate) dial: Dial,
    /// Where it keeps what it has; nobody else does.
    pub(crate) directory: PathBuf,
    /// Where it serves, on loopback. Secrets are not served there.
    pub(crate) listen: Vec<SocketAddr>,
    /// A socket of the file system where it serves too.
    pub(crate) local: Option<UnixListener>,
    /// Who relays, which its proxies show, and by which they know others.
    pub(crate) identity: Option<watch::Receiver<Arc<Identity>>>,
}

/// See the module.
pub(crate) struct Part {
    node: Node,
    follower: Follower,
    server: Server,
    shelf: Shelf,
    clock: Clock,
}

/// What is served, for those who change it.
#[derive(Clone)]
struct Shelf {
    served: Arc<Mutex<Served>>,
    publisher: Publisher,
    /// As in [`Settings`].
    identity: Option<watch::Receiver<Arc<Identity>>>,
}

impl Part {
    /// Reads what was kept, and listens. Who comes waits until [`Part::run`].
    pub(crate) fn open(settings: Settings) -> Result<Self, Failure> {
        let Settings { name, says, dial, directory, listen, local, identity } = settings;
        let said: Vec<(&str, &str)> =
            says.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let node = follow::node(&name, env!("CARGO_PKG_VERSION"), &said);
        let (follower, damaged) = Follower::open(follow::Settings {
            node: node.clone(),
            types: render::TYPES.map(TypeUrl::from).to_vec(),
            // Who shows nothing knows nobody.
            extra: identity.iter().map(|_| TypeUrl::REVOCATIONS.into()).collect(),
            dial,
            directory,
        })
        .map_err(|error| Failure::Local { what: "nothing can be kept", source: error.into() })?;
        for damage in damaged {
            tracing::error!(path = %damage.path.display(), why = damage.why, "a slot is damaged");
        }
        let clock = Clock::start();
        let server = bind(&says, listen, local, clock)?;
        let served = Arc::new(Mutex::new(Served::nothing()));
        let shelf = Shelf { served, publisher: server.publisher(), identity };
        for held in follower.held() {
            shelf.take(held);
        }
        shelf.show();
        Ok(Self { node, follower, server, shelf, clock })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Whether a proxy is there and all of them have taken everything and refused nothing, whenever
    /// that is asked.
    pub(crate) fn is_settled(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let standings = self.server.registry().standings();
        move || {
            let now = Arc::clone(&standings.borrow());
            let mut here = now.sinks.iter().filter(|sink| sink.left.is_none()).peekable();
            here.peek().is_some() && here.all(|sink| has_taken(&sink.progress))
        }
    }

    /// Says how it begins.
    pub(crate) fn tell_start(&self) {
        let through = self.follower.held().map(|held| held.newest()).max().unwrap_or(Token::NEVER);
        let resources: usize = self.follower.held().map(|held| held.resources.len()).sum();
        if through == Token::NEVER {
            tracing::warn!("nothing is held yet; proxies wait until a controller is reached");
        } else {
            tracing::warn!(%through, resources, stale = true, "serving what was held");
        }
    }

    /// Follows and serves until `stopped`.
    pub(crate) async fn run(
        self,
        stopped: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let Self { node, follower, server, shelf, clock } = self;
        let (registry, noticed) = (server.registry(), Notify::new());
        let links = watch::channel::<Option<Link>>(None).0;
        let (_asker, again) = watch::channel(Again::default());
        let secrets = shelf.clone().follow();
        let sink = Relaying { shelf, registry: registry.clone() };
        let say = report::say(registry.standings(), clock);
        let is_ours = |cluster: &str| render::side_of(cluster).is_some();
        let (load_service, loads) = xds::lrs::service(is_ours, clock);
        let loads = loads::hand_on(node.clone(), loads, links.subscribe());
        let reports = following::report(node, links.subscribe(), &noticed, say);
        let changes = report::notice(registry.standings(), &noticed);
        let pump = follower.run(sink, links, again, following::random());
        let (stop, ended) = oneshot::channel::<()>();
        let (mut routes, health) = standard_routes().await.map_err(|error| Failure::Local {
            what: "the server does not start",
            source: error.into(),
        })?;
        xds::server::serving(&health, &load_service).await;
        routes.add_service(load_service);
        let serving = tokio::spawn(server.serve(routes.routes(), async { drop(ended.await) }));
        tokio::select! {
            stopped = stopped => stopped?,
            () = pump => {}
            () = reports => {}
            () = changes => {}
            () = loads => {}
            () = secrets => {}
        }
        // The server may have ended already; then there is nobody to tell.
        let _ = stop.send(());
        if let Err(error) = serving.await {
            tracing::error!(%error, "the server ended early");
        }
        Ok(())
    }
}

/// Whether a proxy has all that it was sent. What only closes drained connections stands on its
/// own: where its port is taken, nothing else depends on it.
fn has_taken(progress: &Progress) -> bool {
    let stands =
        |refused: &Arc<Refused>| !render::is_drain_alone(&refused.type_url, &refused.detail);
    progress.owes.is_empty() && !progress.refused.as_ref().is_some_and(stands)
}

impl Shelf {
    /// Puts each certificate that the machine gets.
    async fn follow(self) {
        let Some(mut identity) = self.identity.clone() else {
            return std::future::pending().await;
        };
        while identity.changed().await.is_ok() {
            self.show();
        }
        // Nobody renews it any more.
        std::future::pending().await
    }

    /// Puts what proxies show, and by what they know others, if there is any.
    fn show(&self) {
        // Under the lock, so that the newest is published last.
        let mut served = self.lock();
        let Some(identity) = self.identity.as_ref().map(|it| Arc::clone(&it.borrow())) else {
            return;
        };
        let (chain, authorities) = (identity.chain_pem(), identity.ca_pem());
        let (key, revoked) = (identity.key.pem(), served.lists(&identity));
        let secrets =
            Secrets { chain: &chain, key: &key, authorities: &authorities, revoked: &revoked };
        served.put_secrets(secrets);
        self.publisher.publish(served.tables());
    }

    fn take(&self, held: &Arc<Held>) -> xds::Generation {
        let mut served = self.lock();
        if held.type_url.as_str() == TypeUrl::REVOCATIONS {
            served.revoke(held);
            drop(served);
            self.show();
            return self.lock().tables().generation();
        }
        served.take(held);
        let tables = served.tables();
        let generation = tables.generation();
        // Under the lock, so that the newest is published last.
        self.publisher.publish(tables);
        generation
    }

    /// Whoever panicked while holding it left it whole: it is changed by assignments.
    fn lock(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(
    says: &[(&'static str, String)],
    listen: Vec<SocketAddr>,
    local: Option<UnixListener>,
    clock: Clock,
) -> Result<Server, Failure> {
    let served = says.iter().filter(|(key, _)| *key != "role").map(|(key, value)| {
        let key = if *key == "serves" { "role" } else { key };
        (key.to_owned(), value.clone())
    });
    let client = Client {
        id: "".into(),
        cluster: "".into(),
        says: served.collect(),
        agent: "".into(),
        version: None,
        identity: None,
    };
    let door = render::door(&client).map_err(|close| Failure::Usage(close.message))?;
    // Who may open the socket may have what the proxies there show.
    let secret = (local.is_some() && listen.is_empty()).then_some(TypeUrl::SECRET);
    let types = render::TYPES.into_iter().chain(secret).map(TypeUrl::from);
    let rules = Rules {
        viewer: Arc::new(OneDoor { door }),
        types: types.collect(),
        limits: xds::session::Limits::default(),
    };
    let settings = xds::server::Settings {
        listen,
        tls: None,
        doorman: None,
        rules: Arc::new(rules),
        limits: Limits::default(),
        clock,
    };
    let failed = |source| Failure::Local { what: "the xDS server does not start", source };
    let mut server = Server::bind(settings).map_err(|error| failed(error.into()))?;
    if let Some(local) = local {
        server.also(local).map_err(|error| failed(error.into()))?;
    }
    Ok(server)
}

/// Everybody sees what the relay follows, which is what one door shows.
#[derive(Debug)]
struct OneDoor {
    door: Door,
}

impl Viewer for OneDoor {
    fn view(&self, client: &Client) -> Result<View, Close> {
        let door = render::door(client)?;
        // Whom it shows its certificate is not for the client to say.
        if (Door { identified: self.door.identified, ..door }) == self.door {
            return Ok(View::all(tables::SCOPE));
        }
        Err(Close::invalid(format!(
            "this relay serves {}; give the client the same crossfade.role, bind, gateway and \
             capture as the relay, or run another relay",
            self.door.role.as_str()
        )))
    }
}

/// Puts in force what is followed.
struct Relaying {
    shelf: Shelf,
    registry: Registry,
}

impl Sink for Relaying {
    fn check(
        &mut self,
        type_url: &TypeUrl,
        name: &str,
        body: &Bytes,
        held: Option<&Item>,
    ) -> Result<(), String> {
        let identity = self.shelf.identity.as_ref().map(|it| Arc::clone(&it.borrow()));
        match identity.filter(|_| type_url.as_str() == TypeUrl::REVOCATIONS) {
            Some(identity) => revoked::check(name, body, held, &identity),
            None if name.is_empty() => Err("it has no name".to_owned()),
            None => Ok(()),
        }
    }

    async fn apply(&mut self, held: &Arc<Held>, _: &[Name]) -> Applied {
        let generation = self.shelf.take(held);
        let mut standings = self.registry.standings();
        let arrived = |now: &Arc<Standings>| {
            let settled = |sink: &Arc<xds::SinkState>| {
                sink.owes().is_empty() || sink.progress.refused.is_some()
            };
            now.generation >= generation && now.sinks.iter().all(settled)
        };
        // Whoever is later is told of in reports.
        let _ = tokio::time::timeout(ACKS_MAX, standings.wait_for(arrived)).await;
        Applied::default()
    }

    async fn applied(&mut self, _: &TypeUrl) -> Applied {
        Applied::default()
    }
}

#[cfg(test)]
mod tests;
