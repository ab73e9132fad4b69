//! The mesh plane: what proxies cannot do, what they measured, and thousands of them.

use super::*;
use crate::bucket;
use crate::command::{Automation, Override};
use crate::decide::Refused;
use crate::ledger::Source;
use crate::measure::Traffic;
use crate::spec::{Affinity, ClientRow, Plan, Plane};
use crate::split::Split;
use crate::view::hold::HOLDS_MAX;
use crate::view::status::SinkSummary;

/// The demo plan with a mesh row, this affinity, and nothing to wait for but sinks.
fn plan(affinity: &Affinity) -> Plan {
    let mut plan = fixture::plan();
    let networks = vec!["10.8.0.0/16".parse().unwrap()];
    let rows = vec![ClientRow { networks, plane: Plane::Mesh }];
    plan.clients = Arc::new(crate::spec::Clients { rows, ..crate::spec::Clients::default() });
    for service in &mut plan.services {
        let mut other = (**service).clone();
        other.affinity = affinity.clone();
        *service = Arc::new(other);
    }
    plan
}

fn proxy(id: &str, kind: &str, version: &str) -> Sink {
    Sink {
        plane: Plane::Mesh,
        kind: kind.to_owned(),
        version: (!version.is_empty()).then(|| version.to_owned()),
        plans: Some(BTreeSet::from(["shop".parse().unwrap()])),
        ..sink(id, Token::START)
    }
}

/// Everything committed is everywhere: these proxies, and the DNS server.
fn arrive(world: &mut World, proxies: Vec<Sink>) {
    world.arrive();
    world.facts.ledger.set(Plane::Mesh, standing(world.state.token(), proxies));
    world.pass(0);
}

/// Started, its first step due but for what proxies are.
fn due(plan: Plan, proxies: &[Sink]) -> World {
    let mut world = World::new(plan);
    world.ask(Command::Start(world.name())).unwrap();
    arrive(&mut world, proxies.to_vec());
    world.pass(60);
    world
}

fn reasons(world: &World) -> String {
    let holds = world.status().holds;
    holds.iter().map(|hold| hold.reason.as_str()).collect::<Vec<_>>().join(" ")
}

fn advance(world: &World) -> Result<(), Refused> {
    let (plan, seen) = (world.name(), world.plan().revision);
    let cause = crate::Cause::Automation(Automation::Advance { plan, seen });
    world.state.decide(&cause, &world.facts).map(drop)
}

fn step(world: &mut World, overrides: &[Override]) -> Result<(), Refused> {
    let plan = world.name();
    world.ask(Command::Step { plan, overrides: overrides.iter().cloned().collect() })
}

#[test]
fn an_envoy_that_cannot_keep_clients_holds_automation() {
    struct Case {
        kind: &'static str,
        version: &'static str,
        affinity: Affinity,
        holds: bool,
    }
    let case = |kind, version, holds| Case { kind, version, affinity: Affinity::ClientIp, holds };
    for Case { kind, version, affinity, holds } in [
        case("envoy", "1.35.2", true),
        case("envoy", "envoy 1.35.2", true),
        case("envoy", "1.9.0", true),
        case("envoy", "0.99", true),
        case(
            "envoy",
            "d7809ba2b07fd869d49bfb122b27f6a7977b4d94/1.35.0/Clean/RELEASE/BoringSSL",
            true,
        ),
        case("envoy", "1.36.0", false),
        case("envoy", "1.36.0-dev", false),
        case("envoy", "envoy 1.40.1", false),
        case("envoy", "2.0.0", false),
        case("envoy", "", false),
        case("envoy", "unknown", false),
        case("envoy", "1.", false),
        case("envoy", "99999999999.1", false),
        case("grpc", "1.35.2", false),
        Case { affinity: Affinity::None, ..case("envoy", "1.35.2", false) },
        Case { affinity: Affinity::Header("x-user".into()), ..case("envoy", "1.35.2", true) },
    ] {
        let world = due(plan(&affinity), &[proxy("mesh/a", kind, version)]);
        let expected = if holds { "not-sticky" } else { "" };
        assert_eq!(reasons(&world), expected, "{kind} {version}");
        assert_eq!(
            advance(&world).map_err(|refused| refused.code()).err(),
            holds.then_some(expected)
        );
        assert_eq!(world.status().phase, if holds { Phase::Held } else { Phase::Shifting });
    }
}

