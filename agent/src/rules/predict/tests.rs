//! What is predicted, what is compiled and what a kernel does with it are three ways to one answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use plan::spec::{Affinity, Port, Protocol};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;
use crate::rules::compile::{Compiled, compile, fixed};
use crate::rules::fake::{Flow, Kernel, Packet, Sender};
use crate::rules::host::Capture;
use crate::rules::local::transport;
use crate::rules::rollback::{self, rollback};
use crate::rules::sample::{Leaf, address, host, marks, net, table};

const IDS: [&str; 4] = ["a/one", "a/two", "b/one", "b/two"];
const OWN: [&str; 4] = ["10.0.1.11", "10.0.1.10", "fd00:1::11", "fd00:1::10"];
const LOGICAL: [&str; 6] =
    ["10.0.1.10", "10.0.1.11", "10.0.7.7", "fd00:1::10", "fd00:1::11", "fd00:7::7"];
const LEGACY: [&str; 8] = [
    "10.0.1.11",
    "10.0.1.12",
    "10.0.1.10",
    "10.0.1.11:9090",
    "10.0.7.7",
    "fd00:1::11",
    "fd00:1::12",
    "[fd00:1::11]:9090",
];
const TARGET: [&str; 6] =
    ["10.9.1.21", "10.9.1.22:9090", "10.9.1.23", "fd00:9::21", "[fd00:9::22]:9090", "fd00:9::23"];
const NETS: [&str; 10] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "10.0.1.0/24",
    "0.0.0.0/0",
    "::/0",
    "fd00:1::/32",
    "fd00:2::/64",
    "10.9.1.0/24",
];
const SOURCES: [&str; 14] = [
    "10.1.2.3",
    "10.1.2.4",
    "10.1.3.1",
    "10.2.0.1",
    "10.0.1.12",
    "10.9.1.21",
    "10.9.1.23",
    "10.9.0.5",
    "10.0.9.9",
    "192.0.2.1",
    "fd00:2::1",
    "fd00:9::21",
    "fd00:9::ffff:1",
    "2001:db8::1",
];
const PORTS: [(u16, Protocol); 4] =
    [(80, Protocol::Http), (443, Protocol::Tcp), (53, Protocol::Udp), (9090, Protocol::Grpc)];

fn some(of: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(of, 1..=most).prop_shuffle()
}

fn split() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(10_000), Just(1), Just(9_999), 1..10_000_u16]
}

fn leaf(id: &'static str) -> impl Strategy<Value = Leaf> {
    let planes =
        prop_oneof![Just(Plane::Mesh), Just(Plane::Host), Just(Plane::Host), Just(Plane::Dns)];
    let rows = proptest::collection::vec((planes, some(&NETS, 3)), 0..4);
    let ports = proptest::sample::subsequence(&PORTS[..], 1..=3);
    let affinity = prop_oneof![
        4 => Just(Affinity::ClientIp),
        1 => Just(Affinity::Header("x-user".into())),
        1 => Just(Affinity::None),
    ];
    let address = proptest::sample::select(&LOGICAL[..]);
    let sides = (some(&LEGACY, 4), some(&TARGET, 4));
    // Of one plan they are the same; what is one plan's is no other's.
    let egress = if id.starts_with('a') { "10.9.0.0/24" } else { "192.0.2.0/24" };
    (address, ports, sides, split(), rows, affinity, any::<bool>()).prop_map(
        move |(address, ports, (legacy, target), split, rows, affinity, keeps_source)| Leaf {
            id,
            address,
            ports,
            legacy,
            target,
            split,
            rows,
            affinity,
            keeps_source,
            egress: vec![egress, "fd00:9::/64"],
        },
    )
}

/// What a run has: some of the services, and a host.
#[derive(Clone, Debug)]
struct World {
    table: HostTable,
    host: Host,
}

fn world() -> impl Strategy<Value = World> {
    let leaves = IDS.map(leaf);
    let count = 1..=IDS.len();
    let own = proptest::sample::subsequence(&OWN[..], 1..=4);
    let both = |id| [Side::Legacy, Side::Target].map(move |side| (id, side));
    let all: Vec<_> = IDS.into_iter().flat_map(both).collect();
    let returns = proptest::sample::subsequence(all, 0..=8);
    (leaves, count, own, any::<[bool; 2]>(), returns).prop_map(
        |(leaves, count, own, [captures, carries], returns)| {
            let mut host = host(&own);
            host.exempt = vec![net("10.0.9.9/32")];
            host.capture = captures.then_some(Capture { port: 15_001, user: 65_532 });
            host.carries = captures || carries;
            host.returns = returns.iter().map(|(id, side)| (id.parse().unwrap(), *side)).collect();
            host.sources = vec![address("10.1.0.1"), address("fd00:2::1")];
            World { table: table(&leaves[..count]), host }
        },
    )
}

