//! What we commit and what `nft -f` makes of the same table, read back by `nft`.

use std::sync::Arc;

use agent::dataplane::{Dataplane as _, Ownership};
use agent::rules::{Family, Key, Name, Table, Transport, text};
use serde_json::Value;

use crate::netns::{Space, allowed};
use crate::tables::{SHAPE, Shape, empty, every_word, name, open, regular, service, sides, split};

#[test]
fn every_word_is_what_nft_makes_of_it() {
    if !allowed("every_word_is_what_nft_makes_of_it") {
        return;
    }
    let (ours, theirs) = (Space::new("ours"), Space::new("nft"));
    let table = every_word();
    let mut netlink = ours.enter(|| open(Ownership::Open));
    netlink.commit(&table).unwrap();
    same(&ours, &theirs, &table, "every word");
    // Not only as JSON, which forgets some: expression by expression.
    assert_eq!(expressions(&ours), expressions(&theirs));
}

/// From each table to each other one: by steps where that can be, anew where not; and from a
/// kernel that was read because the process is a new one.
#[test]
fn each_way_between_tables_ends_at_the_table() {
    if !allowed("each_way_between_tables_ends_at_the_table") {
        return;
    }
    let tables = some_tables();
    let (ours, theirs) = (Space::new("ours"), Space::new("nft"));
    for ownership in [Ownership::Open, Ownership::Persistent] {
        for old_kernel in [false, true] {
            let settings = || {
                let mut settings = crate::tables::settings(ownership);
                settings.old_kernel = old_kernel;
                settings
            };
            let fresh = || agent::dataplane::Netlink::open(settings()).unwrap();
            let mut netlink = ours.enter(fresh);
            netlink.adopt().unwrap();
            for (from, old) in &tables {
                for (to, new) in &tables {
                    netlink.commit(old).unwrap();
                    if from == to {
                        assert_eq!(netlink.commit(new).unwrap().messages, 0, "{from}");
                    }
                    netlink.commit(new).unwrap();
                    let what = format!("{from} to {to}, {ownership:?}, old {old_kernel}");
                    same(&ours, &theirs, new, &what);
                    assert!(netlink.is_intact().unwrap(), "{what}");
                    // The owner's socket closes, then another process finds the table.
                    drop(netlink);
                    netlink = ours.enter(fresh);
                    netlink.adopt().unwrap();
                    netlink.commit(old).unwrap();
                    same(&ours, &theirs, old, &format!("back, read anew: {what}"));
                }
            }
            assert!(netlink.remove().unwrap());
            assert!(!netlink.remove().unwrap());
        }
    }
    assert_eq!(ours.run("nft", &["list", "ruleset"]), "");
}

/// Counters and noted networks stay while the rules around them change.
#[test]
fn counters_stay_when_rules_change() {
    if !allowed("counters_stay_when_rules_change") {
        return;
    }
    let space = Space::new("vm");
    space.ip("address add 192.0.2.10/32 dev lo");
    let mut netlink = space.enter(|| open(Ownership::Persistent));
    netlink.commit(&service(SHAPE)).unwrap();
    space.enter(|| {
        let socket = std::net::UdpSocket::bind("192.0.2.10:0").unwrap();
        // There is no route to the endpoint: the flow is counted nevertheless.
        socket.send_to(b"x", "192.0.2.10:8080").ok();
    });
    let count = |netlink: &mut agent::dataplane::Netlink| {
        let counters = netlink.counters().unwrap();
        counters.values().map(|tally| tally.packets).sum::<u64>()
    };
    assert_eq!(count(&mut netlink), 1);
    netlink.commit(&service(Shape { split: 5_000, ..SHAPE })).unwrap();
    assert_eq!(count(&mut netlink), 1);
    drop(netlink);
    let mut netlink = space.enter(|| open(Ownership::Persistent));
    netlink.adopt().unwrap();
    netlink.commit(&every_word()).unwrap();
    assert_eq!(count(&mut netlink), 1, "a new process goes on");
}

