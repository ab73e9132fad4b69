//! The VM's own calls reach the target through its gateway with mutual TLS: each end knows the
//! other, and what does not come from a VM is treated as before.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::envoy::{Beside, call};
use super::main_job::LOGICAL;
use super::netns::Space;
use super::peers::{dial, letter, side};
use super::plans::{orders, shop};
use super::world::{World, until};
use crate::harness::{BINARY, Said, Scratch, root};
use crate::mesh::world::{Peer, tool};

/// Where the gateway is: beside the controller, as no other machine has the services' ports free.
const GATEWAY: &str = "10.50.0.2";

/// The ports of the plan.
const PORTS: [u16; 4] = [8080, 8081, 8082, 8443];

/// The VM itself is a client of the mesh plane. Letters are said by the server, before any client
/// says a word.
pub(super) const PLAN: &str = shop!(
    "  clients:
    - { networks: [10.50.0.1/32], plane: mesh }
    - { networks: [10.20.0.0/16], plane: host }
  gateways: [{ name: edge, egress: [10.50.0.2/32], mtls: { addresses: [10.50.0.2] } }]
  policy: { drain: 1s }
  steps: [{ split: 50%, bake: 1m }, { split: 100%, bake: 1h }]
  services:
",
    orders!(),
    "      affinity: none\n",
    "    - name: web
      hosts: [web.corp.example]
      address: 192.0.2.10
      ports:
        - { name: main, port: 8081, protocol: http }
        - { name: calls, port: 8082, protocol: grpc }
      legacy: { endpoints: [10.30.0.2] }
      target: { endpoints: [10.40.0.2] }
    - name: vault
      hosts: [vault.corp.example]
      address: 192.0.2.10
      ports: [{ name: tls, port: 8443, protocol: tcp }]
      legacy: { endpoints: [10.30.0.2] }
      target: { endpoints: [10.40.0.2] }
"
);

/// Says who answers a gRPC call.
const CALLS: &str = "
import grpc, sys
options = [('grpc.default_authority', 'web.corp.example')]
channel = grpc.insecure_channel(sys.argv[1], options)
print(channel.unary_unary('/crossfade.test.Backend/Who')(b'', timeout=20).decode())";

/// A process that ends with this value.
pub(super) struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The target's gateway: an Envoy and the relay beside it.
pub(super) struct Gateway {
    envoy: Option<Ends>,
    relay: Option<Ends>,
    pub(super) data: PathBuf,
}

impl Gateway {
    /// Joins as `edge-1`, and serves.
    pub(super) fn start(world: &World) -> Self {
        let (space, data) = (&world.net.controller, world.scratch.path().join("relay"));
        let at = data.to_str().unwrap();
        let token = world.token(&["edge-1", "--gateway", "edge"]);
        let file = world.scratch.file("edge.txt", &token);
        space.run(BINARY, &["relay", "join", "--token-file", file.to_str().unwrap(), "--data", at]);
        let mut gateway = Self { envoy: None, relay: None, data };
        gateway.relay(world);
        gateway.serve(world);
        gateway
    }

    /// Starts the relay, and waits until it takes connections.
    fn relay(&mut self, world: &World) {
        let mut relay = world.net.controller.command(BINARY);
        relay.args(["relay", "--bind", GATEWAY, "--log", "warn", "--data"]).arg(&self.data);
        self.relay = Some(Ends(relay.stdout(Stdio::null()).spawn().unwrap()));
        until("the relay serves", || UnixStream::connect(self.data.join("xds.sock")).ok());
    }

    /// Both end, and are started again.
    pub(super) fn restart(&mut self, world: &World) {
        drop(self.envoy.take());
        drop(self.relay.take());
        self.relay(world);
        self.serve(world);
    }

    /// Starts the Envoy, and waits until it takes connections.
    fn serve(&mut self, world: &World) {
        let space = &world.net.controller;
        let relay = format!("unix:{}", self.data.join("xds.sock").display());
        let mut words = vec!["bootstrap", "envoy", "--role", "catch", "--gateway", "edge"];
        words.extend(["--bind", GATEWAY, "--node", "edge-1", "--identity", "--controller", &relay]);
        let file = world.scratch.file("gateway.json", &space.run(BINARY, &words));
        let log = File::create(file.with_extension("log")).unwrap();
        let envoy = tool("CROSSFADE_TEST_ENVOY", "mesh-1/bin/envoy");
        let mut envoy = space.command(envoy.to_str().unwrap());
        envoy.arg("-c").arg(file).args(["--use-dynamic-base-id", "--concurrency", "1"]);
        self.envoy = Some(Ends(envoy.stderr(log).stdout(Stdio::null()).spawn().unwrap()));
        until("the gateway listens", || {
            let listens = |port| space.enter(|| TcpStream::connect((GATEWAY, port)).is_ok());
            PORTS.into_iter().all(listens).then_some(())
        });
    }

    /// What its Envoy counted at one of its ports.
    pub(super) fn count(world: &World, port: u16, what: &str) -> u64 {
        let said = world.net.controller.run("curl", &["-s", "http://127.0.0.1:9901/stats"]);
        let name = format!("listener.gateway/{port}.{what}: ");
        let count = said.lines().find_map(|line| line.strip_prefix(&name));
        count.map_or(0, |count| count.parse().unwrap())
    }