impl World {
    fn keys(&self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for at in LOGICAL.into_iter().chain(["10.0.1.12"]) {
            for (transport, port) in [
                (Transport::Tcp, 80),
                (Transport::Tcp, 443),
                (Transport::Udp, 53),
                (Transport::Udp, 9090),
                (Transport::Tcp, 9090),
            ] {
                keys.insert(Key { address: address(at), transport, port });
            }
        }
        keys
    }

    fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for key in self.keys() {
            let own = self.host.own.iter().copied().map(|own| (own, Origin::Host));
            let others = SOURCES.map(|source| (address(source), Origin::Network));
            let all = own.chain(others);
            let all = all.filter(|(of, _)| Family::of(*of) == Family::of(key.address));
            clients.extend(all.map(|(source, origin)| Client { source, key, origin }));
        }
        clients
    }
}

fn open(kernel: &mut Kernel, client: Client, port: u16) -> (Packet, Flow) {
    let packet = Packet {
        transport: client.key.transport,
        source: SocketAddr::new(client.source, port),
        destination: SocketAddr::new(client.key.address, client.key.port),
    };
    let flow = match client.origin {
        Origin::Network => kernel.receive(packet),
        Origin::Host => kernel.send(packet, Sender { user: 1000, mark: 0 }),
    };
    (packet, flow)
}

/// That the kernel did with this client what was predicted.
fn agree(world: &World, compiled: &Compiled, kernel: &mut Kernel, client: Client) {
    let decision = predict(&world.table, &world.host, client);
    let before = tallies(compiled, kernel);
    let (packet, flow) = open(kernel, client, 40_000);
    let after = tallies(compiled, kernel);
    let counted: Vec<_> = after.difference(&before).map(|(name, _)| name.clone()).collect();
    let said = format!("{client:?}\n{decision:?}\n{flow:?}\n{counted:?}");
    let untouched = flow.destination == packet.destination && flow.mark == 0 && counted.is_empty();
    let Some(Decision { service, fate, caught }) = decision else {
        assert!(untouched, "{said}");
        return;
    };
    let mut expected = Vec::new();
    match fate {
        Fate::LeftAlone(Why::AtHome) => {
            assert!(flow.destination == packet.destination && counted.is_empty(), "{said}");
            let marked = marks(&world.table).read(flow.mark) == Some((&service, Side::Legacy));
            assert!(marked || flow.mark == 0, "{said}");
        }
        Fate::LeftAlone(_) => assert!(untouched, "{said}"),
        Fate::Captured(port) => {
            assert!(
                flow.destination.ip().is_loopback() && flow.destination.port() == port,
                "{said}"
            );
        }
        Fate::Drawn(split) => {
            let marks = marks(&world.table);
            let (id, side) = marks.read(flow.mark).unwrap();
            assert_eq!(*id, service, "{said}");
            let possible = match side {
                Side::Legacy => split < Split::TARGET,
                Side::Target => split > Split::LEGACY,
            };
            assert!(possible, "{said}");
            expected.push(format!("{side}/{service}"));
        }
        Fate::Sent { side, endpoint, masqueraded } => {
            assert_eq!(flow.destination, endpoint.unwrap_or(packet.destination), "{said}");
            assert_eq!(flow.masqueraded, masqueraded, "{said}");
            assert_eq!(marks(&world.table).read(flow.mark), Some((&service, side)), "{said}");
            expected.push(format!("{side}/{service}"));
        }
    }
    if caught {
        expected.insert(0, format!("caught/{service}"));
    }
    assert_eq!(counted, expected, "{said}");
}

