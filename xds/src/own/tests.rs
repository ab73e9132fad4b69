use std::num::NonZeroU16;
use std::time::Duration;

use ipnet::IpNet;
use plan::bucket;
use plan::endpoint::{Endpoint, Endpoints, Pool};
use plan::name::ServiceId;
use plan::snapshot::{Motion, Parts, Serving};
use plan::spec::{self, Affinity, ClientAddress, Clients, Gateway, Plane, Port, Protocol, Ttl};
use plan::split::Split;
use proptest::prelude::*;
use proto::crossfade::v1 as wire;

use super::*;

fn token(revision: u64) -> Token {
    Token { incarnation: 1, revision }
}

fn endpoints() -> impl Strategy<Value = Endpoints> {
    let endpoint = (any::<std::net::IpAddr>(), prop::option::of(1u16..))
        .prop_map(|(address, port)| Endpoint { address, port: port.and_then(NonZeroU16::new) });
    prop::collection::vec(endpoint, 1..4).prop_map(|list| Endpoints::new(list).unwrap())
}

fn pool() -> impl Strategy<Value = Pool> {
    (endpoints(), any::<bool>()).prop_map(|(serving, degraded)| Pool { serving, degraded })
}

fn serving() -> impl Strategy<Value = Serving> {
    let split = (1u16..10_000).prop_map(|bp| Split::from_bp(bp).unwrap());
    prop_oneof![
        (pool(), prop::option::of(pool()))
            .prop_map(|(legacy, target)| Serving::Legacy { legacy, target }),
        (pool(), pool(), split).prop_map(|(legacy, target, split)| Serving::Both {
            legacy,
            target,
            split
        }),
        (prop::option::of(pool()), pool())
            .prop_map(|(legacy, target)| Serving::Target { legacy, target }),
    ]
}

fn affinity() -> impl Strategy<Value = Affinity> {
    prop_oneof![
        Just(Affinity::ClientIp),
        Just(Affinity::None),
        "[a-z][a-z0-9-]{0,20}".prop_map(|name| Affinity::Header(name.into())),
        "[A-Za-z][a-z0-9_]{0,20}".prop_map(|name| Affinity::Cookie(name.into())),
    ]
}

fn network() -> impl Strategy<Value = IpNet> {
    (any::<std::net::IpAddr>(), 0u8..=32).prop_map(|(ip, len)| IpNet::new(ip, len).unwrap())
}

fn clients() -> impl Strategy<Value = Clients> {
    let plane = prop::sample::select(Plane::ALL.to_vec());
    let row = (prop::collection::vec(network(), 0..3), plane)
        .prop_map(|(networks, plane)| spec::ClientRow { networks, plane });
    let resolver =
        ("[a-z]{0,5}", prop::collection::btree_set(any::<std::net::IpAddr>(), 1..3)).prop_map(
            |(name, addresses)| spec::Resolver { name, addresses: addresses.into_iter().collect() },
        );
    let rows = prop::collection::vec(row, 0..3);
    let resolvers = prop::collection::vec(resolver, 0..3);
    (rows, resolvers, 1u8..=32, 1u8..=128).prop_map(|(rows, resolvers, v4, v6)| Clients {
        rows,
        resolvers,
        key: spec::ClientKey { v4, v6 },
    })
}

fn gateways() -> impl Strategy<Value = Vec<Gateway>> {
    let address = prop_oneof![
        Just(ClientAddress::Direct),
        Just(ClientAddress::ProxyProtocol),
        (1u8..=16).prop_map(ClientAddress::Xff),
    ];
    let mtls = prop::collection::vec(any::<std::net::IpAddr>(), 0..3);
    let gateway = ("[a-z]{1,8}", address, prop::collection::vec(network(), 0..3), mtls).prop_map(
        |(name, client_address, egress, mtls)| Gateway {
            name: name.parse().unwrap(),
            client_address,
            egress,
            mtls,
        },
    );
    prop::collection::vec(gateway, 0..3)
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let kinds = [Protocol::Http, Protocol::Grpc, Protocol::Tcp, Protocol::Udp];
    let port = (1u16.., prop::sample::select(kinds.to_vec()));
    prop::collection::btree_map("[a-z]{1,6}", port, 1..4).prop_map(|ports| {
        let port = |(name, (number, protocol)): (String, _)| Port {
            name: name.parse().unwrap(),
            port: NonZeroU16::new(number).unwrap(),
            protocol,
        };
        ports.into_iter().map(port).collect()
    })
}