    /// Connections with mTLS, and those without, at each port.
    fn counts(world: &World) -> Vec<(u64, u64)> {
        let of = |port| {
            let (all, mtls) = ("downstream_cx_total", "ssl.handshake");
            let mtls = Self::count(world, port, mtls);
            (mtls, Self::count(world, port, all) - mtls)
        };
        PORTS.into_iter().map(of).collect()
    }
}

/// Its certificate, as whoever joined keeps it.
pub(super) struct Identity {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

impl Identity {
    pub(super) fn of(directory: &Path) -> Self {
        let directory = directory.join("identity");
        Self { chain: directory.join("chain.pem"), key: directory.join("key.pem") }
    }

    /// Another's: of an authority that says the same names.
    fn foreign(scratch: &Scratch, name: &str) -> Self {
        let path = |end: &str| scratch.path().join(format!("foreign.{end}"));
        let (chain, key) = (path("pem"), path("key"));
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "1", "-subj", "/CN=foreign", "-addext"])
            .arg(format!("subjectAltName=URI:spiffe://crossfade.internal/{name}"))
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&chain);
        Said::of(command.output().unwrap()).ok();
        Self { chain, key }
    }

    fn args(&self) -> [&str; 4] {
        ["-cert", self.chain.to_str().unwrap(), "-key", self.key.to_str().unwrap()]
    }
}

/// What stands at both sides beside the letters: HTTP, gRPC, and TLS of an application's own.
fn backends(world: &World, app: &Identity) -> (Vec<Peer>, Vec<Ends>) {
    let sides =
        [("legacy", &world.net.legacy, "10.30.0.2"), ("target", &world.net.target, "10.40.0.2")];
    let (mut peers, mut others) = (Vec::new(), Vec::new());
    for (name, space, address) in sides {
        for (kind, port) in [("http", 8081), ("grpc", 8082)] {
            let mut command = space.command(python().to_str().unwrap());
            command.arg(root().join("tests/e2e/peers/backends.py"));
            command.args([kind, &format!("{name}={address}:{port}")]);
            let mut peer = Peer::run(command);
            peer.told();
            peers.push(peer);
        }
        others.push(shows(space, &format!("{address}:8443"), app));
    }
    (peers, others)
}

fn python() -> PathBuf {
    tool("CROSSFADE_TEST_MESH_PYTHON", "mesh-1/bin/python")
}

/// A server there that shows this certificate, asks for none, and says `T`.
fn shows(space: &Space, at: &str, identity: &Identity) -> Ends {
    let mut command = space.command("openssl");
    command.args(["s_server", "-quiet", "-alpn", "crossfade", "-accept", at]);
    command.args(identity.args()).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut server = Ends(command.stderr(Stdio::null()).spawn().unwrap());
    server.0.stdin.as_mut().unwrap().write_all(b"T").unwrap();
    server
}

/// What a client on the VM hears that says it is a proxy, and shows this.
fn heard(world: &World, identity: Option<&Identity>) -> Option<char> {
    heard_with(world, identity, &[])
}

/// The same, where the client is told more.
pub(super) fn heard_with(
    world: &World,
    identity: Option<&Identity>,
    more: &[&str],
) -> Option<char> {
    let mut command = world.net.vm.command("openssl");
    command.args(["s_client", "-quiet", "-alpn", "crossfade", "-connect", "10.50.0.2:8080"]);
    command.args(identity.iter().flat_map(|identity| identity.args())).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = Ends(command.spawn().unwrap());
    let mut byte = [0];
    let read = client.0.stdout.as_mut().unwrap().read(&mut byte).unwrap();
    (read == 1).then(|| char::from(byte[0]))
}

/// Who answers at every port of this place, as seen by a client there.
fn answers(space: &Space, place: &str) -> [String; 4] {
    let letters = format!("{place}:8080").parse().unwrap();
    let letter = space.enter(|| side([0, 0, 0, 0].into(), letters).unwrap());
    let (host, url) = ("Host: web.corp.example", format!("http://{place}:8081/"));
    let web = space.run("curl", &["-s", "--max-time", "20", "-H", host, &url]);
    let called = python();
    let called = space.run(called.to_str().unwrap(), &["-c", CALLS, &format!("{place}:8082")]);
    let ask =
        "openssl s_client -connect $0:8443 </dev/null 2>/dev/null | openssl x509 -noout -text";
    let shown = space.run("sh", &["-c", ask, place]);
    let shown = shown.lines().find_map(|line| line.trim().strip_prefix("URI:")).map(str::to_owned);
    [letter.to_string(), web, called.trim().to_owned(), shown.unwrap_or_default()]
}

const APP: &str = "spiffe://crossfade.internal/app";

