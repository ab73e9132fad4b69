//! Do new flows see a half state while weights change without a pause? Ours, where a client's
//! side is told by `jhash … < WEIGHT`, and beside it, at the same time, the usual shape as a
//! control: a chain that is emptied and filled in one transaction with a verdict
//! map without a name, which packets under way find empty.
//!
//! The weight goes to and fro between 3 000 and 7 000. Clients send whose bucket is below the one
//! or above the other, so that each has one right side at any time. A flow that is counted on no
//! side was missed, one on the other side is wrong. Each packet is a flow: it goes into a black
//! hole, and the kernel forgets it. Run as root, with `nft` at hand for the control and to count
//! what arrives:
//!
//! ```text
//! target/release/examples/half_states [FLOWS]
//! ```
#![expect(clippy::print_stdout, reason = "it prints its figures")]
#![expect(clippy::expect_used, reason = "a figure that cannot be taken is none")]
#![expect(clippy::unwrap_used, reason = "the same")]
#![expect(clippy::indexing_slicing, reason = "the same")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

#[path = "../tests/support/netns.rs"]
mod netns;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent::dataplane::{Dataplane as _, Netlink, Ownership, Settings};
use agent::rules::{
    Action, Chain, Dispatch, Family, Hook, Key, Match, Name, Rule, Table, Transport,
};
use plan::bucket;

use crate::netns::{Space, World};

const SEED: u32 = 0x5eed_0001;
/// The side's bit of a flow's mark.
const SIDE: u32 = 1;
const LOW: u16 = 3_000;
const HIGH: u16 = 7_000;
/// Sockets of each kind of client.
const SOCKETS: usize = 200;
/// Not faster, that the senders get the processor too.
const PAUSE: Duration = Duration::from_micros(100);

/// What is sent to: by which table it is decided, and of which side the clients are.
#[derive(Clone, Copy, Debug)]
struct Stream {
    name: &'static str,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    target: bool,
}

const STREAMS: [Stream; 4] = [
    stream("ours-t", 11, true),
    stream("ours-l", 12, false),
    stream("control-t", 13, true),
    stream("control-l", 14, false),
];

const fn stream(name: &'static str, last: u8, target: bool) -> Stream {
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last as u16);
    Stream { name, v4: Ipv4Addr::new(192, 0, 2, last), v6, target }
}

fn main() {
    let flows: u64 = std::env::args().nth(1).map_or(1_000_000, |it| it.parse().expect("a number"));
    assert!(netns::allowed("half_states"), "root is needed");
    let world = World::new();
    prepare(&world.vm);
    let ends = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let start = Instant::now();
    let (ours, control) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| world.client.enter(|| send(&ends, &sent)));
        let ours = scope.spawn(|| world.vm.enter(|| change_ours(&ends)));
        let control = scope.spawn(|| change_control(&world.vm, &ends));
        while ours_arrived(&world.vm) < flows {
            std::thread::sleep(Duration::from_millis(200));
            assert!(!sender.is_finished(), "the sender goes on");
        }
        // Who changes goes on until the last packet was sent.
        ends.store(true, Ordering::Relaxed);
        sender.join().expect("it sent");
        (ours.join().expect("it changed"), control.join().expect("it changed"))
    });
    report(&world.vm, start.elapsed(), ours, control);
}

/// Black holes for both sides, the control's table, and what counts all that arrives.
fn prepare(vm: &Space) {
    vm.ip("route add blackhole 192.0.2.0/24");
    vm.ip("-6 route add blackhole 2001:db8::/64");
    let mut text = String::from("table inet arrived {\n");
    let mut counts = String::new();
    for Stream { name, v4, v6, .. } in STREAMS {
        writeln!(text, "counter {name} {{ }}").unwrap();
        writeln!(counts, "ip daddr {v4} counter name {name}").unwrap();
        writeln!(counts, "ip6 daddr {v6} counter name {name}").unwrap();
    }
    writeln!(text, "chain seen {{ type filter hook prerouting priority -300;\n{counts}}}\n}}")
        .unwrap();
    text.push_str("table inet control {\n");
    for stream in &STREAMS[2..] {
        let name = stream.name;
        for side in ["target", "legacy"] {
            writeln!(text, "counter {name}-{side} {{ }}").unwrap();
            writeln!(text, "chain {name}-{side} {{ counter name {name}-{side}\n accept\n }}")
                .unwrap();
        }
        writeln!(
            text,
            "chain {name} {{ {}\n{}\n }}",
            control(name, "ip", LOW),
            control(name, "ip6", LOW)
        )
        .unwrap();
    }
    text.push_str("chain dispatch { type nat hook prerouting priority -110;\n");
    for Stream { name, v4, v6, .. } in &STREAMS[2..] {
        writeln!(text, "ip daddr {v4} goto {name}\nip6 daddr {v6} goto {name}").unwrap();
    }
    text.push_str("}\n}\n");
    let loaded = vm.nft_file(&text);
    assert!(loaded.status.success(), "{}\n{text}", String::from_utf8_lossy(&loaded.stderr));
}

