//! Catalogs that follow one another: what changed is made anew, all else is shared.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

use std::sync::Arc;

use dns::respond::answer;
use dns::wire::Rtype;
use dns::{Catalog, CatalogError, Name, Source, Zone};
use plan::endpoint::{Endpoints, Pool};
use plan::snapshot::{self, Motion, Parts, Service, Serving, Snapshot};
use plan::split::Split;
use plan::{Digest, Token};

const TEXT: &str =
    "$TTL 1h\n@ SOA ns1 host 1 2h 15m 2w 5m\n@ NS ns1.other.test.\nkid NS x.\nold DNAME x.\n";

fn service(number: usize) -> Arc<Service> {
    let mut spec = (*plan::fixture::plan().services[0]).clone();
    spec.hosts = vec![format!("s{number}.corp.example").parse().unwrap()];
    let pool = |serving: &Endpoints| Pool { serving: serving.clone(), degraded: false };
    Arc::new(Service {
        id: format!("shop/s{number:05}").parse().unwrap(),
        since: Token::START,
        salt: 1,
        serving: Serving::Legacy { legacy: pool(&spec.legacy), target: Some(pool(&spec.target)) },
        spec: spec.into(),
        clients: Arc::default(),
        motion: Motion::Steady,
        gateways: Arc::new([]),
        drain: None,
        ttls: [60].into(),
        parts: Parts::default(),
    })
}

fn moved(service: &Service, split: u16) -> Arc<Service> {
    let pool = |serving: &Endpoints| Pool { serving: serving.clone(), degraded: false };
    let serving = Serving::Both {
        legacy: pool(&service.spec.legacy),
        target: pool(&service.spec.target),
        split: Split::from_bp(split).unwrap(),
    };
    Arc::new(Service { serving, ..service.clone() })
}

fn snapshot(services: Vec<Arc<Service>>, text: Option<Digest>) -> Snapshot {
    let zone = snapshot::Zone {
        name: "corp.example.".parse().unwrap(),
        plan: "shop".parse().unwrap(),
        since: Token::START,
        text,
        ttl: plan::spec::Ttl::default(),
    };
    let zones = Arc::new([Arc::new(zone)]);
    Snapshot { services: services.into(), zones, ..Snapshot::empty() }
}

#[test]
fn a_shift_replaces_one_leaf_of_ten_thousand() {
    let services: Vec<_> = (0..10_000).map(service).collect();
    let mut no_text = |_: &Digest| None;
    let first = Catalog::empty().next(&snapshot(services.clone(), None), &mut no_text).unwrap();
    let mut shifted = services;
    shifted[77] = moved(&shifted[77], 2500);
    let second = first.next(&snapshot(shifted.clone(), None), &mut no_text).unwrap();
    let leaf = |catalog: &Catalog, at| catalog.names().leaf(at).unwrap().clone();
    for at in 0..10_000u32 {
        assert_eq!(Arc::ptr_eq(&leaf(&first, at), &leaf(&second, at)), at != 77, "{at}");
    }
    let zone = |catalog: &Catalog| catalog.zones().iter().next().unwrap().clone();
    assert!(Arc::ptr_eq(&zone(&first), &zone(&second)));
    // One that leaves moves the places of those after it, not their leaves.
    shifted.remove(5);
    let third = second.next(&snapshot(shifted, None), &mut no_text).unwrap();
    assert!(Arc::ptr_eq(&leaf(&second, 9_999), &leaf(&third, 9_998)));
    assert_eq!(third.names().services(), 9_999);
    assert_eq!(third.names().id(5).unwrap().to_string(), "shop/s00006");
}

#[test]
fn zones_are_read_once_and_again_when_their_text_changes() {
    let digest = Digest::of(TEXT.as_bytes());
    let mut read = 0;
    let mut text = |wanted: &Digest| {
        read += 1;
        (*wanted == digest).then(|| Arc::from(TEXT))
    };
    let first = Catalog::empty().next(&snapshot(vec![], Some(digest)), &mut text).unwrap();
    let second = first.next(&snapshot(vec![service(1)], Some(digest)), &mut text).unwrap();
    let other = Digest::of(b"other");
    let error = second.next(&snapshot(vec![], Some(other)), &mut text).unwrap_err();
    assert!(matches!(error, CatalogError::NoText { .. }), "{error}");
    assert_eq!(read, 2);
    let bad = second.next(&snapshot(vec![], Some(other)), &mut |_| Some("x".into())).unwrap_err();
    assert!(matches!(bad, CatalogError::Problems { ref problems, .. } if !problems.is_empty()));
}

#[test]
fn names_that_the_zone_text_hides_are_told() {
    let origin = Name::from_text("corp.example").unwrap();
    let zone = Zone::parse(&origin, &Source::new("corp", TEXT)).unwrap();
    for (host, above) in [
        ("kid.corp.example", Some("kid.corp.example.")),
        ("a.b.kid.corp.example", Some("kid.corp.example.")),
        ("kids.corp.example", None),
        ("old.corp.example", None),
        ("a.old.corp.example", Some("old.corp.example.")),
        ("kid.corp.test", None),
    ] {
        let found = zone.occluder(&Name::from_text(host).unwrap());
        assert_eq!(found.map(|above| above.to_string()).as_deref(), above, "{host}");
    }
}

#[test]
fn a_referral_holds_the_addresses_of_every_server_inside() {
    let servers: String =
        (0..40).map(|n| format!("many NS ns{n}.many\nns{n}.many A 192.0.2.{n}\n")).collect();
    let origin = Name::from_text("corp.example").unwrap();
    let zone = Zone::parse(&origin, &Source::new("corp", TEXT.to_owned() + &servers)).unwrap();
    let name = Name::from_text("www.many.corp.example").unwrap();
    let client = "192.0.2.250".parse().unwrap();
    let answered = answer(&Catalog::of_zones(vec![zone]), &name, Rtype::A, client);
    assert_eq!((answered.authority.len(), answered.additional.len()), (40, 40));
}
