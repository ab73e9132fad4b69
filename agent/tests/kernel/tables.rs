//! Tables by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use agent::dataplane::{Forget, Netlink, Ownership, Settings};
use agent::rules::{
    Action, Chain, Dispatch, Family, Hook, Key, Marks, Match, Name, Rule, Stragglers, Table,
    Transport,
};
use plan::{ServiceId, Side};

/// The logical addresses, on `lo` of the VM.
pub(crate) const LOGICAL: [&str; 2] = ["192.0.2.10", "2001:db8::10"];
/// Bits of the flow mark.
const MASK: u32 = 0x3fff;
/// The bit of the side.
const SIDE: u32 = 1;
/// Marks of the sides.
const LEGACY: u32 = 2;
const TARGET: u32 = 3;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn settings(ownership: Ownership) -> Settings {
    Settings { table: name("crossfade"), ownership, old_kernel: false }
}

pub(crate) fn open(ownership: Ownership) -> Netlink {
    Netlink::open(settings(ownership)).unwrap()
}

pub(crate) fn empty() -> Table {
    Table {
        name: name("crossfade"),
        comment: "crossfade; off: nft delete table inet crossfade".into(),
        counters: BTreeSet::new(),
        stragglers: BTreeMap::new(),
        dispatch: BTreeMap::new(),
        chains: BTreeMap::new(),
    }
}

pub(crate) fn rule(matches: Vec<Match>, actions: Vec<Action>) -> Rule {
    Rule { matches, actions }
}

pub(crate) fn regular(rules: Vec<Rule>) -> Chain {
    Chain { hook: None, rules }
}

pub(crate) fn goto(chain: &str) -> Action {
    Action::Goto(name(chain))
}

/// One service at both logical addresses, TCP and UDP, port 8080, and who is on which side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) seed: u32,
    /// 0 to 10 000.
    pub(crate) split: u16,
    /// Endpoints' third octet or hextet, as [`crate::netns`] numbers networks.
    pub(crate) legacy: u8,
    pub(crate) target: u8,
}

pub(crate) const SHAPE: Shape = Shape { seed: 0x5eed_0001, split: 1_000, legacy: 30, target: 40 };

/// The table of one service.
pub(crate) fn service(shape: Shape) -> Table {
    let mut table = empty();
    table.counters = ["orders-legacy", "orders-target"].map(name).into();
    for (family, map, chain) in [(Family::V4, "in4", "orders"), (Family::V6, "in6", "orders6")] {
        let keys = [Transport::Tcp, Transport::Udp].map(|transport| {
            let address: IpAddr = LOGICAL[usize::from(family == Family::V6)].parse().unwrap();
            (Key { address, transport, port: 8080 }, name(chain))
        });
        table.dispatch.insert(name(map), Dispatch { family, chains: keys.into() });
        let split_name = format!("{chain}-split");
        table.chains.insert(name(chain), sides(&split_name).into());
        table.chains.insert(name(&split_name), split(family, shape.seed, shape.split).into());
    }
    table.chains.insert(name("orders-legacy"), side("orders-legacy", LEGACY, shape.legacy).into());
    table.chains.insert(name("orders-target"), side("orders-target", TARGET, shape.target).into());
    let dispatch = ["in4", "in6"].map(|map| rule(vec![], vec![Action::Dispatch(name(map))]));
    for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        let rules = dispatch.to_vec();
        table.chains.insert(name(chain), Chain { hook: Some((hook, -110)), rules }.into());
    }
    table
}

/// The flows of that service on these sides; of connections too, or of datagrams alone.
pub(crate) fn flows(sides: &[Side], connections: bool) -> Forget {
    let id: ServiceId = "shop/orders".parse().unwrap();
    let mark = Marks::default().assign([&id].into_iter()).unwrap().of(&id).unwrap();
    assert_eq!([Side::Legacy, Side::Target].map(|side| mark.value(side, false)), [LEGACY, TARGET]);
    let marked = sides.iter().map(|side| (mark, *side)).collect();
    Forget { marked, connections, ..Forget::default() }
}

/// To the side that this chain says.
pub(crate) fn sides(split: &str) -> Chain {
    let clear = Action::MarkFlow { mask: SIDE, value: 0 };
    regular(vec![
        rule(vec![], vec![clear, Action::Jump(name(split))]),
        rule(vec![Match::FlowMark { mask: SIDE, value: SIDE }], vec![goto("orders-target")]),
        rule(vec![], vec![goto("orders-legacy")]),
    ])
}

/// Who is on target.
pub(crate) fn split(family: Family, seed: u32, split: u16) -> Chain {
    let below = Match::SourceBucketBelow { family, seed, bound: split };
    let target = |matches| rule(matches, vec![Action::MarkFlow { mask: SIDE, value: SIDE }]);
    regular(match split {
        0 => vec![],
        10_000 => vec![target(vec![])],
        _ => vec![target(vec![below])],
    })
}

