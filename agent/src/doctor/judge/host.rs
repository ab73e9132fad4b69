//! The rest of the host: names, files, Envoy, clock, disk, and the controller.

use xds::render::Door;

use super::super::findings::{Clock, EnvoyFound, Findings, Reach, Wishes};
use super::super::{Check, Row, Verdict};
use super::row;

/// The first Envoy whose extensions our resources use, and that is still mended.
const ENVOY_LEAST: (u32, u32) = (1, 36);

/// Room for the tables, the journal and their second copies.
const SPACE_LEAST: u64 = 64 << 20;

pub(super) fn rows(findings: &Findings, wishes: &Wishes) -> Vec<Row> {
    vec![
        resolver(findings, wishes),
        etc(findings),
        stub(findings, wishes),
        envoy(findings, wishes),
        envoy_port(findings, wishes),
        clock(&findings.clock),
        state(findings),
        controller(findings, wishes),
    ]
}

fn resolver(findings: &Findings, wishes: &Wishes) -> Row {
    let check = Check::Resolver;
    match &findings.names {
        _ if !wishes.names => {
            let why = "no plan has names for this host";
            row(check, Verdict::Good, "not asked".to_owned(), "names stay as they are", why)
        }
        Some((way, why)) => row(check, Verdict::Good, way.clone(), way, why),
        None => {
            let why = "none of the ways that are known fits";
            let found = "nobody that is known".to_owned();
            row(check, Verdict::Warn, found, "names stay as they are; addresses work", why)
                .mend("ls -l /etc/resolv.conf; cat /etc/nsswitch.conf")
        }
    }
}

fn etc(findings: &Findings) -> Row {
    let check = Check::Etc;
    let why = "only a resolver's settings are ever written there, through the journal";
    match &findings.etc_refuses {
        None => row(check, Verdict::Good, "can be written".to_owned(), "nothing", why),
        Some(words) => {
            let chosen = "names by /run where the host offers it, else none; addresses work";
            row(check, Verdict::Warn, words.clone(), chosen, why).mend("mount -o remount,rw /")
        }
    }
}

fn stub(findings: &Findings, wishes: &Wishes) -> Row {
    let check = Check::StubPort;
    let why = "two servers cannot have one address";
    let at = wishes.stub.map(|at| at.to_string()).unwrap_or_default();
    match &findings.stub_refuses {
        _ if !wishes.names => {
            row(check, Verdict::Good, "not asked".to_owned(), "no stub is started", why)
        }
        None if wishes.stub.is_none() => {
            let why = "the way of names says where";
            row(check, Verdict::Good, "not asked".to_owned(), "the stub takes a free one", why)
        }
        None => row(check, Verdict::Good, format!("{at} is free"), "the stub listens there", why),
        Some(words) => {
            let port = wishes.stub.map_or(53, |at| at.port());
            let chosen = "names stay as they are until it is free";
            row(check, Verdict::Warn, format!("{at}: {words}"), chosen, why)
                .mend(format!("ss -lnptu 'sport = :{port}'"))
        }
    }
}

fn envoy(findings: &Findings, wishes: &Wishes) -> Row {
    let check = Check::Envoy;
    let why = "resources are written for Envoy 1.36 and later";
    let install = "install Envoy 1.36 or later, and name it with --envoy PATH";
    if !wishes.envoy && wishes.envoy_user.is_none() {
        let why = "the kernel's rules stand alone";
        return row(check, Verdict::Good, "not asked".to_owned(), "none is started", why);
    }
    match &findings.envoy {
        Some(EnvoyFound::Version(major, minor, patch)) => {
            let found = format!("{major}.{minor}.{patch}");
            if (*major, *minor) >= ENVOY_LEAST {
                return row(check, Verdict::Good, found, "it is started and watched", why);
            }
            row(check, Verdict::Fail, found, "none is started", why).mend(install)
        }
        Some(EnvoyFound::Unclear(said)) => {
            let found = format!("says {said:?}");
            row(check, Verdict::Fail, found, "none is started", why).mend(install)
        }
        Some(EnvoyFound::Missing) | None => {
            row(check, Verdict::Fail, "none".to_owned(), "none is started", why).mend(install)
        }
    }
}

fn envoy_port(findings: &Findings, wishes: &Wishes) -> Row {
    let check = Check::EnvoyPort;
    let why = "this host's own calls are sent there, and to nobody but Envoy";
    let at = Door::CAPTURE;
    let Some(user) = wishes.envoy_user else {
        return row(check, Verdict::Good, "not asked".to_owned(), "none are sent there", why);
    };
    match findings.envoy_port {
        None => row(check, Verdict::Good, format!("{at} is free"), "Envoy listens there", why),
        Some(found) if found == user => {
            row(check, Verdict::Good, format!("{at} is Envoy's"), "it is used", why)
        }
        Some(other) => {
            let found = format!("{at} is taken by a program of user {other}");
            let chosen = "own calls go without Envoy until it is free";
            row(check, Verdict::Warn, found, chosen, why)
                .mend(format!("ss -lntp 'sport = :{}'", at.port()))
        }
    }
}

fn clock(clock: &Clock) -> Row {
    let check = Check::Clock;
    let why = "certificates are of this day; the controller refuses a clock 5 minutes off";
    match clock {
        Clock::Kept(by) => row(check, Verdict::Good, format!("kept by {by}"), "nothing", why),
        Clock::Unknown => {
            let found = "nobody is seen to keep it".to_owned();
            row(check, Verdict::Note, found, "joining compares it with the controller's", why)
        }
    }
}

fn state(findings: &Findings) -> Row {
    let check = Check::State;
    let why = "what is applied is on disk first, so that a reboot without controller keeps it";
    let Some(space) = &findings.space else {
        let found = "no state directory".to_owned();
        return row(check, Verdict::Fail, found, "nothing is changed", why)
            .mend("install -d -m 700 -o crossfade-agent /var/lib/crossfade/agent");
    };
    let mib = space.free >> 20;
    if let Some(words) = &space.refuses {
        let found = format!("{}: {words}", space.directory);
        return row(check, Verdict::Fail, found, "nothing is changed", why)
            .mend(format!("ls -ld {}", space.directory));
    }
    let found = format!("{}: {mib} MiB free", space.directory);
    if space.free < SPACE_LEAST {
        let chosen = "room is reserved now; what stands goes on when the disk is full";
        return row(check, Verdict::Warn, found, chosen, why)
            .mend(format!("df -h {}", space.directory));
    }
    row(check, Verdict::Good, found, "it is used", why)
}

fn controller(findings: &Findings, wishes: &Wishes) -> Row {
    let check = Check::Controller;
    let why = "a table comes from there; without it the last one stays in force";
    match &findings.controller {
        None => row(check, Verdict::Note, "not asked".to_owned(), "nothing", why),
        Some(Reach::Answered(at)) => {
            row(check, Verdict::Good, format!("{at} answers"), "it is followed", why)
        }
        Some(Reach::Silent(words)) if wishes.joined => {
            let chosen = "what was held stays in force, and it is asked again and again";
            row(check, Verdict::Warn, words.clone(), chosen, why)
                .mend("crossfade agent status; check the address and the firewall on the way")
        }
        Some(Reach::Silent(words)) => {
            row(check, Verdict::Fail, words.clone(), "joining is refused", why)
                .mend("check HOST:PORT, the firewall on the way, and `serve --advertise` there")
        }
    }
}