fn leaf(plan: &'static str) -> impl Strategy<Value = Service> {
    let motions = [Motion::Steady, Motion::Moving, Motion::RolledBack, Motion::Restored];
    let spec = (
        "[a-z]{1,8}",
        prop::collection::vec(("[a-z]{1,8}\\.corp\\.example", 1u32..=0x7fff_ffff), 1..3),
        prop::option::of(any::<std::net::IpAddr>()),
        ports(),
        affinity(),
        "\\PC{0,12}",
        (endpoints(), endpoints(), prop::collection::vec("[a-z]{1,8}", 0..2)),
    );
    (spec, serving(), prop::sample::select(motions.to_vec()), any::<(u32, u64)>()).prop_map(
        move |((name, hosts, address, ports, affinity, salt, rest), serving, motion, since)| {
            let since = Token { incarnation: since.0, revision: since.1 };
            let (legacy, target, after) = rest;
            Service {
                id: format!("{plan}/{name}").parse::<ServiceId>().unwrap(),
                since,
                ttls: hosts.iter().map(|(_, ttl)| *ttl).collect(),
                salt: bucket::salt(&salt),
                spec: Arc::new(spec::Service {
                    name: name.parse().unwrap(),
                    hosts: hosts.iter().map(|(host, _)| host.parse().unwrap()).collect(),
                    address,
                    ports,
                    affinity,
                    salt: salt.into(),
                    legacy,
                    target,
                    after: after.iter().map(|name| name.parse().unwrap()).collect(),
                    preserve_source: after.len() % 2 == 1,
                }),
                clients: Arc::default(),
                serving,
                motion,
                gateways: Arc::new([]),
                drain: None,
                parts: Parts::all(since),
            }
        },
    )
}

fn leaves(plan: &'static str) -> impl Strategy<Value = Vec<Arc<Service>>> {
    let drain = prop::option::of((0u64..1 << 40, 0u32..1_000_000_000));
    let shared = (clients(), gateways(), drain);
    (prop::collection::vec(leaf(plan), 1..4), shared).prop_map(
        |(leaves, (clients, gateways, drain))| {
            let (clients, gateways) = (Arc::new(clients), Arc::<[Gateway]>::from(gateways));
            let drain = drain.map(|(seconds, nanos)| Duration::new(seconds, nanos));
            let by_id: BTreeMap<ServiceId, Service> =
                leaves.into_iter().map(|leaf| (leaf.id.clone(), leaf)).collect();
            let share = |leaf| {
                let (clients, gateways) = (Arc::clone(&clients), Arc::clone(&gateways));
                Arc::new(Service { clients, gateways, drain, ..leaf })
            };
            by_id.into_values().map(share).collect()
        },
    )
}

fn zone(name: &str, plan: &str, since: u64, text: Option<&str>) -> Arc<Zone> {
    Arc::new(Zone {
        name: name.parse().unwrap(),
        plan: plan.parse().unwrap(),
        since: token(since),
        text: text.map(|text| Digest::of(text.as_bytes())),
        ttl: Ttl { steady: 60, shifting: 5 },
    })
}

proptest! {
    /// What was encoded is decoded to the same leaves.
    #[test]
    fn tables_survive_the_wire(services in leaves("shop"), text in prop::option::of("\\PC{0,9}")) {
        let zones = vec![zone("a.example", "shop", 3, text.as_deref()),
            zone("b.example", "shop", 9, None)];
        let table = ZoneTable { plan: "shop".parse().unwrap(), services, zones };
        prop_assert_eq!(ZoneTable::decode(&table.encode()), Ok(table));
    }

    /// The same for tables of hosts, whose leaves are of several plans.
    #[test]
    fn host_tables_survive_the_wire(a in leaves("a"), b in leaves("b")) {
        let table = HostTable { services: a.into_iter().chain(b).collect() };
        prop_assert_eq!(HostTable::decode(&table.encode()), Ok(table));
    }

    /// No bytes make a receiver panic, and what is taken after bits flipped is whole.
    #[test]
    fn damaged_tables_are_refused_or_whole(
        services in leaves("shop"), flips in prop::collection::vec(any::<(u16, u8)>(), 1..4)
    ) {
        let table = ZoneTable { plan: "shop".parse().unwrap(), services, zones: Vec::new() };
        let mut bytes = table.encode();
        for (at, mask) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= mask;
        }
        if let Ok(table) = ZoneTable::decode(&bytes) {
            for leaf in &table.services {
                prop_assert!(leaf.serving.split() <= Split::TARGET);
                prop_assert_eq!(leaf.ttls.len(), leaf.spec.hosts.len());
                prop_assert!(!leaf.ttls.is_empty() && !leaf.spec.ports.is_empty());
            }
        }
        let _ = (ZoneText::decode(&bytes), HostTable::decode(&bytes));
    }
}

