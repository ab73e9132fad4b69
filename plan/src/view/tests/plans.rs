//! `diff`.

use super::*;
use crate::spec::{Affinity, ClientRow, Plan, Port, Protocol, Service, ZoneSource};

fn facts() -> ZoneFacts {
    let vm = ZoneHost { cname: Some("vm1.corp.example".parse().unwrap()), ..ZoneHost::default() };
    let mx = ZoneHost {
        addresses: vec![[10, 0, 2, 10].into()],
        ttl: Some(3600),
        others: vec!["MX".to_owned()],
        ..ZoneHost::default()
    };
    ZoneFacts {
        hosts: BTreeMap::from([
            ("orders.corp.example".parse().unwrap(), vm),
            ("payments.corp.example".parse().unwrap(), mx),
        ]),
        seen: BTreeMap::new(),
        identities: true,
    }
}

#[test]
fn diffs_are_the_golden_ones() {
    let world = World::new(fixture::plan());
    let mut other = fixture::plan();
    other.steps.pop();
    other.steps[4].bake = Duration::ZERO;
    other.steps[4].split = crate::Split::TARGET;
    other.zones[0].source = ZoneSource::Text("@ SOA . . 1 2 3 4 5\n".into());
    other.clients = Arc::new(crate::spec::Clients {
        rows: vec![ClientRow {
            networks: vec!["10.8.0.0/16".parse().unwrap()],
            plane: Plane::Mesh,
        }],
        ..crate::spec::Clients::default()
    });
    let mut payments = (*other.services[1]).clone();
    payments.hosts.push("pay.corp.example".parse().unwrap());
    payments.after.clear();
    other.services[1] = Arc::new(payments);
    let fresh = diff(&crate::State::empty(), &fixture::plan(), &facts());
    let changed = diff(&world.state, &other, &facts());
    same("diff.json", &json(&[fresh, changed]));
}

#[test]
fn the_same_plan_changes_nothing() {
    let world = World::new(fixture::plan());
    let diff = diff(&world.state, &fixture::plan(), &facts());
    assert!(!diff.changes && diff.refused.is_empty(), "{diff:?}");
    assert!(diff.fields.is_empty() && diff.services.is_empty() && diff.steps.is_empty());
}

#[test]
fn what_the_rules_refuse_is_told() {
    let mut world = World::new(fixture::plan());
    world.shift(None, 5000);
    let mut other = fixture::plan();
    let mut orders = (*other.services[0]).clone();
    orders.salt = "another".into();
    other.services[0] = Arc::new(orders);
    let diff = diff(&world.state, &other, &ZoneFacts::default());
    let codes: Vec<_> = diff.refused.iter().map(|refused| refused.code.as_str()).collect();
    assert_eq!(codes, ["would-move"]);
    assert!(diff.changes);
}

#[test]
fn hidden_names_are_told() {
    let hidden = ZoneHost { hidden_by: Some("corp.example.".to_owned()), ..ZoneHost::default() };
    let mut facts = facts();
    facts.hosts.insert("orders.corp.example".parse().unwrap(), hidden);
    let diff = diff(&crate::State::empty(), &fixture::plan(), &facts);
    let told = diff.warnings.iter().find(|finding| finding.code == "name-hidden").unwrap();
    assert!(told.detail.starts_with("orders.corp.example: the zone file delegates corp.example."));
}