/// The usual shape.
fn control(name: &str, word: &str, weight: u16) -> String {
    let family = if word == "ip" { "ipv4" } else { "ipv6" };
    format!(
        "meta nfproto {family} jhash {word} saddr mod 10000 seed {SEED} vmap {{ 0-{} : goto \
         {name}-target, {weight}-9999 : goto {name}-legacy }}",
        weight - 1
    )
}

/// Changes the control's weights, each time in one transaction; how often.
fn change_control(vm: &Space, ends: &AtomicBool) -> u64 {
    let mut child = vm
        .command("nft")
        .arg("-i")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("nft is there");
    let mut input = child.stdin.take().expect("it was asked for");
    let mut count = 0;
    while !ends.load(Ordering::Relaxed) {
        let weight = if count % 2 == 0 { HIGH } else { LOW };
        let mut line = String::new();
        for stream in &STREAMS[2..] {
            let name = stream.name;
            write!(line, "flush chain inet control {name}; ").unwrap();
            for word in ["ip", "ip6"] {
                let rule = control(name, word, weight);
                write!(line, "add rule inet control {name} {rule}; ").unwrap();
            }
        }
        line.push('\n');
        input.write_all(line.as_bytes()).expect("nft reads");
        count += 1;
    }
    drop(input);
    assert!(child.wait().expect("nft ends").success(), "each line was taken");
    count
}

/// Changes our weights, both services in one transaction; how often.
fn change_ours(ends: &AtomicBool) -> u64 {
    let settings =
        Settings { table: name("crossfade"), ownership: Ownership::Open, old_kernel: false };
    let mut netlink = Netlink::open(settings).expect("root, and nf_tables");
    let mut count = 0;
    while !ends.load(Ordering::Relaxed) {
        let weight = if count % 2 == 0 { HIGH } else { LOW };
        netlink.commit(&table(weight)).expect("the kernel takes it");
        count += 1;
        std::thread::sleep(PAUSE);
    }
    count
}

fn name(text: &str) -> Name {
    Name::new(text).expect("letters, digits")
}

fn table(weight: u16) -> Table {
    let mut table = Table {
        name: name("crossfade"),
        comment: "crossfade: figures".into(),
        counters: BTreeSet::new(),
        stragglers: BTreeMap::new(),
        dispatch: BTreeMap::new(),
        chains: BTreeMap::new(),
    };
    for (map, family) in [("in4", Family::V4), ("in6", Family::V6)] {
        let mut chains = BTreeMap::new();
        for stream in &STREAMS[..2] {
            let address = if family == Family::V4 { stream.v4.into() } else { stream.v6.into() };
            let key = Key { address, transport: Transport::Udp, port: 8_080 };
            let arriving = name(&format!("{}-{family}", stream.name));
            chains.insert(key, arriving.clone());
            let split = name(&format!("{arriving}-split"));
            table.chains.insert(arriving, sides(stream, &split).into());
            table.chains.insert(split, split_chain(family, weight).into());
        }
        table.dispatch.insert(name(map), Dispatch { family, chains });
    }
    for stream in &STREAMS[..2] {
        for (side, mark, net) in [("target", 3, 40), ("legacy", 2, 30)] {
            let side = name(&format!("{}-{side}", stream.name));
            table.counters.insert(side.clone());
            table.chains.insert(side.clone(), endpoints(side, mark, net).into());
        }
    }
    let rules = ["in4", "in6"].map(|map| rule(vec![], vec![Action::Dispatch(name(map))]));
    let chain = Chain { hook: Some((Hook::Prerouting, -110)), rules: rules.into() };
    table.chains.insert(name("prerouting"), chain.into());
    table
}

const fn rule(matches: Vec<Match>, actions: Vec<Action>) -> Rule {
    Rule { matches, actions }
}

