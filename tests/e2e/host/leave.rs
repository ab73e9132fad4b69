//! A VM leaves, and is as it was: byte for byte, with handles, modes, owners and links.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use agent::journal::{Change, Journal};

use super::main_job::PLAN;
use super::world::{Agent, World, until};
use crate::harness::BINARY;

/// Rules of somebody else, which have handles of their own.
const FOREIGN: &str = "
table ip others {
    set known { type ipv4_addr; elements = { 10.1.1.1, 10.1.1.2 } }
    chain in {
        type filter hook input priority filter; policy accept;
        ip saddr @known counter drop
        tcp dport 9 drop
    }
}
table inet filter {
    chain forward { type filter hook forward priority 0; policy accept; }
}
";

/// Everything of the host that a leave must bring back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) rules: String,
    network: String,
    settings: String,
    etc: BTreeMap<String, String>,
}

pub(super) fn host(world: &World) -> Host {
    let vm = &world.net.vm;
    let ip = |words: &str| vm.run("ip", &words.split(' ').collect::<Vec<_>>());
    let mut etc = BTreeMap::new();
    walk(&world.etc(), &mut etc);
    Host {
        rules: vm.run("nft", &["-a", "list", "ruleset"]),
        network: [
            "-d address",
            "route show table all",
            "-6 route show table all",
            "rule",
            "-6 rule",
        ]
        .map(ip)
        .concat(),
        settings: settings(world),
        etc,
    }
}

/// Settings of the kernel's network.
fn settings(world: &World) -> String {
    let settings = world.net.vm.run("sysctl", &["-a", "--pattern", "^net\\."]);
    // How many flows there are is no setting.
    let is_setting = |line: &&str| !line.starts_with("net.netfilter.nf_conntrack_count");
    let settings: Vec<&str> = settings.lines().filter(is_setting).collect();
    settings.join("\n")
}

/// What is below a directory; what goes while it is looked at, as a file that is being written
/// does, was not there.
pub(super) fn walk(directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let (about, what) = match look(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            looked => looked.unwrap(),
        };
        let stamp = format!("{:o} {}:{} {what}", about.mode(), about.uid(), about.gid());
        found.insert(path.display().to_string(), stamp);
        if about.is_dir() {
            walk(&path, found);
        }
    }
}

fn look(path: &Path) -> io::Result<(fs::Metadata, String)> {
    let about = fs::symlink_metadata(path)?;
    let what = if about.is_symlink() {
        format!("-> {}", fs::read_link(path)?.display())
    } else if about.is_file() {
        String::from_utf8_lossy(&fs::read(path)?).into_owned()
    } else {
        String::new()
    };
    Ok((about, what))
}

/// Everything below `/var/lib` of the VM.
pub(super) fn library(world: &World) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(&world.scratch.path().join("vm/lib"), &mut found);
    found
}

#[track_caller]
pub(super) fn same(before: &Host, after: &Host) {
    for (path, what) in &before.etc {
        assert_eq!(after.etc.get(path), Some(what), "{path}");
    }
    assert_eq!(before.etc.len(), after.etc.len(), "more than was there");
    lines(&before.rules, &after.rules);
    lines(&before.network, &after.network);
    lines(&before.settings, &after.settings);
    assert!(before == after);
}

#[track_caller]
fn lines(before: &str, after: &str) {
    let pairs = before.lines().zip(after.lines());
    let others: Vec<_> = pairs.filter(|(before, after)| before != after).collect();
    assert!(others.is_empty() && before.len() == after.len(), "{others:?}");
}

/// A VM with rules of others, as it is before it joins.
fn world(test: &str) -> Option<(World, Host)> {
    let world = World::new(test, PLAN)?;
    let loaded = world.net.vm.nft_file(FOREIGN);
    assert!(loaded.status.success(), "{loaded:?}");
    let before = settled(&world);
    Some((world, before))
}

/// The host, once its new interfaces have the addresses that they are to have.
pub(super) fn settled(world: &World) -> Host {
    until("addresses are settled", || {
        let host = host(world);
        (!host.network.contains("tentative")).then_some(host)
    })
}

fn resolver(world: &World) -> String {
    fs::read_to_string(world.etc().join("resolv.conf")).unwrap()
}

fn until_asked(world: &World) {
    until("the VM asks the agent", || resolver(world).contains("crossfade").then_some(()));
}

#[test]
fn byte_for_byte_and_twice() {
    let Some((world, before)) = world("byte_for_byte_and_twice") else { return };
    let agent = world.joined(&[]);
    until_asked(&world);
    world.shift("orders", "50%");
    assert_ne!(host(&world), before);
    let mut agent = agent;
    let said = world.vm(&["agent", "leave"]).ok();
    assert!(said.contains("the agent was ended"), "{said}");
    assert_eq!(agent.ended(), 0, "it ended well");
    same(&before, &host(&world));
    let again = world.vm(&["agent", "leave"]).ok();
    assert!(again.contains("nothing of an agent was here"), "{again}");
    same(&before, &host(&world));
    let journal = fs::read_to_string(world.data().join("left.log")).unwrap();
    assert!(journal.contains("resolv.conf"), "{journal}");
    // And it can come back.
    world.join_with(&world.token(&["vm-1", "--replace"]), &[]).ok();
    let _agent = Agent::start(&world);
    world.vm(&["agent", "confirm"]).ok();
    world.until_acked();
}

