use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::golden::same;
use super::world::{World, sink, standing};
use super::*;
use crate::command::{Command, Observation, Scope};
use crate::fixture;
use crate::ledger::{Nack, Sink};
use crate::measure::{Count, Counts};
use crate::split::Side;
use crate::time::Timestamp;
use crate::token::Token;

mod clients;
pub(crate) mod golden;
mod mesh;
mod plans;

fn shop() -> World {
    World::new(fixture::plan())
}

fn json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap();
    text.push('\n');
    text
}

/// Started, taken to the second step, measured there.
fn measured() -> World {
    let mut world = shop();
    world.ask(Command::Start(world.name())).unwrap();
    world.arrive();
    world.pass(0);
    world.live(60);
    world.live(10);
    world.pass(4);
    let count = Count {
        legacy: 4234,
        target: 477,
        events: 9000,
        keys: 4711,
        largest: 450,
        squares: 300_000,
        old_until: Some(world.facts.now.after(Duration::from_secs(1))),
        ..Count::default()
    };
    let services = BTreeMap::from([("shop/orders".parse().unwrap(), count)]);
    let counts = Counts { services: Arc::new(services), ..Counts::default() };
    world.facts.measured.planes.insert(Plane::Dns, counts);
    world
}

#[test]
fn status_is_the_golden_one() {
    same("status.json", &json(&measured().status()));
}

#[test]
fn what_is_shown_reads_back() {
    let world = measured();
    let status = world.status();
    assert_eq!(serde_json::from_str::<Status>(&json(&status)).unwrap(), status);
    let summaries = plans(&world.state, &world.facts, &world.pace);
    assert_eq!(serde_json::from_str::<Vec<PlanSummary>>(&json(&summaries)).unwrap(), summaries);
    let sinks = sinks(&world.state, &world.facts);
    assert_eq!(serde_json::from_str::<Vec<SinkView>>(&json(&sinks)).unwrap(), sinks);
}

#[test]
fn history_is_the_golden_one() {
    let mut world = measured();
    world.ask(Command::Rollback(Scope::All)).unwrap();
    let entries: Vec<Entry> = world.records.iter().map(history).collect();
    for (entry, before) in entries.iter().skip(1).zip(&entries) {
        assert_eq!(entry.parent, before.digest);
    }
    assert_eq!(serde_json::from_str::<Vec<Entry>>(&json(&entries)).unwrap(), entries);
    let told: String = entries
        .iter()
        .map(|entry| {
            let actor = entry.actor.as_ref().map_or("-", crate::Actor::as_str);
            let what = (&entry.what, entry.notes.join(" / "), entry.changes.join(" / "));
            let (revision, at, kind) = (entry.revision, entry.at, entry.kind);
            format!("{revision} {at} {kind:?} {actor}: {what:?}\n")
        })
        .collect();
    same("history.txt", &told);
}

/// Each way to stand still: what it is, the phase shown, and the holds with their commands.
#[test]
fn holds_are_the_golden_ones() {
    let mut text = String::new();
    for (what, world) in stills().into_iter().chain(half_done()) {
        let status = world.status();
        text.push_str(&format!("{what}: {}\n", status.phase));
        for hold in status.holds {
            let clear = hold.clear.as_deref().unwrap_or("-");
            text.push_str(&format!("  {}: {}\n    {clear}\n", hold.reason, hold.detail));
        }
    }
    same("holds.txt", &text);
}

