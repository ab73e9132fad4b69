//! What machines are like, and the row that each gets.

use super::super::findings::{
    Clock, EnvoyFound, Findings, ForeignMarks, ForeignNat, Forwarding, Netfilter, Reach, Release,
    SshSession, TableSeen,
};
use super::super::{Check, Verdict};
use super::{Case, case};

use Verdict::{Fail, Good, Note, Warn};

/// What an operator is told to add for flows of ours.
const LET_THROUGH: &str = "-I DOCKER-USER -m connmark ! --mark 0x0/0x1ffe -j ACCEPT";

fn seen(findings: &mut Findings) -> &mut Netfilter {
    findings.netfilter.get_or_insert_default()
}

fn stands(findings: &mut Findings, name: &str, is_others: bool) {
    let chains = vec!["prerouting".to_owned(), "output".to_owned()];
    let (family, name) = ("inet".to_owned(), name.to_owned());
    seen(findings).tables.push(TableSeen { family, name, chains, is_others });
}

fn translated(findings: &mut Findings, first: bool) {
    let (chain, address) = ("ip nat PREROUTING".to_owned(), "192.0.2.10".parse().ok());
    seen(findings).nat.push(ForeignNat { chain, address, first });
}

fn docker(findings: &mut Findings) {
    findings.docker = true;
    seen(findings).docker_user = true;
    seen(findings).forward_drops.push("ip filter FORWARD".to_owned());
}

pub(super) const KERNEL: [Case; 19] = [
    case("root", (Check::Privileges, Good), "rules", None, |_, _| {}),
    case("no port 53", (Check::Privileges, Warn), "above 1023", Some("systemctl"), |f, _| {
        f.bind_service = false;
    }),
    case("nobody", (Check::Privileges, Fail), "nothing", Some("sudo"), |f, _| {
        f.net_admin = false;
    }),
    case("a kernel", (Check::Kernel, Good), "one table", None, |_, _| {}),
    case("an old one", (Check::Kernel, Fail), "nothing", Some("5.10"), |f, _| {
        f.kernel = Some(Release { major: 5, minor: 9 });
    }),
    case("the first", (Check::Kernel, Good), "one table", None, |f, _| {
        f.kernel = Some(Release { major: 5, minor: 10 });
    }),
    case("an unknown one", (Check::Kernel, Warn), "accepts", None, |f, _| f.kernel = None),
    case("persist", (Check::TableFlags, Good), "outlives", None, |_, _| {}),
    case("owner", (Check::TableFlags, Note), "descriptor store", None, |f, _| {
        f.kernel = Some(Release { major: 6, minor: 8 });
    }),
    case("neither", (Check::TableFlags, Note), "put back", None, |f, _| {
        f.kernel = Some(Release { major: 5, minor: 11 });
    }),
    case("no nf_tables", (Check::NfTables, Fail), "nothing", Some("modprobe"), |f, _| {
        f.netfilter = None;
    }),
    case("nothing tracked", (Check::Conntrack, Note), "loads", None, |f, _| f.conntrack = None),
    case("full", (Check::Conntrack, Warn), "left", Some("max=131072"), |f, _| {
        f.conntrack = Some((60_000, 65_536));
    }),
    case("free", (Check::TableName, Good), "made", None, |_, _| {}),
    case("ours", (Check::TableName, Note), "adopted", None, |f, _| {
        stands(f, "crossfade", false);
    }),
    case("another's", (Check::TableName, Fail), "nothing", Some("nft list"), |f, _| {
        stands(f, "crossfade", true);
    }),
    case("of another family", (Check::TableName, Good), "made", None, |f, _| {
        stands(f, "crossfade", true);
        seen(f).tables[0].family = "ip".to_owned();
    }),
    case("pulled", (Check::BreakGlass, Warn), "stays", Some("nft delete"), |f, _| {
        stands(f, "crossfade_rollback", false);
    }),
    case("another's rollback", (Check::BreakGlass, Fail), "cannot", Some("nft list"), |f, _| {
        stands(f, "crossfade_rollback", true);
    }),
];

