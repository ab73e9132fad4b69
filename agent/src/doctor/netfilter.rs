//! Tables, chains and translating rules that stand in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nlink::netlink::nftables::{ChainInfo, ChainType, Family, RuleInfo};
use nlink::{Connection, Nftables};

use super::findings::{ForeignMarks, ForeignNat, Netfilter, TableSeen};
use super::marks::{self, Bits};
use super::ports;
use crate::dataplane::Netlink;
use crate::rules::{Name, compile, mark};

/// `NF_INET_FORWARD`.
const FORWARD: u32 = 2;
/// `NF_DROP` as a policy.
const DROP: u32 = 0;
/// Our table; the name of the break-glass table begins with it.
const OWN: &str = compile::TABLE;

/// Nothing where the kernel does not answer.
pub(super) async fn find(addresses: &BTreeSet<IpAddr>) -> Option<Netfilter> {
    let kernel = Connection::<Nftables>::new().ok()?;
    let tables = kernel.list_tables().await.ok()?;
    let chains = kernel.list_chains().await.ok()?;
    let mut found = Netfilter::default();
    for table in &tables {
        let names = chains
            .iter()
            .filter(|chain| chain.family == table.family && chain.table == table.name)
            .map(|chain| chain.name.clone())
            .collect();
        let family = word(table.family).to_owned();
        let is_named = table.family == Family::Inet && table.name.starts_with(OWN);
        let is_others = is_named && Name::new(&table.name).is_ok_and(Netlink::is_others);
        found.tables.push(TableSeen { family, name: table.name.clone(), chains: names, is_others });
    }
    let foreign = chains.iter().filter(|chain| !chain.table.starts_with(OWN));
    for chain in foreign.clone() {
        let drops = chain.hook == Some(FORWARD)
            && chain.policy == Some(DROP)
            && matches!(chain.family, Family::Ip | Family::Ip6 | Family::Inet);
        if drops {
            found.forward_drops.push(full(chain));
        }
        found.docker_user |= chain.name == "DOCKER-USER";
    }
    let nat: Vec<_> = foreign.filter(|chain| chain.chain_type == Some(ChainType::Nat)).collect();
    for table in tables.iter().filter(|table| !table.name.starts_with(OWN)) {
        let (name, family) = (table.name.as_str(), word(table.family));
        let Ok(rules) = kernel.list_rules(name, table.family).await else {
            continue;
        };
        found.marks.extend(clashes(&rules, family));
        let of = |chain: &&&ChainInfo| chain.table == name && word(chain.family) == family;
        if !nat.iter().any(|chain| of(&chain)) {
            continue;
        }
        let earliest = nat.iter().filter(of).filter_map(|chain| chain.priority).min();
        let first = earliest.is_some_and(|priority| priority < compile::PRIORITY);
        found.nat.extend(rules.iter().flat_map(|rule| translated(rule, family, first, addresses)));
    }
    Some(found)
}

/// Chains that use our bits. Rules that let through what has a service, as `doctor` gives them, go
/// by the index alone.
fn clashes(rules: &[RuleInfo], family: &str) -> Vec<ForeignMarks> {
    let mut chains: BTreeMap<&str, Bits> = BTreeMap::new();
    for rule in rules {
        let of = marks::of(&rule.expression_bytes);
        let read = if of.read == mark::INDEX { 0 } else { of.read & mark::MASK };
        let bits = chains.entry(&rule.chain).or_default();
        *bits = *bits | Bits { written: of.written & mark::MASK, read };
    }
    let table = rules.first().map(|rule| rule.table.as_str()).unwrap_or_default();
    let chains = chains.into_iter().filter(|(_, bits)| *bits != Bits::default());
    chains
        .map(|(chain, Bits { written, read })| ForeignMarks {
            chain: format!("{family} {table} {chain}"),
            written,
            read,
        })
        .collect()
}

/// Those of the addresses that a rule names and translates; or that it translates a port whatever
/// the address. Expressions are searched for the bytes of an address: also where a rule is
/// iptables', whose form is not nft's.
fn translated<'a>(
    rule: &'a RuleInfo,
    family: &'a str,
    first: bool,
    addresses: &'a BTreeSet<IpAddr>,
) -> impl Iterator<Item = ForeignNat> + 'a {
    let has = |bytes: &[u8]| rule.expression_bytes.windows(bytes.len()).any(|at| at == bytes);
    let translates = has(b"nat\0") || has(b"redir\0") || has(b"DNAT\0") || has(b"REDIRECT\0");
    let named = move |address: &&IpAddr| {
        translates
            && match address {
                IpAddr::V4(v4) => has(&v4.octets()),
                IpAddr::V6(v6) => has(&v6.octets()),
            }
    };
    let by_port = ports::translates(&rule.expression_bytes).then_some(None);
    let found = addresses.iter().filter(named).map(|address| Some(*address)).chain(by_port);
    found.map(move |address| ForeignNat {
        chain: format!("{family} {} {}", rule.table, rule.chain),
        address,
        first,
    })
}

fn full(chain: &ChainInfo) -> String {
    format!("{} {} {}", word(chain.family), chain.table, chain.name)
}

fn word(family: Family) -> &'static str {
    match family {
        Family::Ip => "ip",
        Family::Ip6 => "ip6",
        Family::Inet => "inet",
        Family::Arp => "arp",
        Family::Bridge => "bridge",
        Family::Netdev => "netdev",
        _ => "other",
    }
}
