//! What a snapshot becomes, as text that people can read; and that edits lead where a fresh start
//! leads.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: what they build is their own"
)]

#[path = "render/history.rs"]
mod history;
#[path = "render/show.rs"]
mod show;
#[path = "render/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use plan::Command;
use plan::command::Scope as Reach;
use xds::render::{Door, Limit, Rendered, Role, side_of};
use xds::{Change, Client, Edit, TypeUrl};

use crate::world::World;

/// A plan with every protocol, affinity and role.
const PLAN: &str = include_str!("render/plan.yaml");

fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/render/{name}.txt"));
    if option_env!("CROSSFADE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(held == text, "{name} is now:\n{text}");
}

#[test]
fn every_role_sees_what_it_should() {
    let mut world = World::new(PLAN);
    world.shift(None, 2_500);
    for role in Role::ALL {
        let gateway = Some("edge".parse().unwrap()).filter(|_| role != Role::Grpc);
        let door = Door { gateway, ..Door::of(role) };
        golden(role.as_str(), &show::view(&world.tables(std::slice::from_ref(&door)), &door));
    }
}

/// The plan, with this gateway as the way of VMs to the target.
fn with_mtls(gateway: &str) -> String {
    let was = match gateway {
        "edge" => "name: edge, clientAddress: { xff: 2 }",
        _ => "name: inner, clientAddress: proxy-protocol",
    };
    let is = format!("name: {gateway}, mtls: {{ addresses: [10.9.0.7, \"fd00::7\"] }}");
    PLAN.replace(was, &is)
}

fn identified(role: Role, gateway: Option<&str>) -> Door {
    let gateway = gateway.map(|name| name.parse().unwrap());
    Door { identified: true, gateway, ..Door::of(role) }
}

/// What the second has and the first has not, by whole resources.
fn news(old: &str, new: &str) -> String {
    let blocks = |text: &str| -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for line in text.lines() {
            match all.last_mut().filter(|_| line.starts_with(' ')) {
                Some(last) => *last += &format!("{line}\n"),
                None => all.push(format!("{line}\n")),
            }
        }
        all
    };
    let old: BTreeSet<String> = blocks(old).into_iter().collect();
    blocks(new).into_iter().filter(|block| !old.contains(block)).collect()
}

#[test]
fn who_shows_who_he_is_goes_to_the_target_by_its_gateway() {
    let mut world = World::new(&with_mtls("edge"));
    world.shift(None, 2_500);
    let mut text = String::new();
    for (role, gateway) in [(Role::Sidecar, None), (Role::Catch, Some("edge"))] {
        let known = identified(role, gateway);
        let other = Door { identified: false, ..known.clone() };
        let tables = world.tables(&[known.clone(), other.clone()]);
        let (plain, shown) = (show::view(&tables, &other), show::view(&tables, &known));
        assert_eq!(plain.lines().filter(|line| line.contains("shows")).count(), 0);
        text += &format!("# {}\n{}", role.as_str(), news(&plain, &shown));
        // Alone it sees the same.
        assert_eq!(show::view(&world.tables(std::slice::from_ref(&known)), &known), shown);
    }
    golden("mtls", &text);
}

#[test]
fn nothing_changes_for_those_whose_plans_have_no_mtls() {
    let other = with_mtls("inner").replace("name: shop", "name: tail");
    let other = other.replace("corp.example", "tail.example").replace("808", "908");
    let other = other.replace("9090", "9990").replace("5432", "5433");
    let mut world = World::new(PLAN);
    world.add(&other);
    world.shift(None, 2_500);
    for (role, gateway) in [(Role::Sidecar, None), (Role::Catch, None), (Role::Catch, Some("edge"))]
    {
        let known = identified(role, gateway);
        let other = Door { identified: false, ..known.clone() };
        let is_shop = |text: String| -> Vec<String> {
            let is_it = |row: &String| row.contains("[shop]") || row.contains("of []");
            news("", &text).split_inclusive('\n').map(str::to_owned).filter(is_it).collect()
        };
        let tables = world.tables(&[known.clone(), other.clone()]);
        let (was, is) =
            (is_shop(show::view(&tables, &other)), is_shop(show::view(&tables, &known)));
        assert!(was.len() > 20 && was == is, "{was:#?} {is:#?}");
        // The same bytes, too.
        for type_url in xds::render::TYPES.map(TypeUrl::from) {
            let rows = |door: &Door| {
                let table =
                    tables.table(xds::render::view(door).scope(&type_url).unwrap(), &type_url);
                let rows =
                    table.unwrap().iter().filter(|row| !row.name().as_str().contains("tail"));
                rows.map(|row| (row.name().clone(), row.version().clone())).collect::<Vec<_>>()
            };
            assert_eq!(rows(&known), rows(&other), "{type_url}");
        }
    }
    // Nobody has an identity where there is no domain.
    let doors = [identified(Role::Sidecar, None)].into();
    let wanted = xds::render::Wanted { doors: &doors, trust_domain: None, ..world.wanted() };
    let (_, edits) = xds::render::envoy(&wanted, &Rendered::default());
    assert!(!show::edits(&edits).contains("shows"));
}