/// What `explain` says of a client without knowing the VM is what its kernel does.
fn explained(world: &World, client: Client) {
    let Some(decision) = predict(&world.table, &world.host, client) else { return };
    let leaf = world.table.services.iter().find(|leaf| leaf.id == decision.service).unwrap();
    let kernel = plan::view::explain::kernel(leaf, client.source).unwrap();
    let said = format!("{client:?}\n{decision:?}\n{kernel:?}");
    let is_logical = |port: &Port| {
        port.port.get() == client.key.port && transport(port.protocol) == client.key.transport
    };
    let logical =
        leaf.spec.address == Some(client.key.address) && leaf.spec.ports.iter().any(is_logical);
    // The service's own port, which a straggler may have reached by another.
    let only = Local::of(leaf, &world.host).and_then(|local| local.only(client.key.transport));
    let to = |endpoint: Option<plan::endpoint::Endpoint>| {
        let port =
            |endpoint: plan::endpoint::Endpoint| endpoint.port.map(std::num::NonZeroU16::get);
        endpoint.map(|at| SocketAddr::new(at.address, port(at).or(only).unwrap_or(client.key.port)))
    };
    match decision.fate {
        // What only the VM and its table know.
        Fate::LeftAlone(Why::Exempt) | Fate::Captured(_) => {}
        Fate::LeftAlone(Why::Gateway) => assert!(kernel.egress.is_some(), "{said}"),
        Fate::LeftAlone(Why::Plane(_)) => assert_eq!(kernel.side, None, "{said}"),
        Fate::LeftAlone(Why::AtHome) => {
            assert!(!logical || kernel.side.is_none(), "{said}");
            assert_eq!(kernel.straggler, None, "{said}");
        }
        Fate::Drawn(_) => assert_eq!((kernel.endpoint, kernel.straggler), (None, None), "{said}"),
        Fate::Sent { endpoint, .. } if decision.caught => {
            assert_eq!(to(kernel.straggler), endpoint, "{said}");
        }
        Fate::Sent { side, endpoint, .. } => {
            assert_eq!(kernel.side, Some(side), "{said}");
            if endpoint.is_some() {
                assert_eq!(to(kernel.endpoint), endpoint, "{said}");
            }
        }
    }
}

/// Every counter's name with its count.
fn tallies(compiled: &Compiled, kernel: &Kernel) -> BTreeSet<(String, u64)> {
    let table = &compiled.table;
    let counters = table.counters.iter();
    counters.map(|name| (name.to_string(), kernel.counter(&table.name, name))).collect()
}

/// That everyone goes to legacy, whatever was before.
fn all_to_legacy(world: &World, kernel: &mut Kernel, client: Client) {
    let (packet, flow) = open(kernel, client, 50_000);
    let said = format!("{client:?}\n{flow:?}");
    let targets = TARGET.map(|target| target.parse::<plan::endpoint::Endpoint>().unwrap().address);
    assert!(!targets.contains(&flow.destination.ip()), "{said}");
    assert!(flow.destination.port() != 15_001, "{said}");
    if let Some((_, side)) = marks(&world.table).read(flow.mark) {
        assert_eq!(side, Side::Legacy, "{said}");
    } else {
        assert_eq!(flow.destination, packet.destination, "{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_does_what_is_predicted(world in world(), draws in any::<u64>()) {
        let marks = marks(&world.table);
        let Ok(compiled) = compile(&world.table, &world.host, &marks) else { return Ok(()) };
        let mut kernel = Kernel::new(world.host.own.iter().copied(), draws);
        kernel.put(compiled.table.clone()).unwrap();
        for client in world.clients() {
            agree(&world, &compiled, &mut kernel, client);
        }
    }

    #[test]
    fn explain_says_what_is_predicted(world in world()) {
        let compiled = compile(&world.table, &world.host, &marks(&world.table));
        prop_assume!(compiled.is_ok());
        let clients = world.clients().into_iter();
        for client in clients.filter(|client| client.origin == Origin::Network) {
            explained(&world, client);
        }
    }

    #[test]
    fn break_glass_wins_and_is_undone(world in world(), draws in any::<u64>()) {
        let marks = marks(&world.table);
        let Ok(compiled) = compile(&world.table, &world.host, &marks) else { return Ok(()) };
        let mut kernel = Kernel::new(world.host.own.iter().copied(), draws);
        kernel.put(rollback(&world.table, &world.host, &marks)).unwrap();
        kernel.put(compiled.table.clone()).unwrap();
        for client in world.clients() {
            all_to_legacy(&world, &mut kernel, client);
        }
        let ours = tallies(&compiled, &kernel);
        prop_assert!(ours.iter().all(|(_, count)| *count == 0), "{:?}", ours);
        kernel.delete(&fixed(rollback::TABLE));
        for client in world.clients() {
            agree(&world, &compiled, &mut kernel, client);
        }
    }
}

/// Most worlds are ones that a plan can be; the properties above are not about the few left over.
#[test]
fn most_worlds_compile() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut taken = 0;
    for _ in 0..200 {
        let world = world().new_tree(&mut runner).unwrap().current();
        taken += u32::from(compile(&world.table, &world.host, &marks(&world.table)).is_ok());
    }
    assert!(taken > 60, "{taken}");
}
