//! Behaviour over time, and over several hosts.

use std::net::SocketAddr;

use plan::Plane;
use plan::split::Side;

use super::*;
use crate::rules::compile::{compile, fixed};
use crate::rules::host::Host;
use crate::rules::mark::{self, Marks};
use crate::rules::rollback::{self, rollback};
use crate::rules::sample::{Leaf, address, host, marks, table};
use crate::rules::table::{Action, Chain, Match, Rule};

fn packet(source: &str, to: &str, port: u16) -> Packet {
    Packet {
        transport: Transport::Tcp,
        source: SocketAddr::new(address(source), port),
        destination: to.parse().unwrap(),
    }
}

fn vm() -> Host {
    host(&["10.0.1.11", "10.0.1.10", "fd00::11"])
}

/// A kernel that holds what is compiled of these leaves.
fn holding(kernel: &mut Kernel, leaves: &[Leaf]) -> Marks {
    let leaves = table(leaves);
    let marks = marks(&leaves);
    kernel.put(compile(&leaves, &vm(), &marks).unwrap().table).unwrap();
    marks
}

fn kernel() -> Kernel {
    Kernel::new(vm().own, 1)
}

/// The side of each of many clients, of both families.
fn sides(kernel: &mut Kernel, marks: &Marks, run: u16) -> Vec<Side> {
    let mut sides = Vec::new();
    for low in 0..1_000_u16 {
        let [high, low] = low.to_be_bytes();
        for (source, to) in [
            (format!("10.1.{high}.{low}"), "10.0.1.10:8080"),
            (format!("fd00:2::{high:x}:{low:x}"), "[fd00::10]:8080"),
        ] {
            let flow = kernel.receive(packet(&source, to, 10_000 + run));
            sides.push(marks.read(flow.mark).unwrap().1);
        }
    }
    sides
}

fn both(split: u16) -> [Leaf; 2] {
    let six = Leaf {
        id: "shop/six",
        address: "fd00::10",
        legacy: vec!["fd00::12"],
        target: vec!["fd00:9::1", "fd00:9::2"],
        rows: vec![(Plane::Host, vec!["fd00:2::/64"])],
        ..Leaf::orders(split)
    };
    [Leaf::orders(split), six]
}

#[test]
fn raising_moves_nobody_back_and_lowering_retraces() {
    let mut kernel = kernel();
    let splits = [0, 1, 100, 1_000, 2_500, 5_000, 7_500, 9_999, 10_000];
    let mut run = 0;
    let mut at = |split| {
        let marks = holding(&mut kernel, &both(split));
        run += 1;
        sides(&mut kernel, &marks, run)
    };
    let rising: Vec<_> = splits.iter().map(|split| at(*split)).collect();
    for (less, more) in rising.iter().zip(rising.iter().skip(1)) {
        assert!(less.iter().zip(more).all(|(less, more)| less <= more));
    }
    for (split, sides) in splits.iter().zip(&rising).rev() {
        assert_eq!(at(*split), *sides, "{split}");
    }
    let count = |at: usize| rising[at].iter().filter(|side| **side == Side::Target).count();
    // 0 and 100 % are exact.
    assert_eq!((count(0), count(8)), (0, 2_000));
    assert!((940..1_060).contains(&count(5)), "{}", count(5));
}

#[test]
fn established_flows_stay_until_they_are_flushed() {
    let mut kernel = kernel();
    let marks = holding(&mut kernel, &[Leaf::orders(0)]);
    let first = packet("10.1.0.1", "10.0.1.10:8080", 4000);
    let datagram = Packet { transport: Transport::Udp, ..first };
    let before = [kernel.receive(first), kernel.receive(datagram)];
    holding(&mut kernel, &[Leaf::orders(10_000)]);
    assert_eq!([kernel.receive(first), kernel.receive(datagram)], before);
    let id = "shop/orders".parse().unwrap();
    let legacy = marks.of(&id).unwrap().value(Side::Legacy, false);
    let mask = mark::SIDE | mark::INDEX;
    assert_eq!(kernel.flush(mask, legacy | mark::SIDE, None), 0);
    assert_eq!(kernel.flush(mask, legacy, Some(Transport::Udp)), 0);
    assert_eq!(kernel.flush(mask, legacy, Some(Transport::Tcp)), 1);
    let after = kernel.receive(first);
    assert_eq!(marks.read(after.mark), Some((&id, Side::Target)));
}

