//! `diff`.

use super::*;
use crate::spec::{ClientRow, Plan, ZoneSource};

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
            change: &|plan, _| {
                let mut orders = (*plan.services[0]).clone();
                orders.affinity = crate::spec::Affinity::None;
                plan.services[0] = Arc::new(orders);
            },
        },
        Case {
            code: "no-sink",
            change: &|plan, _| {
                let networks = vec!["10.8.0.0/16".parse().unwrap()];
                let rows = vec![ClientRow { networks, plane: Plane::Mesh }];
                let clients = crate::spec::Clients { rows, ..crate::spec::Clients::default() };
                plan.clients = Arc::new(clients);
            },
        },
    ] {
        let (mut plan, mut facts) = (fixture::plan(), ZoneFacts::default());
        change(&mut plan, &mut facts);
        let found = diff(&crate::State::empty(), &plan, &facts).warnings;
        let found: Vec<_> = found.iter().map(|warning| warning.code.as_str()).collect();
        let expected: Vec<&str> = [code].into_iter().filter(|code| !code.is_empty()).collect();
        assert_eq!(found, expected);
    }
}
