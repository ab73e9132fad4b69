use std::path::Path;
use std::process::Command;

use plan::Plane;
use plan::spec::{Affinity, Protocol};
use plan::split::Side;

use super::*;
use crate::rules::compile::compile;
use crate::rules::host::Capture;
use crate::rules::rollback::rollback;
use crate::rules::sample::{Leaf, address, host, marks, net, table};

/// One of each: a VM's own logical address while it shifts, one at 100 % with stragglers, one of
/// IPv6 with two transports and an endpoint on another port, one that draws. Then break-glass.
fn typical() -> [Table; 2] {
    let leaves = [
        Leaf { keeps_source: true, ..Leaf::orders(2500) },
        Leaf {
            id: "shop/payments",
            address: "10.0.1.10",
            ports: vec![(8443, Protocol::Grpc), (9443, Protocol::Tcp)],
            legacy: vec!["10.0.1.11", "fd00::11"],
            target: vec!["10.9.1.31", "fd00:9::31"],
            ..Leaf::orders(10_000)
        },
        Leaf {
            id: "shop/time",
            address: "fd00::10",
            ports: vec![(123, Protocol::Udp), (4460, Protocol::Tcp)],
            legacy: vec!["fd00::12"],
            target: vec!["[fd00:9::41]:1123", "fd00:9::42", "fd00:9::43"],
            rows: vec![(Plane::Host, vec!["::/0"])],
            ..Leaf::orders(1)
        },
        Leaf {
            id: "web/shop",
            address: "10.0.7.7",
            affinity: Affinity::None,
            rows: vec![(Plane::Mesh, vec!["10.1.2.0/24"]), (Plane::Host, vec!["0.0.0.0/0"])],
            ..Leaf::orders(9_999)
        },
    ];
    let leaves = table(&leaves);
    let mut host = host(&["10.0.1.11", "10.0.1.10", "fd00::11"]);
    host.exempt = vec![net("10.0.9.9/32"), net("fd00:8::/64")];
    host.capture = Some(Capture { port: 15_001, user: 65_532 });
    let sides = [Side::Legacy, Side::Target];
    host.returns = sides.map(|side| (leaves.services[0].id.clone(), side)).into();
    host.sources = ["10.1.0.1", "fd00:2::1"].map(address).to_vec();
    let marks = marks(&leaves);
    [compile(&leaves, &host, &marks).unwrap().table, rollback(&leaves, &host, &marks)]
}

#[test]
fn a_typical_file() {
    let [table, glass] = typical();
    for (name, golden, found) in [
        ("typical.nft", include_str!("typical.nft"), text(&table)),
        ("rollback.nft", include_str!("rollback.nft"), text(&glass)),
    ] {
        let copy = std::env::temp_dir().join(name);
        if found != golden {
            std::fs::write(&copy, &found).unwrap();
            panic!("{name} beside this test differs from {}", copy.display());
        }
    }
}

/// Services and plans may be called what words of nft are called.
fn words_of_nft() -> [Table; 2] {
    let ids = ["ip/tcp", "map/type", "counter/jump", "set/chain", "ct/mark", "accept/drop"];
    let addresses = ["10.7.0.1", "10.7.0.2", "10.7.0.3", "10.7.0.4", "10.7.0.5", "10.7.0.6"];
    let leaf = |(id, address)| Leaf { id, address, ..Leaf::orders(10_000) };
    let leaves: Vec<Leaf> = ids.into_iter().zip(addresses).map(leaf).collect();
    let (leaves, host) = (table(&leaves), host(&addresses));
    let marks = marks(&leaves);
    [compile(&leaves, &host, &marks).unwrap().table, rollback(&leaves, &host, &marks)]
}

/// What nft reads as a word of its own, or as two, is no name: a `/` makes one name of all.
#[test]
fn no_name_is_a_word_of_nft() {
    const ALONE: [&str; 7] = ["in4", "in6", "out4", "out6", "output", "postrouting", "prerouting"];
    for table in typical().iter().chain(&words_of_nft()) {
        let sets = table.stragglers.keys().chain(table.dispatch.keys());
        for name in table.chains.keys().chain(&table.counters).chain(sets) {
            let inner = name.as_str().trim_matches('/').contains('/');
            assert!(inner || ALONE.contains(&name.as_str()), "{name}");
        }
    }
}

/// The real nft and a real kernel take every word of it, in an empty network namespace.
#[test]
fn nft_takes_it() {
    for tables in [typical(), words_of_nft()] {
        nft_takes(&tables);
    }
}

fn nft_takes(tables: &[Table]) {
    if !nix::unistd::geteuid().is_root() || !Path::new(NFT).exists() {
        println!("skipped: needs root and {NFT}");
        return;
    }
    // Twice: a file replaces what stands under its name.
    let files: String = tables.iter().map(|table| text(table).repeat(2)).collect();
    let script = format!("{NFT} -f - <<'END' && {NFT} list ruleset\n{files}END\n");
    let run = Command::new("unshare").args(["-n", "sh", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let listed = String::from_utf8(run.stdout).unwrap();
    for table in tables {
        let begins = format!("table inet {} {{", table.name);
        let listed = &listed[listed.find(&begins).unwrap()..];
        let listed = &listed[..listed.find("\n}").unwrap()];
        for (name, chain) in &table.chains {
            let begins = format!("chain {name} {{\n");
            let body = &listed[listed.find(&begins).unwrap() + begins.len()..];
            let lines = body[..body.find('}').unwrap()].lines();
            let rules = lines.filter(|line| !line.trim().is_empty() && !line.contains("hook"));
            let expected: usize = chain.rules.iter().map(braces).sum();
            // A line with braces ends the reading early; such chains are seen by name.
            assert!(expected > 0 || rules.count() == chain.rules.len(), "{name}\n{listed}");
        }
        for chain in table.dispatch.values().flat_map(|map| map.chains.values()) {
            assert!(listed.contains(&format!(": goto {chain}")), "{chain}\n{listed}");
        }
    }
}

/// How many of a rule's actions are written with braces.
fn braces(rule: &Rule) -> usize {
    rule.actions.iter().filter(|action| matches!(action, Action::Note(_))).count()
}

const NFT: &str = "/usr/sbin/nft";