/// The VM's agent hears nothing more and stays at 100 % while the plan is rolled back: gateways of
/// the target send back from their own addresses what reaches them.
#[test]
fn a_frozen_agent_and_a_gateway_make_no_loop() {
    struct Case {
        to: &'static str,
        from: &'static str,
        visits: usize,
        ends: &'static str,
    }
    for Case { to, from, visits, ends } in [
        // A client of the host plane, a straggler at the VM itself, one of another plane.
        Case { to: "10.0.1.10:8080", from: "10.1.0.1", visits: 2, ends: "10.0.1.11:8080" },
        Case { to: "10.0.1.11:8080", from: "192.0.2.1", visits: 2, ends: "10.0.1.11:8080" },
        Case { to: "10.0.1.10:8080", from: "10.8.0.1", visits: 2, ends: "10.0.1.11:8080" },
        // The gateway itself comes once.
        Case { to: "10.0.1.10:8080", from: "10.9.0.7", visits: 1, ends: "10.0.1.10:8080" },
    ] {
        let mut frozen = kernel();
        let marks = holding(&mut frozen, &[Leaf::orders(10_000)]);
        let mut packet = packet(from, to, 4000);
        let mut seen = 0;
        let end = loop {
            seen += 1;
            assert!(seen < 10, "{from} {to}");
            let flow = frozen.receive(packet);
            if vm().own.contains(&flow.destination.ip()) {
                break flow.destination;
            }
            assert_eq!(marks.read(flow.mark).unwrap().1, Side::Target);
            // Rolled back: the gateway takes it to legacy, from its own address.
            packet.source = "10.9.0.7:5000".parse().unwrap();
            packet.destination = "10.0.1.11:8080".parse().unwrap();
        };
        assert_eq!((seen, end.to_string().as_str()), (visits, ends), "{from} {to}");
    }
}

#[test]
fn stragglers_are_noted_by_network_and_forgotten() {
    let mut kernel = kernel();
    holding(&mut kernel, &[Leaf::orders(9_999)]);
    let ours = fixed("crossfade");
    let set = fixed("stragglers/shop/orders/v4");
    let straggler = |port| packet("192.0.2.1", "10.0.1.11:8080", port);
    assert_eq!(kernel.receive(straggler(1)).mark, 0);
    assert!(kernel.stragglers(&ours, &set).is_empty());
    holding(&mut kernel, &[Leaf::orders(10_000)]);
    assert_eq!(kernel.receive(straggler(1)).mark, 0, "established before");
    for port in [2, 3] {
        assert!(kernel.receive(straggler(port)).translated);
    }
    let noted = kernel.stragglers(&ours, &set);
    assert_eq!(noted, [("192.0.2.0/24".parse().unwrap(), 2)].into());
    kernel.advance(86_400);
    assert!(kernel.stragglers(&ours, &set).is_empty());
}

/// A full set ends the rule that notes, and nothing else.
#[test]
fn a_full_set_catches_all_the_same() {
    let mut kernel = kernel();
    let leaves = table(&[Leaf::orders(10_000)]);
    let mut compiled = compile(&leaves, &vm(), &marks(&leaves)).unwrap().table;
    let set = fixed("stragglers/shop/orders/v4");
    compiled.stragglers.get_mut(&set).unwrap().size = 1;
    kernel.put(compiled).unwrap();
    for source in ["192.0.2.1", "198.51.100.1"] {
        assert!(kernel.receive(packet(source, "10.0.1.11:8080", 1)).translated, "{source}");
    }
    assert_eq!(kernel.stragglers(&fixed("crossfade"), &set).len(), 1);
    assert_eq!(kernel.counter(&fixed("crossfade"), &fixed("caught/shop/orders")), 2);
}

#[test]
fn processes_of_the_host() {
    let mut kernel = kernel();
    let marks = holding(&mut kernel, &[Leaf::orders(10_000)]);
    let mut send = |port, to, sender| kernel.send(packet("10.0.1.10", to, port), sender);
    let flow = send(1, "10.0.1.10:8080", Sender { user: 1000, mark: 0 });
    assert!(flow.translated && flow.masqueraded, "{flow:?}");
    assert_eq!(marks.read(flow.mark).unwrap().1, Side::Target);
    // The agent's own sockets, and addresses that are not logical, are left alone.
    let agent = Sender { user: 0, mark: 0xcf00_0001 };
    assert_eq!(send(2, "10.0.1.10:8080", agent).mark, 0);
    assert_eq!(send(3, "10.0.1.11:8080", Sender { user: 1000, mark: 0 }).mark, 0);
}

