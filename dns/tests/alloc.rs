//! Answering allocates nothing: the claim is counted, for each kind of answer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use dns::{Buffer, Catalog, Context, Name, Reply, Source, Transport, Zone, respond};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "counting allocations needs an allocator; it forwards to System")]
// SAFETY: every call goes to `System` unchanged; counting touches no memory of the allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise about `place` and `layout` is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ZONE: &str = "
$TTL 1h
@ SOA ns1 hostmaster 7 2h 15m 2w 5m
@ NS ns1
@ MX 10 mail
ns1 A 192.0.2.1
mail A 192.0.2.2
www CNAME mail
*.wild A 192.0.2.3
kid NS ns.kid
ns.kid A 192.0.2.53
old DNAME new
x.new A 192.0.2.4
shop HTTPS 1 . alpn=h2 ipv4hint=192.0.2.9
";

#[test]
fn answers_allocate_nothing() {
    let origin = Name::from_text("example").unwrap();
    let zone = Zone::parse(&origin, &Source::new("zone", ZONE)).unwrap();
    let catalog = Catalog::of_zones(vec![zone]).with_names(plan::Token::START, &[service()]);
    let context = Context {
        client: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        transport: Transport::Udp,
        random: 7,
        cookie: None,
    };
    let mut out = Buffer::new();
    for (name, rtype) in [
        ("mail.example", 1),
        ("example", 15),
        ("example", 6),
        ("www.example", 1),
        ("x.wild.example", 1),
        ("host.kid.example", 1),
        ("x.old.example", 1),
        ("none.example", 1),
        ("mail.example", 255),
        ("shop.example", 1),
        ("shop.example", 28),
        ("shop.example", 65),
        ("elsewhere.test", 1),
    ] {
        let query = query(&Name::from_text(name).unwrap(), rtype);
        let before = COUNT.with(Cell::get);
        let reply = respond(&catalog, &query, &context, &mut out);
        let allocated = COUNT.with(Cell::get) - before;
        assert!(matches!(reply, Reply::Answer { .. }), "{name}");
        assert_eq!(allocated, 0, "{name} {rtype}");
    }
    let before = COUNT.with(Cell::get);
    drop(Buffer::new());
    assert!(COUNT.with(Cell::get) > before, "the counter counts");
}

/// A query with a client subnet, so that its path is counted too.
fn query(name: &Name, rtype: u16) -> Vec<u8> {
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    query.extend_from_slice(name.as_wire());
    query.extend_from_slice(&rtype.to_be_bytes());
    query.extend_from_slice(&[0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11]);
    query.extend_from_slice(&[0, 8, 0, 7, 0, 1, 24, 0, 203, 0, 113]);
    query
}

fn service() -> std::sync::Arc<plan::snapshot::Service> {
    use plan::endpoint::Pool;
    use plan::snapshot::{Motion, Parts, Service, Serving};
    let mut spec = (*plan::fixture::plan().services[0]).clone();
    spec.hosts = vec!["shop.example".parse().unwrap()];
    let pool =
        |serving: &plan::endpoint::Endpoints| Pool { serving: serving.clone(), degraded: false };
    std::sync::Arc::new(Service {
        id: "shop/orders".parse().unwrap(),
        since: plan::Token::START,
        salt: plan::bucket::salt(&spec.salt),
        serving: Serving::Both {
            legacy: pool(&spec.legacy),
            target: pool(&spec.target),
            split: "50%".parse().unwrap(),
        },
        spec: spec.into(),
        clients: std::sync::Arc::default(),
        motion: Motion::Moving,
        gateways: [].into(),
        drain: None,
        ttls: [5].into(),
        parts: Parts::default(),
    })
}
