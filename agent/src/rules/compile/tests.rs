mod after;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use plan::Plane;
use plan::endpoint::{Endpoint, Endpoints, Pool};
use plan::snapshot::{Service, Serving};
use plan::spec::{self, ClientRow, Clients, Protocol};

use super::*;
use crate::rules::host::Forbidden;
use crate::rules::sample::{Leaf, host, marks, net, table};

/// Addresses to which nobody else's packets go.
#[test]
fn odd_addresses() {
    for (address, what) in [
        ("127.0.0.1", "a loopback address"),
        ("::1", "a loopback address"),
        ("0.0.0.0", "the unspecified address"),
        ("::", "the unspecified address"),
        ("224.0.0.251", "a multicast address"),
        ("ff02::fb", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
        ("0.1.2.3", "an address of this network (RFC 1122)"),
        ("169.254.169.254", "a link-local address"),
        ("fe80::1", "a link-local address"),
        ("::ffff:10.0.1.10", "an IPv4 address written as IPv6"),
    ] {
        let found = compile_beside(&Leaf { address, ..Leaf::orders(0) });
        let words = format!(
            "shop/orders: its logical address {address} is {what}, which rules cannot stand for"
        );
        assert_eq!(found.map(|_| ()).unwrap_err_or_default(), [words]);
    }
}

/// Every reason in its own words.
#[test]
fn what_is_refused() {
    struct Case {
        leaf: Leaf,
        words: &'static [&'static str],
    }
    let at = |address| Leaf { address, ..Leaf::orders(0) };
    let cases = [
        Case {
            leaf: Leaf { legacy: vec!["fe80::1"], target: vec!["::1"], ..Leaf::orders(1) },
            words: &[
                "shop/orders: its legacy endpoint fe80::1 is a link-local address, which rules \
                 cannot stand for",
                "shop/orders: its target endpoint ::1 is a loopback address, which rules cannot \
                 stand for",
            ],
        },
        Case {
            leaf: at("10.0.0.2"),
            words: &[
                "shop/orders: 10.0.0.2:8080/tcp is the controller's address, which rules must not \
                 take hold of",
            ],
        },
        Case {
            leaf: Leaf { ports: vec![(22, Protocol::Tcp)], ..at("10.0.1.11") },
            words: &[
                "shop/orders: 10.0.1.11:22/tcp is where this host is managed by SSH, which rules \
                 must not take hold of",
            ],
        },
        Case {
            // Not its logical address: where it would catch.
            leaf: Leaf { legacy: vec!["10.0.1.11:22"], ..Leaf::orders(10_000) },
            words: &[
                "shop/orders: 10.0.1.11:22/tcp is where this host is managed by SSH, which rules \
                 must not take hold of",
            ],
        },
        Case {
            leaf: Leaf { ports: vec![(53, Protocol::Udp)], ..at("10.0.0.53") },
            words: &[
                "shop/orders: 10.0.0.53:53/udp is this host's resolver, which rules must not take \
                 hold of",
            ],
        },
    ];
    for Case { leaf, words } in cases {
        let found = compile_beside(&leaf).map(|_| ()).unwrap_err_or_default();
        assert_eq!(found, words, "{leaf:?}");
    }
}

/// A target that the rules take hold of, and a destination of two services.
#[test]
fn loops_and_twins() {
    struct Case {
        leaf: Leaf,
        words: &'static [&'static str],
    }
    let at = |address| Leaf { address, ..Leaf::orders(0) };
    let to = |target| Leaf { target: vec![target], ..Leaf::orders(0) };
    let cases = [
        Case {
            leaf: to("10.0.1.10"),
            words: &[
                "shop/orders: its target 10.0.1.10:8080/tcp is where the rules of shop/orders take \
                 hold: a loop",
            ],
        },
        Case {
            leaf: to("10.0.1.11"),
            words: &[
                "shop/orders: its target 10.0.1.11:8080/tcp is where the rules of shop/orders take \
                 hold: a loop",
            ],
        },
        Case {
            leaf: to("10.0.3.10:80"),
            words: &[
                "shop/orders: its target 10.0.3.10:80/tcp is where the rules of shop/web take \
                 hold: a loop",
            ],
        },
        Case {
            leaf: Leaf { ports: vec![(80, Protocol::Http)], ..at("10.0.3.10") },
            words: &["10.0.3.10:80/tcp is the logical address of both shop/orders and shop/web"],
        },
        Case {
            leaf: Leaf {
                ports: vec![(443, Protocol::Tcp), (80, Protocol::Udp)],
                ..to("10.0.3.10")
            },
            words: &[],
        },
    ];
    for Case { leaf, words } in cases {
        let found = compile_beside(&leaf).map(|_| ()).unwrap_err_or_default();
        assert_eq!(found, words, "{leaf:?}");
    }
}