/// The door of a machine that may see these services alone.
fn limited(door: &Door, services: &[&str]) -> Door {
    let services = services.iter().map(|id| id.parse().unwrap()).collect();
    Door { limit: Limit::to(Arc::new(services)), ..door.clone() }
}

/// Every resource that is to be seen by this door.
fn seen(tables: &xds::Tables, door: &Door) -> Vec<Arc<xds::Resource>> {
    let view = xds::render::view(door);
    let types = xds::render::TYPES.map(TypeUrl::from).into_iter();
    let there = types.map(|it| tables.table(view.scope(&it).unwrap(), &it).unwrap().iter());
    there.flatten().cloned().collect()
}

#[test]
fn who_may_see_some_services_sees_nothing_of_others() {
    let mut world = World::new(&with_mtls("edge"));
    world.shift(None, 2_500);
    world.drained.insert("shop/store".parse().unwrap());
    let edge = Door::of(Role::Gateway);
    let all = [Door::of(Role::Sidecar), identified(Role::Sidecar, None), edge];
    for whole in &all[..2] {
        for (services, drains) in [
            (["shop/orders"].as_slice(), false),
            (&["shop/orders", "shop/store", "tail/none"], true),
            (&["tail/none"], false),
        ] {
            let door = limited(whole, services);
            let doors: Vec<Door> = all.iter().cloned().chain([door.clone()]).collect();
            let tables = world.tables(&doors);
            let (text, whole_text) = (show::view(&tables, &door), show::view(&tables, whole));
            let others = ["orders", "sessions", "search", "store"]
                .iter()
                .filter(|name| !services.contains(&format!("shop/{name}").as_str()));
            for other in others {
                assert!(!text.contains(other), "{services:?} {other}: {text}");
            }
            // All that others see of these, and of none of them the way to anybody else.
            let own = |row: &String| {
                let name = row.split(' ').nth(1).unwrap();
                let is_its = |id: &str| name.starts_with(&format!("{id}/"));
                services.iter().any(|id| is_its(id))
                    || ["capture", "passthrough"].contains(&name)
                    || name == "drain" && drains
            };
            let blocks = |text: &str| -> Vec<String> {
                news("", text).split_inclusive('\n').map(str::to_owned).collect()
            };
            let heads = |text: &str| -> Vec<String> {
                blocks(text).into_iter().filter(|row| !row.starts_with(' ')).collect()
            };
            let wanted: Vec<String> = heads(&whole_text).into_iter().filter(own).collect();
            assert_eq!(heads(&text), wanted, "{services:?}");
            assert!(blocks(&text).iter().all(|row| blocks(&whole_text).contains(row)));
            // Encoded once for all.
            let encoded = seen(&tables, whole);
            for resource in seen(&tables, &door).iter().filter(|it| !it.plans.is_empty()) {
                let mut same = encoded.iter().filter(|it| it.name() == resource.name());
                let is_same = same.any(|it| Arc::ptr_eq(&it.encoded, &resource.encoded));
                assert!(is_same, "{}", resource.name());
            }
            // Alone it sees the same.
            assert_eq!(show::view(&world.tables(std::slice::from_ref(&door)), &door), text);
        }
    }
}

