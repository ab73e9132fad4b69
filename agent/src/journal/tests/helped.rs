//! An agent without root and the helper at the other end of a real socket.

use std::io::{BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::super::helper::{AskError, Helper, allowed, serve};
use super::super::{Applied, Bytes, Change, Report, Stays, Taken};
use super::tree::{Scratch, path};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const DROP_IN: &str = "/run/systemd/resolved.conf.d/99-crossfade.conf";
const DELEGATE: &str = "/run/systemd/dns-delegate.d/crossfade.dns-delegate";
const DNSMASQ: &str = "/etc/NetworkManager/dnsmasq.d/crossfade.conf";

/// A file with what it may say.
fn write(at: &str, mode: u32) -> Change {
    let text = match at {
        DROP_IN => "[Resolve]\nDNS=127.0.0.1:335\n",
        DELEGATE => "[Delegate]\nDNS=127.0.0.1:335\n",
        _ => "nameserver 127.0.0.1\n",
    };
    Change::WriteFile { path: path(at), bytes: Bytes(text.into()), mode }
}

fn holds(at: &str, text: &str) -> Change {
    Change::WriteFile { path: path(at), bytes: Bytes(text.into()), mode: 0o644 }
}

fn set(key: &str) -> Change {
    setting(key, "1")
}

fn setting(key: &str, value: &str) -> Change {
    Change::Sysctl { key: key.parse().unwrap(), value: value.to_owned() }
}

fn run(argv: &[&str]) -> Change {
    Change::Run { argv: argv.iter().map(|word| (*word).to_owned()).collect() }
}

#[test]
fn only_what_is_on_the_list_is_allowed() {
    let cases = [
        (write(RESOLV_CONF, 0o644), true),
        (write(RESOLV_CONF, 0o640), true),
        (write(RESOLV_CONF, 0o4755), false),
        (write(RESOLV_CONF, 0o755), false),
        (write(RESOLV_CONF, 0o666), false),
        (holds(RESOLV_CONF, "nameserver 192.0.2.1\n"), false),
        (write("/run/crossfade/resolvconf", 0o644), true),
        (write("/run/crossfade/resolvconf", 0o600), false),
        (holds("/run/crossfade/resolvconf", "search $(id)\n"), false),
        (holds("/etc/hosts", "192.0.2.1 localhost\n"), false),
        (holds(DNSMASQ, "conf-script=/tmp/x\n"), false),
        (holds(DNSMASQ, "server=/a/::1#53\n"), true),
        (holds("/etc/NetworkManager/dnsmasq.d/2-crossfade.conf", "server=/a/::1#53\n"), false),
        (write(DROP_IN, 0o644), true),
        (write(DELEGATE, 0o644), true),
        (write("/run/systemd/resolved.conf.d/other.conf", 0o644), false),
        (write("/run/systemd/resolved.conf.d/zz-crossfade.conf", 0o644), false),
        (write("/run/systemd/system/crossfade.service", 0o644), false),
        (write("/run/systemd/resolved.conf.d/deeper/crossfade.conf", 0o644), false),
        (write("/etc/systemd/resolved.conf.d/99-crossfade.conf", 0o644), false),
        (write("/etc/passwd", 0o644), false),
        (write("/etc/cron.d/crossfade", 0o644), false),
        (set("net.ipv4.ip_forward"), true),
        (set("net.ipv6.conf.all.forwarding"), true),
        (setting("net/ipv6/conf/eth0.7/accept_ra", "2"), true),
        (setting("net/ipv6/conf/eth0.7/accept_ra", "0"), false),
        (setting("net.ipv4.ip_forward", "0"), false),
        (set("net.ipv4.conf.eth0.forwarding"), false),
        (set("kernel.core_pattern"), false),
        (set("net.ipv4.tcp_syncookies"), false),
        (set("net.ipv4.conf.all.route_localnet"), false),
        (set("net.ipv4.conf.eth0.rp_filter"), false),
        (
            run(&["systemctl", "--no-block", "try-reload-or-restart", "systemd-resolved.service"]),
            true,
        ),
        (run(&["systemctl", "--no-block", "try-reload-or-restart", "ssh.service"]), false),
        (run(&["systemctl"]), false),
        (run(&["resolvconf", "-d", "lo.crossfade"]), true),
        (run(&["resolvconf", "-d", "-x"]), false),
        (run(&["resolvconf", "-d", "eth0.dhclient"]), false),
        (run(&["sh", "-c", "exec resolvconf -a lo.crossfade < /run/crossfade/resolvconf"]), true),
        (run(&["sh", "-c", "exec resolvconf -a eth0 < /run/crossfade/resolvconf"]), false),
        (run(&["sh", "-c", "exec resolvconf -a x; id < /run/crossfade/resolvconf"]), false),
        (run(&["sh", "-c", "id"]), false),
    ];
    for (change, expected) in cases {
        assert_eq!(allowed(&change, &[Vec::new()]).is_ok(), expected, "{change:?}");
    }
}

#[test]
fn an_agent_has_its_changes_made_and_brought_back_by_the_helper() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    let at = scratch.place().join("sock");
    let listener = UnixListener::bind(&at).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // One connection each, as systemd starts it; the journal is opened anew.
            for _ in 0..3 {
                let (stream, _) = listener.accept().unwrap();
                let mut journal = scratch.journal();
                let _ = serve(BufReader::new(&stream), &stream, &mut journal);
            }
        });
        let mut helper = Helper::connect(&at).unwrap();
        let change = write(RESOLV_CONF, 0o644);
        assert_eq!(helper.apply(&change).unwrap(), Applied::Done);
        assert_eq!(helper.apply(&change).unwrap(), Applied::Already);
        let refused = helper.apply(&write("/etc/passwd", 0o644)).unwrap_err();
        assert!(matches!(&refused, AskError::Refused(words) if words.contains("/etc/passwd")));
        assert_ne!(scratch.seen(), before);
        drop(helper);
        // What is no question is answered, and what has no end is let go.
        let mut raw = UnixStream::connect(&at).unwrap();
        raw.write_all(b"{}\n{\"undo").unwrap();
        drop(raw);
        let mut helper = Helper::connect(&at).unwrap();
        assert_eq!(helper.undo().unwrap().undone, [RESOLV_CONF]);
        assert_eq!(helper.undo().unwrap(), Report::default());
    });
    assert_eq!(scratch.seen(), before);
    assert!(matches!(Helper::connect(Path::new("/nowhere")), Err(AskError::Gone(_))));
}