fn side(counter: &str, mark: u32, net: u8) -> Chain {
    let marked = vec![Action::MarkFlow { mask: MASK, value: mark }, Action::Count(name(counter))];
    let mut rules = vec![rule(vec![], marked)];
    for transport in [Transport::Tcp, Transport::Udp] {
        for to in [format!("10.{net}.0.2:8080"), format!("[fd{net}::2]:8080")] {
            let to = Action::Translate(to.parse().unwrap());
            rules.push(rule(vec![Match::Transport(transport)], vec![to]));
        }
    }
    regular(rules)
}

/// A table in which every word of the language stands.
pub(crate) fn every_word() -> Table {
    let mut table = service(SHAPE);
    for (set, family, prefix) in [
        ("seen4", Family::V4, 24),
        ("seen6", Family::V6, 56),
        ("each4", Family::V4, 32),
        ("each6", Family::V6, 128),
    ] {
        let set_of = Stragglers { family, prefix, size: 1_000, timeout_seconds: 3_600 };
        table.stragglers.insert(name(set), set_of);
    }
    let note = |set| rule(vec![], vec![Action::Note(name(set))]);
    let sources = ["10.0.0.0/24", "10.0.0.0/23", "10.1.2.3/32", "0.0.0.0/0", "fd00::/32"]
        .into_iter()
        .chain(["fd00::/33", "fd00::1/128", "::/0", "128.0.0.0/1"])
        .map(|net| rule(vec![Match::Source(net.parse().unwrap())], vec![Action::Accept]));
    let mut rules = vec![note("seen4"), note("seen6"), note("each4"), note("each6")];
    rules.extend(sources);
    let draw = Match::DrawBelow { bound: 9_999 };
    let hash = |family| Match::SourceBucketBelow { family, seed: 1, bound: 9_999 };
    let no = Match::FlowMark { mask: SIDE, value: 0 };
    let both = vec![
        Match::Source("10.2.0.0/16".parse().unwrap()),
        Match::Destination("192.0.2.10".parse().unwrap()),
        Match::Transport(Transport::Udp),
    ];
    rules.extend([
        rule(both, vec![Action::Return]),
        rule(vec![Match::Destination("2001:db8::10".parse().unwrap())], vec![Action::Accept]),
        rule(vec![Match::Family(Family::V4), draw], vec![Action::Jump(name("orders"))]),
        rule(vec![Match::Family(Family::V4), hash(Family::V4)], vec![Action::Return]),
        rule(vec![Match::Family(Family::V6), hash(Family::V6)], vec![Action::Return]),
        rule(vec![no], vec![Action::Accept]),
        rule(vec![Match::Midway], vec![Action::Accept]),
        rule(vec![Match::Transport(Transport::Tcp), Match::Midway], vec![Action::Return]),
        rule(vec![Match::Transport(Transport::Tcp)], vec![Action::Redirect(15_001)]),
        rule(vec![], vec![Action::Translate("10.9.9.9:0".parse().unwrap())]),
        rule(vec![], vec![Action::Translate("[fd00::9]:0".parse().unwrap())]),
    ]);
    table.chains.insert(name("words"), regular(rules).into());
    let prerouting = Arc::make_mut(table.chains.get_mut(&name("prerouting")).unwrap());
    prerouting.rules.push(rule(vec![], vec![Action::Jump(name("words"))]));
    let output = Arc::make_mut(table.chains.get_mut(&name("output")).unwrap());
    let own = Match::PacketMark { mask: 0xff00_0000, value: 0xcf00_0000 };
    output.rules.insert(0, rule(vec![own], vec![Action::Return]));
    output.rules.insert(1, rule(vec![Match::SocketUser(65_532)], vec![Action::Return]));
    let leaving = [
        vec![Match::FlowMark { mask: 1 << 13, value: 1 << 13 }, Match::Translated],
        vec![Match::FlowMark { mask: MASK, value: 5 }, Match::LeavesHost],
    ];
    let mut rules = leaving.map(|matches| rule(matches, vec![Action::Masquerade])).to_vec();
    for address in ["10.1.0.1", "fd00:2::1"] {
        let mark = Match::PacketMark { mask: 0xff00_ffff, value: 0xcf00_0001 };
        let leave = Action::LeaveAs(address.parse().unwrap());
        rules.push(rule(vec![mark, Match::LeavesHost], vec![leave]));
    }
    let postrouting = Chain { hook: Some((Hook::Postrouting, 90)), rules };
    table.chains.insert(name("postrouting"), postrouting.into());
    table
}
