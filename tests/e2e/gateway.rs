//! A relay that joined as a gateway: what its proxies show, who else it cannot be, and its end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, aggregated_discovery_service_client as ads,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::transport::Endpoint;
use xds::TypeUrl;
use xds::render::{AUTHORITIES, IDENTITY};

use crate::harness::{BINARY, Controller, Said, Scratch, crossfade, program, root};

/// So long a machine under load may take for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A controller that is the authority of its machines, on loopback too.
fn controller(data: &Path) -> Controller {
    let plan = root().join("examples/shop/plan.yaml");
    Controller::start(data, &["--xds-identities", "--log", "error", plan.to_str().unwrap()])
}

/// What `crossfade token create` prints for pasting: the token and the command.
fn token(controller: &Controller, args: &[&str]) -> (String, String) {
    let args: Vec<&str> = ["token", "create"].iter().chain(args).copied().collect();
    let said = controller.run(&args).ok();
    let (before, command) = said.trim().split_once(" | ").unwrap();
    let token = before.strip_prefix("printf %s ").unwrap_or_else(|| panic!("{said}"));
    (token.to_owned(), command.to_owned())
}

/// Joins with this on standard input.
fn join(verb: &[&str], token: &[u8], data: &Path) -> Said {
    let mut command = Command::new(BINARY);
    command.args(verb).arg("--data").arg(data);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input: ChildStdin = child.stdin.take().unwrap();
    input.write_all(token).unwrap();
    drop(input);
    Said::of(child.wait_with_output().unwrap())
}

/// A relay that has joined.
struct Relay {
    socket: PathBuf,
    child: Child,
}

impl Relay {
    fn start(data: &Path) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["relay", "--log", "error", "--data"]).arg(data).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let socket = said.trim().strip_prefix("xds unix:").unwrap_or_else(|| panic!("{said}"));
        Self { socket: socket.into(), child }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both secrets as a proxy of this gateway gets them, and its stream.
async fn secrets(
    relay: &Relay,
    gateway: &str,
) -> Result<(Vec<(String, String)>, impl Sized + use<>), tonic::Status> {
    let socket = format!("unix://{}", relay.socket.display());
    let channel = Endpoint::from_shared(socket).unwrap().connect().await.unwrap();
    let says = [("role", "catch"), ("gateway", gateway), ("identity", "sds")];
    let request = DeltaDiscoveryRequest {
        node: Some(xds::follow::node("proxy", "1", &says)),
        type_url: TypeUrl::SECRET.to_owned(),
        resource_names_subscribe: [IDENTITY, AUTHORITIES].map(str::to_owned).to_vec(),
        ..DeltaDiscoveryRequest::default()
    };
    let (sender, requests) = mpsc::channel(1);
    sender.send(request).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut client = ads::AggregatedDiscoveryServiceClient::new(channel);
    let answers = client.delta_aggregated_resources(requests).await?;
    let mut answers: Streaming<_> = answers.into_inner();
    let response = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap()?.unwrap();
    let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    let found = response.resources.into_iter();
    let found = found.map(|one| (one.name, text(&one.resource.unwrap().value)));
    Ok((found.collect(), (sender, answers)))
}

/// The URI of the first certificate in a text.
fn uri(text: &str, scratch: &Scratch) -> String {
    let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap();
    let end = "-----END CERTIFICATE-----\n";
    let length = text[begin..].find(end).unwrap() + end.len();
    let file = scratch.file("leaf.pem", &text[begin..begin + length]);
    let args = ["x509", "-noout", "-ext", "subjectAltName", "-in", file.to_str().unwrap()];
    let said = program("openssl", &args).ok();
    said.lines().find_map(|line| line.trim().strip_prefix("URI:")).unwrap().to_owned()
}

fn sink(controller: &Controller, id: &str) -> Option<Value> {
    let sinks = controller.json(&["sinks"]);
    sinks.as_array()?.iter().find(|sink| sink["id"] == id).cloned()
}

/// Waits until it is so.
#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "{what} never came true");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn a_gateways_proxies_show_its_certificate_until_it_is_revoked() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let scratch = Scratch::new();
    let controller = controller(&scratch.path().join("data"));
    let data = scratch.path().join("relay");
    let (ticket, command) = token(&controller, &["edge-1", "--gateway", "edge"]);
    assert_eq!(command, "crossfade relay join");
    assert_eq!(controller.json(&["token", "list"])[0]["gateway"], "edge");
    let said = join(&["relay", "join"], ticket.as_bytes(), &data).ok();
    assert!(said.contains("edge-1 has joined") && said.contains("gateway edge"), "{said}");
    let agents = controller.json(&["agents"]);
    assert_eq!((&agents[0]["name"], &agents[0]["gateway"]), (&"edge-1".into(), &"edge".into()));

    let relay = Relay::start(&data);
    let rights = std::fs::metadata(&relay.socket).unwrap().permissions().mode();
    assert_eq!(rights & 0o007, 0, "nobody else's");
    let (found, proxy) = runtime.block_on(secrets(&relay, "edge")).unwrap();
    let named = |name| &found.iter().find(|(found, _)| found == name).unwrap().1;
    let id = "spiffe://crossfade.internal/gateway/edge/edge-1";
    assert_eq!(uri(named(IDENTITY), &scratch), id);
    assert!(named(IDENTITY).contains("PRIVATE KEY") && named(AUTHORITIES).contains("BEGIN"));
    until("the controller sees it", || {
        sink(&controller, "edge-1").is_some_and(|sink| sink["connected"] == true)
    });
    until("and its proxy", || sink(&controller, "edge-1/proxy").is_some());
    let refused = runtime.block_on(secrets(&relay, "inner")).err().unwrap();
    assert!(refused.message().contains("this relay serves catch"), "{refused}");

    let begun = Instant::now();
    let said = controller.run(&["revoke", "edge-1", "--reason", "sold"]).ok();
    assert!(said.contains("edge"), "{said}");
    until("it is cut", || {
        sink(&controller, "edge-1").is_none_or(|sink| sink["connected"] == false)
    });
    eprintln!("revoked: cut after {:?}", begun.elapsed());
    let agents = controller.json(&["agents"]);
    assert_eq!(agents[0]["state"], "revoked", "{agents}");
    drop((proxy, relay));
    // What it has it serves; nobody of the controller's hears of it.
    let relay = Relay::start(&data);
    let (found, _proxy) = runtime.block_on(secrets(&relay, "edge")).unwrap();
    assert_eq!(found.len(), 2);
    assert!(sink(&controller, "edge-1").is_none_or(|sink| sink["connected"] == false));
}