#[test]
fn what_others_want_too_is_theirs_only_where_they_are_seen() {
    let mut world = World::new(PLAN);
    world.add(&PLAN.replace("name: shop", "name: tail").replace("corp.example", "tail.example"));
    let sidecar = Door::of(Role::Sidecar);
    let has = |services: &[&str]| {
        let door = limited(&sidecar, services);
        let text = show::view(&world.tables(&[sidecar.clone(), door.clone()]), &door);
        text.contains("Listener tail/orders/http ")
    };
    assert!(has(&["tail/orders"]));
    assert!(has(&["tail/orders", "shop/store"]));
    assert!(!has(&["tail/orders", "shop/orders"]));
    let text = show::view(&world.tables(std::slice::from_ref(&sidecar)), &sidecar);
    assert!(!text.contains("Listener tail/orders/http "));
}

/// Of what proxies at an edge share nothing can be left out.
#[test]
fn none_but_sidecars_see_some_services_alone() {
    let mut world = World::new(PLAN);
    world.doors.clear();
    for role in [Role::Gateway, Role::Catch, Role::Grpc] {
        world.doors.insert(limited(&Door::of(role), &["shop/orders"]));
    }
    let (rendered, edits) = world.render(&Rendered::default());
    assert!(edits.is_empty(), "{}", show::edits(&edits));
    world.doors.extend(Role::ALL.map(Door::of));
    let (_, edits) = world.render(&rendered);
    assert!(!show::edits(&edits).contains("limited"));
}

#[test]
fn a_shift_is_encoded_once_for_however_many_limits() {
    let mut world = World::new(PLAN);
    world.shift(None, 2_500);
    let encodings = |world: &mut World, bp| {
        let (before, _) = world.render(&Rendered::default());
        world.shift(Some("orders"), bp);
        let (_, edits) = world.render(&before);
        let encoded = edits.iter().filter_map(|edit| match &edit.change {
            Change::Put { encoded, .. } => Some(Arc::as_ptr(encoded)),
            Change::Remove(_) | Change::Declare | Change::Withdraw | Change::Partial(_) => None,
        });
        (encoded.collect::<BTreeSet<_>>().len(), edits.len())
    };
    let (few, edits) = encodings(&mut world, 5_000);
    let sidecar = Door::of(Role::Sidecar);
    for n in 0..300 {
        world.doors.insert(limited(&sidecar, &["shop/orders", &format!("tail/s{n}")]));
        world.doors.insert(limited(&sidecar, &["shop/store", &format!("tail/s{n}")]));
    }
    // Routes of two ports, in each.
    assert_eq!(encodings(&mut world, 6_000), (few, edits + 600));
}

#[test]
fn a_new_way_to_the_target_is_a_new_shape() {
    let mut world = World::new(PLAN);
    world.shift(None, 10_000);
    world.doors.insert(identified(Role::Sidecar, None));
    world.doors.insert(identified(Role::Catch, Some("edge")));
    let (before, _) = world.render(&Rendered::default());
    world.add(&with_mtls("edge"));
    let (after, edits) = world.render(&before);
    let text = show::edits(&edits);
    assert!(text.contains("identified: Cluster shop/orders/http/target @1.3 "), "{text}");
    assert!(text.contains("  10.9.0.7 port 8080 in [] target"), "{text}");
    // Nothing is known of the gateway's own endpoints here.
    world.fail("orders", &["10.0.1.12"]);
    let (_, edits) = world.render(&after);
    let text = show::edits(&edits);
    assert!(
        !text.contains("target") && text.contains("identified: ClusterLoadAssignment"),
        "{text}"
    );
}