#[test]
fn own_calls_reach_the_target_by_its_gateway_and_all_others_as_before() {
    let test = "own_calls_reach_the_target_by_its_gateway_and_all_others_as_before";
    let Some(vm) = Beside::of(test, PLAN) else { return };
    let world = &vm.world;
    let app = Identity::foreign(&world.scratch, "app");
    let _backends = backends(world, &app);
    let _gateway = Gateway::start(world);
    for service in ["orders", "web", "vault"] {
        world.shift(service, "100%");
    }
    // Looking whether it listens were connections, too.
    let before = Gateway::counts(world);
    assert!(before.iter().all(|(mtls, _)| *mtls == 0), "{before:?}");
    until("the split is Envoy's", || {
        (world.net.vm.enter(|| call().ok()) == Some('T')).then_some(())
    });
    let target = ["T", "target", "target", APP].map(str::to_owned);
    assert_eq!(answers(&world.net.vm, "192.0.2.10"), target);
    let after = Gateway::counts(world);
    let plain = |counts: &[(u64, u64)]| counts.iter().map(|(_, plain)| *plain).collect::<Vec<_>>();
    assert!(after.iter().all(|(mtls, _)| *mtls > 0), "{after:?}");
    assert_eq!(plain(&after), plain(&before), "none of them in the clear");
    // Others come to the same ports.
    assert_eq!(answers(&world.net.client, GATEWAY), target);
    let others = Gateway::counts(world);
    assert!(plain(&others).iter().zip(plain(&after)).all(|(now, was)| *now > was), "{others:?}");
    let mtls = |counts: &[(u64, u64)]| counts.iter().map(|(mtls, _)| *mtls).collect::<Vec<_>>();
    assert_eq!(mtls(&others), mtls(&after));
    // What closes connections of a side that lost is asked in the clear, beside mTLS.
    let checked = |what| vm.counted("shop/orders/http/target", what);
    until("checks are answered", || (checked("health_check.success") > 1).then_some(()));
    // Back, and what is left at the target is closed.
    let mut long =
        world.net.vm.enter(|| dial([0, 0, 0, 0].into(), LOGICAL.parse().unwrap()).unwrap());
    assert_eq!(letter(&mut long).unwrap(), 'T');
    world.rollback("orders");
    until("back, too", || (world.net.vm.enter(|| call().ok()) == Some('L')).then_some(()));
    until("it is closed", || match long.read(&mut [0]) {
        Ok(read) => (read == 0).then_some(()),
        Err(error) => (error.kind() == ErrorKind::ConnectionReset).then_some(()),
    });
}

#[test]
fn each_end_knows_the_other() {
    let Some(vm) = Beside::of("each_end_knows_the_other", PLAN) else { return };
    let world = &vm.world;
    let mut gateway = Gateway::start(world);
    world.shift("orders", "100%");
    let (agent, edge) = (Identity::of(&world.data()), Identity::of(&gateway.data));
    // Of the other kind, of another authority, and nobody.
    let foreign = Identity::foreign(&world.scratch, "agent/vm-1");
    assert_eq!(heard(world, Some(&agent)), Some('T'));
    let refused = [
        (Some(&edge), "ssl.fail_verify_san"),
        (Some(&foreign), "ssl.fail_verify_error"),
        (None, "ssl.fail_verify_no_cert"),
    ];
    for (identity, counted) in refused {
        let before = Gateway::count(world, 8080, counted);
        assert_eq!(heard(world, identity), None, "{counted}");
        assert_eq!(Gateway::count(world, 8080, counted), before + 1, "{counted}");
    }
    // What stands in the gateway's place.
    let own = || world.net.vm.enter(|| call().ok());
    until("the split is Envoy's", || (own() == Some('T')).then_some(()));
    drop(gateway.envoy.take());
    let failed = |what| vm.counted("shop/orders/http/target", what);
    let foreign = Identity::foreign(&world.scratch, "gateway/edge/edge-1");
    for (identity, counted) in
        [(&agent, "ssl.fail_verify_san"), (&foreign, "ssl.fail_verify_error")]
    {
        let server = shows(&world.net.controller, "10.50.0.2:8080", identity);
        let before = failed(counted);
        until("it is refused", || {
            assert_eq!(own(), None, "{counted}");
            (failed(counted) > before).then_some(())
        });
        drop(server);
    }
    let server = shows(&world.net.controller, "10.50.0.2:8080", &edge);
    until("a gateway's certificate is fine", || (own() == Some('T')).then_some(()));
    drop(server);
    // With nobody there calls fail, which is seen, until they are taken back.
    assert_eq!(own(), None);
    assert!(failed("upstream_cx_connect_fail") > 0);
    let sinks = world.controller().json(&["sinks"]);
    let mut sinks = sinks.as_array().unwrap().iter();
    assert!(sinks.any(|sink| sink["id"] == "edge-1/edge-1" && sink["connected"] == false));
    world.controller().run(&["rollback", "shop/orders", "--no-wait"]).ok();
    until("legacy answers", || (own() == Some('L')).then_some(()));
    // And again: the gateway is back.
    gateway.serve(world);
    let revision = world.controller().revision("shop");
    world.controller().run(&["resume", "shop", "--if-revision", &revision, "--no-wait"]).ok();
    world.shift("orders", "100%");
    until("target answers", || (own() == Some('T')).then_some(()));
}
