//! The address of a client is kept where servers are proved to answer by way of the VM, and only
//! for as long.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::main_job::PLAN;
use super::netns::Space;
use super::peers::{client, dial};
use super::world::{World, until};

/// Where servers say whom they see.
const PORT: u16 = 8088;

/// A service of each family that keeps the source, and one that nobody can prove.
const MORE: &str = "    - name: seen
      hosts: [seen.corp.example]
      address: 192.0.2.30
      preserveSource: true
      ports: [{ name: seen, port: 8088, protocol: tcp }]
      legacy: { endpoints: [10.30.0.2] }
      target: { endpoints: [10.40.0.2] }
    - name: seen6
      hosts: [seen6.corp.example]
      address: 2001:db8::30
      preserveSource: true
      ports: [{ name: seen, port: 8088, protocol: tcp }]
      legacy: { endpoints: [\"fd30::2\"] }
      target: { endpoints: [\"fd40::2\"] }
    - name: syslog
      hosts: [syslog.corp.example]
      address: 192.0.2.31
      preserveSource: true
      ports: [{ name: udp, port: 514, protocol: udp }]
      legacy: { endpoints: [10.30.0.2] }
      target: { endpoints: [10.40.0.2] }
";

fn plan() -> String {
    let rows = PLAN.replace("10.50.0.0/24]", "10.50.0.0/24, \"fd20::/112\"]");
    format!("{rows}{MORE}")
}

/// The most proofs that a server may see, on a machine that is held up: else it sees none.
const SEEN_MAX: usize = 8;

/// Says to each connection whom it sees, a line for each byte that comes. Gives how many came and
/// asked nothing.
fn seer(space: &Space) -> Arc<AtomicUsize> {
    let silent = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&silent);
    let any = SocketAddr::from(([0_u16; 8], PORT));
    let listener = space.enter(|| TcpListener::bind(any).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let silent = Arc::clone(&silent);
            std::thread::spawn(move || {
                let mut byte = [0];
                if stream.peek(&mut byte).unwrap_or_default() == 0 {
                    silent.fetch_add(1, Ordering::Relaxed);
                }
                let Ok(peer) = stream.peer_addr() else { return };
                while stream.read_exact(&mut byte).is_ok() {
                    let line = format!("{}\n", peer.ip().to_canonical());
                    if stream.write_all(line.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    count
}

fn line(stream: &mut std::net::TcpStream) -> std::io::Result<IpAddr> {
    stream.write_all(b"?")?;
    let mut said = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        said.extend(byte);
    }
    let said = String::from_utf8(said).map_err(std::io::Error::other)?;
    said.trim().parse().map_err(std::io::Error::other)
}

/// A client, a service's logical address, and what the VM looks like to either side's servers.
struct Way {
    from: IpAddr,
    to: SocketAddr,
    vm: [IpAddr; 2],
}

fn ways() -> [Way; 2] {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    [
        Way {
            from: client(777),
            to: "192.0.2.30:8088".parse().unwrap(),
            vm: ["10.30.0.1", "10.40.0.1"].map(address),
        },
        Way {
            from: address("fd20::777"),
            to: "[2001:db8::30]:8088".parse().unwrap(),
            vm: ["fd30::1", "fd40::1"].map(address),
        },
    ]
}

/// Whom the server sees; `None`: nobody answered.
fn seen(world: &World, way: &Way) -> Option<IpAddr> {
    world.net.client.enter(|| line(&mut dial(way.from, way.to).ok()?).ok())
}

/// What the agent says of a service's side.
fn note(world: &World, service: &str, side: &str) -> Option<String> {
    let status = world.status()?;
    let begins = format!("shop/{service}: preserveSource is not kept towards {side}");
    let notes = status["notes"].as_array()?.iter().filter_map(serde_json::Value::as_str);
    notes.filter(|note| note.starts_with(&begins)).map(str::to_owned).next()
}

#[test]
fn the_source_is_kept_as_long_as_answers_come_back() {
    let test = "the_source_is_kept_as_long_as_answers_come_back";
    let Some(world) = World::new(test, &plan()) else { return };
    let silent = [&world.net.legacy, &world.net.target].map(seer);
    let _agent = world.joined(&["--no-names"]);
    for way in ways() {
        until("legacy sees its clients", || (seen(&world, &way)? == way.from).then_some(()));
    }
    for service in ["seen", "seen6"] {
        world.shift(service, "50%");
        world.shift(service, "100%");
    }
    for way in ways() {
        until("target sees its clients", || (seen(&world, &way)? == way.from).then_some(()));
    }
    let why = until("nobody proves datagrams", || note(&world, "syslog", "target"));
    assert!(why.contains("only TCP answers for sure"), "{why}");
    until("the controller's operator sees it", || {
        let shown = world.controller().run(&["status", "shop"]).ok();
        let line = "vm-1: preserveSource is not kept towards target, whose servers see this host";
        shown.contains(line).then_some(())
    });
    // Target's answers take another way, on which they are lost.
    for route in ["route add blackhole 10.20.0.0/16", "-6 route add blackhole fd20::/112"] {
        world.net.target.ip(route);
    }
    let mut open = Vec::new();
    for (service, way) in ["seen", "seen6"].into_iter().zip(ways()) {
        until("target sees the VM", || (seen(&world, &way)? == way.vm[1]).then_some(()));
        let why = until("it is told", || note(&world, service, "target"));
        assert!(why.contains("by way of this host: no answer within"), "{why}");
        assert_eq!(note(&world, service, "legacy"), None);
        let mut stream = world.net.client.enter(|| dial(way.from, way.to).unwrap());
        assert_eq!(line(&mut stream).unwrap(), way.vm[1]);
        open.push(stream);
    }
    for route in ["route del blackhole 10.20.0.0/16", "-6 route del blackhole fd20::/112"] {
        world.net.target.ip(route);
    }
    for (way, mut stream) in ways().iter().zip(open) {
        until("target sees its clients again", || (seen(&world, way)? == way.from).then_some(()));
        assert_eq!(line(&mut stream).unwrap(), way.vm[1], "what was open goes on as it was");
    }
    for service in ["seen", "seen6"] {
        world.rollback(service);
    }
    for way in ways() {
        assert_eq!(seen(&world, &way), Some(way.from), "legacy stayed proved");
    }
    let silent = silent.map(|count| count.load(Ordering::Relaxed));
    assert!(silent.iter().sum::<usize>() <= SEEN_MAX, "servers were bothered: {silent:?}");
}
