//! Whatever happens to the agent, its controller, its disk and its rules, clients stay where they
//! were.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use super::load::Load;
use super::main_job::{LOGICAL, PLAN};
use super::peers::{client, dial, letter, sides};
use super::world::{Agent, World, at_half, until};
use crate::harness::BINARY;

/// How often the agent is killed.
const KILLS: u32 = 25;

/// How many clients are looked at.
const CLIENTS: u16 = 200;

#[test]
fn the_agent_killed_again_and_again_with_no_controller() {
    let test = "the_agent_killed_again_and_again_with_no_controller";
    let Some((mut world, mut agent, before)) = at_half(test, CLIENTS) else { return };
    let mut open = world.net.client.enter(|| dial(client(9), LOGICAL.parse().unwrap()).unwrap());
    let first = letter(&mut open).unwrap();
    let load = Load::start(&world.net, LOGICAL);
    load.round();
    world.kill_controller();
    for round in 0..KILLS {
        // Some in the middle of starting, some at rest, some while nobody follows.
        if round % 3 == 0 {
            load.round();
        }
        agent.kill();
        if round % 5 == 0 {
            load.round();
        }
        agent = Agent::start(&world);
    }
    let status = world.status().unwrap();
    assert!(status["controller"].is_null() && status["broken"].is_null(), "{status}");
    assert_eq!(status["services"][0]["splitBp"], 5_000, "{status}");
    load.round();
    open.write_all(b"?").unwrap();
    assert_eq!(letter(&mut open).unwrap(), first, "a connection stays through all of it");
    let asked = load.asked();
    let told = load.stop();
    assert!(told.failed.is_empty() && told.moved.is_empty(), "of {asked}: {told:?}");
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before);
    world.start_controller(&[]);
    world.until_acked();
    world.shift("orders", "20%");
}

#[test]
fn rules_that_others_flushed_come_back() {
    let Some((world, agent, before)) = at_half("rules_that_others_flushed_come_back", CLIENTS)
    else {
        return;
    };
    let load = Load::start(&world.net, LOGICAL);
    load.round();
    // The kernel spares a table that has an owner.
    world.net.vm.run("nft", &["flush", "ruleset"]);
    load.round();
    let told = load.stop();
    assert!(told.failed.is_empty() && told.moved.is_empty(), "{told:?}");
    agent.kill();
    world.net.vm.run("nft", &["flush", "ruleset"]);
    assert_eq!(world.rules(), "", "nobody owned it");
    let agent = Agent::start(&world);
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before);
    assert!(agent.log().contains("keeping in force what was held"), "{}", agent.log());
}

#[test]
fn a_host_that_starts_with_no_controller() {
    let test = "a_host_that_starts_with_no_controller";
    let Some((mut world, agent, before)) = at_half(test, CLIENTS) else { return };
    world.kill_controller();
    agent.kill();
    // What a reboot takes: rules, flows, settings of the kernel, what lives in /run.
    world.net.vm.run("nft", &["flush", "ruleset"]);
    world.net.vm.run("conntrack", &["-F"]);
    world.net.vm.sysctl("net.ipv4.ip_forward", "0");
    world.net.vm.sysctl("net.ipv6.conf.all.forwarding", "0");
    let _ = fs::remove_file(world.data().join("agent.sock"));
    let own = fs::read_to_string(world.data().join("addresses.json")).unwrap();
    assert!(own.contains("10.50.0.1"), "{own}");
    world.vm(&["agent", "restore"]).ok();
    assert!(world.rules().contains("table inet crossfade"), "before anything else runs");
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before, "before the agent runs");
    let _agent = Agent::start(&world);
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before);
    let status = world.status().unwrap();
    assert!(status["controller"].is_null() && status["broken"].is_null(), "{status}");
    assert_eq!(status["services"][0]["splitBp"], 5_000, "{status}");
}

/// A program among the mounts of the agent.
fn beside(agent: &Agent, program: &str, args: &[&str]) -> std::process::Output {
    let pid = agent.pid().to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid, "--mount", "--net", program]).args(args);
    command.output().unwrap()
}

/// The agent again, its state on a disk of its own of one megabyte that goes with it.
fn on_small_disk(world: &World) -> Agent {
    let script = "set -e
        mkdir /var/lib/old
        mount --bind /var/lib/crossfade/agent /var/lib/old
        mount -t tmpfs -o size=1m none /var/lib/crossfade/agent
        cp -a /var/lib/old/. /var/lib/crossfade/agent
        umount /var/lib/old
        rmdir /var/lib/old
        exec \"$@\"";
    let mut command = world.on_vm("sh");
    command.args(["-c", script, "sh", BINARY, "agent", "run"]);
    Agent::start_as(world, command)
}

