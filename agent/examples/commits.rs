//! How long the kernel takes for a change: of one service's weight among many, of all, of the
//! first commit, of reading back. Run as root:
//!
//! ```text
//! unshare -n target/release/examples/commits [SERVICES] [CHANGES]
//! ```
#![expect(clippy::print_stdout, reason = "it prints its figures")]
#![expect(clippy::expect_used, reason = "a figure that cannot be taken is none")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::{Duration, Instant};

use agent::dataplane::{Dataplane as _, Netlink, Ownership, Settings};
use agent::rules::{
    Action, Chain, Dispatch, Family, Hook, Key, Match, Name, Rule, Table, Transport,
};

/// How many changes come alone, and how long after the one before: until the processor sleeps and
/// its caches hold something else, as on a host where a weight changes now and then.
const RESTED: u16 = 300;
const REST: Duration = Duration::from_millis(20);

/// The side's bit of a flow's mark, and all of its bits.
const SIDE: u32 = 1;
const MASK: u32 = 0x3fff;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse().expect("a number"));
    let services: u16 = arguments.next().unwrap_or(1_000);
    let changes: u16 = arguments.next().unwrap_or(5_000);
    let mut netlink = Netlink::open(settings()).expect("root, and nf_tables");
    netlink.adopt().expect("nothing of others");
    let mut table = table(services);
    println!("services                 {services}");
    println!("first commit             {:?}", commit(&mut netlink, &table));

    let none = Duration::ZERO;
    let times = weights(&mut netlink, &mut table, services, (0..changes, none), false);
    println!("one weight, of {changes:<9} {times}");
    let rested = (changes..changes + RESTED, REST);
    let times = weights(&mut netlink, &mut table, services, rested, false);
    println!("one that comes alone     {times}");
    let times = weights(&mut netlink, &mut table, services, (0..changes, none), true);
    println!("and the host's side      {times}");
    let times = endpoints(&mut netlink, &mut table, services);
    println!("one endpoint, of 500     {times}");
    let times = all_weights(&mut netlink, &mut table, services);
    println!("all weights at once      {times}");
    let times = figures((0..200).map(|_| commit(&mut netlink, &table)).collect());
    println!("the same table again     {times}");
    let counters = |_| timed(|| drop(netlink.counters().expect("there are some")));
    println!("counters                 {}", figures((0..50).map(counters).collect()));

    drop(netlink);
    let mut netlink = Netlink::open(settings()).expect("root, and nf_tables");
    let adopted = timed(|| {
        netlink.adopt().expect("ours");
    });
    println!("adopt                    {adopted:?}");
    println!("first commit after adopt {:?}", commit(&mut netlink, &table));
    let removed = timed(|| assert!(netlink.remove().expect("ours"), "it was there"));
    println!("remove                   {removed:?}");
}

fn settings() -> Settings {
    Settings { table: name("crossfade"), ownership: Ownership::Persistent, old_kernel: false }
}

/// Weights of one service after the other, each after a rest; `host`: which moves the host itself
/// too.
fn weights(
    netlink: &mut Netlink,
    table: &mut Table,
    services: u16,
    (changes, rest): (Range<u16>, Duration),
    host: bool,
) -> String {
    let change = |change: u16| {
        std::thread::sleep(rest);
        let service = change % services;
        let more = u32::from(change) + u32::from(host);
        let split = u16::try_from(1 + more * 7 % 9_999).expect("below 10000");
        table.chains.insert(part("split", service), split_chain(service, split).into());
        if host {
            let own = if (change / services).is_multiple_of(2) { side_chain() } else { empty() };
            table.chains.insert(part("self", service), own.into());
        }
        *table = anew(table);
        timed(|| {
            let done = netlink.commit(table).expect("the kernel takes it");
            assert!(done.messages > 0, "something was changed");
        })
    };
    figures(changes.map(change).collect())
}

/// As the compiler makes it: with all that it shares with the one before.
fn anew(table: &Table) -> Table {
    let map = |map: &Dispatch| Dispatch {
        family: map.family,
        chains: map.chains.iter().map(|(key, chain)| (*key, chain.clone())).collect(),
    };
    Table {
        counters: table.counters.iter().cloned().collect(),
        dispatch: table.dispatch.iter().map(|(name, of)| (name.clone(), map(of))).collect(),
        chains: table.chains.iter().map(|(name, of)| (name.clone(), of.clone())).collect(),
        ..table.clone()
    }
}

/// A target's endpoint of one service after the other.
fn endpoints(netlink: &mut Netlink, table: &mut Table, services: u16) -> String {
    let change = |change: u16| {
        let service = change % services;
        let octet = u8::try_from(50 + change / services % 100).expect("below 150");
        let chain = endpoint_chain("target", service, octet);
        table.chains.insert(part("target", service), chain.into());
        commit(netlink, table)
    };
    figures((0..500).map(change).collect())
}

fn all_weights(netlink: &mut Netlink, table: &mut Table, services: u16) -> String {
    let round = |round: u16| {
        for service in 0..services {
            let split = split_chain(service, 1 + round);
            table.chains.insert(part("split", service), split.into());
        }
        commit(netlink, table)
    };
    figures((0..20).map(round).collect())
}

fn commit(netlink: &mut Netlink, table: &Table) -> Duration {
    timed(|| {
        netlink.commit(table).expect("the kernel takes it");
    })
}

