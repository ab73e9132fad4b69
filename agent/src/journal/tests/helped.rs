//! An agent without root and the helper at the other end of a real socket.

use std::io::{BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::super::helper::{AskError, Helper, allowed, serve};
use super::super::{Applied, Bytes, Change, Report, Stays, Taken};
use super::tree::{Scratch, path};

fn write(at: &str, mode: u32) -> Change {
    Change::WriteFile { path: path(at), bytes: Bytes(b"# x\n".to_vec()), mode }
}

fn holds(at: &str, text: &str) -> Change {
    Change::WriteFile { path: path(at), bytes: Bytes(text.as_bytes().to_vec()), mode: 0o644 }
}

fn set(key: &str) -> Change {
    Change::Sysctl { key: key.parse().unwrap(), value: "1".to_owned() }
}

fn run(argv: &[&str]) -> Change {
    Change::Run { argv: argv.iter().map(|word| (*word).to_owned()).collect() }
}

#[test]
fn only_what_is_on_the_list_is_allowed() {
    let cases = [
        (write("/etc/resolv.conf", 0o644), true),
        (write("/etc/resolv.conf", 0o4755), false),
        (write("/etc/resolv.conf", 0o755), false),
        (write("/etc/resolv.conf", 0o666), false),
        (holds("/etc/NetworkManager/dnsmasq.d/crossfade.conf", "conf-script=/tmp/x\n"), false),
        (holds("/etc/NetworkManager/dnsmasq.d/crossfade.conf", "server=/a/::1#53\n"), true),
        (write("/run/systemd/resolved.conf.d/99-crossfade.conf", 0o644), true),
        (write("/run/systemd/resolved.conf.d/other.conf", 0o644), false),
        (write("/run/systemd/system/crossfade.service", 0o644), false),
        (write("/run/systemd/resolved.conf.d/deeper/crossfade.conf", 0o644), false),
        (write("/etc/systemd/resolved.conf.d/99-crossfade.conf", 0o644), false),
        (write("/etc/passwd", 0o644), false),
        (write("/etc/cron.d/crossfade", 0o644), false),
        (set("net.ipv4.ip_forward"), true),
        (set("net/ipv6/conf/eth0.7/accept_ra"), true),
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
        (run(&["sh", "-c", "exec resolvconf -a lo.x < /run/crossfade/resolvconf"]), true),
        (run(&["sh", "-c", "exec resolvconf -a x; id < /run/crossfade/resolvconf"]), false),
        (run(&["sh", "-c", "id"]), false),
    ];
    for (change, expected) in cases {
        assert_eq!(allowed(&change).is_ok(), expected, "{change:?}");
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
        let change = write("/etc/resolv.conf", 0o644);
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
        assert_eq!(helper.undo().unwrap().undone, ["/etc/resolv.conf"]);
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

#[test]
fn settings_that_are_needed_still_stay_and_are_told() {
    let scratch = Scratch::host();
    let before = scratch.seen();
    helped(&scratch, |helper| {
        helper.apply(&set("net.ipv4.ip_forward")).unwrap();
        helper.apply(&write("/etc/resolv.conf", 0o644)).unwrap();
        let report = helper.undo_files().unwrap();
        assert_eq!(report.undone, ["/etc/resolv.conf"]);
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
    let drop_in =
        |name| write(&format!("/run/systemd/resolved.conf.d/{name}-crossfade.conf"), 0o644);
    let hosts = holds("/etc/hosts", "127.0.0.1 localhost\n192.0.2.10 orders.corp.example\n");
    let before = scratch.seen();
    helped(&scratch, |helper| {
        helper.apply(&set("net.ipv4.ip_forward")).unwrap();
        helper.apply(&drop_in("98")).unwrap();
        helper.apply(&drop_in("99")).unwrap();
        // The directory is one that stays needs, and one that others use after.
        let report = helper.undo_others(Stays::of(&[drop_in("99"), hosts.clone()])).unwrap();
        assert_eq!(report.undone, ["/run/systemd/resolved.conf.d/98-crossfade.conf"]);
        helper.apply(&hosts).unwrap();
        scratch.write("run/systemd/resolved.conf.d/theirs.conf", "");
        let report = helper.undo_others(Stays::of(std::slice::from_ref(&hosts))).unwrap();
        assert_eq!(report.undone, ["/run/systemd/resolved.conf.d/99-crossfade.conf"]);
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