/// The agent's end and the helper's, which answers one connection through this journal.
fn helped(scratch: &Scratch, ask: impl FnOnce(&mut Helper)) {
    let at = scratch.place().join("one");
    let listener = UnixListener::bind(&at).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, _) = listener.accept().unwrap();
            serve(BufReader::new(&stream), &stream, &mut scratch.journal()).unwrap();
        });
        ask(&mut Helper::connect(&at).unwrap());
    });
}

#[test]
fn what_others_changed_is_cleared_of_ours_by_the_helper_too() {
    let scratch = Scratch::host();
    let (ours, theirs) = ("192.0.2.10 orders.corp.example\n", "127.0.0.1 localhost\n10.0.0.1 x\n");
    let both =
        format!("# Begin of what crossfade wrote\n{ours}# End of what crossfade wrote\n{theirs}");
    scratch.write("etc/hosts", &both);
    helped(&scratch, |helper| {
        assert_eq!(helper.take_out(&[]).unwrap().files, ["/etc/hosts"]);
        assert_eq!(helper.take_out(&[]).unwrap(), Taken::default());
    });
    assert_eq!(std::fs::read_to_string(scratch.root().join("etc/hosts")).unwrap(), theirs);
}

/// Whoever says that the stub answers elsewhere takes no server of others away.
#[test]
fn servers_of_others_stay_whatever_is_said_to_be_the_stub() {
    let scratch = Scratch::host();
    std::fs::remove_file(scratch.root().join("etc/resolv.conf")).unwrap();
    let mark = "# Written by crossfade. `crossfade agent leave` brings back what was here.\n";
    let theirs = "nameserver 192.0.2.1\n";
    scratch.write("etc/resolv.conf", &format!("{mark}nameserver 127.0.0.1\n{theirs}"));
    helped(&scratch, |helper| {
        let stub = ["192.0.2.1:53", "127.0.0.1:53"].map(|at| at.parse().unwrap());
        assert_eq!(helper.take_out(&stub).unwrap().files, [RESOLV_CONF]);
    });
    assert_eq!(std::fs::read_to_string(scratch.root().join("etc/resolv.conf")).unwrap(), theirs);
}

#[test]
fn settings_that_are_needed_still_stay_and_are_told() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    helped(&scratch, |helper| {
        helper.apply(&set("net.ipv4.ip_forward")).unwrap();
        helper.apply(&write(RESOLV_CONF, 0o644)).unwrap();
        let report = helper.undo_files().unwrap();
        assert_eq!(report.undone, [RESOLV_CONF]);
        let [failed] = report.failed.as_slice() else { panic!("{report:?}") };
        assert!(failed.what.contains("ip_forward") && failed.again, "{failed:?}");
        let report = helper.undo().unwrap();
        assert_eq!((report.undone.len(), report.failed), (1, vec![]));
    });
    assert_eq!(scratch.seen(), before);
}

