//! The network: forwarding, filters and translation by others, and what is never captured.

use std::collections::BTreeSet;

use super::super::findings::{Findings, ForeignMarks, ForeignNat, Forwarding};
use super::super::{Check, Row, Verdict};
use super::row;
use crate::rules::mark;

/// The most chains that are named in one row: some hosts have thousands.
const NAMED_MAX: usize = 8;

/// The least that IPv6 asks of a link (RFC 8200, section 5).
const MTU_LEAST: u32 = 1280;

pub(super) fn rows(findings: &Findings) -> Vec<Row> {
    vec![
        forwarding(Check::ForwardingV4, &findings.forwarding4),
        forwarding(Check::ForwardingV6, &findings.forwarding6),
        reverse_path(findings),
        return_path(findings),
        forward_policy(findings),
        firewalld(findings),
        other_nat(findings),
        flow_marks(findings),
        management(findings),
        ssh(findings),
        mtu(findings),
    ]
}

fn forwarding(check: Check, found: &Forwarding) -> Row {
    let why = "translated packets of other hosts pass through this one";
    match found.on {
        Some(true) => row(check, Verdict::Good, "on".to_owned(), "nothing", why),
        None => {
            let why = "this host does not speak this family";
            row(check, Verdict::Note, "no such family".to_owned(), "nothing", why)
        }
        Some(false) if found.advertised.is_empty() => {
            let chosen = "it is turned on through the journal, and off again on leaving";
            row(check, Verdict::Note, "off".to_owned(), chosen, why)
        }
        Some(false) => {
            let names = found.advertised.join(", ");
            let chosen = "accept_ra becomes 2 there, then it is turned on, through the journal";
            let why = "a host that forwards forgets default routes that routers advertise, \
                       unless accept_ra is 2";
            let found = format!("off; default route by advertisement on {names}");
            row(check, Verdict::Note, found, chosen, why)
        }
    }
}

fn reverse_path(findings: &Findings) -> Row {
    let check = Check::ReversePath;
    if findings.strict.is_empty() {
        let why = "answers may come by another interface than requests left by";
        return row(check, Verdict::Good, "not strict".to_owned(), "nothing", why);
    }
    let found = format!("strict on {}", findings.strict.join(", "));
    let why = "forwarded flows are masqueraded, or proved to be answered by the way that they left";
    row(check, Verdict::Good, found, "it stays strict", why)
}

/// What the agent proved, which it does again and again while it runs.
fn return_path(findings: &Findings) -> Row {
    let check = Check::ReturnPath;
    let chosen = "flows leave with this host's address, but where the way back is proved";
    match findings.masqueraded.as_deref() {
        None => {
            let why = "the agent proves it while it runs, for services with preserveSource";
            row(check, Verdict::Note, "no agent runs".to_owned(), chosen, why)
        }
        Some([]) => {
            let why = "sources are kept where the plan asks, as long as answers come back";
            row(check, Verdict::Good, "nothing asked is refused".to_owned(), "nothing", why)
        }
        Some(notes) => {
            let why = "answers that take another way would never reach their clients";
            row(check, Verdict::Warn, notes.join("; "), chosen, why)
        }
    }
}

fn forward_policy(findings: &Findings) -> Row {
    let check = Check::ForwardPolicy;
    let seen = findings.netfilter.as_ref();
    let mut drops = seen.map(|seen| seen.forward_drops.clone()).unwrap_or_default();
    let docker = findings.docker || seen.is_some_and(|seen| seen.docker_user);
    let legacy = findings.legacy_tables.iter().any(|table| table == "filter");
    if drops.is_empty() && docker && legacy {
        drops.push("legacy iptables FORWARD, by docker".to_owned());
    }
    if drops.is_empty() {
        let why = "nobody drops what is forwarded";
        let found = if docker { "docker, which lets packets pass" } else { "no chain that drops" };
        return row(check, Verdict::Good, found.to_owned(), "nothing", why);
    }
    let found = format!("dropped unless allowed: {}", drops.join(", "));
    let chain = if docker { "DOCKER-USER" } else { "FORWARD" };
    let why = "no rule of our table can let through what another chain drops";
    // Flows of ours, whoever drops the rest: the index of a service is never 0.
    let through = format!("-m connmark ! --mark 0x0/{:#x} -j ACCEPT", mark::INDEX);
    row(check, Verdict::Warn, found, "a rule by the operator, before any split", why)
        .mend(format!("iptables -I {chain} {through}; ip6tables -I {chain} {through}"))
}

fn firewalld(findings: &Findings) -> Row {
    let check = Check::Firewalld;
    if !findings.firewalld {
        let why = "nobody reloads the ruleset";
        return row(check, Verdict::Good, "not running".to_owned(), "nothing", why);
    }
    let chosen = "it is left alone; look before any split whether it rejects translated flows";
    let why = "most versions accept what was translated; zones of old ones reject it";
    row(check, Verdict::Warn, "runs".to_owned(), chosen, why)
        .mend("nft list chain inet firewalld filter_FORWARD | grep 'ct status dnat accept'")
}