#[test]
fn warnings() {
    let count = |keys: u64| Count {
        legacy: keys,
        events: keys,
        keys,
        largest: 1,
        squares: keys.into(),
        ..Count::default()
    };
    struct Case<'a> {
        code: &'a str,
        change: &'a dyn Fn(&mut Plan, &mut ZoneFacts),
    }
    let seen = |facts: &mut ZoneFacts, keys| {
        facts.seen.insert("orders".parse().unwrap(), count(keys));
    };
    for Case { code, change } in [
        Case { code: "", change: &|_, _| {} },
        Case { code: "few-clients", change: &|_, facts| seen(facts, 300) },
        Case { code: "", change: &|_, facts| seen(facts, 1_000_000) },
        Case { code: "bake-zero", change: &|plan, _| plan.steps[0].bake = Duration::ZERO },
        Case { code: "ttl-long", change: &|plan, _| plan.zones[0].ttl.steady = 7_200 },
        Case { code: "ttl-shifting", change: &|plan, _| plan.zones[0].ttl.shifting = 120 },
        Case {
            code: "expires-early",
            change: &|plan, _| plan.steps[0].expires = Some(Duration::from_secs(5)),
        },
        Case {
            code: "drawn-anew",
            change: &|plan, _| orders(plan, &|orders| orders.affinity = Affinity::None),
        },
        Case {
            code: "affinity-unseen",
            change: &|plan, _| {
                orders(plan, &|orders| orders.affinity = Affinity::Header("x-user".into()));
            },
        },
        Case { code: "mtls-clear", change: &|plan, _| plan.gateways = edge() },
        Case { code: "no-sink sticky-from", change: &|plan, _| in_mesh(plan) },
        Case {
            code: "no-sink sticky-from",
            change: &|plan, _| {
                in_mesh(plan);
                orders(plan, &|orders| orders.affinity = Affinity::Cookie("session".into()));
            },
        },
        Case {
            code: "no-sink drawn-anew drawn-anew sticky-from",
            change: &|plan, _| {
                in_mesh(plan);
                orders(plan, &|orders| {
                    let grpc = Port { protocol: Protocol::Grpc, ..orders.ports[0].clone() };
                    let tcp = Port { protocol: Protocol::Tcp, ..orders.ports[0].clone() };
                    orders.ports.extend([grpc, tcp]);
                });
            },
        },
    ] {
        let (mut plan, mut facts) = (fixture::plan(), ZoneFacts::default());
        change(&mut plan, &mut facts);
        let found = diff(&crate::State::empty(), &plan, &facts).warnings;
        let found: Vec<_> = found.iter().map(|warning| warning.code.as_str()).collect();
        assert_eq!(found.join(" "), code);
    }
}

#[test]
fn mtls_is_no_matter_where_machines_get_identities() {
    let plan = Plan { gateways: edge(), ..fixture::plan() };
    let facts = ZoneFacts { identities: true, ..ZoneFacts::default() };
    assert_eq!(diff(&crate::State::empty(), &plan, &facts).warnings, []);
}

fn edge() -> Arc<[crate::spec::Gateway]> {
    Arc::new([crate::spec::Gateway {
        name: "edge".parse().unwrap(),
        client_address: crate::spec::ClientAddress::Xff(1),
        egress: vec!["10.9.0.0/24".parse().unwrap()],
        mtls: vec!["10.9.0.7".parse().unwrap()],
    }])
}

fn orders(plan: &mut Plan, change: &dyn Fn(&mut Service)) {
    let mut orders = (*plan.services[0]).clone();
    change(&mut orders);
    plan.services[0] = Arc::new(orders);
}

fn in_mesh(plan: &mut Plan) {
    let networks = vec!["10.8.0.0/16".parse().unwrap()];
    let rows = vec![ClientRow { networks, plane: Plane::Mesh }];
    plan.clients = Arc::new(crate::spec::Clients { rows, ..crate::spec::Clients::default() });
}

#[test]
fn gateways_and_drain_may_change_at_any_time_and_are_told() {
    const EDGE: &str = "edge: xff 1 from 10.9.0.0/24 mtls at 10.9.0.7";
    let mut mesh = fixture::plan();
    in_mesh(&mut mesh);
    let mut world = World::new(mesh.clone());
    world.shift(None, 5000);
    mesh.policy.drain = Some(Duration::from_secs(30));
    mesh.gateways = edge();
    let diff = diff(&world.state, &mesh, &ZoneFacts::default());
    assert!(diff.refused.is_empty() && diff.changes, "{diff:?}");
    let told = |field: &diff::FieldChange| {
        (field.field.clone(), field.from.clone(), field.to.clone().unwrap())
    };
    assert_eq!(
        diff.fields.iter().map(told).collect::<Vec<_>>(),
        [
            ("policy.drain".to_owned(), None, "30s".to_owned()),
            ("gateways".to_owned(), None, EDGE.to_owned()),
        ]
    );
    let services = |plane| diff.planes.plane(plane).unwrap().services.len();
    assert_eq!((services(Plane::Mesh), services(Plane::Dns)), (2, 0));
    world.ask(Command::Apply(Arc::new(mesh))).unwrap();
    let service = "shop/orders".parse().unwrap();
    let explain = explain(world.state.snapshot(), &service, None).unwrap();
    assert_eq!(explain.drain.as_deref(), Some("30s"));
    assert_eq!(explain.gateways[0].client_address, "xff 1");
    assert_eq!(explain.gateways[0].mtls, ["10.9.0.7"]);
}
