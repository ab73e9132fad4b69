//! A VM whose names are managed by real programs: systemd-resolved, NetworkManager, resolvconf. Its
//! programs ask as they always did; plan names come from the agent, all others from whom they came
//! before.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::leave::walk;
use super::machine::{Machine, can_boot, fetched, package};
use super::main_job::PLAN;
use super::netns::Space;
use super::world::{UPSTREAM, World, until, until_within};

/// The name of the plan and what it leads to while the agent answers.
const PLAN_NAME: (&str, &str) = ("orders.corp.example", "192.0.2.10");

/// Any name, and what it leads to at the host's own name server, which knows only this.
const OTHER: (&str, &str) = ("www.example.org", "198.51.100.7");

/// A VM as it is found.
struct Case {
    /// What of Debian manages its names.
    manager: &'static str,
    /// Makes it one whose name server is [`UPSTREAM`].
    host: &'static str,
    /// The way that `doctor` chooses.
    way: &'static str,
    /// What makes the manager write or read everything anew.
    again: &'static [&'static str],
}

const CASES: [Case; 3] = [
    Case {
        manager: "systemd-resolved",
        host: "systemctl start systemd-resolved && resolvectl dns to30 10.30.0.2",
        way: "systemd-resolved, by drop-in",
        again: &["systemctl", "restart", "systemd-resolved"],
    },
    Case {
        manager: "network-manager",
        host: "printf '[main]\\n[global-dns-domain-*]\\nservers=10.30.0.2\\n' \
               > /etc/NetworkManager/conf.d/dns.conf && systemctl restart NetworkManager \
               && until nmcli general reload dns-rc; do :; done",
        way: "NetworkManager",
        again: &["systemctl", "restart", "NetworkManager"],
    },
    Case {
        manager: "resolvconf",
        host: "systemctl start resolvconf && echo nameserver 10.30.0.2 | resolvconf -a to30.inet",
        way: "resolvconf",
        again: &["resolvconf", "-u"],
    },
];

/// A name server that gives every name the same address, and has nothing else.
fn name_server(space: &Space) {
    let socket = space.enter(|| UdpSocket::bind((UPSTREAM, 53)).unwrap());
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            // Who asked may have gone.
            let _ = socket.send_to(&answer(&query[..length]), from);
        }
    });
}

fn answer(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut answer = query[..end].to_vec();
    let is_v4 = u8::from(answer[end - 4..end] == [0, 1, 0, 1]);
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, is_v4, 0, 0, 0, 0]);
    if is_v4 == 1 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 198, 51, 100, 7]);
    }
    answer
}

/// What a program of the machine finds for a name.
fn found(machine: &Machine, name: &str) -> String {
    let said = machine.said(&["getent", "ahostsv4", name]);
    said.out.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Waits until both are found, each where it should be.
#[track_caller]
fn until_found(case: &Case, machine: &Machine, when: &str, plan_name: &str) {
    until(&format!("{}, {when}", case.manager), || {
        let other = found(machine, OTHER.0) == OTHER.1;
        (other && found(machine, PLAN_NAME.0) == plan_name).then_some(())
    });
}

fn etc(machine: &Machine) -> Vec<(String, String)> {
    let mut all = std::collections::BTreeMap::new();
    let etc = machine.path("/etc");
    walk(&etc, &mut all);
    // What resolv.conf leads to counts, wherever it lies.
    let resolver = machine.text("/etc/resolv.conf");
    all.into_iter().chain([("what it says".to_owned(), resolver)]).collect()
}

/// A machine of this case with the package, which has not joined.
fn managed(world: &World, case: &Case) -> Machine {
    name_server(&world.net.legacy);
    let ours = [package(world, "1.0.0")];
    let theirs = fetched(case.manager);
    let all: Vec<PathBuf> = ours.iter().chain(&theirs).cloned().collect();
    let machine = Machine::new(world, &all);
    machine.install(&theirs);
    machine.install(&ours);
    machine.run(&["sh", "-c", case.host]);
    until_found(case, &machine, "before", OTHER.1);
    machine
}

/// The VM has left, and is as it was.
fn is_as_before(case: &Case, machine: &Machine, before: &[(String, String)]) {
    until_found(case, machine, "left", OTHER.1);
    let after = etc(machine);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after, "{}", case.manager);
    }
    assert_eq!(before.len(), after.len(), "{}", case.manager);
}

