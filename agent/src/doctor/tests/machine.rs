//! Looking at trees that stand for a machine, and at the real kernel in a namespace of our own.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::super::findings::{EnvoyFound, Findings, Reach, Wishes};
use super::super::{Check, FindSettings, Verdict, find, judge, ssh_sessions};
use super::find as row;

fn settings(root: &Path) -> FindSettings {
    FindSettings { root: root.to_path_buf(), data: std::env::temp_dir(), envoy: None }
}

fn look(settings: &FindSettings, wishes: &Wishes) -> Findings {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(find(settings, wishes))
}

/// Runs as root in a network of its own, where others have their rules.
fn alone(rules: &str, test: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: root is needed for a network namespace");
        return;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut nft = Command::new("nft");
            let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success());
            test();
        });
        thread.join().unwrap();
    });
}

/// Rules of docker, of operators, and a table that has our name.
const OTHERS: &str = "
    table ip filter {
        chain FORWARD { type filter hook forward priority 0; policy drop; }
        chain DOCKER-USER { }
    }
    table ip nat {
        chain PREROUTING {
            type nat hook prerouting priority -100;
            ip daddr 192.0.2.10 tcp dport 80 dnat to 198.51.100.1
            ip daddr 198.51.100.7 tcp dport 80 dnat to 198.51.100.1
            ip protocol tcp dnat to 198.51.100.1
        }
        chain DOCKER {
            tcp dport 8080 dnat to 172.17.0.2:80
        }
        chain redirected {
            udp dport 53 redirect to :5353
        }
        chain POSTROUTING {
            type nat hook postrouting priority 100;
            tcp dport 80 snat to 198.51.100.9
        }
    }
    table inet marks {
        chain sets {
            type filter hook prerouting priority -150;
            ct mark set 0x10000
            ct mark set ct mark & 0xffffff00 | 0x1
        }
        chain keeps {
            type filter hook forward priority 0;
            ct mark set ct mark & 0x0000ffff | 0x00010000
            ct mark & 0xff0000 == 0x10000 counter
            ct mark & 0x1ffe != 0 accept
            meta mark set 0x1
        }
        chain reads {
            type filter hook input priority 0;
            ct mark 0x7 accept
            meta mark set ct mark and 0x3000
        }
    }
    table ip6 early {
        chain first {
            type nat hook prerouting priority -150;
            ip6 daddr 2001:db8::10 tcp dport 80 redirect to :8080
        }
    }
    add table inet crossfade
    add chain inet crossfade fade
";

#[test]
fn rules_of_others_are_seen_in_the_real_kernel() {
    let addresses = ["192.0.2.10", "192.0.2.11", "2001:db8::10"].map(|a| a.parse().unwrap());
    let wishes = Wishes { addresses: addresses.into(), ..Wishes::default() };
    alone(OTHERS, || {
        let found = look(&settings(Path::new("/")), &wishes);
        let seen = found.netfilter.as_ref().unwrap();
        assert_eq!(seen.forward_drops, ["ip filter FORWARD"]);
        assert!(seen.docker_user);
        let nat = seen.nat.iter();
        let mut nat: Vec<_> =
            nat.map(|n| (n.chain.as_str(), n.address.is_some(), n.first)).collect();
        nat.sort_unstable();
        let expected = [
            ("ip nat DOCKER", false, false),
            ("ip nat PREROUTING", true, false),
            ("ip nat redirected", false, false),
            ("ip6 early first", true, true),
        ];
        assert_eq!(nat, expected);
        let mut marks: Vec<_> =
            seen.marks.iter().map(|m| (m.chain.as_str(), m.written, m.read)).collect();
        marks.sort_unstable();
        assert_eq!(marks, [("inet marks reads", 0, 0x3fff), ("inet marks sets", 0x3fff, 0)]);
        let rows = judge(&found, &wishes);
        assert_eq!(row(&rows, Check::TableName).verdict, Verdict::Fail);
        assert_eq!(row(&rows, Check::ForwardPolicy).verdict, Verdict::Warn);
        assert_eq!(row(&rows, Check::OtherNat).verdict, Verdict::Warn);
        assert!(found.net_admin && found.bind_service);
        assert_eq!(found.forwarding4.on, Some(false));
    });
}

#[test]
fn sessions_of_the_port_that_sshd_is_configured_for_are_found() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let root = std::env::temp_dir().join(format!("crossfade-doctor-{}", std::process::id()));
    fs::create_dir_all(root.join("etc/ssh/sshd_config.d")).unwrap();
    let config = format!("Port {}\n", at.port());
    fs::write(root.join("etc/ssh/sshd_config.d/port.conf"), config).unwrap();
    fs::create_dir_all(root.join("proc/net")).unwrap();
    let refresh = || {
        for name in ["proc/net/tcp", "proc/net/tcp6"] {
            fs::write(root.join(name), fs::read(Path::new("/").join(name)).unwrap()).unwrap();
        }
    };
    refresh();
    assert_eq!(ssh_sessions(&root), []);
    let session = TcpStream::connect(at).unwrap();
    let _held = listener.accept().unwrap();
    refresh();
    let [found] = ssh_sessions(&root).try_into().unwrap();
    assert_eq!((found.local, found.remote), (at, session.local_addr().unwrap()));
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn an_envoy_is_asked_for_its_version() {
    let path: PathBuf =
        std::env::temp_dir().join(format!("crossfade-doctor-envoy-{}", std::process::id()));
    let wishes = Wishes { envoy: true, ..Wishes::default() };
    let mut settings = settings(Path::new("/"));
    settings.envoy = Some(path);
    assert_eq!(look(&settings, &wishes).envoy, Some(EnvoyFound::Missing));
    // What answers, and is none.
    settings.envoy = Some("true".into());
    let found = look(&settings, &wishes).envoy;
    assert!(matches!(&found, Some(EnvoyFound::Unclear(said)) if !said.is_empty()), "{found:?}");
}

#[test]
fn this_machine_gets_every_row() {
    let wishes = Wishes::default();
    let mut found = look(&settings(Path::new("/")), &wishes);
    assert!(found.kernel.is_some() && found.space.is_some());
    found.controller = Some(Reach::Answered("here".into()));
    let rows = judge(&found, &wishes);
    assert_eq!(rows.len(), Check::Mtu as usize + 1);
    assert!(!rows.iter().any(|row| row.found.is_empty()), "{rows:?}");
}
