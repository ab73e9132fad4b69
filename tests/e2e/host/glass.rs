//! Break-glass on the VM: legacy at once, with no controller and the agent hung.

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use super::main_job::LOGICAL;
use super::names::{Upstream, server_in};
use super::peers::sides;
use super::world::{Agent, UPSTREAM, World, at_half, until};
use crate::harness::{BINARY, Said};

/// How many clients are looked at.
const CLIENTS: u16 = 100;

#[track_caller]
fn all_on_legacy(world: &World) {
    let now = sides(&world.net, CLIENTS, LOGICAL);
    assert!(now.iter().all(|side| *side == 'L'), "{now:?}");
}

/// The acts that are written down, without their times and digests.
fn acts(world: &World) -> Vec<(String, String, String)> {
    let text = fs::read_to_string(world.data().join("break-glass.log")).unwrap_or_default();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (word("act"), word("by"), word("reason"))
    };
    text.lines().map(line).collect()
}

#[test]
fn a_hung_agent_and_no_controller() {
    let Some((mut world, agent, before)) = at_half("a_hung_agent_and_no_controller", CLIENTS)
    else {
        return;
    };
    agent.signal(Signal::SIGSTOP);
    world.kill_controller();
    let began = Instant::now();
    world.vm(&["agent", "rollback", "--reason", "errors at target"]).ok();
    let took = began.elapsed();
    all_on_legacy(&world);
    eprintln!("crossfade agent rollback with a stopped agent: {took:?}, with its namespaces");
    assert_eq!(acts(&world)[0].0, "rollback");
    assert_eq!(acts(&world)[0].2, "errors at target");
    world.vm(&["agent", "rollback", "--undo"]).ok();
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before);
    let file = world.data().join("rollback.nft");
    let began = Instant::now();
    world.net.vm.run("nft", &["-f", file.to_str().unwrap()]);
    let took = began.elapsed();
    all_on_legacy(&world);
    eprintln!("nft -f rollback.nft with a stopped agent: {took:?}");
    world.net.vm.run("nft", &["delete", "table", "inet", "crossfade_rollback"]);
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before, "undone by deleting it");
}

#[test]
fn the_controller_hears_of_it_and_ends_it() {
    let test = "the_controller_hears_of_it_and_ends_it";
    let Some((world, agent, _)) = at_half(test, CLIENTS) else { return };
    world.vm(&["agent", "rollback", "--reason", "errors at target"]).ok();
    all_on_legacy(&world);
    assert!(world.until_nacked().contains("break-glass"));
    let status = until("the agent says so", || {
        world.status().filter(|status| status["breakGlass"][0] == "*")
    });
    assert!(status["broken"].is_null(), "{status}");
    // It outlives the agent, and a rise of the split.
    agent.kill();
    let _agent = Agent::start(&world);
    world.controller().run(&["shift", "orders", "75%", "--no-wait"]).ok();
    all_on_legacy(&world);
    until("the restarted agent refuses", || world.sink().filter(|it| it["connected"] == true));
    assert!(world.until_nacked().contains("break-glass"));
    let holds = world.controller().json(&["status", "shop"])["holds"].to_string();
    assert!(holds.contains("break-glass"), "{holds}");
    world.rollback("orders");
    until("it is dissolved", || (!world.rules().contains("crossfade_rollback")).then_some(()));
    world.until_acked();
    let acts: Vec<String> = acts(&world).into_iter().map(|(act, _, _)| act).collect();
    assert_eq!(acts, ["rollback", "dissolved"]);
    all_on_legacy(&world);
}

#[test]
fn what_nft_did_is_written_down() {
    let Some((world, _agent, before)) = at_half("what_nft_did_is_written_down", CLIENTS) else {
        return;
    };
    let file = world.data().join("rollback.nft");
    world.net.vm.run("nft", &["-f", file.to_str().unwrap()]);
    all_on_legacy(&world);
    assert!(world.until_nacked().contains("break-glass"));
    world.net.vm.run("nft", &["delete", "table", "inet", "crossfade_rollback"]);
    world.until_acked();
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before);
    let acts: Vec<_> = acts(&world).into_iter().map(|(act, by, _)| (act, by)).collect();
    let nft = |act: &str| (act.to_owned(), "nft".to_owned());
    assert_eq!(acts, [nft("rollback"), nft("undo")]);
}

