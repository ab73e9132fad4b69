//! `apply` and `reload`.

use std::sync::Arc;
use std::time::Duration;

use plan::command::{Ask, Command, ZoneChange};
use plan::decide::Change;
use plan::spec::{ClientRow, Clients, Plan, Plane, Service, ZoneSource};
use plan::{Digest, Mode, Refused, Stage};

use crate::run::at_step;
use crate::world::{World, ask, parsed, percent, plan, service, shift};

fn apply(spec: Plan) -> Command {
    Command::Apply(Arc::new(spec))
}

fn edited(change: impl FnOnce(&mut Plan)) -> Command {
    let mut spec = plan("p");
    change(&mut spec);
    apply(spec)
}

fn with_a(change: impl FnOnce(&mut Service)) -> Command {
    edited(|spec| change(Arc::make_mut(&mut spec.services[0])))
}

#[test]
fn what_would_move_clients_is_refused_and_every_change_is_named() {
    let a = || parsed("a");
    struct Case {
        edit: Command,
        change: Change,
        at_whole: bool,
    }
    let clients = |clients| edited(|spec| spec.clients = Arc::new(clients));
    let row = ClientRow { networks: vec![parsed("10.0.9.0/24")], plane: Plane::Dns };
    let resolver =
        plan::spec::Resolver { name: "hq".to_owned(), addresses: vec![parsed("10.0.0.53")] };
    let short = plan::spec::ClientKey { v4: 16, v6: 48 };
    for Case { edit, change, at_whole } in [
        Case {
            edit: clients(Clients { rows: vec![row], ..Clients::default() }),
            change: Change::Clients,
            at_whole: true,
        },
        Case {
            edit: clients(Clients { resolvers: vec![resolver], ..Clients::default() }),
            change: Change::Resolvers,
            at_whole: true,
        },
        Case {
            edit: clients(Clients { key: short, ..Clients::default() }),
            change: Change::ClientKey,
            at_whole: true,
        },
        Case {
            edit: with_a(|a| a.salt = "other".into()),
            change: Change::Salt { service: a() },
            at_whole: true,
        },
        Case {
            edit: with_a(|a| a.affinity = plan::spec::Affinity::None),
            change: Change::Affinity { service: a() },
            at_whole: true,
        },
        Case {
            edit: with_a(|a| a.address = None),
            change: Change::Address { service: a() },
            at_whole: false,
        },
        Case {
            edit: with_a(|a| a.hosts.push(parsed("more.p.example"))),
            change: Change::Hosts { service: a() },
            at_whole: false,
        },
        Case {
            edit: edited(|spec| drop(spec.services.pop())),
            change: Change::Removed { service: parsed("b") },
            at_whole: false,
        },
    ] {
        let mut world = at_step(2);
        let refused = world.command(edit.clone()).unwrap_err();
        let expected = Refused::WouldMove { plan: parsed("p"), changes: vec![change] };
        assert_eq!(refused, expected);
        world = at_step(4);
        assert_eq!(world.command(edit.clone()).is_ok(), at_whole, "{expected}");
        World::with(plan("p")).does(edit);
    }
    let both = edited(|spec| {
        spec.clients = Arc::new(Clients { key: short, ..Clients::default() });
        spec.services.pop();
    });
    let refused = at_step(1).command(both).unwrap_err();
    assert!(matches!(refused, Refused::WouldMove { changes, .. } if changes.len() == 2));
}

/// The place is kept by split: the same step, between two steps, below and above all of them.
#[test]
fn the_place_is_kept_by_split() {
    for (steps, expected) in [
        (vec![25, 100], (1, Stage::Bake)),
        (vec![5, 10, 20, 25, 100], (4, Stage::Bake)),
        (vec![10, 30, 100], (1, Stage::Onward)),
        (vec![30, 100], (0, Stage::Onward)),
    ] {
        let mut world = at_step(2);
        world.does(edited(|spec| {
            let step = spec.steps[0].clone();
            let at = |split: &u16| plan::spec::Step { split: percent(*split), ..step.clone() };
            spec.steps = steps.iter().map(at).collect();
        }));
        let Mode::Running(run) = world.mode("p") else { panic!("{:?}", world.mode("p")) };
        assert_eq!((run.step, run.stage), expected, "{steps:?}");
        assert_eq!(world.splits("p"), [2500, 2500]);
    }
}

