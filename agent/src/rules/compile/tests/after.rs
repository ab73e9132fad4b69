//! A table that is made from the one before.

use std::collections::BTreeSet;
use std::sync::Arc;

use plan::snapshot::{Motion, Service, Serving};
use plan::spec::{Affinity, Protocol};
use plan::{Plane, Side};
use xds::own::HostTable;

use crate::rules::host::{Capture, Host};
use crate::rules::mark::Marks;
use crate::rules::rollback::{is_same, rollback};
use crate::rules::sample::{Leaf, host, marks};
use crate::rules::table::{Chain, Name};
use crate::rules::{Compiled, compile, compile_after};

/// Leaves of one service, each other than the first in one thing.
fn leaves() -> Vec<Leaf> {
    let base = || Leaf::orders(5_000);
    vec![
        base(),
        Leaf { split: 0, ..base() },
        Leaf { split: 1, ..base() },
        Leaf { split: 10_000, ..base() },
        Leaf { address: "10.0.1.9", ..base() },
        Leaf { ports: vec![(8080, Protocol::Http), (53, Protocol::Udp)], ..base() },
        Leaf { legacy: vec!["10.0.1.12"], ..base() },
        Leaf { target: vec!["10.9.1.21"], ..base() },
        Leaf { target: vec!["fd00::21"], ..base() },
        Leaf { rows: vec![(Plane::Host, vec!["10.0.0.0/8"])], ..base() },
        Leaf { rows: Vec::new(), ..base() },
        Leaf { affinity: Affinity::None, ..base() },
        Leaf { keeps_source: true, ..base() },
        Leaf { egress: Vec::new(), ..base() },
    ]
}

fn hosts() -> Vec<Host> {
    let base = || host(&["10.0.1.11"]);
    let proved = ("shop/orders".parse().unwrap(), Side::Target);
    vec![
        base(),
        host(&["10.1.0.7", "10.0.1.10"]),
        Host { capture: Some(Capture { port: 15_001, user: 65_532 }), carries: true, ..base() },
        Host { returns: BTreeSet::from([proved]), ..base() },
        Host { exempt: vec!["10.1.9.0/24".parse().unwrap()], ..base() },
    ]
}

/// One service in all its forms between two that stay; and tables that those come into and leave.
fn tables() -> Vec<HostTable> {
    let stays =
        |id, address| Leaf { id, address, legacy: vec!["10.0.2.11"], ..Leaf::orders(7) }.service();
    let (first, last) = (stays("book/web", "10.0.2.1"), stays("shop/web", "10.0.2.2"));
    let between = |leaf: Leaf| vec![first.clone(), leaf.service(), last.clone()];
    let mut all: Vec<_> = leaves().into_iter().map(between).collect();
    all.extend([0..2, 1..2, 1..3, 0..0].map(|some| all[0][some].to_vec()));
    // Where it is beside another on its VM, neither catches.
    let beside = Leaf { id: "shop/web", address: "10.0.2.2", ..Leaf::orders(7) }.service();
    all.push(vec![all[0][1].clone(), beside]);
    all.into_iter().map(|services| HostTable { services }).collect()
}

/// For all services of all tables, so that all tables have the same.
fn all_marks(tables: &[HostTable]) -> [Marks; 2] {
    let whole = marks(&tables[0]);
    let other = marks(&HostTable { services: tables[0].services[2..].to_vec() });
    let ids = tables[0].services.iter().map(|leaf| &leaf.id);
    let other = other.assign(ids).unwrap();
    assert_ne!(whole, other);
    [whole, other]
}

