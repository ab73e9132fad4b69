//! What the tests share: a plan, its backends, a load, and proxies.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Controller, Scratch, crossfade, root};

/// How long anything may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The port of all services and backends.
pub(super) const PORT: u16 = 8080;

/// One test's networks, by their second number.
#[derive(Clone, Copy)]
pub(super) struct World(pub(super) u8);

impl World {
    pub(super) fn gateway(self) -> String {
        format!("127.{}.0.1", self.0)
    }

    pub(super) fn legacy(self) -> String {
        format!("127.{}.0.11", self.0)
    }

    fn target(self) -> String {
        format!("127.{}.0.21", self.0)
    }

    fn first_client(self) -> String {
        format!("127.{}.0.1", self.0 + 1)
    }

    /// A controller with a plan `mesh` of one service `web`, at these addresses.
    pub(super) fn controller(self, scratch: &Scratch, protocol: &str, xds: &str) -> Controller {
        let text = format!(
            "apiVersion: crossfade.dev/v1alpha1\nkind: CutoverPlan\nmetadata: {{ name: mesh }}\n\
             spec:\n  zones: [{{ name: mesh.example. }}]\n\
             \x20 clients: [{{ networks: [127.0.0.0/8], plane: mesh }}]\n\
             \x20 steps: [{{ split: 1%, bake: 10m }}, {{ split: 100%, bake: 1h }}]\n\
             \x20 services:\n    - name: web\n      hosts: [web.mesh.example]\n\
             \x20     address: 10.255.{}.10\n\
             \x20     ports: [{{ name: main, port: {PORT}, protocol: {protocol} }}]\n\
             \x20     legacy: {{ endpoints: [{}] }}\n      target: {{ endpoints: [{}] }}\n",
            self.0,
            self.legacy(),
            self.target()
        );
        let plan = scratch.file("plan.yaml", &text);
        let data = scratch.path().join("data");
        Controller::start_at(&data, xds, &[plan.to_str().unwrap()])
    }

    /// Both backends; who answers says `legacy` or `target`.
    pub(super) fn backends(self, kind: &str) -> Peer {
        let places = [("legacy", self.legacy()), ("target", self.target())];
        let places = places.map(|(name, address)| format!("{name}={address}:{PORT}"));
        let mut peer = Peer::python("backends.py", &[kind, &places[0], &places[1]]);
        peer.told();
        peer
    }

    /// The target's backend alone.
    pub(super) fn target_backend(self, kind: &str) -> Peer {
        let mut peer =
            Peer::python("backends.py", &[kind, &format!("target={}:{PORT}", self.target())]);
        peer.told();
        peer
    }

    /// So many clients of the gateway.
    pub(super) fn load(self, kind: &str, clients: u32) -> Peer {
        self.load_to(kind, &format!("{}:{PORT}", self.gateway()), clients)
    }

    /// So many clients of this place.
    pub(super) fn load_to(self, kind: &str, to: &str, clients: u32) -> Peer {
        let clients = clients.to_string();
        let host = format!("web.mesh.example:{PORT}");
        Peer::python("load.py", &[kind, to, &self.first_client(), &clients, &host])
    }

    /// An Envoy at the gateway's address.
    pub(super) fn envoy(self, scratch: &Scratch, controller: &Controller, node: &str) -> Envoy {
        self.envoy_as("gateway", scratch, controller, node)
    }

    /// An Envoy at the gateway's address, with this role.
    pub(super) fn envoy_as(
        self,
        role: &str,
        scratch: &Scratch,
        controller: &Controller,
        node: &str,
    ) -> Envoy {
        self.envoy_of(role, scratch, controller.xds, node)
    }

    /// The same, following whoever serves xDS there.
    pub(super) fn envoy_of(
        self,
        role: &str,
        scratch: &Scratch,
        xds: SocketAddr,
        node: &str,
    ) -> Envoy {
        let bootstrap = crossfade(&[
            "bootstrap",
            "envoy",
            "--role",
            role,
            "--bind",
            &self.gateway(),
            "--admin-port",
            "0",
            "--node",
            node,
            "--controller",
            &xds.to_string(),
        ]);
        let file = scratch.file(&format!("{node}.json"), &bootstrap.ok());
        Envoy::start(file, node)
    }
}

