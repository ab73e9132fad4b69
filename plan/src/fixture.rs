//! The demo plan `shop` and small builders, for tests here and in other crates.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::{Endpoint, Endpoints};
use crate::policy::Policy;
use crate::spec::{
    Affinity, Clients, Gate, GateTest, Plan, Port, Protocol, Service, Step, Strategy, Ttl,
    ZoneSource, ZoneSpec,
};
use crate::split::Split;

/// The demo plan: `orders`, and `payments` after it, both in zone `corp.example.`; six steps, the
/// one at 25 % behind the gate `sign-off`.
#[expect(clippy::unwrap_used, reason = "the text is below, and every test reads it")]
pub fn plan() -> Plan {
    Plan {
        name: "shop".parse().unwrap(),
        strategy: Strategy::Gradual,
        zones: vec![ZoneSpec {
            name: "corp.example.".parse().unwrap(),
            source: ZoneSource::Own,
            ttl: Ttl::default(),
        }],
        clients: Arc::new(Clients::default()),
        services: vec![
            Arc::new(service("orders", 1, &[])),
            Arc::new(service("payments", 2, &["orders"])),
        ],
        steps: [1, 10, 25, 50, 75, 100].into_iter().map(step).collect(),
        gates: vec![Gate {
            name: "sign-off".parse().unwrap(),
            test: GateTest::Manual { approvers: 1 },
        }],
        policy: Policy::default(),
    }
}

#[expect(clippy::unwrap_used, reason = "as above")]
fn service(name: &str, net: u8, after: &[&str]) -> Service {
    let endpoints = |hosts: [[u8; 4]; 2]| {
        let endpoint = |ip| Endpoint { address: IpAddr::V4(Ipv4Addr::from(ip)), port: None };
        Endpoints::new(hosts.map(endpoint).to_vec()).unwrap()
    };
    Service {
        name: name.parse().unwrap(),
        hosts: vec![format!("{name}.corp.example").parse().unwrap()],
        address: Some(IpAddr::V4(Ipv4Addr::new(10, 0, net, 10))),
        ports: vec![Port {
            name: "http".parse().unwrap(),
            port: NonZeroU16::new(8080).unwrap(),
            protocol: Protocol::Http,
        }],
        affinity: Affinity::ClientIp,
        salt: format!("shop/{name}").into(),
        legacy: endpoints([[10, 0, net, 11], [10, 0, net, 12]]),
        target: endpoints([[10, 9, net, 21], [10, 9, net, 22]]),
        after: after.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

#[expect(clippy::unwrap_used, reason = "as above")]
fn step(percent: u16) -> Step {
    let gates = if percent == 25 { vec!["sign-off".parse().unwrap()] } else { vec![] };
    Step {
        split: Split::from_bp(percent * 100).unwrap(),
        bake: Duration::from_secs(10),
        expires: None,
        gates,
    }
}