#[test]
fn it_is_what_it_would_be_without() {
    let (tables, hosts) = (tables(), hosts());
    let mut all = Vec::new();
    for marks in all_marks(&tables) {
        for host in &hosts {
            for table in &tables {
                let fresh = compile(table, host, &marks).unwrap();
                all.push((table, host, marks.clone(), fresh));
            }
        }
    }
    for (.., before) in all.iter().step_by(5) {
        for (table, host, marks, fresh) in &all {
            let after = compile_after(&before.pieces, table, host, marks).unwrap();
            assert_eq!(&after, fresh, "{table:?} {host:?}\nafter {before:?}");
        }
    }
}

/// The chains of services that are not those of before.
fn renewed(before: &Compiled, after: &Compiled) -> Vec<String> {
    let is_new = |(name, chain): &(&Name, &Arc<Chain>)| {
        before.table.chains.get(*name).is_none_or(|old| !Arc::ptr_eq(old, chain))
    };
    let chains = after.table.chains.iter().filter(is_new);
    chains.map(|(name, _)| name.to_string()).filter(|name| name.contains('/')).collect()
}

/// What differs is looked for where it is not the same by pointer, and what is kept twice takes
/// room.
#[test]
fn only_what_changed_is_made_anew() {
    let (tables, host) = (tables(), host(&["10.0.1.11"]));
    let [marks, _] = all_marks(&tables);
    let before = compile(&tables[0], &host, &marks).unwrap();
    let next = |table, host| {
        let after = compile_after(&before.pieces, table, host, &marks).unwrap();
        assert_eq!(after, compile(table, host, &marks).unwrap());
        renewed(&before, &after)
    };
    assert_eq!(next(&tables[0], &host), [""; 0]);
    // A leaf that changed in what is nothing to a host, as all do when the first is moved.
    let mut started = tables[0].clone();
    for leaf in &mut started.services {
        Arc::make_mut(leaf).motion = Motion::Steady;
    }
    assert_eq!(next(&started, &host), [""; 0]);
    // Its weight.
    assert_eq!(next(&tables[2], &host), ["self/shop/orders", "split/shop/orders"]);
    // Another host looks at all of them anew.
    let exempt = &hosts()[4];
    assert_ne!(*exempt, host);
    assert_eq!(next(&tables[0], exempt), [""; 0]);
}

/// The same service with others in service than the plan names, and by another salt.
fn drained() -> Vec<Service> {
    let all = Leaf { keeps_source: true, ..Leaf::orders(5_000) };
    let one = Leaf { legacy: vec!["10.0.1.11"], target: vec!["10.9.1.21"], ..all.clone() };
    let [all, one] = [all, one].map(|leaf| Service::clone(&leaf.service()));
    let both = |legacy: &Service, target: &Service| {
        let [legacy, target] = [legacy.serving.legacy(), target.serving.target()];
        let [legacy, target] = [legacy, target].map(|pool| pool.unwrap().clone());
        let serving = Serving::Both { legacy, target, split: all.serving.split() };
        Service { serving, ..all.clone() }
    };
    vec![both(&one, &all), both(&all, &one), Service { salt: !all.salt, ..all.clone() }]
}

/// Where nothing is said to have changed, nothing has.
#[test]
fn break_glass_is_the_same_where_it_is_said_to_be() {
    let mut leaves: Vec<_> = leaves().iter().map(Leaf::service).collect();
    leaves.extend(drained().into_iter().map(Arc::new));
    let proved =
        [Side::Legacy, Side::Target].map(|side| ("shop/orders".parse().unwrap(), side)).into();
    let proved = Host { returns: proved, ..host(&["10.0.1.11"]) };
    let mut same = 0;
    for host in hosts().into_iter().chain([proved]) {
        let table = |leaf: &Arc<Service>| {
            let table = HostTable { services: vec![leaf.clone()] };
            rollback(&table, &host, &marks(&table))
        };
        for old in &leaves {
            for new in leaves.iter().filter(|new| is_same(old, new)) {
                same += usize::from(old != new);
                assert_eq!(table(old), table(new), "{old:?}\n{new:?}");
            }
        }
    }
    assert!(same > 50, "splits, rows and the like: {same}");
}
