//! What the rules sent on ends with them, also where another program goes on translating, and
//! nobody forwards it any more.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::netns::Space;
use super::peers::{answer, client, dial, letter};
use super::plans::shop;
use super::world::{Agent, World, until};
use crate::harness::BINARY;

/// The logical address, which is the VM's own, and the port of its service.
const HERE: &str = "192.0.2.10:8081";

/// How long an answer may be on its way before it is asked for again.
const ASKED_AGAIN: Duration = Duration::from_millis(200);

const PLAN: &str = shop!(
    "  clients:
    - { networks: [10.20.0.0/16], plane: host }
  steps: [{ split: 100%, bake: 1s }]
  services:
    - name: bills
      hosts: [bills.corp.example]
      address: 192.0.2.10
      ports:
        - { name: http, port: 8081, protocol: tcp }
        - { name: lines, port: 8081, protocol: udp }
      legacy: { endpoints: [192.0.2.10] }
      target: { endpoints: [10.40.0.2] }
"
);

/// As docker has it.
const OTHERS: &str = "table ip nat {
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 172.17.0.0/16 masquerade
    }
}
";

/// Answers each datagram with the letter.
fn datagrams(space: &Space, address: &str, letter: u8) {
    let socket = space.enter(|| UdpSocket::bind(address).unwrap());
    std::thread::spawn(move || {
        let mut byte = [0];
        while let Ok((_, from)) = socket.recv_from(&mut byte) {
            // Who asked may have gone.
            let _ = socket.send_to(&[letter], from);
        }
    });
}

/// Who answers this socket.
#[track_caller]
fn until_answered(socket: &UdpSocket, by: char) {
    until(&format!("{by} answers datagrams"), || {
        let mut byte = [0];
        socket.send(b"?").ok()?;
        socket.recv(&mut byte).ok()?;
        (char::from(byte[0]) == by).then_some(())
    });
}

/// A datagram socket and a connection that are on target, before the VM is taken out so.
fn end_with_the_rules(test: &str, take_out: impl FnOnce(&World, Agent)) {
    let Some(world) = World::new(test, PLAN) else { return };
    for (space, address, letter) in
        [(&world.net.vm, HERE, b'V'), (&world.net.target, "10.40.0.2:8081", b'T')]
    {
        answer(space, 8081, letter);
        datagrams(space, address, letter);
    }
    assert!(world.net.vm.nft_file(OTHERS).status.success());
    let agent = world.joined(&["--no-names"]);
    world.shift("bills", "100%");
    let to: SocketAddr = HERE.parse().unwrap();
    let (socket, mut stream) = world.net.client.enter(|| {
        let socket = UdpSocket::bind((client(1), 6_000)).unwrap();
        socket.connect(to).unwrap();
        (socket, dial(client(1), to).unwrap())
    });
    socket.set_read_timeout(Some(ASKED_AGAIN)).unwrap();
    until_answered(&socket, 'T');
    assert_eq!(letter(&mut stream).unwrap(), 'T');

    take_out(&world, agent);
    assert!(!world.rules().contains("crossfade"), "{}", world.rules());
    assert_eq!(world.net.vm.run("sysctl", &["-n", "net.ipv4.ip_forward"]).trim(), "0");
    until_answered(&socket, 'V');
    let asked = stream.write_all(b"?").and_then(|()| letter(&mut stream));
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(world.rules().contains("172.17.0.0/16"), "{}", world.rules());
}

#[test]
fn flows_end_with_the_rules_of_who_leaves() {
    end_with_the_rules("flows_end_with_the_rules_of_who_leaves", |world, _agent| {
        world.vm(&["agent", "leave"]).ok();
    });
}

#[test]
fn flows_end_with_the_rules_of_a_trial_that_was_lost() {
    let test = "flows_end_with_the_rules_of_a_trial_that_was_lost";
    end_with_the_rules(test, |world, agent| {
        agent.kill();
        fs::remove_file(world.data().join("confirmed")).unwrap();
        fs::write(world.data().join("trial.json"), "\"2026-01-01T00:00:00Z\"").unwrap();
        let mut command = world.on_vm(BINARY);
        command.args(["agent", "run"]);
        assert_eq!(Agent::start_unasked(world, command).ended(), 1);
    });
}