/// A VM that finds a gateway's key where its own would be.
fn is_told_another_kind_of_key(controller: &Controller, scratch: &Scratch, identity: &Path) {
    let (more, _) = token(controller, &["vm-2"]);
    let theirs = scratch.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let as_vm = || join(&["agent", "join", "--no-start", "--force"], more.as_bytes(), &theirs);
    std::os::unix::fs::symlink(identity, theirs.join("identity")).unwrap();
    let complaint = as_vm().fails(1);
    assert!(complaint.contains("it is a link, or no directory"), "{complaint}");
    std::fs::remove_file(theirs.join("identity")).unwrap();
    program("cp", &["-a", identity.to_str().unwrap(), theirs.to_str().unwrap()]).ok();
    let complaint = as_vm().fails(2);
    assert!(complaint.contains("is of gateway edge"), "{complaint}");
}

#[test]
fn each_ticket_is_told_where_it_belongs() {
    let scratch = Scratch::new();
    let controller = controller(&scratch.path().join("data"));
    let other = self::controller(&scratch.path().join("other"));
    let (gateway, _) = token(&controller, &["edge-1", "--gateway", "edge"]);
    let (agent, command) = token(&controller, &["vm-1"]);
    assert_eq!(command, "sudo crossfade agent join");
    let xds = controller.xds.to_string();
    let (foreign, _) = token(&other, &["edge-1", "--gateway", "edge", "--controller", &xds]);
    let (relay, vm) = (&["relay", "join"][..], &["agent", "join", "--no-start"][..]);
    let mut typo = gateway.clone().into_bytes();
    let at = typo.len() / 2;
    typo[at] = if typo[at] == b'A' { b'B' } else { b'A' };
    let data = scratch.path().join("joined");
    for (what, verb, token, code, says) in [
        ("an agent's", relay, agent.as_bytes(), 2, "crossfade agent join"),
        ("a gateway's", vm, gateway.as_bytes(), 2, "crossfade relay join"),
        ("nothing", relay, b"", 2, "there is no token"),
        ("nothing for an agent", vm, b"", 2, "there is no token"),
        ("no text", relay, b"\xff\xfe\x80", 2, "this is no join token"),
        ("no text for an agent", vm, b"\xff\xfe\x80", 2, "this is no join token"),
        ("a typo", relay, &typo, 2, "mistyped"),
        ("another controller's", relay, foreign.as_bytes(), 1, "sha256:"),
    ] {
        let complaint = join(verb, token, &data).fails(code);
        assert!(complaint.contains(says), "{what}: {complaint}");
        assert!(!complaint.contains("output"), "{what}: {complaint}");
        assert!(!data.join("identity/current").exists(), "{what}");
    }
    join(relay, gateway.as_bytes(), &data).ok();
    let again = scratch.path().join("again");
    let complaint = join(relay, gateway.as_bytes(), &again).fails(1);
    assert!(complaint.contains("used already at"), "{complaint}");
    assert!(complaint.contains("crossfade token create edge-1 --gateway edge"), "{complaint}");

    is_told_another_kind_of_key(&controller, &scratch, &data.join("identity"));

    // One name is one machine's.
    let taken = controller.run(&["token", "create", "edge-1", "--replace"]).fails(3);
    assert!(taken.contains("joined as gateway edge"), "{taken}");
    let said = controller.run(&["token", "create", "e", "--gateway", "edge", "--services", "a/b"]);
    said.fails(2);
    let said = controller.run(&["token", "create", "edge-2", "--gateway", "nowhere"]);
    assert!(said.err.contains("no plan has a gateway `nowhere`"), "{said:?}");

    // A relay that has joined serves its key to nobody who merely reaches it.
    let dir = data.to_str().unwrap();
    let relay = |more: &[&str]| crossfade(&[&["relay", "--data", dir], more].concat());
    for (more, says) in [
        (&["--listen", "127.0.0.1:0"][..], "unix:FILE"),
        (&["--role", "sidecar"], "catch or gateway"),
        (&["--gateway", "inner"], "leave --gateway out"),
        (&["--node", "vm-1"], "edge-1"),
    ] {
        let complaint = relay(more).fails(2);
        assert!(complaint.contains(says), "{more:?}: {complaint}");
    }
    let nobody = scratch.path().join("nobody");
    let complaint = crossfade(&["relay", "--data", nobody.to_str().unwrap()]).fails(2);
    assert!(complaint.contains("--controller HOST:PORT"), "{complaint}");
}