trait OrNone {
    fn unwrap_err_or_default(self) -> Vec<String>;
}

impl OrNone for Result<(), Vec<Reject>> {
    fn unwrap_err_or_default(self) -> Vec<String> {
        self.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }
}

/// Compiles this leaf beside another one on a host where some things must not be touched.
fn compile_beside(leaf: &Leaf) -> Result<Compiled, Vec<Reject>> {
    let web = Leaf {
        id: "shop/web",
        address: "10.0.3.10",
        ports: vec![(80, Protocol::Http)],
        ..Leaf::orders(0)
    };
    let leaves = table(&[leaf.clone(), web]);
    let mut host = host(&["10.0.1.11", "10.0.1.10"]);
    let forbid = |of, port, why: &str| Forbidden { net: net(of), port, why: why.to_owned() };
    host.forbidden = vec![
        forbid("10.0.0.2/32", None, "the controller's address"),
        forbid("10.0.1.11/32", Some(22), "where this host is managed by SSH"),
        forbid("10.0.0.53/32", Some(53), "this host's resolver"),
    ];
    compile(&leaves, &host, &marks(&leaves))
}

#[test]
fn all_reasons_come_at_once() {
    let leaf = Leaf {
        address: "10.0.0.2",
        legacy: vec!["127.0.0.1"],
        target: vec!["10.0.0.2", "224.0.0.1"],
        ..Leaf::orders(1)
    };
    let found = compile_beside(&leaf).map(|_| ()).unwrap_err_or_default();
    let kinds = ["legacy endpoint 127.0.0.1", "target endpoint 224.0.0.1", "controller", "a loop"];
    assert_eq!(found.len(), kinds.len(), "{found:?}");
    for (line, kind) in found.iter().zip(kinds) {
        assert!(line.contains(kind), "{line}");
    }
}

/// What grows too large is refused, at its bound and not before.
#[test]
fn limits() {
    let refused = |leaf: Arc<Service>, words: &str| {
        let mut leaves = table(&[]);
        leaves.services = vec![leaf];
        let result = compile(&leaves, &host(&["10.0.1.11"]), &marks(&leaves));
        let found: Vec<String> =
            result.err().unwrap_or_default().iter().map(ToString::to_string).collect();
        assert_eq!(found.join("\n"), words);
    };
    let target = |endpoints: u32| {
        let addresses = (0..endpoints).map(|low| Ipv4Addr::from(0x0a09_0000 + low));
        let all = addresses.map(|address| Endpoint { address: address.into(), port: None });
        let serving = Endpoints::new(all.collect()).unwrap();
        let mut leaf = Service::clone(&Leaf::orders(0).service());
        let Serving::Legacy { legacy, .. } = leaf.serving else { unreachable!() };
        let target = Some(Pool { serving, degraded: false });
        leaf.serving = Serving::Legacy { legacy, target };
        Arc::new(leaf)
    };
    refused(target(1_000), "");
    refused(target(1_001), "shop/orders: its target side has 1001 endpoints; 1000 are the most");
    let rows = |networks: u32| {
        let mut leaf = Service::clone(&Leaf::orders(0).service());
        let nets = (0..networks).map(|low| IpAddr::from(Ipv4Addr::from(0x0b00_0000 + low)));
        let row = ClientRow { networks: nets.map(IpNet::from).collect(), plane: Plane::Host };
        leaf.clients = Arc::new(Clients { rows: vec![row], ..Clients::default() });
        Arc::new(leaf)
    };
    // And one of the gateway.
    refused(rows(4_095), "");
    refused(
        rows(4_096),
        "shop/orders: its plan has 4097 networks of clients and gateways; 4096 are the most",
    );
}

#[test]
fn many_services_and_rules() {
    let leaves = |services: u32, networks: u32| {
        let one = Leaf::orders(1).service();
        let nets = (0..networks).map(|low| IpNet::from(IpAddr::from(Ipv4Addr::from(low << 8))));
        let row = ClientRow { networks: nets.collect(), plane: Plane::Host };
        let clients = Arc::new(Clients { rows: vec![row], ..Clients::default() });
        let leaf = |at: u32| {
            let mut leaf = Service::clone(&one);
            leaf.id = format!("shop/s{at:05}").parse().unwrap();
            let address = Some(Ipv4Addr::from(0x0b00_0000 + at).into());
            leaf.spec = Arc::new(spec::Service { address, ..spec::Service::clone(&leaf.spec) });
            leaf.clients = Arc::clone(&clients);
            Arc::new(leaf)
        };
        let mut leaves = table(&[]);
        leaves.services = (0..services).map(leaf).collect();
        leaves
    };
    let words = |leaves: &HostTable, marks: &Marks| {
        let result = compile(leaves, &host(&["10.0.1.11"]), marks);
        result.map(|_| ()).unwrap_err_or_default()
    };
    let all = leaves(4_095, 1);
    assert_eq!(words(&all, &marks(&all)), Vec::<String>::new());
    let (more, none) = (leaves(4_096, 1), Marks::default());
    let found = words(&more, &none);
    assert_eq!(found[0], "4096 services have a logical address; 4095 are the most");
    assert_eq!(found[1], "shop/s00000 has no index in the marks of flows");
    let wide = leaves(100, 2_000);
    let found = words(&wide, &marks(&wide));
    assert_eq!(found, ["201608 rules are needed; 200000 are the most"]);
}