#[test]
fn a_shift_changes_weights_and_nothing_else() {
    let mut world = World::new(PLAN);
    world.shift(None, 2_500);
    let (before, _) = world.render(&Rendered::default());
    world.shift(Some("orders"), 5_000);
    let (after, edits) = world.render(&before);
    golden("shift", &show::edits(&edits));
    let (_, none) = world.render(&after);
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn a_failing_endpoint_changes_endpoints_and_nothing_else() {
    let mut world = World::new(PLAN);
    world.shift(None, 2_500);
    let (before, _) = world.render(&Rendered::default());
    world.fail("orders", &["10.0.1.12"]);
    let (_, edits) = world.render(&before);
    let kinds: Vec<&str> = edits.iter().map(|edit| edit.type_url.short()).collect();
    assert_eq!(kinds, ["ClusterLoadAssignment", "ClusterLoadAssignment"]);
}

#[test]
fn a_rollback_sends_stragglers_back() {
    let mut world = World::new(PLAN);
    world.shift(None, 10_000);
    let (before, _) = world.render(&Rendered::default());
    world.ask(Command::Rollback(Reach::All));
    let (_, edits) = world.render(&before);
    golden("rollback", &show::edits(&edits));
}

#[test]
fn a_drained_side_keeps_its_endpoints() {
    let mut world = World::new(PLAN);
    world.shift(None, 10_000);
    let (before, _) = world.render(&Rendered::default());
    world.drained.extend(["shop/orders", "shop/store"].map(|id| id.parse().unwrap()));
    let (after, edits) = world.render(&before);
    golden("drain", &show::edits(&edits));
    world.drained.clear();
    world.shift(None, 9_000);
    let (_, back) = world.render(&after);
    assert!(show::edits(&back).contains("10.0.1.11 port 8080 in [] legacy"));
}

/// A checkpoint brings back the parts' tokens, so that the next process renders the same versions.
#[test]
fn versions_stay_over_a_restart() {
    let mut world = World::new(PLAN);
    world.shift(None, 2_500);
    world.fail("orders", &["10.0.1.12"]);
    world.shift(Some("orders"), 5_000);
    let doors: Vec<Door> = Role::ALL.into_iter().map(Door::of).collect();
    let before = show::versions(&world.tables(&doors));
    world.state = plan::State::from_checkpoint(&world.state.checkpoint()).unwrap();
    assert_eq!(show::versions(&world.tables(&doors)), before);
}

#[test]
fn a_restored_plan_is_withheld_until_an_operator_acts() {
    let mut world = World::new(PLAN);
    world.shift(None, 2_500);
    let old = show::newest(&world.tables(&world.doors.iter().cloned().collect::<Vec<_>>()));
    let record = world.state.restore(&plan::Actor::new("alice"), world.facts.now);
    world.state = world.state.apply(&record).unwrap();
    let (held, edits) = world.render(&Rendered::default());
    assert_eq!(plans_put(&edits), BTreeSet::new());
    assert!(edits.iter().any(|edit| matches!(edit.change, Change::Partial(true))));
    assert_eq!(held.withheld().iter().map(plan::PlanName::as_str).collect::<Vec<_>>(), ["shop"]);
    world.ask(Command::Rollback(Reach::All));
    let (free, edits) = world.render(&held);
    assert!(free.withheld().is_empty() && !edits.is_empty());
    // Everything is newer than what the lost incarnation may have sent, but for what never changes.
    let puts = edits.iter().filter_map(|edit| match &edit.change {
        Change::Put { encoded, plans, .. } if !plans.is_empty() => encoded.version.since(),
        Change::Put { .. }
        | Change::Remove(_)
        | Change::Declare
        | Change::Withdraw
        | Change::Partial(_) => None,
    });
    assert!(puts.min() > old);
    assert!(edits.iter().any(|edit| matches!(edit.change, Change::Partial(false))));
}

/// What waits beside it does not hold a rollback up; only what they share at a gateway's port does.
#[test]
fn a_restored_plan_that_is_rolled_back_is_rendered_while_another_waits() {
    let mut world = World::new(PLAN);
    world.shift(None, 2_500);
    let tail = PLAN.replace("name: shop", "name: tail").replace("corp.example", "tail.example");
    world.add(&tail.replace("10.0.1.", "10.0.3.").replace("10.0.2.", "10.0.4."));
    let record = world.state.restore(&plan::Actor::new("alice"), world.facts.now);
    world.state = world.state.apply(&record).unwrap();
    let (held, _) = world.render(&Rendered::default());
    world.ask(Command::Rollback(Reach::Plan("shop".parse().unwrap())));
    let (shop, edits) = world.render(&held);
    assert_eq!(plans_put(&edits), BTreeSet::from(["shop".to_owned()]));
    assert!(!show::edits(&edits).contains("gateway/8080"), "tail has hosts there, too");
    assert!(!edits.iter().any(|edit| matches!(edit.change, Change::Partial(false))));
    world.ask(Command::Rollback(Reach::All));
    let (free, edits) = world.render(&shop);
    assert!(free.withheld().is_empty());
    assert!(show::edits(&edits).contains("gateway/8080"));
    assert!(edits.iter().any(|edit| matches!(edit.change, Change::Partial(false))));
}

/// The plans of which anything is put.
fn plans_put(edits: &[Edit]) -> BTreeSet<String> {
    let plans = edits.iter().flat_map(|edit| match &edit.change {
        Change::Put { plans, .. } => plans.to_vec(),
        Change::Remove(_) | Change::Declare | Change::Withdraw | Change::Partial(_) => Vec::new(),
    });
    plans.map(|plan| plan.to_string()).collect()
}

#[test]
fn what_two_services_want_the_first_has_and_it_is_told() {
    let mut world = World::new(PLAN);
    world.add(&PLAN.replace("name: shop", "name: tail").replace("corp.example", "tail.example"));
    let (rendered, edits) = world.render(&Rendered::default());
    let conflicts: Vec<String> = rendered.conflicts().iter().map(ToString::to_string).collect();
    golden("conflicts", &conflicts.join("\n"));
    // Envoy refuses two listeners at one address.
    let mut seen = BTreeSet::new();
    for edit in edits.iter().filter(|edit| edit.type_url.as_str() == TypeUrl::LISTENER) {
        if let Change::Put { encoded, .. } = &edit.change {
            let address = show::listener_address(encoded.body());
            assert!(seen.insert((edit.scope.clone(), address)), "{}", encoded.name);
        }
    }
}

#[test]
fn plans_whose_clients_others_split_are_only_caught() {
    let mut world = World::new(&PLAN.replace("plane: mesh", "plane: host"));
    world.shift(None, 2_500);
    for role in [Role::Gateway, Role::Sidecar, Role::Grpc] {
        let text = show::view(&world.tables(&[Door::of(role)]), &Door::of(role));
        assert!(!text.contains("shop/"), "{text}");
    }
    let text = show::view(&world.tables(&[Door::of(Role::Catch)]), &Door::of(Role::Catch));
    assert!(text.contains("shop/orders/http/target 10000, shop/orders/http/legacy 0"), "{text}");
}

#[test]
fn clusters_say_whose_they_are() {
    let (service, side) = side_of("shop/orders/http/legacy").unwrap();
    assert_eq!((service.to_string().as_str(), side), ("shop/orders", plan::Side::Legacy));
    for other in ["crossfade", "passthrough", "shop/orders/http", "a/b/c/d", "shop/orders/legacy"] {
        assert_eq!(side_of(other), None, "{other}");
    }
}

#[test]
fn clients_say_what_they_are() {
    let client = |says: &[(&str, &str)]| Client {
        id: "a".into(),
        cluster: "".into(),
        says: says.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        agent: "envoy".into(),
        version: None,
        identity: None,
    };
    let door = |says: &[(&str, &str)]| xds::render::door(&client(says));
    assert_eq!(door(&[]).unwrap(), Door::of(Role::Sidecar));
    let gateway = door(&[("role", "gateway"), ("bind", "::1"), ("gateway", "edge")]).unwrap();
    let bind = Some("::1".parse().unwrap());
    let named = Some("edge".parse().unwrap());
    assert_eq!(gateway, Door { bind, gateway: named, ..Door::of(Role::Gateway) });
    let wrong = door(&[("role", "router")]).unwrap_err();
    assert!(wrong.message.contains("`gateway`, `sidecar`, `catch` or `grpc`"), "{wrong}");
    let known = |role| door(&[("role", role), ("identity", "sds")]).unwrap().identified;
    assert_eq!(["sidecar", "catch", "gateway", "grpc"].map(known), [true, true, false, false]);
    let wrong = [("bind", "here"), ("gateway", "a b"), ("capture", "15001"), ("identity", "yes")];
    for says in wrong {
        door(&[("role", "gateway"), says]).unwrap_err();
    }
}

#[test]
fn nobody_looks_and_nothing_is_rendered() {
    let mut world = World::new(PLAN);
    world.doors.clear();
    let (_, edits) = world.render(&Rendered::default());
    assert!(edits.is_empty());
}