#[test]
fn stickiness_is_overridden_by_name_and_asked_of_no_one_else() {
    let old = [proxy("mesh/a", "envoy", "1.35.2"), proxy("mesh/b", "envoy", "1.34.0")];
    let mut world = due(plan(&Affinity::ClientIp), &old);
    let hold = &world.status().holds[0];
    assert_eq!(
        hold.detail,
        "mesh/a says version 1.35.2; an Envoy before 1.36 draws a side for every request anew; \
         1 more do"
    );
    let clear = "crossfade step shop --override sticky --reason TEXT";
    assert_eq!(hold.clear.as_deref(), Some(clear));
    assert_eq!(step(&mut world, &[]).unwrap_err().code(), "not-sticky");
    assert_eq!(step(&mut world, &[Override::Acks]).unwrap_err().code(), "not-sticky");
    step(&mut world, &[Override::Sticky]).unwrap();
    // An operator's shift, up or down, and a rollback are nobody's to hold.
    for bp in [2500, 5000, 100] {
        world.shift(None, bp);
        arrive(&mut world, old.to_vec());
        assert_eq!(reasons(&world), "manual not-sticky");
        assert_eq!(world.status().phase, Phase::Paused);
    }
    world.ask(Command::Rollback(Scope::All)).unwrap();
    arrive(&mut world, old.to_vec());
    assert_eq!(reasons(&world), "rolled-back");
}

#[test]
fn nobody_has_to_be_kept_at_exactly_all() {
    let mut whole = plan(&Affinity::ClientIp);
    whole.strategy = crate::spec::Strategy::Whole;
    whole.steps.drain(..5);
    let world = due(whole, &[proxy("mesh/a", "envoy", "1.35.2")]);
    assert_eq!((reasons(&world).as_str(), advance(&world).is_ok()), ("", true));
}

fn counted(world: &mut World, legacy: u64, target: u64) {
    let traffic = Some(Traffic { seconds: 10, ..Traffic::default() });
    let count = Count { legacy, target, events: legacy + target, traffic, ..Count::default() };
    let services = BTreeMap::from([
        ("shop/orders".parse().unwrap(), count),
        ("shop/gone".parse().unwrap(), count),
        ("shoq/orders".parse().unwrap(), count),
    ]);
    let counts = Counts { services: Arc::new(services), ..Counts::default() };
    world.facts.measured.planes.insert(Plane::Mesh, counts);
    world.pass(0);
}

#[test]
fn traffic_that_is_elsewhere_holds_automation() {
    let envoy = || vec![proxy("mesh/a", "envoy", "1.40.0")];
    for (affinity, bp, legacy, target, contradicts) in [
        (Affinity::ClientIp, 0, 1_000, 0, false),
        (Affinity::ClientIp, 0, 1_000, 50, true),
        (Affinity::ClientIp, 100, 100_000, 0, false),
        (Affinity::None, 100, 1_000, 100, true),
        (Affinity::None, 100, 100_000, 1_000, false),
    ] {
        let mut world = due(plan(&affinity), &envoy());
        if bp > 0 {
            world.automate(Automation::Advance { plan: world.name(), seen: world.plan().revision });
            arrive(&mut world, envoy());
            world.pass(10);
        }
        assert_eq!(advance(&world).map_err(|refused| refused.code()), Ok(()));
        counted(&mut world, legacy, target);
        let expected = if contradicts { "contradicted" } else { "" };
        assert_eq!(reasons(&world), expected, "{affinity:?} {bp}");
        let refused = advance(&world).map_err(|refused| refused.code()).err();
        assert_eq!(refused, contradicts.then_some("contradicted"));
        assert_eq!(world.pass(0).causes.is_empty(), contradicts);
        let phase = if contradicts { Phase::Held } else { Phase::Shifting };
        assert_eq!(world.status().phase, phase);
        // The one service, not the other.
        let phases: Vec<_> = world.status().services.iter().map(|s| s.phase).collect();
        assert_eq!(phases, [phase, Phase::Shifting]);
    }
}

