use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use plan::Plane;
use plan::snapshot::Service;
use plan::spec::{Affinity, Protocol};
use plan::split::Side;

use super::*;
use crate::rules::Host;
use crate::rules::sample::{Leaf, address, host, net};

const VM: [&str; 2] = ["10.1.0.1", "10.0.1.10"];

fn vm() -> Host {
    let mut host = host(&VM);
    host.exempt = vec![net("10.1.0.2/32")];
    host
}

fn leaf() -> Leaf {
    Leaf { keeps_source: true, legacy: vec!["10.0.1.10"], ..Leaf::orders(2500) }
}

fn wanted(leaves: &[Leaf]) -> Wanted {
    let leaves: Vec<Arc<Service>> = leaves.iter().map(Leaf::service).collect();
    Wanted::of(&leaves, &vm())
}

/// `FROM>TO` of each, or why not, for each side.
fn said(wanted: &Wanted) -> Vec<String> {
    let one = |ask: &Ask| format!("{}>{}", ask.from, ask.to);
    let sides = wanted.sides.iter().map(|((_, side), asks)| match asks {
        Ok(asks) => format!("{side} {}", asks.iter().map(one).collect::<Vec<_>>().join(" ")),
        Err(why) => format!("{side}: {why}"),
    });
    sides.collect()
}

struct Case {
    name: &'static str,
    leaf: Leaf,
    said: &'static [&'static str],
}

/// A service with one endpoint on target.
fn one() -> Leaf {
    Leaf { target: vec!["10.9.1.21"], ..leaf() }
}