fn some_tables() -> Vec<(&'static str, Table)> {
    let weight = service(Shape { split: 5_000, ..SHAPE });
    let whole = service(Shape { split: 10_000, ..SHAPE });
    let endpoint = service(Shape { target: 50, ..SHAPE });
    let mut second = service(SHAPE);
    second.chains.insert(name("bills"), sides("bills-split").into());
    second.chains.insert(name("bills-split"), split(Family::V4, 7, 70).into());
    second.counters.insert(name("bills-target"));
    let map = second.dispatch.get_mut(&name("in4")).unwrap();
    let key = Key { address: "192.0.2.11".parse().unwrap(), transport: Transport::Tcp, port: 80 };
    map.chains.insert(key, name("bills"));
    // Another chain for a key that stays.
    let mut moved = second.clone();
    let map = moved.dispatch.get_mut(&name("in4")).unwrap();
    for chain in map.chains.values_mut() {
        *chain = name("bills");
    }
    moved.chains.insert(name("orders"), regular(vec![]).into());
    // Names that stay and become other things: cannot be done by steps.
    let mut reshaped = every_word();
    for set in reshaped.stragglers.values_mut() {
        set.size = 2_000;
    }
    let output = Arc::make_mut(reshaped.chains.get_mut(&name("output")).unwrap());
    output.hook = output.hook.map(|(hook, _)| (hook, -111));
    vec![
        ("empty", empty()),
        ("one", service(SHAPE)),
        ("weight", weight),
        ("whole", whole),
        ("endpoint", endpoint),
        ("second", second),
        ("moved", moved),
        ("every word", every_word()),
        ("reshaped", reshaped),
    ]
}

fn same(ours: &Space, theirs: &Space, table: &Table, what: &str) {
    let loaded = theirs.nft_file(&text(table));
    assert!(loaded.status.success(), "{what}: {}", String::from_utf8_lossy(&loaded.stderr));
    let (ours, theirs) = (listing(ours, &table.name), listing(theirs, &table.name));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "{what}");
    }
    assert_eq!(ours.len(), theirs.len(), "{what}");
}

/// The parts of a table, in an order that does not depend on how they came there.
fn listing(space: &Space, table: &Name) -> Vec<String> {
    let text = space.run("nft", &["-j", "list", "table", "inet", table.as_str()]);
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let parts = json["nftables"].as_array_mut().unwrap();
    let mut lines = Vec::new();
    for (place, part) in parts.iter_mut().enumerate() {
        let Value::Object(part) = part else { panic!("{part}") };
        let (kind, mut value) = part.clone().into_iter().next().unwrap();
        if kind == "metainfo" {
            continue;
        }
        let object = value.as_object_mut().unwrap();
        for volatile in ["handle", "packets", "bytes", "flags"] {
            // `flags` of tables: whose it is. Of sets: what they are.
            if volatile != "flags" || kind == "table" {
                object.remove(volatile);
            }
        }
        if let Some(elements) = object.get_mut("elem").and_then(Value::as_array_mut) {
            elements.sort_by_key(Value::to_string);
        }
        // Rules of one chain keep their order.
        let chain = object.get("chain").and_then(Value::as_str).unwrap_or_default();
        let order = if kind == "rule" { format!("{chain} {place:06}") } else { String::new() };
        lines.push((kind.clone(), order, format!("{kind} {value}")));
    }
    lines.sort();
    lines.into_iter().map(|(_, _, line)| line).collect()
}

/// The bytecode of all rules.
fn expressions(space: &Space) -> Vec<String> {
    let text = space.run("nft", &["--debug=netlink", "list", "ruleset"]);
    let (code, _) = text.split_once("table inet").unwrap();
    // Handles differ: `inet crossfade words 12 11`.
    let (_, code) = code.split_once("\ninet crossfade orders ").unwrap();
    let mut rules: Vec<String> = format!("inet crossfade orders {code}")
        .split("\n\n")
        .map(|rule| {
            let (head, body) = rule.split_once('\n').unwrap_or((rule, ""));
            let head: Vec<_> = head.split(' ').take(3).collect();
            format!("{}\n{body}", head.join(" "))
        })
        .collect();
    rules.sort();
    rules
}