/// The C library asks a name server that is silent for this long at least.
const SILENCE: Duration = Duration::from_secs(5);

/// The controller is known by name, and whom the VM asks for names does not answer: it may be the
/// agent, which hangs.
#[test]
fn a_name_server_that_is_silent_holds_nothing_up() {
    let test = "a_name_server_that_is_silent_holds_nothing_up";
    let Some((mut world, agent, before)) = at_half(test, CLIENTS) else { return };
    let _silent = world.net.legacy.enter(|| UdpSocket::bind((UPSTREAM, 53)).unwrap());
    fs::write(world.etc().join("resolv.conf"), format!("nameserver {UPSTREAM}\n")).unwrap();
    let settings = world.data().join("agent.json");
    let joined = fs::read_to_string(&settings).unwrap();
    let named = joined.replace("10.50.0.2:7410", "controller.corp.example:7410");
    assert_ne!(named, joined);
    fs::write(&settings, named).unwrap();
    agent.signal(Signal::SIGSTOP);
    world.kill_controller();
    let began = Instant::now();
    world.vm(&["agent", "rollback"]).ok();
    let took = began.elapsed();
    all_on_legacy(&world);
    assert!(took < SILENCE / 2, "rollback: {took:?}");
    world.vm(&["agent", "rollback", "--undo"]).ok();
    // The agent begins as quickly.
    agent.signal(Signal::SIGCONT);
    agent.kill();
    world.net.vm.run("nft", &["delete", "table", "inet", "crossfade"]);
    let began = Instant::now();
    let _agent = Agent::start(&world);
    let took = began.elapsed();
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), before);
    assert!(took < SILENCE / 2, "start: {took:?}");
}

/// What cannot be read or written keeps an operator from nothing, and who may not is told so.
#[test]
fn damaged_files_and_an_operator_who_is_not_root() {
    let test = "damaged_files_and_an_operator_who_is_not_root";
    let Some((world, agent, _)) = at_half(test, CLIENTS) else { return };
    agent.kill();
    for name in ["agent.json", "marks.json"] {
        fs::write(world.data().join(name), "{ \"na").unwrap();
    }
    nix::unistd::mkfifo(&world.data().join("break-glass.log"), Mode::S_IRWXU).unwrap();
    let said = world.vm(&["agent", "rollback"]);
    assert!(said.code == 1 && said.err.contains("not written down"), "{said:?}");
    assert!(said.err.contains("agent.json"), "{said:?}");
    all_on_legacy(&world);
    let mut nobody = world.on_vm("setpriv");
    nobody.args(["--reuid=65534", "--clear-groups", BINARY, "agent", "rollback"]);
    nobody.env("HOME", "/nonexistent");
    let said = Said::of(nobody.output().unwrap());
    assert!(said.code == 1 && said.err.contains("sudo nft -f /var/lib/crossfade"), "{said:?}");
}

/// Where its tables cannot be read, the command claims nothing, and says what does it; where
/// there never was an agent it changes nothing.
#[test]
fn nothing_is_claimed_where_nothing_is_known() {
    let test = "nothing_is_claimed_where_nothing_is_known";
    let Some((world, agent, _)) = at_half(test, CLIENTS) else { return };
    agent.signal(Signal::SIGSTOP);
    let [one, other] = [0, 1].map(|n| world.data().join(format!("hosttable.{n}")));
    fs::write(one, "damaged").unwrap();
    // Whoever owns the directory can have root wait for a pipe.
    let _ = fs::remove_file(&other);
    nix::unistd::mkfifo(&other, Mode::S_IRWXU).unwrap();
    let said = world.vm(&["agent", "rollback"]);
    let file = "nft -f /var/lib/crossfade/agent/rollback.nft";
    assert!(said.code == 1 && said.err.contains(file), "{said:?}");
    assert!(!world.rules().contains("crossfade_rollback"));
    world.net.vm.run("nft", &["-f", world.data().join("rollback.nft").to_str().unwrap()]);
    all_on_legacy(&world);
    world.vm(&["agent", "leave"]).ok();
    for args in [&["agent", "rollback"][..], &["agent", "rollback", "--data", "/etc"]] {
        let said = world.vm(args);
        assert!(said.code != 0 && said.err.contains("has not joined"), "{said:?}");
    }
    assert!(!world.rules().contains("crossfade"), "{}", world.rules());
}

