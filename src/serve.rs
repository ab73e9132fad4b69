//! `crossfade serve`: wires store, controller, DNS and API into one process.

pub(crate) mod log;
mod mesh;
mod reload;
mod stop;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use controller::Handle;
use controller::api::{self, Listen};
use controller::clock::Clock;
use controller::core::AskError;
use controller::identity::{self, Authority};
use controller::planes;
use controller::planes::dns::Prepared;
use controller::pump::{Pump, Running};
use controller::store::{self, Sqlite, Store};
use dns::Catalog;
use dns::Server;
use plan::{Actor, Ask, Command, Plan};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::reload::PlanFiles;
pub(crate) use self::stop::stopped;
use crate::cli::{Serve, page};
use crate::config::{Config, XdsProof};
use crate::verbs::{Context, Exit, Failure, chain, files};

/// The unix socket in the data directory.
pub(crate) const SOCKET: &str = "crossfade.sock";

/// A controller that serves.
pub(crate) struct Serving {
    /// Where the API answers.
    pub(crate) api: SocketAddr,
    /// Where DNS answers.
    pub(crate) dns: SocketAddr,
    /// Where xDS answers.
    pub(crate) xds: SocketAddr,
    /// The unix socket.
    pub(crate) socket: PathBuf,
    handle: Handle,
    controller: Running,
    server: Arc<Server>,
    metrics: Option<SocketAddr>,
    stop_api: oneshot::Sender<()>,
    api_task: JoinHandle<()>,
    mesh: mesh::Running,
}

/// Serves until told to stop.
pub(crate) async fn run(args: Serve, _: &Context) -> Result<Exit, Failure> {
    let config = Config::resolve(args.settings, args.plans)
        .map_err(|error| Failure::Usage(chain(&error)))?;
    let _log = log::start(&config)?;
    let plans = config.plans.iter().map(|path| files::plan(path)).collect::<Result<Vec<_>, _>>()?;
    let serving = start(&config).await?;
    for plan in plans {
        serving.offer(plan).await?;
    }
    page::print(&serving.lines(&config))?;
    serving.until_stopped().await?;
    Ok(Exit::Done)
}

/// Opens the log and every socket. Nothing is answered before the log is loaded.
pub(crate) async fn start(config: &Config) -> Result<Serving, Failure> {
    let fail = |what| {
        move |source: Box<dyn std::error::Error + Send + Sync>| Failure::Local { what, source }
    };
    let store =
        Sqlite::open(&config.data).map_err(|e| fail("the store does not open")(e.into()))?;
    let store: Arc<dyn Store> = Arc::new(store);
    let clock = Clock::start();
    let identity = authority(config, &store, clock).await?;
    let (handle, mut pump) =
        Pump::open(store, clock).await.map_err(|e| fail("the log cannot be loaded")(e.into()))?;
    let threads = NonZeroUsize::new(config.dns_threads).unwrap_or(NonZeroUsize::MIN);
    let plane = match pump.dns_port() {
        Some(port) => Some(planes::dns::prepare(port).await),
        None => None,
    };
    let catalog = plane.as_ref().map_or_else(|| Arc::new(Catalog::empty()), Prepared::catalog);
    let server = Server::bind(&[config.dns], threads, catalog)
        .map_err(|e| fail("the DNS server does not start")(e.into()))?;
    let server = Arc::new(server);
    let socket = config.data.join(SOCKET);
    let listen =
        Listen { tcp: vec![config.api], unix: Some(socket.clone()), metrics: config.metrics };
    let bound = api::bind(&listen).await.map_err(|e| fail("the API does not start")(e.into()))?;
    let mesh = mesh::bind(config, clock, identity.as_ref())?;
    if let Some(plane) = plane {
        tokio::spawn(plane.run(Arc::clone(&server)));
    }
    let meter = mesh.meter();
    let mesh = mesh.run(pump.mesh_port(identity.clone()));
    let controller = pump.run();
    let settings = api::Settings {
        hosts: config.api_hosts.clone(),
        files: Some(Arc::new(PlanFiles { config: config.clone(), handle: handle.clone() })),
        scratch: Some(config.data.clone()),
        dns: Some(Arc::clone(&server)),
        xds: Some(meter),
        identity,
        controllers: config.advertise.clone(),
    };
    let (api_address, metrics) = (bound.tcp().first().copied(), bound.metrics());
    let (stop_api, stopped) = oneshot::channel::<()>();
    // Told to stop, or left alone: either way the API ends.
    let stopped = async { drop(stopped.await) };
    let api_task = tokio::spawn(api::serve(bound, settings, handle.clone(), stopped));
    handle.bound(|bound| {
        bound.dns = server.addresses().iter().map(ToString::to_string).collect();
        bound.xds = mesh.addresses.iter().map(ToString::to_string).collect();
    });
    handle.ready();
    Ok(Serving {
        api: api_address.unwrap_or(config.api),
        dns: server.addresses().first().copied().unwrap_or(config.dns),
        xds: mesh.addresses.first().copied().unwrap_or(config.xds),
        socket,
        metrics,
        handle,
        controller,
        server,
        stop_api,
        api_task,
        mesh,
    })
}

