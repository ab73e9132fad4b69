//! Rows for what machines are like, and a look at real ones.

mod cases;
mod machine;

use std::collections::BTreeSet;

use super::findings::{
    Clock, EnvoyFound, Findings, Forwarding, Netfilter, Reach, Release, Space, Wishes,
};
use super::{Check, Row, Verdict, chosen_changes, judge, table, worst};
use crate::journal::Change;

use Verdict::{Fail, Good};
use cases::{HOST, KERNEL, NETWORK};

/// A host on which all is well.
fn well() -> Findings {
    Findings {
        net_admin: true,
        bind_service: true,
        kernel: Some(Release { major: 6, minor: 12 }),
        netfilter: Some(Netfilter::default()),
        conntrack: Some((10, 65_536)),
        forwarding4: Forwarding { on: Some(true), advertised: Vec::new() },
        forwarding6: Forwarding { on: Some(true), advertised: Vec::new() },
        envoy: Some(EnvoyFound::Version(1, 36, 0)),
        clock: Clock::Kept("chrony".into()),
        space: Some(Space { directory: "/var/lib".into(), free: 1 << 30, refuses: None }),
        management: BTreeSet::from(["192.0.2.10".parse().unwrap()]),
        mtu: Some(("eth0".into(), 1500)),
        controller: Some(Reach::Answered("192.0.2.1:7410".into())),
        masqueraded: Some(Vec::new()),
        names: Some(("a drop-in of systemd-resolved".into(), "it answers here".into())),
        ..Findings::default()
    }
}

/// Names are answered here.
fn named() -> Wishes {
    Wishes { names: true, stub: Some("127.0.0.1:53".parse().unwrap()), ..Wishes::default() }
}

struct Case {
    name: &'static str,
    change: fn(&mut Findings, &mut Wishes),
    check: Check,
    verdict: Verdict,
    /// Part of what was chosen.
    chosen: &'static str,
    /// Part of the command.
    mend: Option<&'static str>,
}

/// `name`, `check`, `verdict`, `chosen`, `mend`, `change`.
const fn case(
    name: &'static str,
    (check, verdict): (Check, Verdict),
    chosen: &'static str,
    mend: Option<&'static str>,
    change: fn(&mut Findings, &mut Wishes),
) -> Case {
    Case { name, change, check, verdict, chosen, mend }
}

fn find(rows: &[Row], check: Check) -> &Row {
    let mut found = rows.iter().filter(|row| row.check == check);
    let row = found.next().unwrap();
    assert!(found.next().is_none(), "{check:?} has one row");
    row
}

#[test]
fn each_machine_gets_its_row_with_the_fallback_and_the_command() {
    for case in KERNEL.iter().chain(&NETWORK).chain(&HOST) {
        let (mut findings, mut wishes) = (well(), named());
        (case.change)(&mut findings, &mut wishes);
        let rows = judge(&findings, &wishes);
        let row = find(&rows, case.check);
        assert_eq!(row.verdict, case.verdict, "{}: {row:?}", case.name);
        assert!(row.chosen.contains(case.chosen), "{}: {row:?}", case.name);
        let mend = row.mend.as_deref().unwrap_or_default();
        assert!(mend.contains(case.mend.unwrap_or_default()), "{}: {row:?}", case.name);
        assert_eq!(row.mend.is_some(), case.mend.is_some(), "{}: {row:?}", case.name);
        assert!(!row.found.is_empty() && !row.why.is_empty(), "{}: {row:?}", case.name);
    }
}

#[test]
fn a_well_host_has_good_rows_alone_and_each_check_once() {
    let rows = judge(&well(), &named());
    assert_eq!(worst(&rows), Good, "{}", table(&rows));
    assert!(rows.is_sorted_by(|a, b| a.check < b.check));
    assert_eq!(rows.len(), Check::Mtu as usize + 1);
    let json = serde_json::to_value(&rows).unwrap();
    assert_eq!(json[0]["check"], "privileges");
    assert_eq!(serde_json::from_value::<Vec<Row>>(json).unwrap(), rows);
    assert_eq!(table(&rows).lines().count(), rows.len());
}

#[test]
fn whatever_could_not_be_told_is_no_reason_to_fall() {
    let rows = judge(&Findings::default(), &Wishes::default());
    assert_eq!(worst(&rows), Fail);
    let text = table(&rows);
    assert!(text.contains("FAIL  nf-tables") && text.contains("mend: modprobe"), "{text}");
}

#[test]
fn what_is_changed_is_what_the_rows_chose() {
    let setting = |change: &Change| match change {
        Change::Sysctl { key, value } => format!("{key}={value}"),
        Change::WriteFile { .. } | Change::Run { .. } | Change::OnUndo { .. } => {
            format!("{change:?}")
        }
    };
    let changes = |f: &Findings| -> Vec<String> { chosen_changes(f).iter().map(setting).collect() };
    let mut findings = well();
    assert_eq!(changes(&findings), Vec::<String>::new());
    findings.forwarding4.on = Some(false);
    findings.forwarding6 = Forwarding { on: Some(false), advertised: vec!["eth0.7".into()] };
    findings.strict = vec!["eth1".into()];
    assert_eq!(
        changes(&findings),
        [
            "net.ipv4.ip_forward=1",
            "net/ipv6/conf/eth0.7/accept_ra=2",
            "net.ipv6.conf.all.forwarding=1",
        ]
    );
}
