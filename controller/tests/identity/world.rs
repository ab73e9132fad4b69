//! A controller's machines' API with identities.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use controller::Handle;
use controller::clock::Clock;
use controller::identity::{Authority, NewToken, Settings, TOKEN_LIFE};
use controller::planes::{mesh, reports};
use controller::pump::{Pump, Running};
use controller::store::{DirectoryError, Memory, OpenError, Sqlite, Store};
use plan::Actor;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use xds::join::Kind;
use xds::server::{self, Limits, Server};

/// Where a controller keeps what it has.
pub(crate) enum Kept {
    Memory(Arc<Memory>),
    Disk(PathBuf),
}

impl Kept {
    pub(crate) fn disk() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("crossfade-identity-{}-{number}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self::Disk(path)
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        let path = match self {
            Self::Memory(store) => return Arc::new(store.another()),
            Self::Disk(path) => path,
        };
        // The controller before has it until its last connection has ended.
        let free = async {
            loop {
                match Sqlite::open(path) {
                    Ok(store) => break store,
                    Err(OpenError::Directory(DirectoryError::InUse { .. })) => {
                        tokio::task::yield_now().await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        Arc::new(wait(free).await)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Self::Disk(path) = self {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// A running controller, as far as machines see it.
pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    tending: JoinHandle<()>,
    /// Where it has planes.
    planes: Option<(Handle, Running)>,
}

pub(crate) fn actor() -> Actor {
    Actor::new("uid:0 (root)")
}

/// What must come within the time that people wait.
pub(crate) async fn wait<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what).await.expect("in time")
}

/// A server that listens, and who keeps its certificate.
fn listening(authority: &Authority, clock: Clock) -> (Server, JoinHandle<()>) {
    let tls = authority.server_tls(&[]).unwrap();
    let tending = tokio::spawn(authority.clone().tend(Some((tls.clone(), Vec::new()))));
    let server = Server::bind(server::Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        tls: Some(tls),
        doorman: Some(Arc::new(authority.clone())),
        rules: Arc::new(mesh::rules(Some(authority))),
        limits: Limits::default(),
        clock: server::Clock::since(clock.started()),
    })
    .unwrap();
    (server, tending)
}

impl World {
    pub(crate) async fn new(kept: &Kept) -> Self {
        let clock = Clock::start();
        let authority =
            Authority::open(kept.open().await, clock, Settings::default()).await.unwrap();
        let (server, tending) = listening(&authority, clock);
        let address = server.addresses()[0];
        let (report, reports) = reports::service(Some(authority.clone()));
        let routes = tonic::service::Routes::new(report).add_service(authority.enroll_service());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            server.serve(routes, async { drop(stopped.await) }).await;
            drop(reports);
        });
        Self { authority, address, stop, serving, tending, planes: None }
    }

    /// The same with a plan and what it is rendered to.
    pub(crate) async fn with_planes(kept: &Kept) -> Self {
        let clock = Clock::start();
        let store = kept.open().await;
        let (handle, pump) = Pump::open(Arc::clone(&store), clock).await.unwrap();
        let authority = Authority::open(store, clock, Settings::default()).await.unwrap();
        let (server, tending) = listening(&authority, clock);
        let address = server.addresses()[0];
        let port = pump.mesh_port(Some(authority.clone()));
        let running = pump.run();
        handle.ready();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            mesh::serve(port, server, async { drop(stopped.await) }).await.unwrap();
        });
        Self { authority, address, stop, serving, tending, planes: Some((handle, running)) }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.planes.as_ref().unwrap().0
    }

    pub(crate) async fn token(&self, name: &str) -> String {
        self.made(name, Kind::Agent, None).await
    }

    /// A token in place of what the machine has, for these services alone.
    pub(crate) async fn token_for(&self, name: &str, services: &[&str]) -> String {
        let services = services.iter().map(|id| id.parse().unwrap()).collect();
        self.make(NewToken { services, replace: true, ..self.asked(name, Kind::Agent) }).await
    }

    pub(crate) async fn token_from(&self, name: &str, network: &str) -> String {
        self.made(name, Kind::Agent, Some(network)).await
    }

    /// A token for a gateway.
    pub(crate) async fn gateway_token(&self, name: &str, gateway: &str) -> String {
        self.made(name, Kind::Gateway(gateway.parse().unwrap()), None).await
    }

    async fn made(&self, name: &str, kind: Kind, network: Option<&str>) -> String {
        let from = network.map(|network| network.parse().unwrap());
        self.make(NewToken { from, ..self.asked(name, kind) }).await
    }

    fn asked(&self, name: &str, kind: Kind) -> NewToken {
        NewToken {
            name: name.parse().unwrap(),
            kind,
            life: TOKEN_LIFE,
            services: Vec::new(),
            from: None,
            replace: false,
            controllers: vec![self.address.to_string()],
        }
    }

    async fn make(&self, new: NewToken) -> String {
        let created = self.authority.create_token(new, &actor(), "a test").await.unwrap();
        assert!(!format!("{created:?}").contains("cfj1_"));
        created.ticket.to_string()
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
        self.tending.abort();
        let _ = self.tending.await;
        if let Some((_, running)) = self.planes {
            running.stop().await;
        }
    }

    pub(crate) async fn restarted(self, kept: &Kept) -> Self {
        self.stop().await;
        Self::new(kept).await
    }
}
