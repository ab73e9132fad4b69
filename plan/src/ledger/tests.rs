use super::*;
use crate::fixture;
use crate::view::world::{World, sink, standing};

fn shop() -> World {
    World::new(fixture::plan())
}

fn owing(id: &str, acked: Token) -> Sink {
    Sink { owes: BTreeSet::from(["shop".parse().unwrap()]), ..sink(id, acked) }
}

#[test]
fn converged() {
    let world = shop();
    let head = world.state.token();
    let before = Token { revision: head.revision - 1, ..head };
    let name: PlanName = "shop".parse().unwrap();
    let nack = |plan: &str| Nack {
        token: head,
        plans: BTreeSet::from([plan.parse().unwrap()]),
        detail: "no".to_owned(),
        at: Timestamp::default(),
    };
    let refusing = |plan: &str| Sink { nack: Some(nack(plan)), ..sink("a", before) };
    let expected_by = |plan: &str, sink: Sink| Sink {
        plans: Some(BTreeSet::from([plan.parse().unwrap()])),
        ..sink
    };
    let away = || Sink { since: None, ..sink("a", head) };
    let other = || expected_by("other", sink("b", head));
    for (what, through, sinks, arrived) in [
        ("all there", head, vec![sink("a", head)], true),
        ("the plane has not seen it", before, vec![sink("a", head)], false),
        ("no sink", head, vec![], false),
        ("one owes", head, vec![sink("a", head), owing("b", before)], false),
        ("one is away", head, vec![sink("b", head), away()], false),
        ("one refused", head, vec![refusing("shop")], false),
        ("one refused something of another plan", head, vec![refusing("other")], true),
        ("only sinks of another plan", head, vec![other()], false),
        (
            "one that never had anything of it refuses it",
            head,
            vec![sink("0", head), expected_by("other", refusing("shop"))],
            false,
        ),
        (
            "another plan's sink owes",
            head,
            vec![sink("a", head), { expected_by("other", owing("b", before)) }],
            true,
        ),
    ] {
        let mut ledger = world.facts.ledger.clone();
        ledger.set(Plane::Dns, standing(through, sinks));
        let plan = world.state.plan(&name).unwrap();
        assert_eq!(ledger.converged(&plan.spec, head), arrived, "{what}");
    }
    assert!(!Ledger::default().converged(&world.plan().spec, Token::START), "no standing");
}

#[test]
fn acked_is_that_of_the_sink_farthest_from_intended() {
    let mut world = shop();
    let orders: ServiceId = "shop/orders".parse().unwrap();
    let start = world.state.token();
    let mut tokens = Vec::new();
    for bp in [1000, 2500, 5000] {
        world.shift(Some("orders"), bp);
        tokens.push(world.state.token());
    }
    let head = world.state.token();
    let [ten, quarter, _] = tokens[..] else { panic!("three shifts") };
    for (what, through, sinks, acked) in [
        ("no sink", head, vec![], None),
        ("all there", head, vec![sink("a", head)], Some(5000)),
        ("one lags", head, vec![sink("a", head), owing("b", quarter)], Some(2500)),
        ("two lag", head, vec![owing("a", quarter), owing("b", ten)], Some(1000)),
        ("before the first", head, vec![owing("a", start)], Some(0)),
        ("before the plan", head, vec![owing("a", Token::START)], None),
        ("the plane lags", quarter, vec![sink("a", quarter)], Some(2500)),
        ("both lag", quarter, vec![owing("a", ten)], Some(1000)),
    ] {
        world.facts.ledger.set(Plane::Dns, standing(through, sinks));
        let found = world.facts.ledger.acked(Plane::Dns, &orders, world.state.snapshot());
        assert_eq!(found.map(Split::bp), acked, "{what}");
    }
    let none = world.facts.ledger.acked(Plane::Mesh, &orders, world.state.snapshot());
    assert_eq!(none, None, "a plane that nobody speaks for");
}

#[test]
fn a_sink_from_before_the_plan_holds_no_known_split() {
    let mut world = shop();
    let orders: ServiceId = "shop/orders".parse().unwrap();
    for (acked, split) in [(Token::START, None), (world.state.token(), Some(Split::LEGACY))] {
        world.facts.ledger.set(Plane::Dns, standing(world.state.token(), vec![owing("a", acked)]));
        let found = world.facts.ledger.acked(Plane::Dns, &orders, world.state.snapshot());
        assert_eq!(found, split, "{acked}");
    }
}

#[test]
fn what_is_forgotten_is_not_guessed() {
    let mut world = shop();
    let start = world.state.token();
    for bp in 1..=u16::try_from(Trail::SPLITS_MAX).unwrap() {
        world.shift(Some("orders"), bp);
    }
    let orders: ServiceId = "shop/orders".parse().unwrap();
    world.facts.ledger.set(Plane::Dns, standing(world.state.token(), vec![owing("a", start)]));
    let acked =
        |world: &World| world.facts.ledger.acked(Plane::Dns, &orders, world.state.snapshot());
    assert_eq!(acked(&world), None);
    let second = Token { revision: start.revision + 1, ..start };
    world.facts.ledger.set(Plane::Dns, standing(world.state.token(), vec![owing("a", second)]));
    assert_eq!(acked(&world).map(Split::bp), Some(1));
}