/// Who set the side's bit before, whoever it was, decides nothing.
#[test]
fn a_mark_of_others_decides_nothing() {
    for (split, side) in [(0, Side::Legacy), (10_000, Side::Target)] {
        let mut kernel = kernel();
        let marks = holding(&mut kernel, &[Leaf::orders(split)]);
        let mut before = rollback(&table(&[]), &vm(), &Marks::default());
        for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
            let mark = Action::MarkFlow { mask: mark::MASK, value: mark::MASK };
            let rules = vec![Rule { matches: vec![], actions: vec![mark] }];
            before.chains.insert(fixed(name), Chain { hook: Some((hook, -200)), rules });
        }
        kernel.put(before).unwrap();
        let flow = kernel.receive(packet("10.1.0.1", "10.0.1.10:8080", 1));
        assert_eq!(marks.read(flow.mark).unwrap().1, side);
        let process = Sender { user: 1000, mark: 0 };
        let flow = kernel.send(packet("10.0.1.10", "10.0.1.10:8080", 2), process);
        assert_eq!(marks.read(flow.mark).unwrap().1, side);
        // Of another plane: at 100 % a straggler, before that left where it is.
        let flow = kernel.receive(packet("10.8.0.1", "10.0.1.10:8080", 3));
        assert_eq!(flow.translated, side == Side::Target);
    }
}

/// Where legacy means leaving alone, break-glass binds the flow without changing it.
#[test]
fn break_glass_binds_what_stays() {
    let mut kernel = kernel();
    let leaf = Leaf { legacy: vec!["10.0.1.11"], ..Leaf::orders(10_000) };
    let leaves = table(std::slice::from_ref(&leaf));
    holding(&mut kernel, &[leaf]);
    kernel.put(rollback(&leaves, &vm(), &marks(&leaves))).unwrap();
    for (port, to) in [(1, "10.0.1.10:8080"), (2, "10.0.1.11:8080")] {
        let flow = kernel.receive(packet("10.1.0.1", to, port));
        assert_eq!((flow.destination.to_string().as_str(), flow.translated), (to, false));
    }
    assert!(kernel.delete(&fixed(rollback::TABLE)));
    let flow = kernel.receive(packet("10.1.0.1", "10.0.1.11:8080", 3));
    assert!(flow.translated);
}

#[test]
fn what_the_kernel_refuses() {
    struct Case {
        rule: Rule,
        hook: Hook,
        words: &'static str,
    }
    let rule = |matches, action| Rule { matches, actions: vec![action] };
    let below = |family| Match::SourceBucketBelow { family, seed: 1, bound: 1 };
    for Case { rule, hook, words } in [
        Case {
            rule: rule(vec![], Action::Goto(fixed("gone"))),
            hook: Hook::Output,
            words: "`base` names `gone`, which is not in the table",
        },
        Case {
            rule: rule(vec![], Action::Jump(fixed("base"))),
            hook: Hook::Output,
            words: "`base` is reached through more than 16 chains",
        },
        Case {
            rule: rule(vec![], Action::Masquerade),
            hook: Hook::Output,
            words: "`base` is reached at Output, where Masquerade cannot be done",
        },
        Case {
            rule: rule(vec![Match::DrawBelow { bound: 10_000 }], Action::Accept),
            hook: Hook::Output,
            words: "`base` compares or sets a number out of its range",
        },
        Case {
            rule: rule(vec![below(Family::V4)], Action::Accept),
            hook: Hook::Output,
            words: "`base` hashes v4 sources and is reached by what may be none",
        },
        Case {
            rule: rule(vec![Match::Family(Family::V4), below(Family::V6)], Action::Accept),
            hook: Hook::Output,
            words: "`base` hashes v6 sources and is reached by what may be none",
        },
    ] {
        let mut table = rollback(&table(&[]), &vm(), &Marks::default());
        table.chains.insert(fixed("base"), Chain { hook: Some((hook, 0)), rules: vec![rule] });
        assert_eq!(kernel().put(table).unwrap_err().to_string(), words);
    }
}
