//! A table as a complete file for `nft -f`.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::rules::table::{
    Action, Chain, Dispatch, Family, Hook, Key, Match, Rule, Stragglers, Table, Transport,
};

#[cfg(test)]
mod tests;

/// A file that `nft -f` takes as one transaction: what stood under this name is replaced, also
/// where nothing stood.
pub fn text(table: &Table) -> String {
    let mut out = String::new();
    // A `String` takes whatever is written.
    let _ = file(&mut out, table);
    out
}

fn file(out: &mut String, table: &Table) -> fmt::Result {
    let name = &table.name;
    // `delete` of a table that is not there is an error; `add` of one that is there is none.
    writeln!(out, "add table inet {name}")?;
    writeln!(out, "delete table inet {name}")?;
    writeln!(out, "table inet {name} {{")?;
    writeln!(out, "  comment \"{}\"", quoted(&table.comment))?;
    for counter in &table.counters {
        writeln!(out, "  counter {counter} {{ }}")?;
    }
    for (name, set) in &table.stragglers {
        stragglers(out, name.as_str(), set)?;
    }
    for (name, map) in &table.dispatch {
        dispatch(out, name.as_str(), map)?;
    }
    for (name, rules) in &table.chains {
        chain(out, name.as_str(), rules, table)?;
    }
    out.write_str("}\n")
}

/// nft knows no escapes within quotes.
fn quoted(comment: &str) -> String {
    comment.chars().map(|c| if c == '"' || c.is_control() { ' ' } else { c }).collect()
}

fn stragglers(out: &mut String, name: &str, set: &Stragglers) -> fmt::Result {
    let of = address_type(set.family);
    writeln!(
        out,
        "  set {name} {{ type {of}; size {}; flags dynamic,timeout; timeout {}s; }}",
        set.size, set.timeout_seconds
    )
}

const fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

fn dispatch(out: &mut String, name: &str, map: &Dispatch) -> fmt::Result {
    writeln!(out, "  map {name} {{")?;
    let of = address_type(map.family);
    writeln!(out, "    type {of} . inet_proto . inet_service : verdict;")?;
    if !map.chains.is_empty() {
        writeln!(out, "    elements = {{")?;
        for (Key { address, transport, port }, chain) in &map.chains {
            writeln!(out, "      {address} . {transport} . {port} : goto {chain},")?;
        }
        writeln!(out, "    }}")?;
    }
    out.write_str("  }\n")
}

fn chain(out: &mut String, name: &str, chain: &Chain, table: &Table) -> fmt::Result {
    writeln!(out, "  chain {name} {{")?;
    if let Some((hook, priority)) = chain.hook {
        let hook = match hook {
            Hook::Prerouting => "prerouting",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        writeln!(out, "    type nat hook {hook} priority {priority}; policy accept;")?;
    }
    for rule in &chain.rules {
        out.write_str("   ")?;
        write_rule(out, rule, table)?;
        out.write_str("\n")?;
    }
    out.write_str("  }\n")
}

fn write_rule(out: &mut String, rule: &Rule, table: &Table) -> fmt::Result {
    for of in &rule.matches {
        out.write_str(" ")?;
        write_match(out, of)?;
    }
    for action in &rule.actions {
        out.write_str(" ")?;
        write_action(out, action, table)?;
    }
    Ok(())
}

fn write_match(out: &mut String, of: &Match) -> fmt::Result {
    match of {
        Match::Family(Family::V4) => out.write_str("meta nfproto ipv4"),
        Match::Family(Family::V6) => out.write_str("meta nfproto ipv6"),
        Match::Transport(Transport::Tcp) => out.write_str("meta l4proto tcp"),
        Match::Transport(Transport::Udp) => out.write_str("meta l4proto udp"),
        Match::Source(net @ IpNet::V4(_)) => write!(out, "ip saddr {net}"),
        Match::Source(net @ IpNet::V6(_)) => write!(out, "ip6 saddr {net}"),
        Match::Destination(address) => write!(out, "{} daddr {address}", word(address)),
        Match::SourceBucketBelow { family, seed, bound } => {
            // `ip saddr` would ask for the family first.
            let source = match family {
                Family::V4 => "@nh,96,32",
                Family::V6 => "@nh,64,128",
            };
            write!(out, "jhash {source} mod 10000 seed {seed:#010x} < {bound}")
        }
        Match::DrawBelow { bound } => write!(out, "numgen random mod 10000 < {bound}"),
        Match::SocketUser(user) => write!(out, "meta skuid {user}"),
        Match::PacketMark { mask, value } => {
            write!(out, "meta mark & {mask:#010x} == {value:#010x}")
        }
        Match::FlowMark { mask, value } => write!(out, "ct mark & {mask:#010x} == {value:#010x}"),
        Match::Midway => out.write_str("tcp flags & syn == 0"),
        Match::Translated => out.write_str("ct status dnat"),
        Match::LeavesHost => out.write_str("oifname != \"lo\""),
    }
}

fn write_action(out: &mut String, action: &Action, table: &Table) -> fmt::Result {
    match action {
        Action::MarkFlow { mask, value } => {
            write!(out, "ct mark set ct mark & {:#010x} | {value:#010x}", !mask)
        }
        Action::Count(name) => write!(out, "counter name {name}"),
        Action::Note(name) => match table.stragglers.get(name) {
            Some(set) => {
                write!(out, "update @{name} {{ {} counter }}", network(set.family, set.prefix))
            }
            None => Ok(()),
        },
        Action::Translate(to) => translate(out, *to),
        Action::Redirect(port) => write!(out, "redirect to :{port}"),
        Action::Masquerade => out.write_str("masquerade"),
        Action::LeaveAs(address) => write!(out, "snat {} to {address}", word(address)),
        Action::Goto(name) => write!(out, "goto {name}"),
        Action::Jump(name) => write!(out, "jump {name}"),
        Action::Return => out.write_str("return"),
        Action::Accept => out.write_str("accept"),
        Action::Dispatch(name) => match table.dispatch.get(name).map(|map| map.family) {
            Some(Family::V6) => {
                write!(out, "ip6 daddr . meta l4proto . th dport vmap @{name}")
            }
            Some(Family::V4) | None => {
                write!(out, "ip daddr . meta l4proto . th dport vmap @{name}")
            }
        },
    }
}

fn translate(out: &mut String, to: SocketAddr) -> fmt::Result {
    let address = to.ip();
    match to.port() {
        0 => write!(out, "dnat {} to {address}", word(&address)),
        _ => write!(out, "dnat {} to {to}", word(&address)),
    }
}

const fn word(address: &IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ip",
        IpAddr::V6(_) => "ip6",
    }
}

/// The source's network.
fn network(family: Family, prefix: u8) -> String {
    match family {
        Family::V4 => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
            format!("ip saddr & {}", Ipv4Addr::from(mask))
        }
        Family::V6 => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
            format!("ip6 saddr & {}", Ipv6Addr::from(mask))
        }
    }
}