#[test]
fn one_way_is_put_back_and_the_other_stays() {
    let scratch = Scratch::host();
    let (first, second) = (write(DELEGATE, 0o644), write(DROP_IN, 0o644));
    let hosts = holds(
        "/etc/hosts",
        "# Begin of what crossfade wrote\n192.0.2.10 orders.corp.example\n\
         # End of what crossfade wrote\n127.0.0.1 localhost\n",
    );
    let before = scratch.seen();
    helped(&scratch, |helper| {
        helper.apply(&set("net.ipv4.ip_forward")).unwrap();
        helper.apply(&first).unwrap();
        helper.apply(&second).unwrap();
        // The directory is one that stays needs, and one that others use after.
        let report = helper.undo_others(Stays::of(&[second, hosts.clone()])).unwrap();
        assert_eq!(report.undone, [DELEGATE, "/run/systemd/dns-delegate.d"]);
        helper.apply(&hosts).unwrap();
        scratch.write("run/systemd/resolved.conf.d/theirs.conf", "");
        let report = helper.undo_others(Stays::of(std::slice::from_ref(&hosts))).unwrap();
        assert_eq!(report.undone, [DROP_IN]);
        assert_eq!((report.kept.len(), report.failed.len()), (0, 0), "{report:?}");
        assert_eq!(
            helper.undo_others(Stays::of(std::slice::from_ref(&hosts))).unwrap(),
            Report::default()
        );
        std::fs::remove_file(scratch.root().join("run/systemd/resolved.conf.d/theirs.conf"))
            .unwrap();
        let stays = Stays::of(std::slice::from_ref(&hosts));
        assert_eq!(helper.undo_others(stays).unwrap().undone, ["/run/systemd/resolved.conf.d"]);
        let undone = helper.undo().unwrap().undone;
        assert_eq!(undone, ["/etc/hosts", "sysctl net.ipv4.ip_forward"]);
    });
    assert_eq!(scratch.seen(), before);
}

/// What others wrote is theirs word for word, whatever it says: it stays, through a link and over
/// changes of theirs; and an agent puts in nothing else.
#[test]
fn what_others_wrote_stays_and_nothing_else_comes_in() {
    let scratch = Scratch::host();
    scratch.write("run/systemd/resolve/stub-resolv.conf", "# $(theirs)\nnameserver 192.0.2.1\n");
    let before = scratch.seen();
    let of = |text: &str| holds(RESOLV_CONF, text);
    let refused = |helper: &mut Helper, text: &str| {
        let Err(AskError::Refused(why)) = helper.apply(&of(text)) else { return false };
        why.contains(RESOLV_CONF)
    };
    helped(&scratch, |helper| {
        let first = "# $(theirs)\nnameserver 127.0.0.1\nnameserver 192.0.2.1\n";
        assert_eq!(helper.apply(&of(first)).unwrap(), Applied::Done);
        assert!(refused(helper, "nameserver 127.0.0.1\n"));
        assert!(refused(helper, "# $(ours)\nnameserver 127.0.0.1\n"));
        assert!(refused(helper, "# $(theirs)\nnameserver 127.0.0.1\nnameserver 192.0.2.2\n"));
        // Others write over it, and for a moment name nobody.
        std::fs::write(scratch.root().join("etc/resolv.conf"), "# others\n").unwrap();
        assert_eq!(helper.apply(&of(first)).unwrap(), Applied::Done);
        assert_eq!(helper.apply(&of("# others\nnameserver 127.0.0.57\n")).unwrap(), Applied::Done);
        let manager = "search new.example\nnameserver 192.0.2.3\n";
        let by_manager = "search new.example\nnameserver 127.0.0.1\nnameserver 192.0.2.3\n";
        assert!(refused(helper, by_manager));
        scratch.write("run/NetworkManager/resolv.conf", manager);
        assert_eq!(helper.apply(&of(by_manager)).unwrap(), Applied::Done);
        std::fs::remove_dir_all(scratch.root().join("run/NetworkManager")).unwrap();
        assert_eq!(helper.undo().unwrap().failed, []);
    });
    // The link had been replaced by others: theirs stays.
    let text = std::fs::read_to_string(scratch.root().join("etc/resolv.conf")).unwrap();
    assert_eq!(text, "# others\n");
    assert_eq!(scratch.seen().len(), before.len());
}
