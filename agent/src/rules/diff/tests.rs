use plan::Plane;

use super::*;
use crate::rules::compile::compile;
use crate::rules::sample::{Leaf, host, marks, table};
use crate::rules::table::{Action, Match};

fn compiled(leaves: &[Leaf]) -> Table {
    let leaves = table(leaves);
    compile(&leaves, &host(&["10.0.1.11", "10.0.1.10"]), &marks(&leaves)).unwrap().table
}

/// Another service, which must stay as it is.
fn other() -> Leaf {
    Leaf {
        id: "shop/payments",
        address: "10.0.2.10",
        legacy: vec!["10.0.2.11"],
        ..Leaf::orders(500)
    }
}

#[test]
fn a_weight_touches_its_own_split_alone() {
    struct Case {
        from: u16,
        to: u16,
        chains: &'static [&'static str],
    }
    // The bucket of the host itself, 10.0.1.11, is 996.
    for Case { from, to, chains } in [
        Case { from: 1_000, to: 1_000, chains: &[] },
        Case { from: 1_000, to: 2_500, chains: &["split/shop/orders"] },
        Case { from: 0, to: 1, chains: &["split/shop/orders"] },
        Case { from: 996, to: 997, chains: &["self/shop/orders", "split/shop/orders"] },
        Case { from: 9_999, to: 10_000, chains: &["full/shop/orders", "split/shop/orders"] },
        Case {
            from: 10_000,
            to: 0,
            chains: &["full/shop/orders", "self/shop/orders", "split/shop/orders"],
        },
    ] {
        let at = |split| compiled(&[Leaf::orders(split), other()]);
        let expected: Vec<_> =
            chains.iter().map(|name| Change::PutChain(Name::new(name).unwrap())).collect();
        let (old, new) = (at(from), at(to));
        assert_eq!(diff(&old, &new), expected, "{from} {to}");
        for name in chains.iter().map(|name| Name::new(name).unwrap()) {
            assert!(is_quick(&new.chains[&name]), "{name} at {to}");
        }
    }
}

/// Whether the kernel takes its rules without a walk through the whole table: no verdict is in
/// them, nor anything else that has a `validate`, such as `meta` or `lookup`.
fn is_quick(chain: &Chain) -> bool {
    let looks =
        |of: &Match| matches!(of, Match::SourceBucketBelow { .. } | Match::DrawBelow { .. });
    let does = |action: &Action| matches!(action, Action::MarkFlow { .. });
    let mut rules = chain.rules.iter();
    rules.all(|rule| rule.matches.iter().all(looks) && rule.actions.iter().all(does))
}

/// Applies changes as a kernel would, refusing what is not there or still used.
fn apply(old: &Table, new: &Table, changes: &[Change]) -> Table {
    let mut table = old.clone();
    for change in changes {
        match change {
            Change::Replace => table = new.clone(),
            Change::AddCounter(name) => assert!(table.counters.insert(name.clone())),
            Change::AddStragglers(name) => {
                assert!(table.stragglers.insert(name.clone(), new.stragglers[name]).is_none());
            }
            Change::AddDispatch(name) => {
                let map = Dispatch { chains: BTreeMap::new(), ..new.dispatch[name].clone() };
                assert!(table.dispatch.insert(name.clone(), map).is_none());
            }
            Change::AddChain(name) => {
                let chain = Chain { hook: new.chains[name].hook, rules: Vec::new() };
                assert!(table.chains.insert(name.clone(), Arc::new(chain)).is_none());
            }
            Change::PutChain(name) => {
                table.chains.insert(name.clone(), Arc::clone(&new.chains[name]));
            }
            Change::DropElements(name, keys) => {
                let map = table.dispatch.get_mut(name).unwrap();
                assert!(keys.iter().all(|key| map.chains.remove(key).is_some()));
            }
            Change::AddElements(name, keys) => {
                for key in keys {
                    let chain = new.dispatch[name].chains[key].clone();
                    assert!(table.chains.contains_key(&chain));
                    let map = table.dispatch.get_mut(name).unwrap();
                    assert!(map.chains.insert(*key, chain).is_none());
                }
            }
            Change::DropChain(name) => {
                let mut leading = table.dispatch.values().flat_map(|map| map.chains.values());
                assert!(leading.all(|chain| chain != name), "{name} is still used");
                assert!(table.chains.remove(name).is_some());
            }
            Change::DropDispatch(name) => assert!(table.dispatch.remove(name).is_some()),
            Change::DropStragglers(name) => assert!(table.stragglers.remove(name).is_some()),
            Change::DropCounter(name) => assert!(table.counters.remove(name)),
        }
    }
    table
}

#[test]
fn changes_lead_from_any_table_to_any_other() {
    let moved = Leaf { address: "10.0.1.11", ..Leaf::orders(1_000) };
    let all = [
        compiled(&[]),
        compiled(&[Leaf::orders(1_000)]),
        compiled(&[Leaf::orders(10_000), other()]),
        compiled(&[moved, other()]),
        compiled(&[Leaf {
            rows: vec![(Plane::Host, vec!["0.0.0.0/0"])],
            legacy: vec!["10.0.1.12"],
            ..other()
        }]),
    ];
    for old in &all {
        for new in &all {
            let changes = diff(old, new);
            assert_eq!(changes.is_empty(), old == new);
            assert!(!changes.contains(&Change::Replace));
            assert_eq!(apply(old, new, &changes), *new);
        }
    }
}

#[test]
fn another_shape_is_another_table() {
    let old = compiled(&[Leaf::orders(1_000)]);
    let name = |text| Name::new(text).unwrap();
    let mut hook = old.clone();
    Arc::make_mut(hook.chains.get_mut(&name("output")).unwrap()).hook = None;
    let mut set = old.clone();
    set.stragglers.get_mut(&name("stragglers/shop/orders/v4")).unwrap().size = 1;
    let renamed = Table { name: name("other"), ..old.clone() };
    for new in [hook, set, renamed] {
        assert_eq!(diff(&old, &new), [Change::Replace]);
    }
}