pub(super) const NETWORK: [Case; 25] = [
    case("on", (Check::ForwardingV4, Good), "nothing", None, |_, _| {}),
    case("off", (Check::ForwardingV4, Note), "journal", None, |f, _| {
        f.forwarding4.on = Some(false);
    }),
    case("no IPv6", (Check::ForwardingV6, Note), "nothing", None, |f, _| {
        f.forwarding6.on = None;
    }),
    case("advertised", (Check::ForwardingV6, Note), "accept_ra", None, |f, _| {
        f.forwarding6 = Forwarding { on: Some(false), advertised: vec!["eth0".into()] };
    }),
    case("loose", (Check::ReversePath, Good), "nothing", None, |_, _| {}),
    case("strict", (Check::ReversePath, Good), "stays strict", None, |f, _| {
        f.strict = vec!["eth0".into()];
    }),
    case("no docker", (Check::ForwardPolicy, Good), "nothing", None, |_, _| {}),
    case("docker", (Check::ForwardPolicy, Warn), "operator", Some(LET_THROUGH), |f, _| {
        docker(f);
    }),
    case("docker, legacy", (Check::ForwardPolicy, Warn), "rule", Some("DOCKER-USER"), |f, _| {
        f.docker = true;
        f.legacy_tables = vec!["nat".into(), "filter".into()];
    }),
    case("docker that accepts", (Check::ForwardPolicy, Good), "nothing", None, |f, _| {
        f.docker = true;
    }),
    case("another's drop", (Check::ForwardPolicy, Warn), "rule", Some("-I FORWARD"), |f, _| {
        seen(f).forward_drops.push("inet filter forward".to_owned());
    }),
    case("firewalld", (Check::Firewalld, Warn), "left alone", Some("filter_FORWARD"), |f, _| {
        f.firewalld = true;
    }),
    case("nobody's nat", (Check::OtherNat, Good), "nothing", None, |_, _| {}),
    case("nat after ours", (Check::OtherNat, Note), "ours comes first", None, |f, _| {
        translated(f, false);
    }),
    case("nat by port", (Check::OtherNat, Note), "ours comes first", None, |f, _| {
        let (chain, address, first) = ("ip nat DOCKER".to_owned(), None, false);
        seen(f).nat.push(ForeignNat { chain, address, first });
    }),
    case("nat first", (Check::OtherNat, Warn), "theirs", Some("list table ip nat"), |f, _| {
        translated(f, true);
    }),
    case("no agent", (Check::ReturnPath, Note), "but where", None, |f, _| f.masqueraded = None),
    case("nothing refused", (Check::ReturnPath, Good), "nothing", None, |_, _| {}),
    case("unproved", (Check::ReturnPath, Warn), "this host's address", None, |f, _| {
        f.masqueraded = Some(vec!["shop/orders: preserveSource is not kept".to_owned()]);
    }),
    case("nobody's marks", (Check::FlowMarks, Good), "nothing", None, |_, _| {}),
    case("marks", (Check::FlowMarks, Warn), "translated", Some("table ip mangle"), |f, _| {
        let chain = "ip mangle PREROUTING".to_owned();
        seen(f).marks.push(ForeignMarks { chain, written: 0x3fff, read: 1 });
    }),
    case("unmanaged", (Check::Management, Warn), "SSH", Some("ip route"), |f, _| {
        f.management.clear();
    }),
    case("a session", (Check::Ssh, Good), "never captured", None, |f, _| {
        let [local, remote] = ["192.0.2.10:22", "192.0.2.7:50000"].map(|a| a.parse().unwrap());
        f.ssh = vec![SshSession { local, remote }];
    }),
    case("narrow", (Check::Mtu, Warn), "IPv4", Some("mtu 1280"), |f, _| {
        f.mtu = Some(("tun0".into(), 576));
    }),
    case("down", (Check::Mtu, Note), "nothing", None, |f, _| f.mtu = None),
];