#[test]
fn contradiction_is_overridden_by_name_and_only_where_all_has_arrived() {
    let envoy = || vec![proxy("mesh/a", "envoy", "1.40.0")];
    let mut world = due(plan(&Affinity::ClientIp), &envoy());
    counted(&mut world, 1_000, 50);
    let hold = &world.status().holds[0];
    assert_eq!(
        hold.detail,
        "orders: mesh measured 3.63% to 6.23% on target, the plan says 0% (1050 samples since then)"
    );
    let clear = "crossfade step shop --override measured --reason TEXT";
    assert_eq!(hold.clear.as_deref(), Some(clear));
    let late =
        || vec![Sink { owes: BTreeSet::from(["shop".parse().unwrap()]), ..envoy().remove(0) }];
    arrive(&mut world, late());
    assert_eq!(reasons(&world), "lagging");
    arrive(&mut world, envoy());
    let refused = step(&mut world, &[]).unwrap_err();
    assert_eq!(refused.code(), "contradicted");
    assert_eq!(serde_json::to_value(&refused).unwrap()["reason"], "contradicted");
    step(&mut world, &[Override::Measured]).unwrap();
    // The end of a plan is held too, and so is what a rollback did not take back told.
    world.shift(None, 10_000);
    world.ask(Command::Resume(world.name())).unwrap();
    arrive(&mut world, envoy());
    counted(&mut world, 50, 1_000);
    world.live(10);
    assert_eq!(reasons(&world), "contradicted baking");
    world.ask(Command::Rollback(Scope::All)).unwrap();
    arrive(&mut world, envoy());
    assert_eq!(
        (reasons(&world).as_str(), world.status().phase),
        ("rolled-back contradicted", Phase::RolledBack)
    );
}

#[test]
fn thousands_of_sinks_are_told_by_their_number() {
    let mut world = World::new(plan(&Affinity::ClientIp));
    let name = |n| format!("mesh/{n:04}");
    let there = |n| proxy(&name(n), "envoy", "1.40.0");
    let owes = BTreeSet::from([world.name()]);
    let lags = |n| Sink { owes: owes.clone(), ..there(n) };
    let away = |n| Sink { since: None, ..there(n) };
    let some =
        |from: usize, to, make: &dyn Fn(usize) -> Sink| (from..to).map(make).collect::<Vec<_>>();
    let sinks = [some(0, 1_000, &away), some(1_000, 3_000, &lags), some(3_000, 5_000, &there)];
    arrive(&mut world, sinks.concat());
    let status = world.status();
    let SinkSummary { expected, acked, lagging, lagging_count, away, away_count } = status.sinks;
    assert_eq!((expected, acked, lagging_count, away_count), (5_001, 2_001, 2_000, 1_000));
    assert_eq!((lagging.len(), away.len()), (SinkSummary::LISTED_MAX, SinkSummary::LISTED_MAX));
    assert_eq!((away[0].as_str(), lagging[0].as_str()), ("mesh/0000", "mesh/1000"));
    let held: Vec<_> = status.holds.iter().map(|hold| hold.reason.as_str()).collect();
    assert_eq!(held.iter().filter(|reason| **reason == "away").count(), HOLDS_MAX);
    assert_eq!(held.len(), HOLDS_MAX + 2, "ready, and one for all that lag: {held:?}");
    let last = status.holds.iter().rfind(|hold| hold.detail.contains("is away")).unwrap();
    assert_eq!(last.detail, "mesh/0019 is away; 980 more are away");
    let lag = status.holds.iter().find(|hold| hold.reason == Reason::Lagging).unwrap();
    assert!(lag.detail.ends_with("1997 more lag"), "{}", lag.detail);
    // The plane itself is behind: all that are there lag.
    let before = Token { revision: 0, ..world.state.token() };
    world.facts.ledger.set(Plane::Mesh, standing(before, sinks.concat()));
    let summary = world.status().sinks;
    assert_eq!((summary.acked, summary.lagging_count, summary.away_count), (1, 4_000, 1_000));
}