#[test]
fn a_service_that_joins_on_the_way_starts_at_0_and_pauses_the_plan() {
    let join = || edited(|spec| spec.services.push(Arc::new(service("p", "c", 3, &["b"]))));
    let mut world = at_step(2);
    let done = world.does(join());
    assert_eq!(done.notes, ["p/c starts at 0%, so p is paused"]);
    assert_eq!((world.splits("p"), world.mode("p")), (vec![2500, 2500, 0], Mode::Manual));
    let mut world = at_step(0);
    world.does(join());
    assert!(matches!(world.mode("p"), Mode::Running(_)));
    // Others cannot come after it while they are above it.
    let after = edited(|spec| {
        spec.services.push(Arc::new(service("p", "c", 3, &[])));
        Arc::make_mut(&mut spec.services[0]).after = vec![parsed("c")];
    });
    let refused = at_step(1).command(after).unwrap_err();
    assert_eq!(refused.clear().unwrap(), "crossfade shift p/a 0%");
}

#[test]
fn health_of_endpoints_that_stay_is_kept() {
    let mut world = World::with(plan("p"));
    world.fails("p", "a", plan::Side::Target, &[1]);
    let more = |a: &mut Service| {
        let mut endpoints: Vec<_> = a.target.iter().copied().collect();
        endpoints.push(parsed("10.9.1.3"));
        a.target = plan::endpoint::Endpoints::new(endpoints).unwrap();
    };
    world.does(with_a(more));
    let leaf = world.state.snapshot().service(&parsed("p/a")).unwrap();
    let serving: Vec<_> =
        leaf.serving.target().unwrap().serving.iter().map(|e| e.to_string()).collect();
    assert_eq!(serving, ["10.9.1.2", "10.9.1.3"]);
}

#[test]
fn plans_share_no_host_and_no_zone() {
    struct Case {
        change: fn(&mut Plan),
        code: &'static str,
    }
    for Case { change, code } in [
        Case { change: |q| q.zones = plan("p").zones, code: "zone-taken" },
        Case { change: |q| q.services = plan("p").services, code: "host-taken" },
        Case { change: |q| q.zones[0].name = parsed("a.p.example"), code: "zone-hides" },
    ] {
        let mut world = World::with(plan("p"));
        let mut q = plan("q");
        change(&mut q);
        let refused = world.command(apply(q)).unwrap_err();
        assert_eq!(refused.code(), code);
        assert!(refused.to_string().contains("`p`"), "{refused}");
    }
    let mut world = World::with(plan("p"));
    world.does(apply(plan("q")));
}

#[test]
fn a_plan_whose_zone_text_is_not_stored_is_refused() {
    for source in [ZoneSource::File("x".to_owned()), ZoneSource::Text("x".into())] {
        let spec = edited(|spec| spec.zones[0].source = source);
        assert_eq!(World::new().command(spec).unwrap_err().code(), "zone-text");
    }
}

#[test]
fn a_new_plan_is_at_revision_0() {
    let mut world = World::new();
    let with = |if_revision| Ask { if_revision: Some(if_revision), ..ask(apply(plan("p"))) };
    assert_eq!(world.ask(with(3)).unwrap_err().code(), "stale");
    assert!(world.ask(with(0)).unwrap().changed);
}

#[test]
fn a_reload_is_one_record_for_all_plans_and_none_for_none() {
    let mut world = World::with(plan("p"));
    world.does(apply(plan("q")));
    let reload = |text: &str| {
        let source = ZoneSource::Blob(Digest::of(text.as_bytes()));
        let change = |name: &str| ZoneChange {
            plan: parsed(name),
            zone: parsed(&format!("{name}.example")),
            source: source.clone(),
        };
        Command::Reload(vec![change("p"), change("q")])
    };
    let before = world.state.token().revision;
    let done = world.does(reload("x"));
    assert_eq!((world.state.token().revision, done.plans.len()), (before + 1, 2));
    assert_eq!(world.state.snapshot().zones[0].text, Some(Digest::of(b"x")));
    world.already(reload("x"));
    let unknown =
        ZoneChange { plan: parsed("p"), zone: parsed("x.example"), source: ZoneSource::Own };
    let refused = world.command(Command::Reload(vec![unknown])).unwrap_err();
    assert_eq!(refused.code(), "unknown-zone");
}

#[test]
fn a_shift_by_another_bake_keeps_the_deadline() {
    let mut world = at_step(2);
    let Mode::Running(before) = world.mode("p") else { panic!() };
    world.later(60);
    world.does(edited(|spec| spec.steps[3].bake = Duration::from_secs(5)));
    assert_eq!(world.mode("p"), Mode::Running(before));
    world.does(shift("p", None, 20));
}
