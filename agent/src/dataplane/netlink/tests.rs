use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::rules::{Action, Chain, Hook, Rule};

#[path = "../../../tests/support/netns.rs"]
mod netns;

use self::netns::{Space, allowed};

/// No kernel knows this flag of a table.
const UNKNOWN: u32 = 1 << 30;
/// More messages than the kernel can keep answers for.
const MANY: usize = 30_000;

type Flags = fn(Ownership) -> u32;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A table of many rules.
fn large() -> Table {
    let accept = Rule { matches: Vec::new(), actions: vec![Action::Accept] };
    let chain = Chain { hook: Some((Hook::Prerouting, -110)), rules: vec![accept; MANY] };
    Table {
        name: name("crossfade"),
        comment: "crossfade".into(),
        counters: BTreeSet::new(),
        stragglers: BTreeMap::new(),
        dispatch: BTreeMap::new(),
        chains: [(name("prerouting"), Arc::new(chain))].into(),
    }
}

/// As a kernel before Linux 6.9 has it.
fn without_persist(ownership: Ownership) -> u32 {
    match ownership {
        Ownership::Persistent => object::flags(ownership) | UNKNOWN,
        Ownership::Socket | Ownership::Open => object::flags(ownership),
    }
}

/// As one before 5.12 has it.
fn without_owner(ownership: Ownership) -> u32 {
    match ownership {
        Ownership::Open => 0,
        Ownership::Socket | Ownership::Persistent => object::flags(ownership) | UNKNOWN,
    }
}

#[test]
fn a_kernel_that_grants_less_gets_a_large_table_at_the_first_try() {
    if !allowed("a_kernel_that_grants_less_gets_a_large_table_at_the_first_try") {
        return;
    }
    let kinds: [(Flags, Ownership); 3] = [
        (object::flags, Ownership::Persistent),
        (without_persist, Ownership::Socket),
        (without_owner, Ownership::Open),
    ];
    for (flags, granted) in kinds {
        // Another program's table that has the name by which it is found out.
        for others in ["", "table inet crossfade_probe {\n}\n"] {
            let space = Space::new("vm");
            assert!(space.nft_file(others).status.success());
            let table = name("crossfade");
            let settings = Settings { table, ownership: Ownership::Persistent, old_kernel: false };
            let mut netlink = space.enter(|| Netlink::open(settings).unwrap());
            netlink.flags = flags;
            netlink.sound().unwrap();
            assert_eq!(space.run("nft", &["list", "ruleset"]), others, "it leaves nothing");
            if others.is_empty() {
                assert_eq!(netlink.settings.ownership, granted);
            }
            assert_eq!(netlink.commit(&large()).unwrap().ownership, granted);
            assert!(netlink.is_intact().unwrap());
            let tables = space.run("nft", &["list", "tables"]);
            assert_eq!(tables.contains("crossfade_probe"), !others.is_empty(), "{tables}");
        }
    }
}

/// By its comment a table is known for ours, so that who takes it over repeats it.
#[test]
fn a_table_that_is_taken_over_keeps_its_comment() {
    if !allowed("a_table_that_is_taken_over_keeps_its_comment") {
        return;
    }
    let space = Space::new("vm");
    let settings = || Settings {
        table: name("crossfade"),
        ownership: Ownership::Persistent,
        old_kernel: false,
    };
    let mut first = space.enter(|| Netlink::open(settings()).unwrap());
    first.commit(&large()).unwrap();
    drop(first);
    let mut second = space.enter(|| Netlink::open(settings()).unwrap());
    assert_eq!(second.adopt().unwrap(), Adopted::Ours(Ownership::Persistent));
    assert_eq!(second.find().unwrap().unwrap().comment.as_deref(), Some("crossfade"));
}
