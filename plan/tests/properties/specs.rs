//! The plans of histories, and edits of them.

use std::sync::Arc;

use plan::spec::{ClientRow, Clients, Plan, Plane};
use plan::{Split, spec};

use crate::world::{self, parsed, percent};

/// The names of the two plans.
pub(crate) const PLANS: [&str; 2] = ["p", "q"];

/// The names of their services; the third one joins by an edit.
pub(crate) const SERVICES: [&str; 3] = ["a", "b", "c"];

/// Where shifts go.
pub(crate) const SPLITS: [u16; 8] = [0, 1, 1_000, 2_500, 3_333, 5_000, 7_500, Split::WHOLE];

/// Plan `index` as one of its variants. The first is the one that histories begin with.
pub(crate) fn variant(index: u8, variant: u8) -> Plan {
    let mut plan = world::plan(PLANS[usize::from(index)]);
    let name = plan.name.to_string();
    // `q` may rise only by a quarter at once, and lets automation do it in quarters.
    if index == 1 {
        plan.policy.max_step = Some(percent(25));
        plan.steps[2].split = percent(50);
        plan.steps.insert(3, spec::Step { split: percent(75), ..plan.steps[2].clone() });
    }
    match variant {
        1 => plan.steps[0].split = percent(5),
        2 => plan.services.push(Arc::new(world::service(&name, "c", 3, &["b"]))),
        3 => edit(&mut plan, 0, |service| service.salt = "other".into()),
        4 => drop(plan.services.pop()),
        5 => {
            let other = PLANS[1 - usize::from(index)];
            edit(&mut plan, 0, |a| a.hosts.push(parsed(&format!("b.{other}.example"))));
        }
        6 => {
            let networks = vec!["10.0.9.0/24".parse().unwrap()];
            let rows = vec![ClientRow { networks, plane: Plane::Dns }];
            plan.clients = Arc::new(Clients { rows, ..Clients::default() });
        }
        7 => plan.policy.max_step = Some(percent(10)),
        8 => edit(&mut plan, 1, |b| b.legacy = world::service("x", "b", 7, &[]).legacy),
        9 => edit(&mut plan, 1, |b| b.after.clear()),
        10 => plan.gates[0].test = spec::GateTest::Manual { approvers: 2 },
        _ => {}
    }
    plan
}

fn edit(plan: &mut Plan, service: usize, change: impl FnOnce(&mut spec::Service)) {
    change(Arc::make_mut(&mut plan.services[service]));
}
