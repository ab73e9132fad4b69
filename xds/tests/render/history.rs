//! Whatever happened: the edits of every step lead where a fresh start leads.

use plan::Command;
use plan::command::Scope as Reach;
use proptest::prelude::*;
use xds::render::{Door, Rendered, Role};
use xds::{Change, Tables, Urgency};

use crate::world::World;
use crate::{PLAN, limited, show, with_mtls};

#[derive(Clone, Debug)]
enum Step {
    Shift(u8, u16),
    Rollback,
    Resume,
    Fail(Vec<bool>),
    Drain(u8),
    Look(u8, bool),
    Apply(u8),
    Second,
    Delete,
}

const SERVICES: [&str; 4] = ["orders", "sessions", "search", "store"];

fn step() -> impl Strategy<Value = Step> {
    let split = prop_oneof![Just(0u16), Just(10_000), 1u16..10_000];
    prop_oneof![
        6 => (0u8..5, split).prop_map(|(service, bp)| Step::Shift(service, bp)),
        1 => Just(Step::Rollback),
        1 => Just(Step::Resume),
        2 => prop::collection::vec(any::<bool>(), 2).prop_map(Step::Fail),
        2 => (0u8..4).prop_map(Step::Drain),
        3 => (0u8..11, any::<bool>()).prop_map(|(door, here)| Step::Look(door, here)),
        2 => (0u8..7).prop_map(Step::Apply),
        1 => Just(Step::Second),
        1 => Just(Step::Delete),
    ]
}

fn act(world: &mut World, step: &Step) {
    match step {
        Step::Shift(service, bp) => {
            world.shift(SERVICES.get(usize::from(*service)).copied(), *bp);
        }
        Step::Rollback => world.ask(Command::Rollback(Reach::All)),
        Step::Resume => world.ask(Command::Resume("shop".parse().unwrap())),
        Step::Fail(which) => {
            let all = ["10.0.1.11", "10.0.1.12"].into_iter().zip(which);
            let failing: Vec<&str> = all.filter(|(_, fails)| **fails).map(|(at, _)| at).collect();
            world.fail("orders", &failing);
        }
        Step::Drain(service) => {
            let id = format!("shop/{}", SERVICES[usize::from(*service)]).parse().unwrap();
            if !world.drained.remove(&id) {
                world.drained.insert(id);
            }
        }
        Step::Look(which, here) => {
            let bind = Some("127.0.0.9".parse().unwrap()).filter(|_| *which == 4);
            let gateway = match which {
                5 => Some("inner".parse().unwrap()),
                6 => Some("edge".parse().unwrap()),
                _ => None,
            };
            let role = match which {
                4 | 5 => Role::Gateway,
                6 => Role::Catch,
                7.. => Role::Sidecar,
                other => Role::ALL[usize::from(*other)],
            };
            let identified = (6..9).contains(which);
            let door = Door { bind, gateway, identified, ..Door::of(role) };
            let door = match which {
                8 => limited(&door, &["shop/orders", "tail/orders"]),
                9 => limited(&door, &["tail/orders", "tail/store"]),
                10 => limited(&door, &["shop/store"]),
                _ => door,
            };
            if *here {
                world.doors.insert(door)
            } else {
                world.doors.remove(&door)
            };
        }
        Step::Apply(which) => world.add(&match which {
            0 => PLAN.replace("10.0.1.12]", "10.0.1.13]"),
            1 => PLAN.replace("port: 8081", "port: 8080"),
            2 => PLAN.replace("o.corp.example", "oo.corp.example"),
            3 => PLAN.replace("drain: 30s", "drain: none"),
            4 => with_mtls("edge"),
            5 => with_mtls("inner"),
            _ => PLAN.to_owned(),
        }),
        Step::Second => {
            let text = PLAN.replace("name: shop", "name: tail");
            world.add(&text.replace("corp.example", "tail.example"));
        }
        Step::Delete => world.ask(Command::Delete("tail".parse().unwrap())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn edits_lead_where_a_fresh_start_leads(steps in prop::collection::vec(step(), 1..30)) {
        let mut world = World::new(PLAN);
        let (mut rendered, edits) = world.render(&Rendered::default());
        let mut tables = Tables::empty().next(world.state.token(), Urgency::Ordinary, edits);
        let mut newest = std::collections::BTreeMap::new();
        for step in &steps {
            act(&mut world, step);
            let (next, edits) = world.render(&rendered);
            for edit in &edits {
                // What is newer is never older: replicas and relays compare.
                if let Change::Put { encoded, .. } = &edit.change {
                    let key = (edit.scope.clone(), edit.type_url.clone(), encoded.name.clone());
                    let since = encoded.version.since().unwrap();
                    let held = newest.insert(key, since);
                    prop_assert!(held <= Some(since), "{} {held:?} {since}", encoded.name);
                }
            }
            rendered = next;
            tables = tables.next(world.state.token(), Urgency::Ordinary, edits);
            let (_, fresh) = world.render(&Rendered::default());
            let fresh = Tables::empty().next(world.state.token(), Urgency::Ordinary, fresh);
            prop_assert_eq!(show::versions(&tables), show::versions(&fresh), "after {:?}", step);
            // A table that is there is rendered, and one that nobody sees is not there.
            let there = |tables: &Tables| -> Vec<_> {
                tables.iter().map(|(scope, kind, _)| (scope.clone(), kind.clone())).collect()
            };
            prop_assert_eq!(there(&tables), there(&fresh), "after {:?}", step);
        }
    }
}
