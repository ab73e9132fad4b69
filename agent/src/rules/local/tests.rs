use plan::spec::Protocol;

use super::*;
use crate::rules::sample::{Leaf, host};

/// How each endpoint is reached: what is left alone, what changes port, what needs its transport.
#[test]
fn ways() {
    struct Case {
        address: &'static str,
        ports: &'static [(u16, Protocol)],
        side: Side,
        endpoint: &'static str,
        ways: &'static str,
    }
    const ONE: &[(u16, Protocol)] = &[(80, Protocol::Http)];
    const TWO: &[(u16, Protocol)] = &[(80, Protocol::Http), (443, Protocol::Tcp)];
    const MIXED: &[(u16, Protocol)] = &[(53, Protocol::Udp), (53, Protocol::Tcp)];
    let legacy = |address, ports, endpoint, ways| Case {
        address,
        ports,
        side: Side::Legacy,
        endpoint,
        ways,
    };
    for Case { address, ports, side, endpoint, ways } in [
        // The host's own logical address, and its own endpoint on the same port.
        legacy("10.0.1.10", ONE, "10.0.1.11", "stay"),
        legacy("10.0.1.10", ONE, "10.0.1.11:80", "stay"),
        legacy("10.0.1.10", ONE, "10.0.1.11:81", "tcp 10.0.1.11:81"),
        legacy("10.0.1.10", ONE, "10.0.1.12", "tcp 10.0.1.12:80"),
        legacy("10.0.1.10", TWO, "10.0.1.11", "stay"),
        legacy("10.0.1.10", TWO, "10.0.1.11:80", "tcp 10.0.1.11:80"),
        legacy("10.0.1.10", TWO, "10.0.1.12", "10.0.1.12:0"),
        legacy("10.0.1.10", MIXED, "10.0.1.12", "tcp 10.0.1.12:53, udp 10.0.1.12:53"),
        legacy("10.0.1.10", MIXED, "10.0.1.11", "stay"),
        // Somebody else's logical address: left alone, the packet would go there.
        legacy("10.0.7.7", ONE, "10.0.1.11", "tcp 10.0.1.11:80"),
        legacy("10.0.7.7", ONE, "10.0.7.7", "stay"),
        Case { side: Side::Target, ..legacy("10.0.7.7", ONE, "10.0.7.7", "tcp 10.0.7.7:80") },
        Case { side: Side::Target, ..legacy("10.0.7.7", TWO, "10.9.0.1", "10.9.0.1:0") },
    ] {
        let leaf = Leaf { address, ports: ports.to_vec(), ..Leaf::orders(1) }.service();
        let host = host(&["10.0.1.11", "10.0.1.10"]);
        let local = Local::of(&leaf, &host).unwrap();
        let lanes = local.lanes(side, endpoint.parse().unwrap());
        let lanes = lanes.iter().map(|lane| {
            let transport = lane.transport.map(|of| format!("{of} ")).unwrap_or_default();
            match lane.way {
                Way::Stay => format!("{transport}stay"),
                Way::To(to) => format!("{transport}{to}"),
            }
        });
        let found = lanes.collect::<Vec<_>>().join(", ");
        assert_eq!(found, ways, "{address} {ports:?} {endpoint}");
    }
}

#[test]
fn where_a_host_serves_by_itself() {
    struct Case {
        ports: &'static [(u16, Protocol)],
        legacy: &'static [&'static str],
        keys: &'static [&'static str],
    }
    const ONE: &[(u16, Protocol)] = &[(80, Protocol::Http)];
    const TWO: &[(u16, Protocol)] = &[(80, Protocol::Http), (443, Protocol::Tcp)];
    for Case { ports, legacy, keys } in [
        Case { ports: ONE, legacy: &["10.0.1.11", "10.0.1.12"], keys: &["10.0.1.11:80/tcp"] },
        // The logical destination is no other one.
        Case { ports: ONE, legacy: &["10.0.1.10"], keys: &[] },
        Case { ports: ONE, legacy: &["10.0.1.10:81"], keys: &["10.0.1.10:81/tcp"] },
        Case {
            ports: TWO,
            legacy: &["10.0.1.11"],
            keys: &["10.0.1.11:80/tcp", "10.0.1.11:443/tcp"],
        },
        // At 81 it cannot be told which of the two ports is meant.
        Case { ports: TWO, legacy: &["10.0.1.11:81"], keys: &[] },
        Case { ports: TWO, legacy: &["10.0.1.11:80"], keys: &["10.0.1.11:80/tcp"] },
    ] {
        let leaf =
            Leaf { ports: ports.to_vec(), legacy: legacy.to_vec(), ..Leaf::orders(1) }.service();
        let host = host(&["10.0.1.11", "10.0.1.10"]);
        let found = Local::of(&leaf, &host).unwrap().own_keys();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, keys, "{ports:?} {legacy:?}");
    }
}
