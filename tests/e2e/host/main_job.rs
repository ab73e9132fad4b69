//! A VM joins; its clients go over by percentage, come home, and each is where it was said to be.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::peers::{client, side, sides};
use super::plans::{orders, shop};
use super::world::{World, until};

/// How many clients.
const CLIENTS: u16 = 1_000;

/// The service.
pub(super) const LOGICAL: &str = "192.0.2.10:8080";

/// A plan of one service whose legacy backend is another machine.
pub(super) const PLAN: &str = shop!(
    "  clients:
    - { networks: [10.20.0.0/16, 10.50.0.0/24], plane: host }
  steps: [{ split: 50%, bake: 1m }, { split: 100%, bake: 1h }]
  services:
",
    orders!()
);

#[test]
fn clients_go_over_and_come_home() {
    let Some(world) = World::new("clients_go_over_and_come_home", PLAN) else { return };
    let agent = world.joined(&[]);
    let mut seen: Vec<(u16, Vec<char>)> = Vec::new();
    let moves = moves_above(&world);
    for (bp, percent) in [(0, "0%"), (2_500, "25%"), (10_000, "100%"), (2_500, "25%"), (0, "back")]
    {
        match percent {
            "back" => world.rollback("orders"),
            _ if seen.is_empty() => {}
            _ => world.shift("orders", percent),
        }
        let now = sides(&world.net, CLIENTS, LOGICAL);
        let said: Vec<char> =
            moves.iter().map(|above| if bp > *above { 'T' } else { 'L' }).collect();
        assert_eq!(now, said, "at {percent} all are where explain says");
        let own = world.net.vm.enter(|| {
            (0..20).map(|_| side([0, 0, 0, 0].into(), LOGICAL.parse().unwrap()).unwrap()).collect()
        });
        let own: Vec<char> = own;
        assert!(
            own.iter().all(|side| *side == own[0]),
            "its own processes are one client: {own:?}"
        );
        assert_eq!(own[0], told(&world, "10.50.0.1"), "at {percent}");
        if let Some((last, before)) = seen.last() {
            let against = if bp > *last { ('T', 'L') } else { ('L', 'T') };
            let back = before.iter().copied().zip(now.iter().copied());
            assert_eq!(back.filter(|pair| *pair == against).count(), 0, "{last} to {bp}");
        }
        shown(&world, bp, u64::from(CLIENTS) + 20);
        seen.push((bp, now));
    }
    // The command line says the same.
    for number in [1, 2, 3, 500, 1_000] {
        let explained = world.controller().json(&[
            "explain",
            "orders",
            "--client",
            &client(number).to_string(),
        ]);
        assert_eq!(explained["client"]["planes"]["host"]["movesAboveBp"], {
            moves[usize::from(number) - 1]
        });
    }
    drop(agent);
}

/// At which split each client goes over, as `explain` has it.
fn moves_above(world: &World) -> Vec<u16> {
    let ask = |number| {
        let explained = explain(world, &client(number).to_string());
        let above = explained["client"]["planes"]["host"]["movesAboveBp"].as_u64();
        above.unwrap_or_else(|| panic!("{explained}")).try_into().unwrap()
    };
    (1..=CLIENTS).map(ask).collect()
}

/// The side that `explain` says now.
fn told(world: &World, client: &str) -> char {
    match explain(world, client)["client"]["side"].as_str() {
        Some("target") => 'T',
        Some("legacy") => 'L',
        other => panic!("{other:?}"),
    }
}

/// `crossfade explain orders --client IP -o json`, without a process for each.
fn explain(world: &World, client: &str) -> Value {
    let socket = world.controller().server();
    let mut stream = UnixStream::connect(socket.strip_prefix("unix:").unwrap()).unwrap();
    let path = format!("/v1/plans/shop/explain?service=orders&client={client}");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// The plan's status tells what was meant, what the VM has, and what it counted.
fn shown(world: &World, bp: u16, flows: u64) {
    until("what was counted is shown", || {
        let status = world.controller().json(&["status", "shop"]);
        let host = &status["services"][0]["planes"]["host"];
        assert_eq!(host["intendedBp"], bp, "{status}");
        assert_eq!(host["ackedBp"], bp, "{status}");
        let measured = &host["measured"];
        (measured["events"].as_u64() >= Some(flows)).then_some(())
    });
}