#[test]
fn who_owes_nothing_is_up_to_date_and_a_plane_is_as_far_as_the_last_of_its_sources() {
    let mut world = World::new(plan(&Affinity::ClientIp));
    world.shift(None, 100);
    let head = world.state.token();
    let before = Token { revision: 1, ..head };
    let owes = BTreeSet::from([world.name()]);
    let (idle, late) = (
        proxy("mesh/a", "envoy", ""),
        Sink { owes, acked: before, ..proxy("mesh/b", "envoy", "") },
    );
    world.facts.ledger.set(Plane::Mesh, standing(head, vec![idle, late]));
    let replica = |through| standing(through, vec![sink("dns/replica", Token::START)]);
    world.arrive();
    world.facts.ledger.set_from(Plane::Dns, Source::Followers, replica(before));
    let told: Vec<_> = sinks(&world.state, &world.facts)
        .into_iter()
        .map(|sink| (sink.id.to_string(), sink.acked, sink.lag))
        .collect();
    assert_eq!(
        told,
        [
            ("dns/local".to_owned(), head, 0),
            ("dns/replica".to_owned(), before, 1),
            ("mesh/a".to_owned(), head, 0),
            ("mesh/b".to_owned(), before, 1),
        ]
    );
    let name = world.name();
    assert_eq!(world.facts.ledger.through(Plane::Dns), Some(before));
    assert!(!world.facts.ledger.converged_in(Plane::Dns, &name, head));
    assert_eq!(world.facts.ledger.expected_count(Plane::Dns, &name), 2);
    world.facts.ledger.set_from(Plane::Dns, Source::Followers, replica(head));
    assert!(world.facts.ledger.converged_in(Plane::Dns, &name, head));
}

#[test]
fn explain_tells_what_proxies_tell_clients_apart_by() {
    let orders = "shop/orders".parse().unwrap();
    let client = "10.8.1.1".parse::<std::net::IpAddr>().unwrap();
    for (affinity, keyed_by, side) in [
        (Affinity::ClientIp, Some("address"), Some(Side::Legacy)),
        (Affinity::Header("x-user".into()), Some("header x-user"), None),
        (Affinity::Cookie("session".into()), Some("cookie session"), None),
        (Affinity::None, None, None),
    ] {
        let mut world = World::new(plan(&affinity));
        world.shift(None, 5_000);
        let explain = explain(world.state.snapshot(), &orders, Some(client.into())).unwrap();
        let view = explain.client.unwrap();
        let place = view.planes.mesh.unwrap();
        assert_eq!(place.keyed_by.as_deref(), keyed_by);
        assert_eq!(view.side, side, "{affinity:?}");
        let at = bucket::mesh(b"10.8.1.1");
        let (bucket, key) = (keyed_by.map(|_| at.number()), keyed_by.map(|_| "10.8.1.1"));
        assert_eq!((place.bucket, place.key.as_deref()), (bucket, key));
        assert_eq!(place.moves_above_bp, bucket);
        let stands = at.side(Split::from_bp(5_000).unwrap());
        assert_eq!(place.side, keyed_by.map(|_| stands));
        // Dns sees no header.
        assert_eq!(view.planes.dns.unwrap().keyed_by, keyed_by.map(|_| "network".to_owned()));
    }
}

#[test]
fn what_a_sink_calls_itself_is_one_word_of_the_command_that_forgets_it() {
    for (id, word) in [
        ("dns/paris:53", "dns/paris:53"),
        ("a b", "'a b'"),
        ("$(id)", "'$(id)'"),
        ("x;id'`id`", r"'x;id'\''`id`'"),
        ("-o", "-- -o"),
        ("- o", "-- '- o'"),
    ] {
        let mut world = due(plan(&Affinity::ClientIp), &[]);
        let gone =
            Sink { since: None, left: Some(world.facts.now), ..proxy(id, "envoy", "1.40.0") };
        arrive(&mut world, vec![gone]);
        let holds = world.status().holds;
        let clear = holds.iter().find(|hold| hold.reason.as_str() == "away").unwrap().clear.clone();
        assert_eq!(clear, Some(format!("crossfade sinks forget {word}")));
    }
}

#[test]
fn a_proxy_that_refused_is_mended_and_started_again() {
    let mut world = due(plan(&Affinity::ClientIp), &[]);
    let (token, plans) = (world.state.token(), BTreeSet::from([world.name()]));
    let nack =
        Nack { token, plans: plans.clone(), detail: "port in use".into(), at: world.facts.now };
    arrive(
        &mut world,
        vec![Sink { owes: plans, nack: Some(nack), ..proxy("p", "envoy", "1.40.0") }],
    );
    let holds = world.status().holds;
    let hold = holds.iter().find(|hold| hold.reason.as_str() == "nacked").unwrap();
    assert!(
        hold.detail
            .ends_with("port in use; mend that, then restart it: it is not sent the same again")
    );
}
