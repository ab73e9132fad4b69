//! A join that nobody confirms undoes itself.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use agent::journal::Journal;
use serde_json::Value;

use super::booted::{self, ready};
use super::leave::{host, same, settled};
use super::machine::{Machine, can_boot, package};
use super::main_job::PLAN;
use super::world::{Agent, World, until, until_within};

/// A trial of a minute, and some to undo.
const TRIAL: Duration = Duration::from_secs(90);

/// The last line of what was done on leaving.
fn left(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn a_join_that_loses_the_controller_undoes_itself() {
    let test = "a_join_that_loses_the_controller_undoes_itself";
    let Some(mut world) = World::beside(test, PLAN) else { return };
    let before = settled(&world);
    world.join_with(&world.token(&["vm-1"]), &[]).ok();
    let mut agent = Agent::start(&world);
    world.until_acked();
    world.kill_controller();
    assert_ne!(host(&world), before);
    let code = until_within(TRIAL, "the join undoes itself", || agent.has_ended());
    assert_eq!(code, 1, "{}", agent.log());
    let log = agent.log();
    assert!(log.contains("no controller is reached") && log.contains("join again"), "{log}");
    assert!(log.contains("crossfade revoke vm-1"), "{log}");
    same(&before, &host(&world));
}

#[test]
fn a_join_that_nobody_confirms_undoes_itself() {
    let Some(world) = World::beside("a_join_that_nobody_confirms_undoes_itself", PLAN) else {
        return;
    };
    let before = settled(&world);
    world.join_with(&world.token(&["vm-1"]), &[]).ok();
    let agent = Agent::start(&world);
    world.until_acked();
    let ends = world.status().unwrap()["trial"].clone();
    assert!(ends.is_string(), "{ends}");
    // Who restarts it does not win it.
    agent.kill();
    let mut agent = Agent::start(&world);
    let code = until_within(TRIAL, "the join undoes itself", || agent.has_ended());
    assert_eq!(code, 1, "{}", agent.log());
    let log = agent.log();
    assert!(log.contains("nobody confirmed the join"), "{log}");
    same(&before, &host(&world));
    // The controller was told, and no plan waits for it.
    let left = left(&fs::read_to_string(world.data().join("left.log")).unwrap());
    assert_eq!(left["told"], true, "{left}");
    assert_eq!(world.controller().json(&["agents"])[0]["state"], "revoked");
    assert!(world.sink().is_none());
}

#[test]
fn a_trial_that_was_over_before_a_start_is_undone_first() {
    let test = "a_trial_that_was_over_before_a_start_is_undone_first";
    let Some(world) = World::beside(test, PLAN) else { return };
    let before = settled(&world);
    world.join_with(&world.token(&["vm-1"]), &[]).ok();
    let agent = Agent::start(&world);
    world.until_acked();
    agent.kill();
    fs::write(world.data().join("trial.json"), "\"2026-01-01T00:00:00Z\"").unwrap();
    world.vm(&["agent", "restore"]).ok();
    let mut command = world.on_vm(crate::harness::BINARY);
    command.args(["agent", "run"]);
    let mut agent = Agent::start_unasked(&world, command);
    assert_eq!(agent.ended(), 1);
    let log = agent.log();
    assert!(log.contains("nobody confirmed the join: the host is as it was"), "{log}");
    same(&before, &host(&world));
}

/// Whoever changes the host waits for its journal, and the process may be killed meanwhile.
#[test]
fn the_end_of_a_trial_is_known_before_anything_is_in_force() {
    let test = "the_end_of_a_trial_is_known_before_anything_is_in_force";
    let Some(world) = World::beside(test, PLAN) else { return };
    world.join_with(&world.token(&["vm-1"]), &[]).ok();
    let trial = world.data().join("trial.json");
    let place = world.data().with_file_name("host");
    fs::create_dir_all(&place).unwrap();
    let journal = Journal::open(&place).unwrap();
    let start = || {
        let mut command = world.on_vm(crate::harness::BINARY);
        command.args(["agent", "run"]);
        Agent::start_unasked(&world, command)
    };
    let agent = start();
    until("it is in force", || world.rules().contains("table inet crossfade").then_some(()));
    let end = fs::read_to_string(&trial).unwrap();
    agent.kill();
    world.net.vm.run("nft", &["delete", "table", "inet", "crossfade"]);
    let agent = start();
    until("it is in force", || world.rules().contains("table inet crossfade").then_some(()));
    assert_eq!(fs::read_to_string(&trial).unwrap(), end);
    agent.kill();
    drop(journal);
    // Before the network is up.
    fs::remove_file(&trial).unwrap();
    world.vm(&["agent", "restore"]).ok();
    assert!(trial.exists());
}

#[test]
fn who_joins_anew_as_before_is_not_on_trial() {
    let Some(world) = World::beside("who_joins_anew_as_before_is_not_on_trial", PLAN) else {
        return;
    };
    let agent = world.joined(&[]);
    world.controller().run(&["revoke", "vm-1"]).ok();
    agent.kill();
    let again = |more: &[&str]| world.join_with(&world.token(&["vm-1", "--replace"]), more).ok();
    let said = again(&[]);
    assert!(!said.contains("confirm"), "{said}");
    let agent = Agent::start(&world);
    world.until_acked();
    assert!(world.status().unwrap()["trial"].is_null());
    agent.kill();
    // Nobody would answer where the VM was brought to ask.
    let token = world.token(&["vm-1", "--replace"]);
    for otherwise in [&["--no-names"][..], &["--names", "127.0.0.1:5353"]] {
        let said = world.join_with(&token, otherwise).fails(3);
        assert!(said.contains("first: crossfade agent leave"), "{said}");
    }
    // Otherwise than before: that is to be proved.
    let said = world.join_with(&token, &["--exempt", "10.99.0.0/16", "-o", "json"]).ok();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["name"], &said["confirmed"]), (&"vm-1".into(), &false.into()), "{said}");
    let _agent = Agent::start(&world);
    until("it is on trial", || world.status()?["trial"].is_string().then_some(()));
}

