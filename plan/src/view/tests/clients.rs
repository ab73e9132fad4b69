//! `explain`.

use super::*;
use crate::bucket;
use crate::spec::{ClientRow, Resolver};

fn rows() -> World {
    let mut plan = fixture::plan();
    let row = |net: &str, plane| ClientRow { networks: vec![net.parse().unwrap()], plane };
    plan.clients = Arc::new(crate::spec::Clients {
        rows: vec![row("10.8.0.0/16", Plane::Mesh), row("10.0.1.0/24", Plane::Host)],
        resolvers: vec![Resolver {
            name: "hq".to_owned(),
            addresses: ["10.0.0.53", "10.0.0.54"].map(|text| text.parse().unwrap()).to_vec(),
        }],
        ..crate::spec::Clients::default()
    });
    World::new(plan)
}

fn ask(world: &World, client: &str) -> explain::ClientView {
    let client = match client.parse::<std::net::IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => client.parse().unwrap(),
    };
    let service = "shop/orders".parse().unwrap();
    explain(world.state.snapshot(), &service, Some(client)).unwrap().client.unwrap()
}

#[test]
fn explain_is_the_golden_one() {
    let mut world = rows();
    world.shift(Some("orders"), 5000);
    let service = "shop/orders".parse().unwrap();
    let mut text = json(&explain(world.state.snapshot(), &service, None).unwrap());
    for client in ["10.0.0.54", "198.51.100.0/24", "10.8.1.1", "10.8.1.0/24", "10.0.1.7"] {
        text.push_str(&json(&ask(&world, client)));
    }
    same("explain.json", &text);
    assert_eq!(explain(world.state.snapshot(), &"shop/none".parse().unwrap(), None), None);
}

#[test]
fn a_client_is_on_target_at_every_split_above_its_bucket() {
    let mut world = rows();
    let orders = world.plan().spec.service(&"orders".parse().unwrap()).unwrap();
    let salt = bucket::salt(&orders.salt);
    for client in ["198.51.100.7", "192.0.2.0/24", "2001:db8::1", "10.0.1.7", "10.8.1.1"] {
        world.shift(Some("orders"), 1);
        let view = ask(&world, client);
        let place = view.planes.plane(view.plane).unwrap();
        let above = place.moves_above_bp.unwrap();
        for (bp, side) in [(above, Side::Legacy), (above + 1, Side::Target)] {
            world.shift(Some("orders"), bp);
            let view = ask(&world, client);
            assert_eq!(view.side, Some(side), "{client} at {bp}");
            let logical = view.plane != Plane::Dns;
            let legacy: Vec<_> = orders_addresses(&world, side);
            let expected = if logical { vec![[10, 0, 1, 10].into()] } else { legacy };
            assert_eq!(view.sees, expected, "{client} at {bp}");
        }
        if view.plane == Plane::Dns {
            let key = place.key.as_ref().unwrap().parse().unwrap();
            assert_eq!(bucket::dns(key, salt).number(), above);
        }
    }
}

/// Gateways of the target are left alone, who cannot reach target stays on legacy, and all others
/// are told their endpoint; at 100 % stragglers too.
#[test]
fn what_the_kernel_of_a_vm_does() {
    struct Case {
        client: &'static str,
        bp: u16,
        side: Option<Side>,
        endpoint: Option<&'static str>,
        straggler: Option<&'static str>,
        note: &'static str,
    }
    let mut plan = rows().plan().spec.as_ref().clone();
    plan.gateways = Arc::new([crate::spec::Gateway {
        name: "edge".parse().unwrap(),
        client_address: crate::spec::ClientAddress::Direct,
        egress: vec!["10.0.1.128/25".parse().unwrap()],
        mtls: Vec::new(),
    }]);
    let mut world = World::new(plan);
    let case = |client, bp, side, endpoint, straggler, note| Case {
        client,
        bp,
        side,
        endpoint,
        straggler,
        note,
    };
    use Side::{Legacy, Target};
    for Case { client, bp, side, endpoint, straggler, note } in [
        case("10.0.1.7", 0, Some(Legacy), Some("10.0.1.11"), None, ""),
        case("10.0.1.8", 0, Some(Legacy), Some("10.0.1.12"), None, ""),
        case("10.0.1.7", 10_000, Some(Target), Some("10.9.1.21"), Some("10.9.1.21"), ""),
        case("10.0.1.8", 10_000, Some(Target), Some("10.9.1.22"), Some("10.9.1.22"), ""),
        case("10.0.1.200", 10_000, None, None, None, "never split, never caught"),
        case("198.51.100.7", 5_000, None, None, None, "dns splits it"),
        case("198.51.100.7", 10_000, None, None, Some("10.9.1.22"), "dns splits it"),
        case("2001:db8::7", 10_000, None, None, None, "target has no address of its family"),
    ] {
        world.shift(Some("orders"), bp);
        let view = ask(&world, client);
        let kernel = view.kernel.clone().unwrap();
        let text = |endpoint: Option<crate::endpoint::Endpoint>| endpoint.map(|e| e.to_string());
        assert_eq!(kernel.side, side, "{client} at {bp}");
        assert_eq!(text(kernel.endpoint).as_deref(), endpoint, "{client} at {bp}");
        assert_eq!(text(kernel.straggler).as_deref(), straggler, "{client} at {bp}");
        assert!(kernel.note.contains(note), "{client} at {bp}: {}", kernel.note);
        let place = view.planes.plane(Plane::Host).unwrap();
        if kernel.egress.is_some() {
            assert_eq!((view.side, place.side, place.moves_above_bp), (None, None, None));
        } else if view.plane == Plane::Host {
            assert_eq!((view.side, place.side), (side, side), "{client} at {bp}");
        }
    }
    assert_eq!(ask(&world, "10.0.1.0/24").kernel, None);
}

fn orders_addresses(world: &World, side: Side) -> Vec<std::net::IpAddr> {
    let orders = world.plan().spec.service(&"orders".parse().unwrap()).unwrap();
    let endpoints = match side {
        Side::Legacy => &orders.legacy,
        Side::Target => &orders.target,
    };
    endpoints.iter().map(|endpoint| endpoint.address).collect()
}

#[test]
fn without_affinity_only_the_ends_are_certain() {
    let mut plan = fixture::plan();
    let mut orders = (*plan.services[0]).clone();
    orders.affinity = crate::spec::Affinity::None;
    plan.services[0] = Arc::new(orders);
    let mut world = World::new(plan);
    for (bp, side, sees) in
        [(0, Some(Side::Legacy), 2), (5000, None, 4), (10_000, Some(Side::Target), 2)]
    {
        world.shift(Some("orders"), bp);
        let view = ask(&world, "198.51.100.7");
        assert_eq!((view.side, view.sees.len()), (side, sees), "{bp}");
        assert_eq!(view.planes.dns.unwrap().bucket, None);
    }
}
