//! Whose the table is: nobody takes it away, and who comes later takes it over.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use agent::dataplane::{Adopted, Dataplane as _, DataplaneError, Netlink, Ownership};

use crate::netns::{Space, allowed};
use crate::tables::{SHAPE, Shape, every_word, open, service, settings};

/// Says to a process of this test that it is the one to hold a table.
const HOLDER: &str = "CROSSFADE_TEST_HOLDS";

/// How often it is looked whether a table is gone: each look starts a program.
const LOOKS: u32 = 500;

#[test]
fn flushing_takes_nothing_that_is_owned() {
    if !allowed("flushing_takes_nothing_that_is_owned") {
        return;
    }
    let space = Space::new("vm");
    for ownership in [Ownership::Persistent, Ownership::Socket] {
        let mut netlink = space.enter(|| open(ownership));
        let committed = netlink.commit(&every_word()).unwrap();
        assert_eq!(committed.ownership, ownership);
        let before = space.run("nft", &["-s", "list", "ruleset"]);
        for _ in 0..100 {
            space.run("nft", &["flush", "ruleset"]);
        }
        for words in [
            "delete table inet crossfade",
            "flush chain inet crossfade orders",
            "add rule inet crossfade orders accept",
        ] {
            let words: Vec<_> = words.split(' ').collect();
            let refused = space.try_run("nft", &words);
            assert!(!refused.status.success(), "{words:?}");
        }
        assert_eq!(space.run("nft", &["-s", "list", "ruleset"]), before);
        assert!(netlink.is_intact().unwrap());
        assert!(netlink.remove().unwrap());
    }
}

#[test]
fn a_table_that_nobody_owns_is_repaired() {
    if !allowed("a_table_that_nobody_owns_is_repaired") {
        return;
    }
    let space = Space::new("vm");
    let mut netlink = space.enter(|| open(Ownership::Open));
    let table = every_word();
    netlink.commit(&table).unwrap();
    let before = space.run("nft", &["-s", "list", "ruleset"]);
    for damage in [
        "flush ruleset",
        "delete table inet crossfade",
        "flush table inet crossfade",
        "flush chain inet crossfade orders",
        "add rule inet crossfade orders accept",
        "delete element inet crossfade in4 { 192.0.2.10 . tcp . 8080 }",
        "add element inet crossfade in4 { 192.0.2.99 . tcp . 1 : goto orders }",
        "add chain inet crossfade other",
        "add counter inet crossfade other",
        "add set inet crossfade other { type ipv4_addr; }",
        "add set inet crossfade odd { type ifname; }",
    ] {
        assert!(netlink.is_intact().unwrap(), "before {damage}");
        space.run("nft", &damage.split(' ').collect::<Vec<_>>());
        assert!(!netlink.is_intact().unwrap(), "not seen: {damage}");
        assert!(netlink.commit(&table).unwrap().messages > 0, "{damage}");
        assert_eq!(space.run("nft", &["-s", "list", "ruleset"]), before, "{damage}");
    }
    // Another program's table is no damage.
    space.run("nft", &["add", "table", "inet", "other"]);
    assert!(netlink.is_intact().unwrap());
}

/// Also without having been asked whether it is whole, a change is never lost.
#[test]
fn a_commit_on_a_table_that_was_taken_away_makes_it_anew() {
    if !allowed("a_commit_on_a_table_that_was_taken_away_makes_it_anew") {
        return;
    }
    let space = Space::new("vm");
    let mut netlink = space.enter(|| open(Ownership::Open));
    netlink.commit(&service(SHAPE)).unwrap();
    space.run("nft", &["flush", "ruleset"]);
    let table = service(Shape { split: 2_000, ..SHAPE });
    netlink.commit(&table).unwrap();
    assert!(netlink.is_intact().unwrap());
    assert!(space.run("nft", &["list", "ruleset"]).contains("< 2000"));
}