fn figures(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: usize| times.get((times.len() - 1) * part / 1_000).copied();
    let [p50, p99, p999] = [500, 990, 999].map(|part| at(part).unwrap_or_default());
    format!("p50 {p50:?}  p99 {p99:?}  p99.9 {p999:?}  max {:?}", at(1_000).unwrap_or_default())
}

fn timed(task: impl FnOnce()) -> Duration {
    let start = Instant::now();
    task();
    start.elapsed()
}

fn name(text: &str) -> Name {
    Name::new(text).expect("letters, digits")
}

fn part(word: &str, service: u16) -> Name {
    name(&format!("{word}/plan/s{service}"))
}

/// Services with the chains that the compiler makes.
fn table(services: u16) -> Table {
    let mut table = Table {
        name: name("crossfade"),
        comment: "crossfade: figures".into(),
        counters: BTreeSet::new(),
        stragglers: BTreeMap::new(),
        dispatch: BTreeMap::new(),
        chains: BTreeMap::new(),
    };
    let (mut arriving, mut own) = (BTreeMap::new(), BTreeMap::new());
    for service in 0..services {
        let [high, low] = service.to_be_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(192, 168, high, low));
        let key = Key { address, transport: Transport::Tcp, port: 8_080 };
        arriving.insert(key, part("in", service));
        own.insert(key, part("own", service));
        add_service(&mut table, service);
    }
    table.dispatch.insert(name("in4"), Dispatch { family: Family::V4, chains: arriving });
    table.dispatch.insert(name("out4"), Dispatch { family: Family::V4, chains: own });
    for (chain, hook, map) in
        [("prerouting", Hook::Prerouting, "in4"), ("output", Hook::Output, "out4")]
    {
        let dispatch = rule(vec![], vec![Action::Dispatch(name(map))]);
        let chain_of = Chain { hook: Some((hook, -110)), rules: vec![dispatch] };
        table.chains.insert(name(chain), chain_of.into());
    }
    table
}

fn add_service(table: &mut Table, service: u16) {
    let yes = Action::MarkFlow { mask: SIDE, value: SIDE };
    let networks = ["10.20.0.0/16", "10.30.0.0/16"].map(|net| {
        let source = Match::Source(net.parse().expect("a network"));
        rule(vec![source], vec![yes.clone(), Action::Return])
    });
    let no = Match::FlowMark { mask: SIDE, value: 0 };
    let mut arriving = vec![ask("clients", service), rule(vec![no], vec![Action::Accept])];
    arriving.extend(sides("split", service));
    let chains = &mut table.chains;
    let mut put = |word, rules| {
        chains.insert(part(word, service), Chain { hook: None, rules }.into());
    };
    put("in", arriving);
    put("clients", networks.into());
    put("own", sides("self", service));
    put("self", Vec::new());
    chains.insert(part("split", service), split_chain(service, 1_000).into());
    for (side, octet) in [("legacy", 30), ("target", 40)] {
        table.counters.insert(part(side, service));
        table.chains.insert(part(side, service), endpoint_chain(side, service, octet).into());
    }
}

const fn rule(matches: Vec<Match>, actions: Vec<Action>) -> Rule {
    Rule { matches, actions }
}

const fn empty() -> Chain {
    Chain { hook: None, rules: Vec::new() }
}

/// Asks a chain whether the side's bit shall be set.
fn ask(word: &str, service: u16) -> Rule {
    let clear = Action::MarkFlow { mask: SIDE, value: 0 };
    rule(vec![], vec![clear, Action::Jump(part(word, service))])
}

/// To the side that a chain says.
fn sides(word: &str, service: u16) -> Vec<Rule> {
    let yes = Match::FlowMark { mask: SIDE, value: SIDE };
    let [target, legacy] = ["target", "legacy"].map(|side| Action::Goto(part(side, service)));
    vec![ask(word, service), rule(vec![yes], vec![target]), rule(vec![], vec![legacy])]
}

/// Of a service with an IPv4 address alone, as most are.
fn split_chain(service: u16, bound: u16) -> Chain {
    let family = Family::V4;
    let below = Match::SourceBucketBelow { family, seed: service.into(), bound };
    let target = Action::MarkFlow { mask: SIDE, value: SIDE };
    Chain { hook: None, rules: vec![rule(vec![below], vec![target])] }
}

fn side_chain() -> Chain {
    let target = Action::MarkFlow { mask: SIDE, value: SIDE };
    Chain { hook: None, rules: vec![rule(vec![], vec![target])] }
}

fn endpoint_chain(side: &str, service: u16, octet: u8) -> Chain {
    let [high, low] = service.to_be_bytes();
    let value = u32::from(1 + service % 4_000) * 2 + u32::from(side == "target");
    let counted = vec![Action::MarkFlow { mask: MASK, value }, Action::Count(part(side, service))];
    let endpoints = [format!("10.{octet}.{high}.{low}:80"), format!("[fd{octet}::2]:80")];
    let mut rules = vec![rule(vec![], counted)];
    rules.extend(endpoints.map(|to| {
        let to = Action::Translate(to.parse().expect("an endpoint"));
        rule(vec![Match::Transport(Transport::Tcp)], vec![to])
    }));
    Chain { hook: None, rules }
}