fn message() -> wire::ZoneTable {
    let plan = plan::fixture::plan();
    let since = token(7);
    let leaves = plan.services.iter().map(|spec| {
        let pool = |side: &Endpoints| Pool { serving: side.clone(), degraded: false };
        Arc::new(Service {
            id: ServiceId { plan: plan.name.clone(), service: spec.name.clone() },
            since,
            salt: bucket::salt(&spec.salt),
            serving: Serving::Both {
                legacy: pool(&spec.legacy),
                target: pool(&spec.target),
                split: Split::from_bp(2_500).unwrap(),
            },
            spec: Arc::clone(spec),
            clients: Arc::clone(&plan.clients),
            motion: Motion::Moving,
            gateways: Arc::clone(&plan.gateways),
            drain: None,
            ttls: spec.hosts.iter().map(|_| 5).collect(),
            parts: Parts::all(since),
        })
    });
    encode::zone_table(
        &plan.name,
        &leaves.collect::<Vec<_>>(),
        &[zone("z.example", "shop", 1, None)],
    )
}

/// A change to a table, and words of the refusal.
struct Case {
    name: &'static str,
    change: fn(&mut wire::ZoneTable),
    words: &'static str,
}

fn leaf_of(table: &mut wire::ZoneTable) -> &mut wire::Service {
    &mut table.plan.as_mut().unwrap().services[0]
}

/// Rules, shares and kinds.
fn of_shares() -> Vec<Case> {
    vec![
        Case { name: "newer rules", change: |t| t.requires = 2, words: "version 2" },
        Case { name: "no plan", change: |t| t.plan = None, words: "plan is missing" },
        Case {
            name: "split over",
            change: |t| leaf_of(t).split_bp = 10_001,
            words: "plan shop: service orders: split: 10001 basis points",
        },
        Case { name: "split far over", change: |t| leaf_of(t).split_bp = 65_536, words: "split" },
        Case {
            name: "no endpoint",
            change: |t| leaf_of(t).target.as_mut().unwrap().pool.as_mut().unwrap().serving.clear(),
            words: "target: at least one endpoint is missing",
        },
        Case {
            name: "no pool",
            change: |t| leaf_of(t).target.as_mut().unwrap().pool = None,
            words: "the pool of target",
        },
        Case { name: "unknown motion", change: |t| leaf_of(t).motion = 9, words: "motion" },
        Case {
            name: "unknown protocol",
            change: |t| leaf_of(t).ports[0].protocol = 77,
            words: "protocol",
        },
        Case {
            name: "unknown affinity",
            change: |t| leaf_of(t).affinity.as_mut().unwrap().kind = 50,
            words: "affinity",
        },
        Case { name: "other hash", change: |t| leaf_of(t).seed ^= 1, words: "seed" },
    ]
}

