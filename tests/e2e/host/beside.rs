//! The VM is itself the old backend, and others translate beside us: a redirection written by hand,
//! or docker. What is left alone stays theirs.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener};

use super::netns::Space;
use super::peers::{answer, client, dial, letter, side, sides};
use super::plans::shop;
use super::world::{Agent, World};

/// The logical address, which is the VM's own, and the port of its service.
const HERE: &str = "192.0.2.10:8081";

/// How many clients are looked at.
const CLIENTS: u16 = 50;

const PLAN: &str = shop!(
    "  clients:
    - { networks: [10.20.0.0/16], plane: host }
  steps: [{ split: 50%, bake: 1s }, { split: 100%, bake: 1s }]
  services:
    - name: bills
      hosts: [bills.corp.example]
      address: 192.0.2.10
      ports: [{ name: http, port: 8081, protocol: tcp }]
      legacy: { endpoints: [192.0.2.10] }
      target: { endpoints: [10.40.0.2] }
"
);

fn joined(world: &World) -> Agent {
    answer(&world.net.target, 8081, b'T');
    world.joined(&["--no-names"])
}

fn others(world: &World, rule: &str) {
    let hook = "type nat hook prerouting priority -100; policy accept";
    let table = format!("table ip nat {{\n chain PREROUTING {{\n {hook};\n {rule}\n }}\n}}\n");
    assert!(world.net.vm.nft_file(&table).status.success());
}

fn from(space: &Space, address: IpAddr) -> char {
    let to: SocketAddr = HERE.parse().unwrap();
    space.enter(|| side(address, to).unwrap_or_else(|error| panic!("{address}: {error}")))
}

/// Who listens is at another port; nobody is at the one that clients know.
#[test]
fn break_glass_keeps_the_way_of_others() {
    let Some(world) = World::new("break_glass_keeps_the_way_of_others", PLAN) else { return };
    answer(&world.net.vm, 8082, b'V');
    others(&world, "tcp dport 8081 redirect to :8082");
    let _agent = joined(&world);
    world.shift("bills", "50%");
    let before = sides(&world.net, CLIENTS, HERE);
    assert!(before.contains(&'V') && before.contains(&'T'), "{before:?}");
    let all_on_legacy = || {
        let now = sides(&world.net, CLIENTS, HERE);
        assert!(now.iter().all(|side| *side == 'V'), "{now:?}");
        let of_no_row = from(&world.net.client, "10.10.0.2".parse().unwrap());
        assert_eq!(of_no_row, 'V');
    };
    world.vm(&["agent", "rollback", "--reason", "errors at target"]).ok();
    all_on_legacy();
    world.vm(&["agent", "rollback", "--undo"]).ok();
    assert_eq!(sides(&world.net, CLIENTS, HERE), before);
    let file = world.data().join("rollback.nft");
    world.net.vm.run("nft", &["-f", file.to_str().unwrap()]);
    all_on_legacy();
    world.net.vm.run("nft", &["delete", "table", "inet", "crossfade_rollback"]);
    assert_eq!(sides(&world.net, CLIENTS, HERE), before);
}

/// The container says `C` to who comes with a client's address, `M` to all others.
#[test]
fn a_container_sees_its_clients() {
    let Some(world) = World::new("a_container_sees_its_clients", PLAN) else { return };
    let listener = world.net.legacy.enter(|| TcpListener::bind("10.30.0.2:8082").unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let is_client = peer.to_string().starts_with("10.20.");
            // Who asked may have gone.
            let _ = stream.write_all(if is_client { b"C" } else { b"M" });
        }
    });
    others(&world, "tcp dport 8081 dnat to 10.30.0.2:8082");
    world.net.vm.sysctl("net.ipv4.ip_forward", "1");
    assert_eq!(from(&world.net.client, client(1)), 'C');
    let _agent = joined(&world);
    assert_eq!(from(&world.net.client, client(1)), 'C', "joining changes nothing");
    world.shift("bills", "100%");
    assert_eq!(from(&world.net.client, client(1)), 'T');
    world.vm(&["agent", "rollback", "--reason", "errors at target"]).ok();
    assert_eq!(from(&world.net.client, client(1)), 'C', "nor does break-glass");
}

/// It was open before the kernel tracked anything, and says nothing until all are on target.
#[test]
fn a_connection_from_before_the_join_stays() {
    let Some(world) = World::new("a_connection_from_before_the_join_stays", PLAN) else { return };
    answer(&world.net.vm, 8081, b'V');
    let to: SocketAddr = HERE.parse().unwrap();
    let dialled = [client(1), "10.10.0.2".parse().unwrap()];
    let idle = dialled.map(|from| world.net.client.enter(|| dial(from, to).unwrap()));
    let mut idle = idle.map(|mut stream| {
        assert_eq!(letter(&mut stream).unwrap(), 'V');
        stream
    });
    let _agent = joined(&world);
    world.shift("bills", "100%");
    for (stream, who) in idle.iter_mut().zip(dialled) {
        stream.write_all(b"?").unwrap();
        assert_eq!(letter(stream).unwrap_or_else(|error| panic!("{who}: {error}")), 'V');
        assert_eq!(from(&world.net.client, who), 'T', "{who}: a new one");
    }
}