/// What is done in part only.
fn half_done() -> [(&'static str, World); 2] {
    let at = |change: &dyn Fn(&mut World)| {
        let mut world = measured();
        change(&mut world);
        world.pass(0);
        world
    };
    [
        (
            "rolled back in part",
            at(&|world| {
                let payments = "shop/payments".parse().unwrap();
                world.ask(Command::Rollback(Scope::Service(payments))).unwrap();
                world.arrive();
            }),
        ),
        (
            "gate that one of two has approved",
            at(&|world| {
                let mut plan = (*world.plan().spec).clone();
                plan.gates[0].test = crate::spec::GateTest::Manual { approvers: 2 };
                world.ask(Command::Apply(Arc::new(plan))).unwrap();
                let (plan, gate) = (world.name(), "sign-off".parse().unwrap());
                world.ask(Command::Approve { plan, gate }).unwrap();
                world.arrive();
                world.live(6);
                world.pass(10);
            }),
        ),
    ]
}

/// Every kind of standing still.
fn stills() -> Vec<(&'static str, World)> {
    [on_its_way(), in_the_way(), by_hand(), held_back()].into_iter().flatten().collect()
}

fn change(mut world: World, change: &dyn Fn(&mut World)) -> World {
    change(&mut world);
    world.pass(0);
    world
}

fn started() -> World {
    change(shop(), &|world| {
        world.ask(Command::Start(world.name())).unwrap();
        world.arrive();
    })
}

fn manual() -> World {
    change(shop(), &|world| {
        world.shift(None, 1000);
        world.arrive();
    })
}

fn with_sinks(world: &mut World, sinks: Vec<Sink>) {
    world.facts.ledger.set(Plane::Dns, standing(world.state.token(), sinks));
}

/// Started, and on its way to the sinks.
fn on_its_way() -> Vec<(&'static str, World)> {
    vec![
        ("ready", shop()),
        ("draining", started()),
        (
            "settling",
            change(measured(), &|world| {
                world.pace = crate::pace::Pace::default();
                world.facts.uptime = Duration::from_secs(12);
            }),
        ),
        ("baking", measured()),
        (
            "lagging plane",
            change(measured(), &|world| {
                let before = Token { revision: 1, ..world.state.token() };
                world
                    .facts
                    .ledger
                    .set(Plane::Dns, standing(before, vec![sink("dns/local", before)]));
            }),
        ),
        (
            "lagging sinks",
            change(measured(), &|world| {
                let (owes, acked) =
                    (BTreeSet::from([world.name()]), Token { revision: 1, ..world.state.token() });
                let lags = |at| Sink { owes: owes.clone(), ..sink(&format!("dns/{at}"), acked) };
                with_sinks(world, (0..5).map(lags).collect());
            }),
        ),
    ]
}

/// What sinks, endpoints and gates say.
fn in_the_way() -> Vec<(&'static str, World)> {
    vec![
        (
            "away",
            change(measured(), &|world| {
                with_sinks(
                    world,
                    vec![Sink {
                        since: None,
                        left: Some(world.facts.now),
                        ..sink("dns/b", world.state.token())
                    }],
                );
            }),
        ),
        (
            "nacked",
            change(measured(), &|world| {
                let (token, plans) = (world.state.token(), BTreeSet::from([world.name()]));
                let nack =
                    Nack { token, plans, detail: "no such zone".into(), at: world.facts.now };
                with_sinks(world, vec![Sink { nack: Some(nack), ..sink("dns/b", token) }]);
            }),
        ),
        ("no sink", change(measured(), &|world| with_sinks(world, vec![]))),
        (
            "degraded",
            change(measured(), &|world| {
                let orders = world.plan().spec.service(&"orders".parse().unwrap()).unwrap();
                let failing = orders.target.iter().copied().collect();
                let service = "shop/orders".parse().unwrap();
                world.observe(Observation::Health { service, side: Side::Target, failing });
                world.arrive();
            }),
        ),
        (
            "gate",
            change(measured(), &|world| {
                world.live(6);
                world.pass(10);
            }),
        ),
    ]
}

/// An operator's turn.
fn by_hand() -> Vec<(&'static str, World)> {
    vec![
        ("manual, on its way", change(shop(), &|world| world.shift(None, 1000))),
        ("manual", manual()),
        (
            "max-step",
            change(manual(), &|world| {
                let mut plan = (*world.plan().spec).clone();
                plan.policy.max_step = crate::Split::from_bp(1000);
                world.ask(Command::Apply(Arc::new(plan))).unwrap();
                world.ask(Command::Resume(world.name())).unwrap();
                world.arrive();
                world.pass(0);
                world.pass(60);
            }),
        ),
        (
            "paused",
            change(measured(), &|world| {
                world.ask(Command::Pause(world.name())).unwrap();
                world.arrive();
            }),
        ),
        (
            "rolled back",
            change(measured(), &|world| {
                world.ask(Command::Rollback(Scope::All)).unwrap();
                world.arrive();
            }),
        ),
    ]
}

/// What time and limits say.
fn held_back() -> Vec<(&'static str, World)> {
    vec![
        (
            "restored",
            change(measured(), &|world| {
                let record = world.state.restore(&crate::Actor::new("alice"), world.facts.now);
                world.state = world.state.apply(&record).unwrap();
                world.arrive();
            }),
        ),
        (
            "expired",
            change(measured(), &|world| {
                let mut plan = (*world.plan().spec).clone();
                plan.steps[1].expires = Some(Duration::from_secs(30));
                plan.steps[1].bake = Duration::from_secs(60);
                world.ask(Command::Apply(Arc::new(plan))).unwrap();
                world.arrive();
                world.live(40);
            }),
        ),
        (
            "frozen",
            change(measured(), &|world| {
                let mut plan = (*world.plan().spec).clone();
                let (cron, tz) = ("0 0 * * *".parse().unwrap(), "Etc/UTC".parse().unwrap());
                let lasts = Duration::from_secs(3_600);
                plan.policy.freeze.push(crate::policy::Freeze { cron, lasts, tz });
                world.ask(Command::Apply(Arc::new(plan))).unwrap();
                world.arrive();
                world.pass(6);
            }),
        ),
        ("whole, before it moves", {
            let mut plan = fixture::plan();
            plan.strategy = crate::spec::Strategy::Whole;
            plan.steps = vec![plan.steps.remove(2)];
            plan.steps[0].split = crate::Split::TARGET;
            change(World::new(plan), &|world| {
                world.ask(Command::Start(world.name())).unwrap();
                world.arrive();
                world.pass(0);
                world.pass(60);
            })
        }),
        (
            "about to move",
            change(measured(), &|world| {
                world.pass(6);
            }),
        ),
    ]
}

#[test]
fn every_type_has_a_schema() {
    for schema in [
        schemars::schema_for!(Status),
        schemars::schema_for!(Vec<PlanSummary>),
        schemars::schema_for!(Vec<SinkView>),
        schemars::schema_for!(Vec<Entry>),
        schemars::schema_for!(Explain),
        schemars::schema_for!(Diff),
    ] {
        assert!(schema.as_object().is_some_and(|schema| schema.contains_key("$schema")));
    }
}

#[test]
fn an_old_answer_that_has_expired_is_not_told() {
    let mut world = measured();
    assert!(world.status().old_until.is_some());
    world.facts.now = world.facts.now.after(Duration::from_secs(1));
    assert_eq!(world.status().old_until, None::<Timestamp>);
}