#[test]
fn a_killed_process_leaves_its_table_to_the_next() {
    if !allowed("a_killed_process_leaves_its_table_to_the_next") {
        return;
    }
    let space = Space::new("vm");
    let mut child = holder(&space);
    let before = space.run("nft", &["-s", "list", "ruleset"]);
    assert!(before.contains("flags owner"), "{before}");
    let mut netlink = space.enter(|| open(Ownership::Persistent));
    let held = netlink.adopt().unwrap_err();
    assert!(matches!(held, DataplaneError::Held { .. }), "{held}");
    assert!(netlink.remove().is_err());
    assert!(netlink.commit(&service(SHAPE)).is_err());
    assert_eq!(space.run("nft", &["-s", "list", "ruleset"]), before);
    child.kill().unwrap();
    child.wait().unwrap();
    let orphan = space.run("nft", &["-s", "list", "ruleset"]);
    assert_eq!(rules(&orphan), rules(&before), "nobody holds it, and it stands");
    assert_eq!(netlink.adopt().unwrap(), Adopted::Ours(Ownership::Persistent));
    assert_eq!(space.run("nft", &["-s", "list", "ruleset"]), before);
    space.run("nft", &["flush", "ruleset"]);
    assert_eq!(space.run("nft", &["-s", "list", "ruleset"]), before, "it has an owner again");
    netlink.commit(&service(SHAPE)).unwrap();
    assert!(netlink.is_intact().unwrap());
}

/// What `a_killed_process_leaves_its_table_to_the_next` runs as a process of its own.
#[test]
fn process_that_holds_a_table() {
    if std::env::var_os(HOLDER).is_none() {
        return;
    }
    let mut netlink = open(Ownership::Persistent);
    let outcome = netlink.commit(&service(SHAPE));
    println!("\nheld: {outcome:?}");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn holder(space: &Space) -> Child {
    let mut command = space.command(std::env::current_exe().unwrap().to_str().unwrap());
    command.args(["--exact", "owner::process_that_holds_a_table", "--nocapture"]);
    command.env(HOLDER, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().strip_prefix("held: ").map(str::to_owned));
    assert!(line.as_deref().unwrap_or_default().starts_with("Ok"), "{line:?}");
    drop(lines);
    child
}

/// A socket that is kept over a restart keeps what it owns, on kernels that know no `persist`.
#[test]
fn a_socket_that_is_handed_on_goes_on() {
    if !allowed("a_socket_that_is_handed_on_goes_on") {
        return;
    }
    let space = Space::new("vm");
    let mut first = space.enter(|| open(Ownership::Socket));
    first.commit(&service(SHAPE)).unwrap();
    let fd = first.as_fd().try_clone_to_owned().unwrap();
    drop(first);
    space.run("nft", &["flush", "ruleset"]);
    let mut second = Netlink::from_fd(fd, settings(Ownership::Socket)).unwrap();
    assert_eq!(second.adopt().unwrap(), Adopted::Ours(Ownership::Socket));
    second.commit(&every_word()).unwrap();
    assert!(second.is_intact().unwrap());
    drop(second);
    // A program that another test is just starting has the socket too, until it runs.
    let is_gone = |_| space.run("nft", &["list", "ruleset"]).is_empty();
    assert!((0..LOOKS).any(is_gone), "it outlives the socket");
    let file = std::fs::File::open("/dev/null").unwrap();
    let wrong = Netlink::from_fd(file.into(), settings(Ownership::Socket)).unwrap_err();
    assert!(matches!(wrong, DataplaneError::NotASocketOfOurs), "{wrong}");
}

/// A kernel that did not know owners is replaced by one that does: the table gets one.
#[test]
fn a_table_without_owner_gets_one() {
    if !allowed("a_table_without_owner_gets_one") {
        return;
    }
    let space = Space::new("vm");
    let mut netlink = space.enter(|| open(Ownership::Open));
    netlink.commit(&service(SHAPE)).unwrap();
    drop(netlink);
    let mut netlink = space.enter(|| open(Ownership::Persistent));
    assert_eq!(netlink.adopt().unwrap(), Adopted::Ours(Ownership::Open));
    let committed = netlink.commit(&service(SHAPE)).unwrap();
    assert_eq!(committed.ownership, Ownership::Persistent);
    assert!(space.run("nft", &["list", "ruleset"]).contains("flags owner"));
}

/// Whether a program can be run as one who has no rights.
pub(crate) fn without_rights(space: &Space) -> Command {
    let mut command = space.command("setpriv");
    let test = std::env::current_exe().unwrap();
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(test);
    command.args(["--exact", "owner::process_that_holds_a_table", "--nocapture"]);
    command.env(HOLDER, "1").stdin(Stdio::null());
    command
}

/// A listing without what says whose the table is: flags, and the owner's name.
fn rules(listing: &str) -> String {
    let lines = listing.lines().filter(|line| !line.starts_with("\tflags"));
    let plain = lines.map(|line| line.split(" # progname").next().unwrap_or_default());
    plain.map(|line| format!("{line}\n")).collect()
}