/// What a host cannot do is no error; it is told.
#[test]
fn what_is_told() {
    let six = Leaf { address: "fd00::10", ..Leaf::orders(10_000) };
    let leaves = table(&[six, Leaf { id: "shop/web", address: "10.0.3.10", ..Leaf::orders(0) }]);
    let compiled = compile(&leaves, &host(&["10.0.1.11"]), &marks(&leaves)).unwrap();
    assert_eq!(
        compiled.told.iter().map(Told::to_string).collect::<Vec<_>>(),
        [
            "shop/orders: its target has no v6 address, which its logical address fd00::10 needs: \
             host clients stay on legacy",
            "shop/orders: its legacy side has no v6 address: its host clients are left to fd00::10 \
             itself",
            "shop/orders: stragglers at 10.0.1.11:8080/tcp are not caught: other services are \
             there too",
            "shop/web: stragglers at 10.0.1.11:8080/tcp are not caught: other services are there \
             too",
        ]
    );
    assert!(compiled.told.iter().all(|told| !told.masquerades));
    let leaves = table(&[Leaf { keeps_source: true, ..Leaf::orders(5_000) }]);
    let compiled = compile(&leaves, &host(&["10.0.1.11"]), &marks(&leaves)).unwrap();
    let found: Vec<_> =
        compiled.told.iter().map(|told| (told.service.to_string(), told.masquerades)).collect();
    // For each side.
    let once = ("shop/orders".to_owned(), true);
    assert_eq!(found, [once.clone(), once]);
}

/// What is refused for its size would not have fitted, or hardly; what is not, fits.
#[test]
fn the_size_of_a_table_is_known_before_it_is_encoded() {
    let ids = [1, 63].map(|bytes| &*format!("{0}/{0}", "a".repeat(bytes)).leak());
    for id in ids {
        for keeps_source in [false, true] {
            for address in ["10.0.1.10", "fd00::10"] {
                for bp in [0, 5_000, 10_000] {
                    let base = Leaf { id, address, keeps_source, ..Leaf::orders(bp) };
                    let nets = vec!["10.0.0.0/8", "10.64.0.0/10", "fd00::/16", "fd00::/17"];
                    let rows = vec![(Plane::Host, nets)];
                    let leaves = table(&[Leaf { rows, ..base }]);
                    let host = host(&["10.0.1.11"]);
                    let found = compile(&leaves, &host, &marks(&leaves)).unwrap();
                    let (guess, is) = (found.bytes, crate::dataplane::bytes(&found.table));
                    assert!(
                        is <= guess && guess < is * 6 / 5 + 1_024,
                        "{id} {address} {bp}: {guess} {is}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_into_one_transaction_is_refused() {
    let words = |bytes: usize| {
        let one = Leaf::orders(1).service();
        let nets = (0..1_900).map(|low| IpNet::from(IpAddr::from(Ipv4Addr::from(low << 8))));
        let row = ClientRow { networks: nets.collect(), plane: Plane::Host };
        let clients = Arc::new(Clients { rows: vec![row], ..Clients::default() });
        let leaf = |at: u32| {
            let mut leaf = Service::clone(&one);
            let plan = "p".repeat(bytes);
            leaf.id = format!("{plan}/{}{at:05}", "s".repeat(bytes - 5)).parse().unwrap();
            let address = Some(Ipv4Addr::from(0x0b00_0000 + at).into());
            leaf.spec = Arc::new(spec::Service { address, ..spec::Service::clone(&leaf.spec) });
            leaf.clients = Arc::clone(&clients);
            Arc::new(leaf)
        };
        let mut leaves = table(&[]);
        leaves.services = (0..100).map(leaf).collect();
        let result = compile(&leaves, &host(&["10.0.1.11"]), &marks(&leaves));
        result.map(|_| ()).unwrap_err_or_default().join("; ")
    };
    assert_eq!(words(6), "");
    let found = words(63);
    assert!(found.ends_with(" bytes; 83886080 are the most"), "{found}");
}