#[test]
fn programs_ask_as_they_did_whoever_manages_names() {
    let test = "programs_ask_as_they_did_whoever_manages_names";
    for case in CASES {
        let Some(world) = can_boot(test).then(|| World::new(test, PLAN)).flatten() else { return };
        let machine = managed(&world, &case);
        let before = etc(&machine);
        let doctor = machine.said(&["crossfade", "agent", "doctor", "-o", "json"]);
        let rows: serde_json::Value = serde_json::from_str(&doctor.out).unwrap();
        let row = rows.as_array().unwrap().iter().find(|row| row["check"] == "resolver").unwrap();
        let found = machine.text("/etc/resolv.conf");
        assert_eq!(row["found"], case.way, "{}: {row}\n{found}", case.manager);

        machine.join(&world);
        until_found(&case, &machine, "joined", PLAN_NAME.1);
        machine.run(case.again);
        until_found(&case, &machine, "again", PLAN_NAME.1);
        machine.run(&["systemctl", "kill", "--signal=KILL", "crossfade-agent"]);
        until_found(&case, &machine, "killed", PLAN_NAME.1);

        machine.run(&["crossfade", "agent", "leave"]);
        is_as_before(&case, &machine, &before);
        machine.run(case.again);
        until_found(&case, &machine, "left for good", OTHER.1);
    }
}

/// What leads to the agent on this machine.
fn ways(machine: &Machine) -> Vec<&'static str> {
    let in_file = |path, words| machine.text(path).contains(words);
    let hosts = in_file("/etc/hosts", PLAN_NAME.0);
    let drop_in = in_file(DROP_IN, PLAN_NAME.0);
    [("hosts", hosts), ("drop-in", drop_in)].iter().filter(|way| way.1).map(|way| way.0).collect()
}

#[track_caller]
fn until_led(machine: &Machine, way: &str) {
    until_within(Duration::from_secs(60), way, || (ways(machine) == [way]).then_some(()));
}

/// Where systemd-resolved is told of the agent, and where the operator tells it more.
const DROP_IN: &str = "/run/systemd/resolved.conf.d/99-crossfade.conf";
const TOLD: &str = "/etc/systemd/resolved.conf.d/zz.conf";

/// The operator sets systemd-resolved up, and has it read that.
fn set_up(machine: &Machine, setting: &str) {
    let folder = Path::new(TOLD).parent().unwrap().to_str().unwrap();
    machine.run(&["mkdir", "-p", folder]);
    std::fs::write(machine.path(TOLD), format!("[Resolve]\n{setting}\n")).unwrap();
    machine.run(&["systemctl", "restart", "systemd-resolved"]);
    machine.run(&["sh", "-c", "resolvectl dns to30 10.30.0.2"]);
}

#[test]
fn a_resolver_that_is_set_up_otherwise_later_is_gone_around_until_it_is_not() {
    let test = "a_resolver_that_is_set_up_otherwise_later_is_gone_around_until_it_is_not";
    let Some(world) = can_boot(test).then(|| World::new(test, PLAN)).flatten() else { return };
    let [case, ..] = &CASES;
    let machine = managed(&world, case);
    set_up(&machine, "Cache=no");
    let before = etc(&machine);
    machine.join(&world);
    until_found(case, &machine, "joined", PLAN_NAME.1);
    until_led(&machine, "drop-in");
    let asked = |when: &str| until_found(case, &machine, when, PLAN_NAME.1);
    let notes = || machine.agent().unwrap()["notes"].to_string();

    // Only where it is TLS if it can be, the host's own name server can go on answering.
    set_up(&machine, "DNSOverTLS=opportunistic");
    until_led(&machine, "hosts");
    asked("over TLS");
    until("it is told", || notes().contains("DNSOverTLS=opportunistic").then_some(()));
    set_up(&machine, "Cache=no");
    asked("without TLS");
    until_led(&machine, "drop-in");
    asked("led as before");
    until("nothing is told", || (!notes().contains("names")).then_some(()));

    // What nobody signs it believes nobody then, but this file.
    set_up(&machine, "DNSSEC=yes");
    until_led(&machine, "hosts");
    let is_found = || (found(&machine, PLAN_NAME.0) == PLAN_NAME.1).then_some(());
    until("signed names", is_found);
    machine.run(&["systemctl", "kill", "--signal=KILL", "crossfade-agent"]);
    until("signed names, killed", is_found);
    assert_eq!(ways(&machine), ["hosts"]);

    machine.run(&["crossfade", "agent", "leave"]);
    set_up(&machine, "Cache=no");
    is_as_before(case, &machine, &before);
    assert!(!machine.path(DROP_IN).exists());
}
