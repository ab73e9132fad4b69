//! Behaviour over time, and over several hosts.

use std::net::SocketAddr;

use plan::Plane;
use plan::split::Side;

use super::*;
use crate::rules::compile::{compile, fixed};
use crate::rules::host::Host;
use crate::rules::mark::{self, Marks};
use crate::rules::rollback::{self, rollback};
use crate::rules::sample::{Leaf, address, host, marks, net, table};
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
fn established_flows_stay_until_they_are_forgotten() {
    let mut kernel = kernel();
    let marks = holding(&mut kernel, &[Leaf::orders(0)]);
    let first = packet("10.1.0.1", "10.0.1.10:8080", 4000);
    let datagram = Packet { transport: Transport::Udp, ..first };
    let before = [kernel.receive(first), kernel.receive(datagram)];
    holding(&mut kernel, &[Leaf::orders(10_000)]);
    assert_eq!([kernel.receive(first), kernel.receive(datagram)], before);
    let id = "shop/orders".parse().unwrap();
    let of = |side, connections| Forget {
        marked: [(marks.of(&id).unwrap(), side)].into(),
        connections,
        ..Forget::default()
    };
    kernel.forget(&of(Side::Target, true));
    kernel.forget(&of(Side::Legacy, false));
    assert_eq!([kernel.receive(first), kernel.receive(datagram)], before);
    kernel.forget(&of(Side::Legacy, true));
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
    let marks = holding(&mut kernel, &[Leaf::orders(9_999)]);
    let ours = fixed("crossfade");
    let set = fixed("stragglers/shop/orders/v4");
    let straggler = |port| packet("192.0.2.1", "10.0.1.11:8080", port);
    // Its flow is found when legacy is closed.
    let at_home = kernel.receive(straggler(1));
    assert_eq!(marks.read(at_home.mark).unwrap().1, Side::Legacy);
    assert_eq!(kernel.counter(&ours, &fixed("legacy/shop/orders")), 0);
    assert!(kernel.stragglers(&ours, &set).is_empty());
    holding(&mut kernel, &[Leaf::orders(10_000)]);
    assert_eq!(kernel.receive(straggler(1)), at_home, "established before");
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
            let chain = Chain { hook: Some((hook, -200)), rules };
            before.chains.insert(fixed(name), Arc::new(chain));
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

/// Where legacy means leaving alone, break-glass keeps our table out and nobody else.
#[test]
fn break_glass_leaves_alone_what_stays() {
    let mut kernel = kernel();
    let leaf = Leaf { legacy: vec!["10.0.1.11"], ..Leaf::orders(10_000) };
    let leaves = table(std::slice::from_ref(&leaf));
    let marks = holding(&mut kernel, &[leaf]);
    kernel.put(rollback(&leaves, &vm(), &marks)).unwrap();
    let process = Sender { user: 1000, mark: 0 };
    for (port, container) in [(1, false), (2, true)] {
        if container {
            kernel.put(docker()).unwrap();
        }
        let here = [("10.0.1.10:8080", "172.17.0.2:80"), ("10.0.1.11:8080", "172.17.0.3:80")];
        for (to, within) in here {
            let end = if container { within } else { to };
            let flow = kernel.receive(packet("10.1.0.1", to, port));
            assert_eq!((flow.destination.to_string().as_str(), flow.masqueraded), (end, false));
            assert_eq!(marks.read(flow.mark).unwrap().1, Side::Legacy);
        }
        let flow = kernel.send(packet("10.0.1.10", "10.0.1.10:8080", port), process);
        assert!(!flow.translated, "{flow:?}");
        assert_eq!(marks.read(flow.mark).unwrap().1, Side::Legacy);
    }
    assert!(kernel.delete(&fixed(rollback::TABLE)));
    let flow = kernel.receive(packet("10.1.0.1", "10.0.1.11:8080", 3));
    assert_eq!(marks.read(flow.mark).unwrap().1, Side::Target);
}

/// Health probes and the target's own gateways.
#[test]
fn break_glass_leaves_alone_whom_our_table_does() {
    let mut kernel = kernel();
    // Legacy is this VM and another: whoever is held may be sent there.
    let leaves = table(&[Leaf::orders(5_000)]);
    let marks = marks(&leaves);
    let host = Host { exempt: vec![net("10.0.9.0/24")], ..vm() };
    kernel.put(compile(&leaves, &host, &marks).unwrap().table).unwrap();
    kernel.put(rollback(&leaves, &host, &marks)).unwrap();
    let mut sent_on = 0;
    for low in 0..100 {
        for to in ["10.0.1.10:8080", "10.0.1.11:8080"] {
            for from in ["10.0.9", "10.9.0"] {
                let flow = kernel.receive(packet(&format!("{from}.{low}"), to, 1));
                assert!(!flow.translated, "{from}.{low} to {to}: {flow:?}");
            }
        }
        let client = kernel.receive(packet(&format!("10.1.0.{low}"), "10.0.1.10:8080", 1));
        sent_on += usize::from(client.translated);
    }
    assert!((20..80).contains(&sent_on), "{sent_on}");
}

/// A table as docker's, which leads ports of this host into containers.
fn docker() -> Table {
    let mut table = rollback(&table(&[]), &vm(), &Marks::default());
    table.name = fixed("docker");
    table.chains.clear();
    let lead = |(here, to): (&str, &str)| Rule {
        matches: vec![Match::Transport(Transport::Tcp), Match::Destination(address(here))],
        actions: vec![Action::Translate(to.parse().unwrap())],
    };
    let rules = [("10.0.1.10", "172.17.0.2:80"), ("10.0.1.11", "172.17.0.3:80")].map(lead);
    let chain = Chain { hook: Some((Hook::Prerouting, -100)), rules: rules.into() };
    table.chains.insert(fixed("prerouting"), Arc::new(chain));
    table
}

/// Who is left alone, and translated by others, keeps the address that it has.
#[test]
fn the_source_of_what_others_translate_is_theirs() {
    let mut kernel = kernel();
    for (port, split) in [(1, 0), (2, 10_000)] {
        let leaf = Leaf { legacy: vec!["10.0.1.11"], ..Leaf::orders(split) };
        holding(&mut kernel, &[leaf]);
        kernel.put(docker()).unwrap();
        let flow = kernel.receive(packet("10.1.0.1", "10.0.1.10:8080", port));
        assert_eq!((flow.translated, flow.masqueraded), (true, split > 0), "{flow:?}");
    }
}

/// A connection from before flows were tracked stays with the legacy that it has; one to a legacy
/// elsewhere, which was tracked from its beginning, is decided anew.
#[test]
fn a_connection_of_before_stays() {
    for (legacy, stays) in [("10.0.1.11", true), ("10.0.1.12", false)] {
        let mut kernel = kernel();
        let leaf = Leaf { legacy: vec![legacy], ..Leaf::orders(10_000) };
        let leaves = table(std::slice::from_ref(&leaf));
        let marks = holding(&mut kernel, &[leaf]);
        let before = packet("10.1.0.1", "10.0.1.10:8080", 1);
        let flow = kernel.receive_midway(before);
        let side = if stays { Side::Legacy } else { Side::Target };
        assert_eq!((marks.read(flow.mark).unwrap().1, flow.translated), (side, !stays));
        let counted = kernel.counter(&fixed("crossfade"), &fixed("legacy/shop/orders"));
        assert_eq!(counted, 0, "it is no new flow");
        let straggler = kernel.receive_midway(packet("192.0.2.1", "10.0.1.10:8080", 2));
        assert!(!straggler.translated, "served here, whoever it is");
        // UDP opens nothing ever.
        let datagram = Packet { transport: Transport::Udp, ..before };
        assert_eq!(kernel.receive_midway(datagram).mark, 0, "no port of the service");
        let opening = kernel.receive(packet("10.1.0.1", "10.0.1.10:8080", 3));
        assert_eq!(marks.read(opening.mark).unwrap().1, Side::Target);
        kernel.put(rollback(&leaves, &vm(), &marks)).unwrap();
        let flow = kernel.receive_midway(packet("10.1.0.1", "10.0.1.10:8080", 4));
        assert_eq!((marks.read(flow.mark).unwrap().1, flow.translated), (Side::Legacy, !stays));
    }
}

/// Gateways of one plan are clients of another like all others.
#[test]
fn a_gateway_is_left_alone_by_its_own_plan() {
    let mut kernel = kernel();
    let other = Leaf {
        id: "other/web",
        address: "10.0.7.7",
        egress: vec!["10.1.0.0/24"],
        ..Leaf::orders(10_000)
    };
    let marks = holding(&mut kernel, &[Leaf::orders(10_000), other]);
    let side = |flow: Flow| marks.read(flow.mark).map(|(_, side)| side);
    let client = kernel.receive(packet("10.1.0.5", "10.0.1.10:8080", 1));
    assert_eq!(side(client), Some(Side::Target));
    let gateway = kernel.receive(packet("10.1.0.5", "10.0.7.7:8080", 2));
    assert_eq!((side(gateway), gateway.translated), (None, false));
    let straggler = kernel.receive(packet("10.9.0.5", "10.0.1.10:8080", 3));
    assert_eq!((side(straggler), straggler.translated), (None, false));
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
        let chain = Chain { hook: Some((hook, 0)), rules: vec![rule] };
        table.chains.insert(fixed("base"), Arc::new(chain));
        assert_eq!(kernel().put(table).unwrap_err().to_string(), words);
    }
}