/// Leaves no room on the agent's disk.
#[track_caller]
fn fill(agent: &Agent) {
    let full = "LC_ALL=C dd if=/dev/zero of=/var/lib/crossfade/agent/fill bs=4k";
    let said = beside(agent, "sh", &["-c", full]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("No space left"), "{said:?}");
}

#[test]
fn a_full_and_a_read_only_disk_change_nothing() {
    let test = "a_full_and_a_read_only_disk_change_nothing";
    let Some((world, agent, before)) = at_half(test, CLIENTS) else { return };
    agent.kill();
    let agent = on_small_disk(&world);
    world.until_acked();
    let read_only = "set -e
        mount --bind /var/lib/crossfade/agent /var/lib/crossfade/agent
        mount -o remount,bind,ro /var/lib/crossfade/agent";
    let writable = "umount /var/lib/crossfade/agent";
    let empty = "rm /var/lib/crossfade/agent/fill";
    let load = Load::start(&world.net, LOGICAL);
    load.round();
    // What is no longer than before has its place on the disk.
    fill(&agent);
    world.shift("orders", "50.01%");
    load.round();
    beside(&agent, "sh", &["-c", empty]);
    let made = beside(&agent, "sh", &["-c", read_only]);
    assert!(made.status.success(), "{made:?}");
    world.controller().run(&["shift", "orders", "75%", "--no-wait"]).ok();
    let why = world.until_nacked();
    assert!(why.contains("ead-only"), "{why}");
    load.round();
    let told = load.stop();
    assert!(told.failed.is_empty() && told.moved.len() < 3, "{told:?}");
    let mended = beside(&agent, "sh", &["-c", writable]);
    assert!(mended.status.success(), "{mended:?}");
    // What was refused comes by itself.
    world.until_acked();
    world.shift("orders", "50%");
    // The kernel comes first: break-glass needs no disk.
    fill(&agent);
    let said = beside(&agent, BINARY, &["agent", "rollback", "--reason", "the disk is full"]);
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(words.contains("in force in the kernel, and not written down"), "{words}");
    assert!(sides(&world.net, CLIENTS, LOGICAL).iter().all(|side| *side == 'L'));
    assert!(before.contains(&'T'));
}

#[test]
fn it_starts_leaves_and_rolls_back_on_a_read_only_disk() {
    let test = "it_starts_leaves_and_rolls_back_on_a_read_only_disk";
    let Some(mut world) = World::new(test, PLAN) else { return };
    let agent = world.joined(&[]);
    world.shift("orders", "50%");
    let resolver = || fs::read_to_string(world.etc().join("resolv.conf")).unwrap();
    until("the VM asks the agent", || resolver().contains("crossfade").then_some(()));
    let before = sides(&world.net, CLIENTS, LOGICAL);
    // Killed, so that its lock names it and its socket is there.
    agent.kill();
    world.net.vm.run("nft", &["flush", "ruleset"]);
    let script = "set -e
        mount --bind /var/lib/crossfade/agent /var/lib/crossfade/agent
        mount -o remount,bind,ro /var/lib/crossfade/agent
        exec \"$@\"";
    let mut command = world.on_vm("sh");
    command.args(["-c", script, "sh", BINARY, "agent", "run"]);
    let mut agent = Agent::start_unasked(&world, command);
    until("it is in the kernel", || world.rules().contains("table inet crossfade").then_some(()));
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before);
    world.controller().run(&["shift", "orders", "75%", "--no-wait"]).ok();
    let why = world.until_nacked();
    assert!(why.contains("ead-only"), "{why}");
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before, "what is not kept is not in force");
    let said = beside(&agent, BINARY, &["agent", "status"]);
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(words.contains("runs, but cannot be asked"), "{words}");
    let said = beside(&agent, BINARY, &["agent", "rollback", "--reason", "its disk"]);
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(words.contains("in force in the kernel, and not written down"), "{words}");
    assert!(sides(&world.net, CLIENTS, LOGICAL).iter().all(|side| *side == 'L'));
    world.kill_controller();
    let said = beside(&agent, BINARY, &["agent", "leave"]);
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success() && words.contains("make it writable"), "{words}");
    agent.ended();
    assert!(!world.rules().contains("crossfade"), "{}", world.rules());
    let resolver = fs::read_to_string(world.etc().join("resolv.conf")).unwrap();
    assert!(!resolver.contains("crossfade"), "{resolver}");
    // And on a disk that is writable again it goes to its end.
    world.vm(&["agent", "leave"]).ok();
    let left: Vec<_> = fs::read_dir(world.data()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
