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
use std::time::{Duration, Instant};

use agent::dataplane::{Dataplane as _, Netlink, Ownership, Settings};
use agent::rules::{
    Action, Chain, Dispatch, Family, Hook, Key, Match, Name, Rule, Table, Transport,
};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse().expect("a number"));
    let services: u16 = arguments.next().unwrap_or(1_000);
    let changes = arguments.next().unwrap_or(5_000);
    let settings =
        Settings { table: name("crossfade"), ownership: Ownership::Persistent, old_kernel: false };
    let mut netlink = Netlink::open(settings.clone()).expect("root, and nf_tables");
    netlink.adopt().expect("nothing of others");
    let mut table = table(services);

    let first = timed(|| {
        netlink.commit(&table).expect("the kernel takes it");
    });
    println!("services                 {services}");
    println!("first commit             {first:?}");

    let mut times = Vec::new();
    for change in 0..changes {
        let service = change % services;
        let split = u16::try_from(1 + u32::from(change) * 7 % 9_999).expect("below 10000");
        table.chains.insert(name(&format!("s{service}")), split_chain(service, split));
        times.push(timed(|| {
            let done = netlink.commit(&table).expect("the kernel takes it");
            assert!(done.messages > 0, "something was changed");
        }));
    }
    times.sort();
    println!("one weight, of {changes}      {}", figures(&times));

    let mut times: Vec<_> = (0..20_u16)
        .map(|round| {
            for service in 0..services {
                let split = split_chain(service, 1 + round);
                table.chains.insert(name(&format!("s{service}")), split);
            }
            timed(|| {
                netlink.commit(&table).expect("the kernel takes it");
            })
        })
        .collect();
    times.sort();
    println!("all weights at once      {}", figures(&times));

    let mut times: Vec<_> = (0..200)
        .map(|_| {
            timed(|| {
                netlink.commit(&table).expect("the same");
            })
        })
        .collect();
    times.sort();
    println!("the same table again     {}", figures(&times));

    let mut times: Vec<_> = (0..50)
        .map(|_| {
            timed(|| {
                netlink.counters().expect("there are some");
            })
        })
        .collect();
    times.sort();
    println!("counters                 {}", figures(&times));

    drop(netlink);
    let mut netlink = Netlink::open(settings).expect("root, and nf_tables");
    println!(
        "adopt                    {:?}",
        timed(|| {
            netlink.adopt().expect("ours");
        })
    );
    let anew = timed(|| {
        netlink.commit(&table).expect("the kernel takes it");
    });
    println!("first commit after adopt {anew:?}");
    println!(
        "remove                   {:?}",
        timed(|| {
            netlink.remove().expect("ours");
        })
    );
}

fn figures(sorted: &[Duration]) -> String {
    let at = |part: usize| sorted.get((sorted.len() - 1) * part / 1_000).copied();
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

/// Services with a chain for the split and one for each side.
fn table(services: u16) -> Table {
    let mut table = Table {
        name: name("crossfade"),
        comment: "crossfade: figures".into(),
        counters: BTreeSet::new(),
        stragglers: BTreeMap::new(),
        dispatch: BTreeMap::new(),
        chains: BTreeMap::new(),
    };
    // What arrives is split; the host's own processes are one client, on one side.
    let (mut chains, mut own) = (BTreeMap::new(), BTreeMap::new());
    for service in 0..services {
        let [high, low] = service.to_be_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(192, 168, high, low));
        let key = Key { address, transport: Transport::Tcp, port: 8_080 };
        chains.insert(key, name(&format!("s{service}")));
        own.insert(key, name(&format!("s{service}-l")));
        table.chains.insert(name(&format!("s{service}")), split_chain(service, 1_000));
        for (side, octet) in [("l", 30), ("t", 40)] {
            let counter = name(&format!("s{service}-{side}"));
            let value = u32::from(service % 4_000) * 2 + u32::from(octet == 40) + 2;
            let counted =
                vec![Action::MarkFlow { mask: 0x3fff, value }, Action::Count(counter.clone())];
            let endpoints = [format!("10.{octet}.{high}.{low}:80"), format!("[fd{octet}::2]:80")];
            let mut rules = vec![Rule { matches: vec![], actions: counted }];
            rules.extend(endpoints.map(|to| Rule {
                matches: vec![Match::Transport(Transport::Tcp)],
                actions: vec![Action::Translate(to.parse().expect("an endpoint"))],
            }));
            table.counters.insert(counter.clone());
            table.chains.insert(counter, Chain { hook: None, rules });
        }
    }
    table.dispatch.insert(name("in4"), Dispatch { family: Family::V4, chains });
    table.dispatch.insert(name("out4"), Dispatch { family: Family::V4, chains: own });
    for (chain, hook, map) in
        [("prerouting", Hook::Prerouting, "in4"), ("output", Hook::Output, "out4")]
    {
        let dispatch = Rule { matches: vec![], actions: vec![Action::Dispatch(name(map))] };
        let chain_of = Chain { hook: Some((hook, -110)), rules: vec![dispatch] };
        table.chains.insert(name(chain), chain_of);
    }
    table
}

/// Of a service with an IPv4 address alone, as most are.
fn split_chain(service: u16, bound: u16) -> Chain {
    let family = Family::V4;
    let below = Rule {
        matches: vec![Match::SourceBucketBelow { family, seed: service.into(), bound }],
        actions: vec![Action::Goto(name(&format!("s{service}-t")))],
    };
    let legacy =
        Rule { matches: vec![], actions: vec![Action::Goto(name(&format!("s{service}-l")))] };
    Chain { hook: None, rules: vec![below, legacy] }
}