fn rows(nets: &[&'static str]) -> Vec<(Plane, Vec<&'static str>)> {
    vec![(Plane::Host, nets.to_vec())]
}

fn hold(cases: impl IntoIterator<Item = Case>) {
    for Case { name, leaf, said: expected } in cases {
        assert_eq!(said(&wanted(&[leaf])), expected, "{name}");
    }
}

#[test]
fn some_addresses_stand_for_all_clients() {
    hold([
        Case {
            name: "both ends of a network, but for this host and what it exempts; every endpoint",
            leaf: leaf(),
            said: &["target 10.1.0.3>10.9.1.21:8080 10.1.0.3>10.9.1.22:8080 \
                     10.1.255.254>10.9.1.21:8080 10.1.255.254>10.9.1.22:8080"],
        },
        Case {
            name: "neighbours of the endpoint, who are answered directly",
            leaf: Leaf { rows: rows(&["10.0.0.0/8"]), ..one() },
            said: &["target 10.0.0.1>10.9.1.21:8080 10.9.1.20>10.9.1.21:8080 \
                     10.9.1.22>10.9.1.21:8080 10.255.255.254>10.9.1.21:8080"],
        },
        Case {
            name: "a row before takes its part away",
            leaf: Leaf {
                rows: vec![(Plane::Mesh, vec!["10.1.0.0/28"]), (Plane::Host, vec!["10.1.0.0/24"])],
                ..one()
            },
            said: &["target 10.1.0.16>10.9.1.21:8080 10.1.0.254>10.9.1.21:8080"],
        },
        Case {
            name: "a row before takes all of it",
            leaf: Leaf {
                rows: vec![(Plane::Mesh, vec!["10.1.0.0/16"]), (Plane::Host, vec!["10.1.3.0/24"])],
                ..one()
            },
            said: &["target: 10.1.3.0/24 has no address that could be a client's"],
        },
        Case {
            name: "everyone",
            leaf: Leaf { rows: rows(&["0.0.0.0/0"]), ..one() },
            said: &["target: 0.0.0.0/0 is too wide for an address in it to stand for all of it"],
        },
        Case {
            name: "everyone of another family is nobody here",
            leaf: Leaf { rows: rows(&["::/0", "10.1.9.0/31"]), ..one() },
            said: &["target 10.1.9.0>10.9.1.21:8080 10.1.9.1>10.9.1.21:8080"],
        },
        Case {
            name: "a single client that is the endpoint",
            leaf: Leaf { rows: rows(&["10.9.1.21/32"]), ..one() },
            said: &["target "],
        },
    ]);
}

#[test]
fn every_endpoint_is_asked_at_a_port_that_answers() {
    hold([
        Case { name: "nobody asked", leaf: Leaf { keeps_source: false, ..leaf() }, said: &[] },
        Case {
            name: "legacy elsewhere too, at its own port",
            leaf: Leaf {
                legacy: vec!["10.0.1.10", "10.0.2.1:9090"],
                rows: rows(&["10.1.7.7/32"]),
                ..one()
            },
            said: &["legacy 10.1.7.7>10.0.2.1:9090", "target 10.1.7.7>10.9.1.21:8080"],
        },
        Case {
            name: "datagrams",
            leaf: Leaf { ports: vec![(53, Protocol::Udp)], ..one() },
            said: &["target: only TCP answers for sure, and it has no TCP port"],
        },
        Case {
            name: "both transports",
            leaf: Leaf {
                ports: vec![(53, Protocol::Udp), (8053, Protocol::Tcp), (853, Protocol::Tcp)],
                rows: rows(&["10.1.7.7/32"]),
                ..one()
            },
            said: &["target 10.1.7.7>10.9.1.21:8053"],
        },
        Case {
            name: "IPv6",
            leaf: Leaf {
                address: "fd00::10",
                legacy: vec!["fd00::12"],
                target: vec!["[fd00:9::21]:90"],
                affinity: Affinity::None,
                rows: rows(&["10.1.0.0/16", "fd00:2::/64"]),
                ..leaf()
            },
            said: &[
                "legacy fd00:2::1>[fd00::12]:8080 fd00:2::ffff:ffff:ffff:fffe>[fd00::12]:8080",
                "target fd00:2::1>[fd00:9::21]:90 fd00:2::ffff:ffff:ffff:fffe>[fd00:9::21]:90",
            ],
        },
    ]);
}

/// What one service needs too much of does not hold up another.
#[test]
fn there_is_an_end_of_it() {
    let nets: Vec<String> = (0..70).map(|net| format!("10.3.{net}.0/24")).collect();
    let nets: Vec<&'static str> =
        nets.into_iter().map(|net| -> &'static str { net.leak() }).collect();
    let many = Leaf { id: "a/many", rows: vec![(Plane::Host, nets)], ..leaf() };
    let wanted = wanted(&[many, leaf()]);
    let why = "target: it would need more than 128 addresses or 1024 connections for all services";
    assert_eq!(said(&wanted)[0], why);
    assert_eq!((wanted.sources.len(), wanted.asks().len()), (2, 4));
}

fn after(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The sides that are proved, and why others are not.
fn judged(proofs: &Proofs, wanted: &Wanted, now: u64) -> (bool, String) {
    let side = ("shop/orders".parse().unwrap(), Side::Target);
    let judged = proofs.judge(wanted, after(now));
    assert_ne!(judged.returns.contains(&side), judged.unproved.contains_key(&side));
    let why = judged.unproved.get(&side).cloned().unwrap_or_default();
    (judged.returns.contains(&side), why)
}

#[test]
fn a_side_is_proved_as_long_as_all_of_it_comes_back() {
    let wanted = wanted(&[leaf()]);
    let mut proofs = Proofs::default();
    let all: Vec<Ask> = wanted.asks().into_iter().collect();
    for (at, ask) in all.iter().enumerate() {
        let (proved, why) = judged(&proofs, &wanted, 0);
        assert!(!proved && why == NOT_YET, "{at}: {why}");
        proofs.answered(*ask, Outcome::CameBack, after(0));
    }
    assert!(judged(&proofs, &wanted, 0).0);
    // Rules that do not stand say nothing, for a while.
    proofs.answered(all[0], Outcome::NotAsked, after(100));
    assert!(judged(&proofs, &wanted, 130).0);
    let (proved, why) = judged(&proofs, &wanted, 131);
    assert!(!proved && why.contains("for too long"), "{why}");
    // One that fails is enough; it must come back three times running.
    all.iter().for_each(|ask| proofs.answered(*ask, Outcome::CameBack, after(132)));
    assert!(judged(&proofs, &wanted, 133).0);
    let outcomes = "FCCFCCC".chars().zip(134..);
    for (outcome, now) in outcomes {
        let failed = Outcome::Failed("no answer within 1 s".to_owned());
        let outcome = if outcome == 'F' { failed } else { Outcome::CameBack };
        proofs.answered(all[1], outcome, after(now));
        let (proved, why) = judged(&proofs, &wanted, now);
        assert_eq!(proved, now == 140, "{now}");
        assert!(proved || why.ends_with("by way of this host: no answer within 1 s"), "{why}");
    }
}

#[test]
fn all_have_their_turn() {
    let nets: Vec<&'static str> =
        (0..30).map(|net| -> &'static str { format!("10.3.{net}.0/24").leak() }).collect();
    let many = Leaf { rows: vec![(Plane::Host, nets)], ..leaf() };
    let wanted = wanted(&[many]);
    let mut proofs = Proofs::default();
    let all = wanted.asks();
    assert_eq!(all.len(), 120);
    let mut seen = BTreeSet::new();
    for turn in 0..4 {
        let asks = proofs.next(&wanted, after(turn * 2));
        assert_eq!(asks.len(), if turn < 3 { Proofs::AT_ONCE } else { 24 });
        for ask in asks {
            proofs.answered(ask, Outcome::CameBack, after(turn * 2));
            seen.insert(ask);
        }
    }
    assert_eq!(seen, all);
    // Nothing is asked before its time; what nobody wants any more is forgotten.
    assert_eq!(proofs.next(&wanted, after(9)), []);
    assert_eq!(proofs.next(&wanted, after(10)).len(), Proofs::AT_ONCE);
    let other = Wanted::default();
    proofs.keep(&other);
    assert_eq!(proofs.next(&wanted, after(1)).len(), Proofs::AT_ONCE);
    assert_eq!(proofs.judge(&other, after(9)), Judged::default());
}

/// What counts, and what does not, is asked seldom; what is on the way to count, and what could not
/// be asked, soon.
#[test]
fn how_often_is_asked() {
    let wanted = wanted(&[Leaf { rows: vec![(Plane::Host, vec!["10.1.7.7/32"])], ..leaf() }]);
    let failed = || Outcome::Failed("no answer within 1 s".to_owned());
    let refused = || Outcome::Refused("connection refused".to_owned());
    let step = |proofs: &mut Proofs, outcome: Outcome, pause: u64, proved: bool, name: &str| {
        for ask in wanted.asks() {
            proofs.answered(ask, outcome.clone(), after(100));
        }
        assert_eq!(proofs.next(&wanted, after(100 + pause - 1)), [], "{name}");
        assert_eq!(proofs.next(&wanted, after(100 + pause)).len(), 2, "{name}");
        assert_eq!(judged(proofs, &wanted, 100).0, proved, "{name}");
    };
    let mut proofs = Proofs::default();
    for (name, outcome, pause, proved) in [
        ("nobody listens yet", refused(), 10, false),
        ("once", Outcome::CameBack, 2, false),
        ("twice", Outcome::CameBack, 2, false),
        ("three times", Outcome::CameBack, 10, true),
    ] {
        step(&mut proofs, outcome, pause, proved, name);
    }
    let mut proofs = Proofs::default();
    for (name, outcome, pause, proved) in [
        ("our rules did not stand", Outcome::NotAsked, 2, false),
        ("it came back", Outcome::CameBack, 10, true),
        ("our rules did not stand again", Outcome::NotAsked, 2, true),
        ("nobody listens", refused(), 2, true),
        ("it did not come back", failed(), 10, false),
        ("nobody listens again", refused(), 10, false),
        ("nor again", failed(), 10, false),
        ("once", Outcome::CameBack, 2, false),
        ("twice", Outcome::CameBack, 2, false),
        ("three times", Outcome::CameBack, 10, true),
    ] {
        step(&mut proofs, outcome, pause, proved, name);
    }
}

/// Addresses to leave with are in the order in which rules have them, each once.
#[test]
fn sources_are_what_asks_leave_with() {
    let bills = Leaf { id: "shop/bills", address: "10.0.1.20", ..leaf() };
    let wanted = wanted(&[leaf(), bills]);
    let from: BTreeSet<IpAddr> = wanted.asks().into_iter().map(|ask| ask.from).collect();
    assert_eq!(wanted.sources, ["10.1.0.3", "10.1.255.254"].map(address));
    assert_eq!(from, wanted.sources.into_iter().collect());
}