/// Joins on a terminal, and types this where it is asked whether all is well; `None`: the terminal
/// ends. What stood on it.
#[track_caller]
fn joined_on_terminal(machine: &Machine, world: &World, answer: Option<&str>) -> String {
    let token = world.token(&["vm-1", "--replace"]);
    fs::write(machine.path("/var/tmp/token"), token).unwrap();
    let mut command = machine.command("script");
    command.args(["-qec", "crossfade agent join --token-file /var/tmp/token", "/dev/null"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut typing, mut shown) = (child.stdin.take(), child.stdout.take().unwrap());
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"do you still reach it? [y/N] ") {
        let read = shown.read(&mut byte).unwrap();
        assert_ne!(read, 0, "it does not ask: {}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    match answer {
        Some(answer) => typing.as_mut().unwrap().write_all(answer.as_bytes()).unwrap(),
        None => typing = None,
    }
    shown.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}\n{}", machine.log());
    drop(typing);
    text
}

#[test]
fn who_is_asked_on_the_terminal_says_whether_it_stays() {
    let test = "who_is_asked_on_the_terminal_says_whether_it_stays";
    let Some(world) = can_boot(test).then(|| World::new(test, PLAN)).flatten() else { return };
    let packages = [package(&world, "1.0.0")];
    let machine = Machine::new(&world, &packages);
    machine.install(&packages);
    let is_confirmed = || machine.path("/var/lib/crossfade/agent/confirmed").exists();
    for answer in [Some("n\n"), Some("\n"), None] {
        let said = joined_on_terminal(&machine, &world, answer);
        assert!(said.contains("not confirmed: the join undoes itself"), "{answer:?}: {said}");
        assert!(!is_confirmed(), "{answer:?}");
        let status = machine.agent().unwrap();
        assert!(status["trial"].is_string(), "{answer:?}: {status}");
        machine.run(&["crossfade", "agent", "leave"]);
    }
    let said = joined_on_terminal(&machine, &world, Some("yes\n"));
    assert!(said.contains("\nconfirmed: this VM stays joined"), "{said}");
    assert!(is_confirmed() && machine.agent().unwrap()["trial"].is_null());
    world.until_acked();
}

/// As the package runs it: the agent is not root, and its helper is away at first.
#[test]
fn a_packaged_join_that_nobody_confirms_undoes_itself() {
    let test = "a_packaged_join_that_nobody_confirms_undoes_itself";
    let Some(world) = can_boot(test).then(|| World::new(test, PLAN)).flatten() else { return };
    let packages = [package(&world, "1.0.0")];
    let machine = Machine::new(&world, &packages);
    machine.install(&packages);
    let (rules, before) = (world.rules(), booted::etc(&machine));
    let forward = || world.net.vm.run("sysctl", &["-n", "net.ipv4.ip_forward"]);
    let said = machine.join_as(&world, &[]);
    assert!(said.code == 0 && said.out.contains("crossfade agent confirm"), "{said:?}");
    world.until_acked();
    let is_ours = || machine.text("/etc/resolv.conf").contains("crossfade");
    until("the VM asks the agent", || is_ours().then_some(()));
    assert_eq!(forward().trim(), "1");
    let agent = ready(&machine, 0);
    machine.run(&["systemctl", "stop", "crossfade-host.socket"]);

    until_within(TRIAL, "it cannot put back everything", || {
        machine.log().contains("not everything was put back").then_some(())
    });
    assert!(is_ours() && !machine.log().contains("as it was before"), "{}", machine.log());
    assert_eq!(world.rules(), rules);
    // Started anew it goes on, and puts nothing in force; its helper comes with it.
    machine.run(&["kill", "-KILL", &agent.to_string()]);
    until("the join undoes itself", || {
        let is_over = machine.agent_is("ActiveState") == "inactive" && !is_ours();
        (is_over && machine.log().contains("as it was before")).then_some(())
    });
    assert_eq!(world.rules(), rules);
    assert_eq!(forward().trim(), "0");
    let after = booted::etc(&machine);
    let differ: Vec<_> =
        before.iter().filter(|(path, what)| after.get(*path) != Some(what)).collect();
    assert!(differ.is_empty() && before.len() == after.len(), "{differ:?} {after:?}");
    assert_eq!(world.controller().json(&["agents"])[0]["state"], "revoked");
}
