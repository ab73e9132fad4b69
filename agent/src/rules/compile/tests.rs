use plan::spec::Protocol;

use super::*;
use crate::rules::host::Forbidden;
use crate::rules::sample::{Leaf, host, marks, net, table};

/// Every reason in its own words, and all of them at once.
#[test]
fn what_is_refused() {
    struct Case {
        leaf: Leaf,
        words: &'static [&'static str],
    }
    let at = |address| Leaf { address, ..Leaf::orders(0) };
    let to = |target| Leaf { target: vec![target], ..Leaf::orders(0) };
    let cases = [
        Case {
            leaf: at("127.0.0.1"),
            words: &[
                "shop/orders: its logical address 127.0.0.1 is a loopback address, which rules \
                 cannot stand for",
            ],
        },
        Case {
            leaf: at("::"),
            words: &[
                "shop/orders: its logical address :: is the unspecified address, which rules \
                 cannot stand for",
            ],
        },
        Case {
            leaf: at("224.0.0.251"),
            words: &[
                "shop/orders: its logical address 224.0.0.251 is a multicast address, which rules \
                 cannot stand for",
            ],
        },
        Case {
            leaf: at("255.255.255.255"),
            words: &[
                "shop/orders: its logical address 255.255.255.255 is the broadcast address, which \
                 rules cannot stand for",
            ],
        },
        Case {
            leaf: at("0.1.2.3"),
            words: &[
                "shop/orders: its logical address 0.1.2.3 is an address of this network (RFC \
                 1122), which rules cannot stand for",
            ],
        },
        Case {
            leaf: at("169.254.169.254"),
            words: &[
                "shop/orders: its logical address 169.254.169.254 is a link-local address, which \
                 rules cannot stand for",
            ],
        },
        Case {
            leaf: at("::ffff:10.0.1.10"),
            words: &[
                "shop/orders: its logical address ::ffff:10.0.1.10 is an IPv4 address written as \
                 IPv6, which rules cannot stand for",
            ],
        },
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