#[test]
fn killed_half_joined_and_frozen() {
    let Some((world, before)) = world("killed_half_joined_and_frozen") else { return };
    let agent = world.joined(&[]);
    until_asked(&world);
    agent.kill();
    let said = world.vm(&["agent", "leave"]).ok();
    assert!(said.contains("not told") && said.contains("crossfade revoke vm-1"), "{said}");
    same(&before, &host(&world));
    // Joined, and never run.
    world.join_with(&world.token(&["vm-1", "--replace"]), &[]).ok();
    let said = world.vm(&["agent", "leave"]).ok();
    assert!(said.contains("not told") && said.contains("crossfade revoke vm-1"), "{said}");
    same(&before, &host(&world));
    // Killed as soon as it begins to change the host.
    for round in 0..5 {
        world.join_with(&world.token(&["vm-1", "--replace"]), &[]).ok();
        let agent = Agent::start(&world);
        until("something is changed", || {
            (round == 0 || settings(&world) != before.settings).then_some(())
        });
        agent.kill();
        world.vm(&["agent", "leave"]).ok();
        same(&before, &host(&world));
    }
    // Hung.
    world.join_with(&world.token(&["vm-1", "--replace"]), &[]).ok();
    let mut agent = Agent::start(&world);
    until_asked(&world);
    agent.signal(nix::sys::signal::Signal::SIGSTOP);
    world.vm(&["agent", "leave"]).ok();
    agent.ended();
    same(&before, &host(&world));
}

#[test]
fn what_others_changed_meanwhile_is_kept_and_told() {
    let test = "what_others_changed_meanwhile_is_kept_and_told";
    let Some((world, before)) = world(test) else { return };
    let _agent = world.joined(&[]);
    until_asked(&world);
    let others = "# by somebody else\nnameserver 10.30.0.3\n";
    // At once, as programs do: the agent must not stand before a file that is half written.
    let fresh = world.etc().join("resolv.conf.theirs");
    fs::write(&fresh, others).unwrap();
    fs::rename(&fresh, world.etc().join("resolv.conf")).unwrap();
    let said = world.vm(&["agent", "leave"]).ok();
    assert!(said.contains("left as others made it") && said.contains("resolv.conf"), "{said}");
    assert_eq!(resolver(&world), others);
    let mut after = host(&world);
    let path = world.etc().join("resolv.conf").display().to_string();
    after.etc.insert(path.clone(), before.etc[&path].clone());
    same(&before, &after);
}

#[test]
fn a_link_is_a_link_again() {
    let Some(world) = World::new("a_link_is_a_link_again", PLAN) else { return };
    let etc = world.etc();
    fs::rename(etc.join("resolv.conf"), etc.join("resolv.real")).unwrap();
    symlink("resolv.real", etc.join("resolv.conf")).unwrap();
    let before = settled(&world);
    let _agent = world.joined(&[]);
    until_asked(&world);
    world.vm(&["agent", "leave"]).ok();
    same(&before, &host(&world));
    assert!(fs::symlink_metadata(etc.join("resolv.conf")).unwrap().is_symlink());
}

/// Somebody's loop, or another service manager.
#[test]
fn who_starts_it_again_and_again_does_not_bring_it_back() {
    let Some((world, before)) = world("who_starts_it_again_and_again_does_not_bring_it_back")
    else {
        return;
    };
    world.join_with(&world.token(&["vm-1"]), &["--yes"]).ok();
    let mut command = world.on_vm("sh");
    command.args(["-c", "while :; do \"$0\" agent run; sleep 0.02; done", BINARY]);
    let agent = Agent::start_unasked(&world, command);
    world.until_acked();
    until_asked(&world);
    let said = world.vm(&["agent", "leave", "--reason", "it moves"]).ok();
    assert!(said.contains("the agent was ended"), "{said}");
    until("it is refused", || agent.log().contains("has not joined").then_some(()));
    same(&before, &host(&world));
    let line = fs::read_to_string(world.data().join("left.log")).unwrap();
    assert!(line.contains("it moves"), "{line}");
}

/// Whoever took the agent over can write in its directory, and root leaves.
#[test]
fn what_an_agent_planted_is_not_done_by_root() {
    let test = "what_an_agent_planted_is_not_done_by_root";
    let Some(world) = World::beside(test, PLAN) else { return };
    let before = settled(&world);
    world.join_with(&world.token(&["vm-1"]), &[]).ok();
    let done = world.scratch.path().join("done");
    let mut planted = Journal::open(&world.data()).unwrap();
    let argv = vec!["touch".to_owned(), done.to_str().unwrap().to_owned()];
    planted.apply(&Change::OnUndo { argv }).unwrap();
    drop(planted);
    // And what it waits for.
    fs::remove_file(world.data().join("lock")).unwrap();
    for name in ["lock", "left.log", "names.json"] {
        nix::unistd::mkfifo(&world.data().join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    world.vm(&["agent", "leave"]).ok();
    assert!(!done.exists());
    same(&before, &host(&world));
}