/// Names, numbers and bytes.
fn of_shape() -> Vec<Case> {
    vec![
        Case { name: "no ttl", change: |t| leaf_of(t).hosts[0].ttl = 0, words: "ttl" },
        Case { name: "no hosts", change: |t| leaf_of(t).hosts.clear(), words: "host" },
        Case { name: "no ports", change: |t| leaf_of(t).ports.clear(), words: "port" },
        Case { name: "port 0", change: |t| leaf_of(t).ports[0].number = 0, words: "port" },
        Case { name: "no since", change: |t| leaf_of(t).since = None, words: "since" },
        Case {
            name: "three bytes",
            change: |t| leaf_of(t).address = vec![1, 2, 3].into(),
            words: "neither 4 nor 16",
        },
        Case {
            name: "twice",
            change: |t| {
                let services = &mut t.plan.as_mut().unwrap().services;
                services.push(services[0].clone());
            },
            words: "twice",
        },
        Case {
            name: "key",
            change: |t| t.plan.as_mut().unwrap().clients.as_mut().unwrap().key_v4 = 33,
            words: "client key",
        },
        Case { name: "digest", change: |t| t.zones[0].text = vec![1].into(), words: "32 bytes" },
        Case { name: "ttl over", change: |t| t.zones[0].ttl_steady = u32::MAX, words: "ttl" },
    ]
}

/// Everything that cannot be is refused, and the words say where.
#[test]
fn what_cannot_be_is_refused() {
    let decode = |change: &dyn Fn(&mut wire::ZoneTable)| {
        let mut message = message();
        change(&mut message);
        ZoneTable::decode(&message.encode_to_vec())
    };
    assert!(decode(&|_| ()).is_ok());
    for Case { name, change, words } in of_shares().into_iter().chain(of_shape()) {
        let reject = decode(&change).expect_err(name).to_string();
        assert!(reject.contains(words), "{name}: {reject}");
    }
    let mut text = encode::zone(&"z.example".parse().unwrap(), Digest::of(b"x"), "x");
    assert!(ZoneText::decode(&text.encode_to_vec()).is_ok());
    text.text = "y".to_owned();
    assert!(ZoneText::decode(&text.encode_to_vec()).is_err());
}

fn snapshot(at: u64, plans: &[(&str, u64)], zones: &[Arc<Zone>]) -> Snapshot {
    Snapshot {
        token: token(at),
        plans: plans.iter().map(|(name, at)| (name.parse().unwrap(), token(*at))).collect(),
        zones: zones.to_vec().into(),
        ..Snapshot::empty()
    }
}

/// Edits in words: `+ZoneTable shop 1.4`, `-Zone a.example`.
fn words(edits: &[Edit]) -> Vec<String> {
    let word = |edit: &Edit| match &edit.change {
        Change::Partial(partial) => format!("partial {partial}"),
        Change::Put { encoded, .. } => {
            let since = encoded.version.since().unwrap();
            format!("+{} {} {since}", edit.type_url.short(), encoded.name)
        }
        Change::Remove(name) => format!("-{} {name}", edit.type_url.short()),
        Change::Declare => edit.type_url.short().to_owned(),
        Change::Withdraw => format!("{} withdrawn", edit.type_url.short()),
    };
    edits.iter().map(word).collect()
}

#[test]
fn edits_are_what_changed_and_versions_survive_a_restart() {
    let mut texts = |digest: &Digest| (*digest == Digest::of(b"text")).then(|| Arc::from("text"));
    let with_text = zone("a.example", "shop", 2, Some("text"));
    let lost = zone("b.example", "shop", 3, Some("lost"));
    let one = snapshot(3, &[("shop", 3)], &[Arc::clone(&with_text), Arc::clone(&lost)]);
    let (own, edits) = tables(&one, &mut texts, &Own::default());
    assert_eq!(words(&edits), ["Zone", "ZoneTable", "+Zone a.example 1.2", "+ZoneTable shop 1.3"]);
    assert_eq!(own.missing(), [Digest::of(b"lost")]);

    let two = snapshot(4, &[("book", 4), ("shop", 3)], &[Arc::clone(&with_text), lost]);
    let (own, edits) = tables(&two, &mut texts, &own);
    assert_eq!(words(&edits), ["+ZoneTable book 1.4"]);

    let three = snapshot(5, &[("shop", 5)], &[]);
    let (own, edits) = tables(&three, &mut texts, &own);
    assert_eq!(words(&edits), ["-Zone a.example", "+ZoneTable shop 1.5", "-ZoneTable book"]);
    assert!(tables(&three, &mut texts, &own).1.is_empty());

    // Whoever begins anew says the same versions.
    let (_, anew) = tables(&three, &mut texts, &Own::default());
    assert_eq!(words(&anew), ["Zone", "ZoneTable", "+ZoneTable shop 1.5"]);
}
