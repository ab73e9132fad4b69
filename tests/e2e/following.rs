//! What follows a controller, with it and without: DNS replicas, break-glass, relays.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, aggregated_discovery_service_client as ads,
};
use xds::TypeUrl;

use crate::harness::{BINARY, Controller, Scratch, crossfade, dns_port, program, root};

/// So long a machine under load may take for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A replica or a relay.
pub(crate) struct Follower {
    /// Where it serves.
    pub(crate) address: SocketAddr,
    child: Child,
    _out: BufReader<ChildStdout>,
}

impl Follower {
    fn dns(name: &str, controller: SocketAddr, data: &Path) -> Self {
        Self::start("dns", &["dns", "--dns-threads", "1", "--node", name], controller, data)
    }

    fn relay(controller: SocketAddr, data: &Path) -> Self {
        Self::start("xds", &["relay", "--node", "relay-1"], controller, data)
    }

    /// Starts one on a port of its own, and reads the line that names it.
    pub(crate) fn start(line: &str, args: &[&str], controller: SocketAddr, data: &Path) -> Self {
        let listen = format!("127.0.0.1:{}", dns_port("127.0.0.1"));
        let mut child = Command::new(BINARY)
            .args(args)
            .args(["--listen", &listen, "--log", "error"])
            .args(["--controller", &controller.to_string(), "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).unwrap();
        let address = said.strip_prefix(line).and_then(|rest| rest.split_whitespace().next());
        let address = address.and_then(|address| address.parse().ok());
        Self { address: address.unwrap_or_else(|| panic!("{said}")), child, _out: out }
    }

    /// SIGKILL, as a crash.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shop(scratch: &Scratch) -> Controller {
    let plan = root().join("examples/shop/plan.yaml");
    Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()])
}

/// What clients of 60 networks are told of `orders`.
fn told(dns: SocketAddr) -> BTreeMap<String, Vec<String>> {
    let ask = |client: String| {
        let (port, subnet) = (dns.port().to_string(), format!("+subnet={client}"));
        let name = "orders.corp.example";
        let args = ["@127.0.0.1", "-p", &port, name, "A", "+short", "+tries=1", &subnet];
        let mut lines: Vec<String> =
            program("dig", &args).ok().lines().map(str::to_owned).collect();
        lines.sort();
        (client, lines)
    };
    (0..60).map(|n| ask(format!("198.18.{n}.0/24"))).collect()
}

/// How many of them are told target.
fn on_target(dns: SocketAddr) -> usize {
    told(dns).values().filter(|lines| lines.iter().any(|line| line.starts_with("10.9."))).count()
}

/// Waits until it is so.
#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "{what} never came true");
        std::thread::yield_now();
    }
}

/// What the controller last heard the sink refuse.
fn refusal(controller: &Controller, sink: &str) -> String {
    let sinks = controller.json(&["sinks"]);
    let sinks = sinks.as_array().or_else(|| sinks["sinks"].as_array()).unwrap().clone();
    let found = sinks.iter().find(|found| found["id"] == sink);
    found.map_or_else(|| "not there".to_owned(), |found| found["nack"]["detail"].to_string())
}

#[test]
fn replicas_tell_every_client_what_the_controller_does_and_go_on_without_it() {
    let scratch = Scratch::new();
    let controller = shop(&scratch);
    let data = |name: &str| scratch.path().join(name);
    let one = Follower::dns("one", controller.xds, &data("one"));
    let two = Follower::dns("two", controller.xds, &data("two"));
    until("both are there", || ["one", "two"].iter().all(|id| refusal(&controller, id) == "null"));
    // Waits until both have acked: from then on nobody is told anything older.
    controller.run(&["shift", "orders", "25%"]).ok();
    let quarter = told(controller.dns);
    assert_eq!(told(one.address), quarter);
    assert_eq!(told(two.address), quarter);
    let moved = on_target(one.address);
    assert!((1..60).contains(&moved), "{moved} of 60");
    // A second one does not take the first one's directory.
    let asked = controller.xds.to_string();
    let dir = data("one");
    let args = ["dns", "--controller", &asked, "--listen", "127.0.0.1:0", "--data"];
    let said = crossfade(&[&args[..], &[dir.to_str().unwrap()]].concat()).fails(1);
    assert!(said.contains("is in use by process"), "{said}");

    let xds = controller.xds;
    controller.kill();
    one.kill();
    let one = Follower::dns("one", xds, &data("one"));
    assert_eq!(told(one.address), quarter, "at once, from disk");
    assert_eq!(told(two.address), quarter);
}

