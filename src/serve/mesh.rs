//! The xDS server of a controller: its files, its address, its end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use controller::clock::Clock;
use controller::identity::Authority;
use controller::planes::mesh::{self, MeshPort};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use xds::server::{self, Doorman, Server, Settings, Tls};

use crate::config::{Config, XdsProof, XdsTls};
use crate::verbs::Failure;

/// A server that listens and does not answer yet.
pub(super) struct Bound {
    server: Server,
}

/// A server that answers.
pub(super) struct Running {
    /// Where.
    pub(super) addresses: Vec<SocketAddr>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Reads the files and listens.
pub(super) fn bind(
    config: &Config,
    clock: Clock,
    identity: Option<&Authority>,
) -> Result<Bound, Failure> {
    let tls = match (&config.xds_proof, identity) {
        (XdsProof::Files(files), _) => Some(tls(files)?),
        (_, Some(identity)) => Some(own_tls(config, identity)?),
        (_, None) => None,
    };
    let settings = Settings {
        listen: vec![config.xds],
        tls,
        doorman: identity.map(|identity| Arc::new(identity.clone()) as Arc<dyn Doorman>),
        rules: Arc::new(mesh::rules(identity)),
        limits: server::Limits::default(),
        clock: server::Clock::since(clock.started()),
    };
    let server = Server::bind(settings).map_err(|error| Failure::Local {
        what: "the xDS server does not start",
        source: error.into(),
    })?;
    Ok(Bound { server })
}

/// A certificate of the controller's own CA, renewed as long as the process runs.
fn own_tls(config: &Config, identity: &Authority) -> Result<Tls, Failure> {
    let named = config.advertise.iter().filter_map(|address| address.rsplit_once(':'));
    let named = named.map(|(host, _)| host.trim_matches(['[', ']']).to_owned());
    let listens = Some(config.xds.ip()).filter(|ip| !ip.is_unspecified());
    let names: Vec<String> = named.chain(listens.map(|ip| ip.to_string())).collect();
    let tls = identity.server_tls(&names).map_err(|error| Failure::Local {
        what: "the xDS server has no certificate",
        source: error.into(),
    })?;
    tokio::spawn(identity.clone().tend(Some((tls.clone(), names))));
    Ok(tls)
}

/// The server's certificate and key, and the clients' authorities.
fn tls(files: &XdsTls) -> Result<Tls, Failure> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| Failure::File {
            what: "read",
            path: path.to_owned(),
            source,
        })
    };
    let (cert, key, client_ca) = (read(&files.cert)?, read(&files.key)?, read(&files.client_ca)?);
    guard(&files.key)?;
    Tls::from_pem(&cert, &key, &client_ca)
        .map_err(|error| Failure::Usage(format!("TLS for xDS: {}", crate::verbs::chain(&error))))
}

/// A key that others can read is no secret.
fn guard(key: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(key);
    let mode = metadata.map(|found| found.permissions().mode()).unwrap_or_default();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = key.display();
    Err(Failure::Usage(format!("others can read the key {path}; run: chmod 600 {path}")))
}

impl Bound {
    /// Reads what it counts, from now on.
    pub(super) fn meter(&self) -> server::Meter {
        self.server.meter()
    }

    /// Answers, from now on.
    pub(super) fn run(self, port: MeshPort) -> Running {
        let addresses = self.server.addresses().to_vec();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            // Told to stop, or left alone: either way it ends.
            let stopped = async { drop(stopped.await) };
            if let Err(error) = mesh::serve(port, self.server, stopped).await {
                tracing::error!(%error, "the xDS server does not serve");
            }
        });
        Running { addresses, stop, task }
    }
}

impl Running {
    /// Ends all streams; their clients look for another controller.
    pub(super) async fn stop(self) {
        // The server may have ended already; then there is nobody to tell.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the xDS server ended early");
        }
    }
}
