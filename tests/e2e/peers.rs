//! DNS beside a real peer: Knot serves the same zone file, and both must say the same.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{BINARY, Controller, Scratch, dns_port, program, python, root};

/// A process that ends with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the peer listens, and where we do: addresses that no other test uses, so that a port that
/// is free stays free.
const KNOT: &str = "127.9.0.1";
const OURS: &str = "127.9.0.2";

/// Waits until somebody answers for `zone` there.
fn wait_for(address: &str, port: u16, zone: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (at, port) = (format!("@{address}"), port.to_string());
        let said =
            program("dig", &[&at, "-p", &port, zone, "SOA", "+short", "+tries=1", "+time=1"]);
        if said.code == 0 && !said.out.trim().is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "nobody answers for {zone} on {address} {port}: {said:?}"
        );
    }
}

fn knot(scratch: &Scratch, zone: &str, file: &str) -> (Peer, u16) {
    let port = dns_port(KNOT);
    let folder = scratch.path().display();
    let conf = format!(
        "server:\n  listen: {KNOT}@{port}\n  rundir: \"{folder}\"\n\
         \x20 tcp-workers: 1\n  udp-workers: 1\n\
         database:\n  storage: \"{folder}/knot\"\n\
         zone:\n  - domain: {zone}\n    file: \"{file}\"\n\
         \x20   zonefile-sync: -1\n    journal-content: none\n"
    );
    let conf = scratch.file("knot.conf", &conf);
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let child = Command::new("knotd")
        .args(["-c", conf.to_str().unwrap()])
        .env("PATH", path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("knotd: {error}; scripts/test installs it"));
    let peer = Peer(child);
    wait_for(KNOT, port, zone);
    (peer, port)
}

fn ours(zone: &str, file: &str) -> (Peer, u16) {
    let port = dns_port(OURS);
    let child = Command::new(BINARY)
        .args(["dns", "--zone", &format!("{zone}={file}"), "--dns-threads", "1"])
        .args(["--listen", &format!("{OURS}:{port}")])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let peer = Peer(child);
    wait_for(OURS, port, zone);
    (peer, port)
}

/// Asks both every name and type of the zone and many beside it, over UDP and TCP.
#[test]
fn fixed_zones_are_answered_as_knot_answers_them() {
    let scratch = Scratch::new();
    let folder = root().join("tests/e2e/zones");
    let mut compared = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let zone = file.file_stem().unwrap().to_str().unwrap();
        let file = file.to_str().unwrap();
        let ((_knot, knot), (_ours, ours)) = (knot(&scratch, zone, file), ours(zone, file));
        let script = root().join("tests/e2e/compare.py");
        let (knot, ours) = (format!("{KNOT}:{knot}"), format!("{OURS}:{ours}"));
        let said = program(&python(), &[script.to_str().unwrap(), zone, file, &knot, &ours]);
        let said = said.ok();
        let count = said.lines().last().and_then(|line| line.split(' ').next()).unwrap();
        let count: u32 = count.parse().unwrap();
        assert!(count > 300, "{zone}: {said}");
        compared += count;
    }
    assert!(compared > 1000, "{compared}");
}

/// dnspython reads what we write for plan names, with and without EDNS, over UDP and TCP.
#[test]
fn another_library_reads_our_answers_and_the_sides_agree() {
    let scratch = Scratch::new();
    let plan = root().join("examples/shop/plan.yaml");
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    controller.run(&["shift", "orders", "25%"]).ok();
    let script = root().join("tests/e2e/clients.py");
    let port = controller.dns.port().to_string();
    let said = program(&python(), &[script.to_str().unwrap(), &port]).ok();
    assert!(said.contains("agree"), "{said}");
}

/// The API against its own description.
#[test]
fn the_api_keeps_to_its_description() {
    let scratch = Scratch::new();
    let plan = root().join("examples/shop/plan.yaml");
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    let script = root().join("tests/schemathesis.sh");
    let url = format!("http://{}", controller.api);
    let said = program("bash", &[script.to_str().unwrap(), &url]);
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    controller.run(&["audit", "verify"]).ok();
}