#[test]
fn break_glass_needs_no_controller_and_is_reconciled_later() {
    let scratch = Scratch::new();
    let controller = shop(&scratch);
    let data = scratch.path().join("one");
    let dir = data.to_str().unwrap().to_owned();
    let one = Follower::dns("one", controller.xds, &data);
    until("it is there", || refusal(&controller, "one") == "null");
    controller.run(&["shift", "orders", "25%"]).ok();
    assert!(on_target(one.address) > 0);
    let xds = controller.xds;
    controller.kill();

    let said = crossfade(&["dns", "rollback", "--data", &dir, "orders", "--reason", "down"]).ok();
    assert!(said.contains("shop/orders  legacy here since"), "{said}");
    until("it is on legacy", || on_target(one.address) == 0);
    one.kill();
    let one = Follower::dns("one", xds, &data);
    assert_eq!(on_target(one.address), 0, "also after a restart, at once");
    let said = crossfade(&["dns", "rollback", "--data", &dir, "other"]).fails(2);
    assert!(said.contains("it holds: shop/orders"), "{said}");

    let controller = Controller::start_at(&scratch.path().join("data"), &xds.to_string(), &[]);
    until("it is told", || refusal(&controller, "one").contains("break-glass in force since"));
    assert_eq!(on_target(one.address), 0);
    let said = controller.run(&["status", "shop"]).ok();
    assert!(said.contains("nacked"), "{said}");

    // The controller says legacy itself: nothing is left to override.
    controller.run(&["rollback", "orders", "--reason", "as there"]).ok();
    let log = || std::fs::read_to_string(data.join("break-glass.log")).unwrap();
    until("it dissolves", || log().contains("\"dissolved\""));
    until("nothing is refused", || refusal(&controller, "one") == "null");
    let said = crossfade(&["dns", "rollback", "--data", &dir, "--undo"]).fails(3);
    assert!(said.contains("no break-glass is in force"), "{said}");
}

/// What a client that asks for all routes is given: names and versions. `None`: nothing in time.
async fn routes(xds: SocketAddr) -> Option<BTreeMap<String, String>> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{xds}")).unwrap();
    let mut client = ads::AggregatedDiscoveryServiceClient::new(channel.connect().await.ok()?);
    let request = DeltaDiscoveryRequest {
        node: Some(xds::follow::node("proxy", "1", &[("role", "sidecar")])),
        type_url: TypeUrl::ROUTES.to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    sender.send(request).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let answer = async {
        let mut responses = client.delta_aggregated_resources(requests).await.ok()?.into_inner();
        responses.message().await.ok()?
    };
    let response = tokio::time::timeout(Duration::from_secs(2), answer).await.ok()??;
    Some(response.resources.into_iter().map(|found| (found.name, found.version)).collect())
}

#[test]
fn a_relay_serves_what_it_has_with_every_controller_dead_and_never_anything_older() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |xds: SocketAddr| runtime.block_on(routes(xds));
    let scratch = Scratch::new();
    let plan = std::fs::read_to_string(root().join("examples/shop/plan.yaml")).unwrap();
    let rows = "spec:\n  clients: [{ networks: [10.8.0.0/16], plane: mesh }]\n";
    let plan = plan.replace("spec:\n", rows).replace("      file: corp.example.zone\n", "");
    let plan = scratch.file("plan.yaml", &plan);
    let plan = plan.to_str().unwrap();
    let controller = Controller::start(&scratch.path().join("data"), &[plan]);
    let data = scratch.path().join("relay");
    let relay = Follower::relay(controller.xds, &data);
    // The proxy that asks here comes and goes: nobody waits for it.
    controller.run(&["shift", "orders", "25%", "--no-wait"]).ok();
    let shifted = |found: BTreeMap<String, String>| found.values().any(|v| v.starts_with("1.2-"));
    until("the relay has them", || ask(relay.address).is_some_and(shifted));
    let had = ask(relay.address).unwrap();
    assert_eq!(ask(controller.xds), Some(had.clone()), "the same versions");

    let xds = controller.xds;
    controller.kill();
    relay.kill();
    let relay = Follower::relay(xds, &data);
    assert_eq!(ask(relay.address), Some(had.clone()), "from disk");

    // A controller that lost its log is behind: what it says is refused, and it hears why.
    let bare = std::fs::read_to_string(plan).unwrap().replace("orders", "others");
    let bare = scratch.file("bare.yaml", &bare);
    let fresh = scratch.path().join("fresh");
    let controller = Controller::start_at(&fresh, &xds.to_string(), &[bare.to_str().unwrap()]);
    until("it is refused", || refusal(&controller, "relay-1").contains("held here"));
    assert_eq!(ask(relay.address), Some(had));
}