/// To the side that a chain says, as the compiler writes it.
fn sides(stream: &Stream, split: &Name) -> Chain {
    let goto = |side| Action::Goto(name(&format!("{}-{side}", stream.name)));
    let clear = Action::MarkFlow { mask: SIDE, value: 0 };
    let rules = vec![
        rule(vec![], vec![clear, Action::Jump(split.clone())]),
        rule(vec![Match::FlowMark { mask: SIDE, value: SIDE }], vec![goto("target")]),
        rule(vec![], vec![goto("legacy")]),
    ];
    Chain { hook: None, rules }
}

fn split_chain(family: Family, weight: u16) -> Chain {
    let below = Match::SourceBucketBelow { family, seed: SEED, bound: weight };
    let target = Action::MarkFlow { mask: SIDE, value: SIDE };
    Chain { hook: None, rules: vec![rule(vec![below], vec![target])] }
}

fn endpoints(side: Name, mark: u32, net: u8) -> Chain {
    let mark = Action::MarkFlow { mask: 0x3fff, value: mark };
    let mut rules = vec![rule(vec![], vec![mark, Action::Count(side)])];
    rules.extend([format!("192.0.2.{net}:9"), format!("[2001:db8::{net}]:9")].map(|to| {
        let to = Action::Translate(to.parse().expect("an endpoint"));
        rule(vec![Match::Transport(Transport::Udp)], vec![to])
    }));
    Chain { hook: None, rules }
}

/// Sends to all streams in turn, of clients of both families.
fn send(ends: &AtomicBool, sent: &AtomicU64) {
    let sockets: Vec<_> = STREAMS.into_iter().flat_map(sockets).collect();
    while !ends.load(Ordering::Relaxed) {
        for socket in &sockets {
            // What a full queue drops has not arrived, and is not counted there.
            socket.send(b"?").ok();
        }
        sent.fetch_add(sockets.len() as u64, Ordering::Relaxed);
    }
}

fn sockets(stream: Stream) -> Vec<UdpSocket> {
    let fits = |address: &IpAddr| {
        let bucket = bucket::host(*address, u64::from(SEED)).number();
        if stream.target { bucket < LOW } else { bucket >= HIGH }
    };
    let v4 = (1..=u16::MAX).map(|n| {
        let [high, low] = n.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 20, high, low))
    });
    let v6 = (1..=u16::MAX).map(|n| IpAddr::V6(Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, n)));
    let v4 = v4.filter(fits).take(SOCKETS).map(|from| (from, IpAddr::V4(stream.v4)));
    let v6 = v6.filter(fits).take(SOCKETS).map(|from| (from, IpAddr::V6(stream.v6)));
    v4.chain(v6)
        .map(|(from, to)| {
            let socket = UdpSocket::bind((from, 0)).expect("an address of this namespace");
            socket.connect((to, 8_080)).expect("there is a route");
            socket
        })
        .collect()
}

fn ours_arrived(vm: &Space) -> u64 {
    STREAMS[..2].iter().map(|stream| counter(vm, "arrived", stream.name)).sum()
}

fn counter(vm: &Space, table: &str, name: &str) -> u64 {
    let text = vm.run("nft", &["list", "counter", "inet", table, name]);
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
    words.next().and_then(|word| word.parse().ok()).expect("a counter says its packets")
}

fn report(vm: &Space, took: Duration, ours: u64, control: u64) {
    let seconds = took.as_secs_f64();
    println!("                        flows   missed    wrong  changes  changes/s   flows/s");
    let mut bad = [0, 0];
    for (kind, table, changes, streams) in
        [(0, "crossfade", ours, &STREAMS[..2]), (1, "control", control, &STREAMS[2..])]
    {
        let [mut flows, mut missed, mut wrong] = [0_i128; 3];
        for stream in streams {
            let at = |table, name: &str| i128::from(counter(vm, table, name));
            let arrived = at("arrived", stream.name);
            let target = at(table, &format!("{}-target", stream.name));
            let legacy = at(table, &format!("{}-legacy", stream.name));
            flows += arrived;
            missed += arrived - target - legacy;
            wrong += if stream.target { legacy } else { target };
        }
        bad[kind] = missed + wrong;
        let what = ["jhash < weight (ours)", "control: nameless map"][kind];
        println!(
            "{what:21} {flows:>8} {missed:>8} {wrong:>8} {changes:>8} {:>10.0} {:>9.0}",
            changes as f64 / seconds,
            flows as f64 / seconds,
        );
    }
    assert_eq!(bad[0], 0, "a flow saw a half state");
    assert!(bad[1] > 0, "the control shows none: this measurement says nothing");
}