pub(super) const HOST: [Case; 25] = [
    case("a way", (Check::Resolver, Good), "drop-in", None, |_, _| {}),
    case("no way", (Check::Resolver, Warn), "addresses work", Some("resolv.conf"), |f, _| {
        f.names = None;
    }),
    case("no names", (Check::Resolver, Good), "as they are", None, |f, w| {
        f.names = None;
        w.names = false;
    }),
    case("etc", (Check::Etc, Good), "nothing", None, |_, _| {}),
    case("read-only", (Check::Etc, Warn), "/run", Some("remount"), |f, _| {
        f.etc_refuses = Some("Read-only file system".into());
    }),
    case("a stub", (Check::StubPort, Good), "listens", None, |_, _| {}),
    case("taken", (Check::StubPort, Warn), "until it is free", Some("sport = :53"), |f, _| {
        f.stub_refuses = Some("Address already in use".into());
    }),
    case("no stub", (Check::StubPort, Good), "no stub", None, |f, w| {
        f.stub_refuses = Some("Address already in use".into());
        w.names = false;
    }),
    case("no Envoy's port", (Check::EnvoyPort, Good), "none", None, |f, _| f.envoy_port = Some(7)),
    case("a free port", (Check::EnvoyPort, Good), "listens", None, |_, w| w.envoy_user = Some(7)),
    case("Envoy's port", (Check::EnvoyPort, Good), "used", None, |f, w| {
        (f.envoy_port, w.envoy_user) = (Some(7), Some(7));
    }),
    case("a taken port", (Check::EnvoyPort, Warn), "without Envoy", Some("ss -lntp"), |f, w| {
        (f.envoy_port, w.envoy_user) = (Some(8), Some(7));
    }),
    case("an old Envoy beside", (Check::Envoy, Fail), "none", Some("1.36"), |f, w| {
        f.envoy = Some(EnvoyFound::Version(1, 35, 9));
        w.envoy_user = Some(7);
    }),
    case("no Envoy asked", (Check::Envoy, Good), "none", None, |f, _| {
        f.envoy = Some(EnvoyFound::Missing);
    }),
    case("Envoy", (Check::Envoy, Good), "started", None, |_, w| w.envoy = true),
    case("old Envoy", (Check::Envoy, Fail), "none", Some("1.36"), |f, w| {
        f.envoy = Some(EnvoyFound::Version(1, 35, 9));
        w.envoy = true;
    }),
    case("no Envoy", (Check::Envoy, Fail), "none", Some("--envoy"), |f, w| {
        f.envoy = Some(EnvoyFound::Missing);
        w.envoy = true;
    }),
    case("not an Envoy", (Check::Envoy, Fail), "none", Some("--envoy"), |f, w| {
        f.envoy = Some(EnvoyFound::Unclear("GNU".into()));
        w.envoy = true;
    }),
    case("no clock", (Check::Clock, Note), "compares", None, |f, _| f.clock = Clock::Unknown),
    case("full disk", (Check::State, Warn), "reserved", Some("df"), |f, _| {
        f.space.as_mut().unwrap().free = 1 << 20;
    }),
    case("not ours", (Check::State, Fail), "nothing", Some("ls -ld"), |f, _| {
        f.space.as_mut().unwrap().refuses = Some("Permission denied".into());
    }),
    case("no state", (Check::State, Fail), "nothing", Some("install -d"), |f, _| f.space = None),
    case("silent", (Check::Controller, Fail), "refused", Some("--advertise"), |f, _| {
        f.controller = Some(Reach::Silent("connection refused".into()));
    }),
    case("silent, joined", (Check::Controller, Warn), "stays", Some("agent status"), |f, w| {
        f.controller = Some(Reach::Silent("connection refused".into()));
        w.joined = true;
    }),
    case("not asked", (Check::Controller, Note), "nothing", None, |f, _| f.controller = None),
];