/// Who gives machines their identities, where that is wanted.
async fn authority(
    config: &Config,
    store: &Arc<dyn Store>,
    clock: Clock,
) -> Result<Option<Authority>, Failure> {
    match config.xds_proof {
        XdsProof::Loopback | XdsProof::Files(_) => Ok(None),
        XdsProof::Identities => {
            let settings = identity::Settings { trust_domain: config.trust_domain.clone() };
            let opened = Authority::open(Arc::clone(store), clock, settings).await;
            opened.map(Some).map_err(|error| Failure::Local {
                what: "machines have no identities",
                source: error.into(),
            })
        }
    }
}

impl Serving {
    /// Applies a plan given at the start if there is none of its name.
    async fn offer(&self, plan: Plan) -> Result<(), Failure> {
        let name = plan.name.clone();
        if self.handle.state().plan(&name).is_some() {
            tracing::info!(plan = %name, "the log has this plan; the file is not applied");
            return Ok(());
        }
        let stored = self.handle.store_zones(plan).await;
        let plan = stored.map_err(|error| Failure::Failed(chain(&error)))?;
        let ask = Ask {
            command: Command::Apply(Arc::new(plan)),
            if_revision: None,
            key: None,
            actor: Actor::new("crossfade serve"),
            reason: Some("given at start".to_owned()),
        };
        let failed = |error: AskError| {
            let text = format!("plan {name}: {}", chain(&error));
            match error {
                AskError::Refused(_) => Failure::Refused(text),
                AskError::Busy { .. }
                | AskError::Full { .. }
                | AskError::Store { .. }
                | AskError::Unknown { .. }
                | AskError::Broken { .. }
                | AskError::Stopped => Failure::Failed(text),
            }
        };
        self.handle.ask(ask).await.map(drop).map_err(failed)
    }

    /// A line for each bound address.
    fn lines(&self, config: &Config) -> String {
        let mut text = format!("api http://{}\napi unix:{}\n", self.api, self.socket.display());
        if let Some(metrics) = self.metrics {
            text.push_str(&format!("metrics http://{metrics}/metrics\n"));
        }
        text.push_str(&format!("dns {} (UDP and TCP)\n", self.dns));
        let proof = match config.xds_proof {
            XdsProof::Loopback => "loopback only",
            XdsProof::Files(_) => "client certificates",
            XdsProof::Identities => "identities; crossfade token create NAME",
        };
        text.push_str(&format!("xds {} (gRPC, {proof})\n", self.xds));
        text.push_str(&format!("data {}\n", config.data.display()));
        text
    }

    /// Serves until told to stop, then stops.
    pub(crate) async fn until_stopped(self) -> Result<(), Failure> {
        stopped().await?;
        self.stop().await
    }

    /// Takes no more commands, finishes what is under way, closes every socket.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        tracing::info!("stopping");
        self.controller.stop().await;
        self.mesh.stop().await;
        // The API may have ended already; then there is nobody to tell.
        let _ = self.stop_api.send(());
        let ended = self.api_task.await;
        if let Err(error) = ended {
            tracing::error!(%error, "the API ended early");
        }
        // The plane held the other reference; it ends with the controller.
        if let Some(server) = Arc::into_inner(self.server) {
            server.shutdown().await;
        }
        Ok(())
    }
}

/// Puts a backup in place of the log in `data`.
pub(crate) async fn restore(file: PathBuf, data: PathBuf) -> Result<store::Restored, Failure> {
    let actor = Actor::new(&format!("uid:{}", nix::unistd::getuid()));
    let now = Clock::start().now();
    let restored =
        tokio::task::spawn_blocking(move || store::restore(&file, &data, &actor, now)).await;
    let failed = |source| Failure::Local { what: "nothing was restored", source };
    match restored {
        Ok(Ok(restored)) => Ok(restored),
        Ok(Err(error)) => Err(failed(error.into())),
        Err(error) => Err(failed(error.into())),
    }
}
