//! The kernel: what it lets us do, and what of it others have.

use super::super::findings::{Findings, Netfilter, Release, TableSeen};
use super::super::{Check, Row, Verdict};
use super::row;
use crate::rules::compile::TABLE as OURS;
use crate::rules::rollback::TABLE as BREAK_GLASS;

/// The first release that keeps the comment of a table (`NFTA_TABLE_USERDATA`), by which ours is
/// known; nat chains work in `inet` tables since 5.2.
const COMMENTS: Release = Release { major: 5, minor: 10 };
/// The first with tables that an owner's socket guards (`NFT_TABLE_F_OWNER`).
const OWNER: Release = Release { major: 5, minor: 12 };
/// The first with tables that outlive their owner (`NFT_TABLE_F_PERSIST`).
const PERSIST: Release = Release { major: 6, minor: 9 };

/// How much of the room for flows may be in use, in percent.
const FLOWS_MAX_PERCENT: u64 = 80;

pub(super) fn rows(findings: &Findings) -> Vec<Row> {
    let netfilter = findings.netfilter.as_ref();
    vec![
        privileges(findings),
        release(findings.kernel),
        flags(findings.kernel),
        nf_tables(netfilter),
        conntrack(findings.conntrack),
        name(netfilter),
        break_glass(netfilter),
    ]
}

fn privileges(findings: &Findings) -> Row {
    let check = Check::Privileges;
    let why = "kernel rules need CAP_NET_ADMIN, port 53 needs CAP_NET_BIND_SERVICE";
    match (findings.net_admin, findings.bind_service) {
        (true, true) => {
            row(check, Verdict::Good, "both capabilities".to_owned(), "rules and names", why)
        }
        (true, false) => {
            let found = "no CAP_NET_BIND_SERVICE".to_owned();
            row(check, Verdict::Warn, found, "a stub on a port above 1023", why)
                .mend("systemctl start crossfade-agent")
        }
        (false, _) => {
            let found = "no CAP_NET_ADMIN".to_owned();
            row(check, Verdict::Fail, found, "nothing is changed", why)
                .mend("sudo crossfade agent doctor")
        }
    }
}

fn release(kernel: Option<Release>) -> Row {
    let check = Check::Kernel;
    let why = "rules compare a hash with a number, without sets: kernels that lose set lookups \
               while an element is replaced (before b2f742c846ca, 6.16.8, 6.12.48) do as well";
    match kernel {
        Some(found) if found >= COMMENTS => {
            row(check, Verdict::Good, format!("Linux {found}"), "one table in family inet", why)
        }
        Some(found) => {
            let why = "the comment that a table of ours is known by is kept since Linux 5.10";
            let found = format!("Linux {found}");
            row(check, Verdict::Fail, found, "nothing is changed", why)
                .mend("install a kernel of 5.10 or later")
        }
        None => {
            let found = "no release that is understood".to_owned();
            row(check, Verdict::Warn, found, "what the kernel accepts is used", why)
        }
    }
}

fn flags(kernel: Option<Release>) -> Row {
    let check = Check::TableFlags;
    match kernel {
        Some(found) if found >= PERSIST => row(
            check,
            Verdict::Good,
            "owner and persist".to_owned(),
            "the table is owned and outlives its owner",
            "`nft flush ruleset` of others and a killed agent leave it as it is",
        ),
        Some(found) if found >= OWNER => row(
            check,
            Verdict::Note,
            "owner, no persist before Linux 6.9".to_owned(),
            "the table is owned; its socket is kept in systemd's descriptor store",
            "an owned table goes when the last copy of its socket is closed",
        ),
        Some(_) | None => row(
            check,
            Verdict::Note,
            "no owner before Linux 5.12".to_owned(),
            "a plain table, watched and put back within milliseconds",
            "`nft flush ruleset` of others takes it away",
        ),
    }
}

fn nf_tables(netfilter: Option<&Netfilter>) -> Row {
    let check = Check::NfTables;
    let why = "one table of ours is all that is changed in the kernel";
    match netfilter {
        Some(seen) => {
            let found = match seen.tables.len() {
                1 => "answers; 1 table".to_owned(),
                tables => format!("answers; {tables} tables"),
            };
            row(check, Verdict::Good, found, "rules by netlink; no nft program is needed", why)
        }
        None => row(check, Verdict::Fail, "does not answer".to_owned(), "nothing is changed", why)
            .mend("modprobe nf_tables nft_chain_nat nft_hash nft_ct"),
    }
}

fn conntrack(flows: Option<(u64, u64)>) -> Row {
    let check = Check::Conntrack;
    let why = "each redirected flow is tracked; a full table drops new flows of everybody";
    let Some((now, most)) = flows else {
        let found = "nothing is tracked yet".to_owned();
        return row(check, Verdict::Note, found, "the first nat chain loads it", why);
    };
    let found = format!("{now} of {most} flows");
    if now.saturating_mul(100) >= most.saturating_mul(FLOWS_MAX_PERCENT) {
        let more = most.saturating_mul(2);
        return row(check, Verdict::Warn, found, "it is left as it is", why)
            .mend(format!("sysctl -w net.netfilter.nf_conntrack_max={more}"));
    }
    row(check, Verdict::Good, found, "it is left as it is", why)
}

fn ours<'a>(netfilter: Option<&'a Netfilter>, name: &str) -> Option<&'a TableSeen> {
    netfilter?.tables.iter().find(|table| table.family == "inet" && table.name == name)
}

fn name(netfilter: Option<&Netfilter>) -> Row {
    let check = Check::TableName;
    let why = "tables of others are never touched";
    match ours(netfilter, OURS) {
        None => row(check, Verdict::Good, format!("inet {OURS} is free"), "it is made", why),
        Some(table) if !table.is_others => {
            let why = "an agent was here; its table is adopted, not built beside";
            row(check, Verdict::Note, format!("inet {OURS} stands"), "it is adopted", why)
        }
        Some(_) => {
            let found = format!("inet {OURS} is another program's");
            row(check, Verdict::Fail, found, "nothing is changed", why)
                .mend(format!("nft list table inet {OURS}"))
        }
    }
}

fn break_glass(netfilter: Option<&Netfilter>) -> Row {
    let check = Check::BreakGlass;
    let why = "it sends everything to legacy, before our table, until it is deleted";
    match ours(netfilter, BREAK_GLASS) {
        None => row(check, Verdict::Good, "not pulled".to_owned(), "nothing", why),
        Some(table) if table.is_others => {
            let why = "break-glass has no other name, and tables of others are never touched";
            let found = format!("inet {BREAK_GLASS} is another program's");
            row(check, Verdict::Fail, found, "break-glass cannot be pulled here", why)
                .mend(format!("nft list table inet {BREAK_GLASS}"))
        }
        Some(_) => {
            let found = format!("inet {BREAK_GLASS} stands");
            row(check, Verdict::Warn, found, "it stays: an operator pulled it", why)
                .mend(format!("nft delete table inet {BREAK_GLASS}"))
        }
    }
}