fn other_nat(findings: &Findings) -> Row {
    let check = Check::OtherNat;
    let nat = findings.netfilter.as_ref().map(|seen| seen.nat.as_slice()).unwrap_or_default();
    let words = |rules: &[&ForeignNat]| {
        let what = |rule: &ForeignNat| match rule.address {
            Some(address) => format!("{} for {address}", rule.chain),
            None => format!("{} by port", rule.chain),
        };
        let words: BTreeSet<_> = rules.iter().map(|rule| what(rule)).collect();
        let more = words.len().saturating_sub(NAMED_MAX);
        let more = (more > 0).then(|| format!("and {more} more"));
        let words: Vec<_> = words.into_iter().take(NAMED_MAX).chain(more).collect();
        words.join(", ")
    };
    let first: Vec<_> = nat.iter().filter(|rule| rule.first).collect();
    let why = "a flow is translated once, by whoever comes first";
    match (first.as_slice(), nat) {
        ([], []) => row(check, Verdict::Good, "none".to_owned(), "nothing", why),
        ([], _) => {
            let found = words(&nat.iter().collect::<Vec<_>>());
            row(check, Verdict::Note, found, "ours comes first; theirs gets what we leave", why)
        }
        ([one, ..], _) => {
            let chosen = "theirs stays: these flows never come to our rules";
            let table = one.chain.rsplit_once(' ').map_or("ruleset", |(table, _)| table);
            row(check, Verdict::Warn, words(&first), chosen, why)
                .mend(format!("nft -a list table {table}"))
        }
    }
}

fn flow_marks(findings: &Findings) -> Row {
    let check = Check::FlowMarks;
    let marks = findings.netfilter.as_ref().map(|seen| seen.marks.as_slice()).unwrap_or_default();
    let [one, ..] = marks else {
        let why = "the low 14 bits of a flow's mark say its service and side";
        return row(check, Verdict::Good, "nobody else uses ours".to_owned(), "nothing", why);
    };
    let words = |marks: &ForeignMarks| match (marks.written, marks.read) {
        (0, read) => format!("{} goes by {read:#x}", marks.chain),
        (written, 0) => format!("{} writes {written:#x}", marks.chain),
        (written, read) => format!("{} writes {written:#x} and goes by {read:#x}", marks.chain),
    };
    let found: Vec<_> = marks.iter().map(words).collect();
    let chosen = "ours are set; only translated flows are masqueraded, or closed on target";
    let why = "the low 14 bits of a flow's mark are ours: overwritten, a flow is not found when \
               its side is closed; read, it looks like one of theirs";
    let table = one.chain.rsplit_once(' ').map_or("ruleset", |(table, _)| table);
    row(check, Verdict::Warn, found.join(", "), chosen, why)
        .mend(format!("nft -a list table {table}; give it other bits, above 0x3fff"))
}

fn management(findings: &Findings) -> Row {
    let check = Check::Management;
    let why = "what this host is managed by is not captured, whatever a plan says";
    if findings.management.is_empty() {
        let found = "no address is sure".to_owned();
        return row(check, Verdict::Warn, found, "only SSH sessions are left out", why)
            .mend("ip route get 192.0.2.1");
    }
    let addresses: Vec<_> = findings.management.iter().map(ToString::to_string).collect();
    let chosen = "port 22 and the ports of sshd there are refused as logical addresses";
    row(check, Verdict::Good, addresses.join(", "), chosen, why)
}

fn ssh(findings: &Findings) -> Row {
    let check = Check::Ssh;
    let why = "an administrator who loses the session cannot take anything back";
    let sessions: Vec<_> =
        findings.ssh.iter().map(|s| format!("{} from {}", s.local, s.remote)).collect();
    if sessions.is_empty() {
        return row(check, Verdict::Good, "no session".to_owned(), "nothing", why);
    }
    row(check, Verdict::Good, sessions.join(", "), "never captured; watched after joining", why)
}

fn mtu(findings: &Findings) -> Row {
    let check = Check::Mtu;
    let why = "nothing is encapsulated: packets keep their length";
    match &findings.mtu {
        None => row(check, Verdict::Note, "no interface is up".to_owned(), "nothing", why),
        Some((name, mtu)) if *mtu < MTU_LEAST => {
            let why = "IPv6 asks 1280 of each link";
            row(check, Verdict::Warn, format!("{mtu} on {name}"), "IPv4 alone is sure there", why)
                .mend(format!("ip link set {name} mtu {MTU_LEAST}"))
        }
        Some((name, mtu)) => row(check, Verdict::Good, format!("{mtu} on {name}"), "nothing", why),
    }
}