/// A program that answers each line of its standard input with a line of JSON.
pub(crate) struct Peer {
    child: Child,
    /// Closed first: then it ends by itself.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// One of the programs beside these tests, in the Python that has gRPC.
    pub(super) fn python(script: &str, args: &[&str]) -> Self {
        let mut command = Command::new(tool("CROSSFADE_TEST_MESH_PYTHON", "mesh-1/bin/python"));
        command.arg(root().join("tests/e2e/peers").join(script)).args(args);
        Self::run(command)
    }

    /// Any.
    pub(crate) fn run(mut command: Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, commands, answers }
    }

    /// The next line it prints.
    #[track_caller]
    pub(crate) fn told(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Its answer to a line.
    #[track_caller]
    pub(super) fn ask(&mut self, line: &str) -> Value {
        writeln!(self.commands.as_ref().unwrap(), "{line}").unwrap();
        self.told()
    }

    /// Who answers each client, which nobody may be refused.
    #[track_caller]
    pub(super) fn sweep(&mut self) -> Vec<bool> {
        let told = self.ask("sweep");
        assert_eq!(told["failures"], 0, "{told}");
        let target = |side: &Value| match side.as_str() {
            Some("target") => true,
            Some("legacy") => false,
            _ => panic!("{told}"),
        };
        told["sides"].as_array().unwrap().iter().map(target).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.commands.take());
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A real Envoy.
pub(super) struct Envoy {
    bootstrap: PathBuf,
    child: Child,
}

impl Envoy {
    fn start(bootstrap: PathBuf, node: &str) -> Self {
        let child = Self::spawn(&bootstrap, node);
        Self { bootstrap, child }
    }

    fn spawn(bootstrap: &PathBuf, node: &str) -> Child {
        let log = File::options().create(true).append(true).open(bootstrap.with_extension("log"));
        Command::new(tool("CROSSFADE_TEST_ENVOY", "mesh-1/bin/envoy"))
            .arg("-c")
            .arg(bootstrap)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "info"])
            .args(["--service-node", node])
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("envoy: {error}; scripts/test installs it"))
    }

    /// SIGKILL, and another one of the same bootstrap.
    pub(super) fn restart(&mut self, node: &str) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.bootstrap, node);
    }

    /// What it said.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.bootstrap.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a variable of the environment names, or what scripts/test put into its cache.
pub(crate) fn tool(variable: &str, cached: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into());
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.unwrap_or_else(|| PathBuf::from(home).join(".cache"));
            cache.join("crossfade").join(cached)
        },
        PathBuf::from,
    )
}

/// Waits until this gives something.
#[track_caller]
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits until a sink is there and has acknowledged everything.
#[track_caller]
pub(super) fn until_acked(controller: &Controller, node: &str) {
    until(&format!("{node} has everything"), || {
        let sinks = controller.json(&["sinks"]);
        let found = sinks.as_array()?.iter().find(|sink| sink["id"] == node)?;
        (found["connected"] == true && found["lag"] == 0 && found["nack"].is_null()).then_some(())
    });
}

/// Waits until somebody takes connections there.
#[track_caller]
pub(super) fn until_listening(address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    until(&format!("{address} listens"), || std::net::TcpStream::connect(address).ok());
}

/// Shifts `web`, and it arrives everywhere.
#[track_caller]
pub(super) fn shift(controller: &Controller, percent: &str) {
    let said = controller.run(&["shift", "mesh/web", percent, "--wait=20s"]);
    assert!(said.out.contains("arrived everywhere"), "{percent}: {said:?}");
}

/// What a report counted, by name.
pub(super) fn counts(report: &Value, field: &str) -> BTreeMap<String, u64> {
    let fields = report[field].as_object().unwrap().iter();
    fields.map(|(name, count)| (name.clone(), count.as_u64().unwrap())).collect()
}