/// Another program's table is no break-glass, and stays as it is; so does nothing of ours.
#[test]
fn another_program_has_its_name() {
    let Some((world, _agent, before)) = at_half("another_program_has_its_name", CLIENTS) else {
        return;
    };
    let theirs = "table inet crossfade_rollback {\n    chain prerouting { counter; }\n}\n";
    assert!(world.net.vm.nft_file(theirs).status.success());
    let table = || world.net.vm.run("nft", &["list", "table", "inet", "crossfade_rollback"]);
    let as_made = table();
    for args in [&["agent", "rollback"][..], &["agent", "rollback", "--undo"]] {
        let said = world.vm(args);
        assert!(said.code == 1 && said.err.contains("is not ours"), "{said:?}");
        assert!(!said.err.contains("nft -f") && !said.err.contains("nft delete"), "{said:?}");
    }
    let said = world.vm(&["agent", "doctor"]);
    assert!(said.out.contains("crossfade_rollback is another program's"), "{said:?}");
    world.shift("orders", "49.99%");
    assert_eq!(world.status().unwrap()["breakGlass"], serde_json::json!([]));
    assert!(sides(&world.net, CLIENTS, LOGICAL).contains(&'T') && before.contains(&'T'));
    let said = world.vm(&["agent", "leave"]).ok();
    assert!(said.contains("left as others made it: table `inet crossfade_rollback`"), "{said}");
    assert_eq!(table(), as_made);
    assert_eq!(world.rules().matches("table inet crossfade").count(), 1, "{}", world.rules());
}

/// A plan of one service that moves by its name alone.
const NAMED: &str = "
apiVersion: crossfade.dev/v1alpha1
kind: CutoverPlan
metadata: { name: shop }
spec:
  zones: [{ name: corp.example. }]
  steps: [{ split: 100%, bake: 1h }]
  services:
    - name: mail
      hosts: [mail.corp.example]
      ports: [{ name: smtp, port: 25, protocol: tcp }]
      legacy: { endpoints: [10.30.0.2] }
      target: { endpoints: [10.40.0.2] }
";

/// Such a service comes back by its name: by our command, and by plain nft as soon
/// as the agent has seen it.
#[test]
fn names_without_an_address_are_legacy_too() {
    let test = "names_without_an_address_are_legacy_too";
    let Some(world) = World::new(test, NAMED) else { return };
    let _upstream = Upstream::start(&world.net.legacy);
    let agent = world.joined(&[]);
    server_in(|| fs::read_to_string(world.etc().join("resolv.conf")).unwrap());
    world.controller().run(&["shift", "shop", "100%", "--no-wait"]).ok();
    let said = |address: &str| {
        until(&format!("mail is at {address}"), || {
            let mut asked = world.on_vm("getent");
            let said = Said::of(asked.args(["ahostsv4", "mail.corp.example"]).output().unwrap());
            said.out.starts_with(address).then_some(())
        });
    };
    said("10.40.0.2");
    world.vm(&["agent", "rollback", "shop/mail"]).ok();
    said("10.30.0.2");
    // From the first answer of the next agent.
    agent.kill();
    let _agent = Agent::start(&world);
    said("10.30.0.2");
    world.vm(&["agent", "rollback", "--undo", "shop/mail"]).ok();
    said("10.40.0.2");
    world.net.vm.run("nft", &["-f", world.data().join("rollback.nft").to_str().unwrap()]);
    said("10.30.0.2");
    world.net.vm.run("nft", &["delete", "table", "inet", "crossfade_rollback"]);
    said("10.40.0.2");
}
