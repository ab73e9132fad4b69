//! Who may not join, what a host must not touch, and what a host does not let be done: refused with
//! the reason, and the host is as it was.

use std::fs;
use std::time::Instant;

use super::leave::{host, library, same, settled};
use super::main_job::{LOGICAL, PLAN};
use super::peers::sides;
use super::world::{Agent, World, until};
use crate::harness::{BINARY, Controller};

#[test]
fn tokens_that_are_none() {
    let Some(mut world) = World::new("tokens_that_are_none", PLAN) else { return };
    let (before, had) = (settled(&world), library(&world));
    let good = world.token(&["vm-1"]);
    let mut typo = good.clone().into_bytes();
    let at = typo.len() / 2;
    typo[at] = if typo[at] == b'A' { b'B' } else { b'A' };
    let typo = String::from_utf8(typo).unwrap();
    let elsewhere = world.token(&["vm-2", "--from", "10.99.0.0/16"]);
    let foreign = {
        let data = world.scratch.path().join("other");
        let start = || Controller::start_at(&data, "10.50.0.2:7411", &["--log", "warn"]);
        let other = world.net.controller.enter(start);
        let said = other.run(&["token", "create", "vm-1", "--controller", "10.50.0.2:7410"]).ok();
        said.split_whitespace().find(|word| word.starts_with("cfj1_")).unwrap().to_owned()
    };
    let deleted = world.token(&["vm-3"]);
    world.controller().run(&["token", "delete", "vm-3"]).ok();
    for (token, code, says) in [
        ("", 2, "there is no token"),
        ("hello", 2, "cfj1_"),
        (&typo, 2, "typ"),
        (&good[..good.len() - 9], 2, "cut or mistyped"),
        (&elsewhere, 1, "the controller sees this machine as 10.50.0.1"),
        (&elsewhere, 1, "crossfade token create vm-2 --from NETWORK"),
        (&foreign, 1, "sha256:"),
        (&foreign, 1, "run `crossfade token create vm-1`, and paste here"),
        (&deleted, 1, "this token was withdrawn at"),
    ] {
        let complaint = world.join_with(token, &[]).fails(code);
        assert!(complaint.contains(says), "{token}: {complaint}");
        // From where it may be used is not the business of whoever has it.
        assert!(!complaint.contains("10.99"), "{complaint}");
        let is_said = ["the token is good", "token create"].map(|it| complaint.contains(it));
        assert_ne!(is_said, [true, true], "{complaint}");
        assert_eq!(library(&world), had, "{token}: nothing stays");
    }
    same(&before, &host(&world));
    world.join_with(&good, &[]).ok();
    world.vm(&["agent", "leave"]).ok();
    let complaint = world.join_with(&good, &[]).fails(1);
    assert!(complaint.contains("used"), "{complaint}");
    same(&before, &host(&world));
    let (_, log) = world.controller.take().unwrap().terminate();
    let refused = log.lines().find(|line| line.contains("10.99.0.0/16"));
    assert!(
        refused.is_some_and(|line| line.contains("vm-2") && line.contains("10.50.0.1")),
        "{log}"
    );
}

#[test]
fn controllers_that_are_none() {
    let Some(world) = World::new("controllers_that_are_none", PLAN) else { return };
    let (before, had) = (settled(&world), library(&world));
    let token = world.token(&["vm-1"]);
    for none in ["nonsense", "10.50.0.2", "10.50.0.2:", "10.50.0.2:0", "10.50.0.300:7410", "a b:1"]
        .iter()
        .chain(&["http://10.50.0.2:7410", "fe80::1:7410", "10.50.0.2:70000", ""])
    {
        let complaint = world.join_with(&token, &["--controller", none]).fails(2);
        let says = format!("`{none}` is no address of a controller; write HOST:PORT");
        assert_eq!(complaint.matches(&says).count(), 1, "{none}: {complaint}");
        assert_eq!(library(&world), had, "{none}");
        let made = world.controller().run(&["token", "create", "vm-2", "--controller", none]);
        assert!(made.code != 0 && made.err.contains("HOST:PORT"), "{none}: {made:?}");
    }
    // One that cannot be found is what the doctor looks for.
    let said = world.join_with(&token, &["--controller", "nobody.invalid:7410"]);
    assert!(said.code == 3 && said.out.contains("nobody.invalid:7410"), "{said:?}");
    assert_eq!(library(&world), had);
    same(&before, &host(&world));
    world.join_with(&token, &["--controller", "10.50.0.2:7410"]).ok();
}

#[test]
fn a_token_that_has_expired() {
    let Some(world) = World::new("a_token_that_has_expired", PLAN) else { return };
    let token = world.token(&["vm-1", "--for", "1s"]);
    until("the token expires", || {
        let tokens = world.controller().json(&["token", "list"]);
        (tokens[0]["expired"] == true).then_some(())
    });
    let complaint = world.join_with(&token, &[]).fails(1);
    assert!(complaint.contains("expired"), "{complaint}");
}

#[test]
fn a_revoked_machine_is_cut_and_its_clients_stay() {
    let test = "a_revoked_machine_is_cut_and_its_clients_stay";
    let Some(world) = World::new(test, PLAN) else { return };
    let agent = world.joined(&["--no-names"]);
    world.shift("orders", "50%");
    let before = sides(&world.net, 100, LOGICAL);
    let began = Instant::now();
    world.controller().run(&["revoke", "vm-1", "--reason", "sold"]).ok();
    until("it is cut", || (world.sink()?["connected"] == false).then_some(()));
    eprintln!("revoked: cut after {:?}", began.elapsed());
    let agents = world.controller().json(&["agents"]);
    assert_eq!(agents[0]["state"], "revoked", "{agents}");
    agent.kill();
    let agent = Agent::start(&world);
    until("it is told", || agent.log().contains("was revoked at").then_some(()));
    let status = world.status().unwrap();
    assert!(status["controller"].is_null());
    assert!(status["away"].as_str().is_some_and(|why| why.contains("was revoked at")), "{status}");
    let said = world.vm(&["agent", "status"]).ok();
    assert!(said.contains("not reached") && said.contains("was revoked at"), "{said}");
    assert_eq!(sides(&world.net, 100, LOGICAL), before);
    assert_eq!(world.sink().unwrap()["connected"], false);
}

/// The plan with one more service, at this address and port.
fn with_service(address: &str, port: u16, target: &str) -> String {
    format!(
        "{PLAN}    - name: web\n      hosts: [web.corp.example]\n\
         \x20     address: {address}\n\
         \x20     ports: [{{ name: main, port: {port}, protocol: tcp }}]\n\
         \x20     legacy: {{ endpoints: [10.30.0.2] }}\n      target: {{ endpoints: [{target}] }}\n"
    )
}

#[test]
fn tables_that_name_what_must_not_be_touched() {
    let test = "tables_that_name_what_must_not_be_touched";
    let Some(world) = World::new(test, PLAN) else { return };
    let _agent = world.joined(&["--no-names"]);
    let rules = world.rules_alone();
    for (address, port, target, says) in [
        ("10.50.0.2", 7410, "10.40.0.2", "controller"),
        ("10.10.0.1", 22, "10.40.0.2", "SSH"),
        ("127.0.0.9", 80, "10.40.0.2", "loopback"),
        ("169.254.7.7", 80, "10.40.0.2", "link-local"),
        ("192.0.2.66", 80, "192.0.2.66", "192.0.2.66"),
    ] {
        let file = world.scratch.file("bad.yaml", &with_service(address, port, target));
        // The controller takes all of them: the host refuses, which knows what it is used for.
        world.controller().run(&["apply", file.to_str().unwrap(), "--no-wait"]).ok();
        let why = world.until_nacked();
        assert!(why.contains(says), "{address}:{port}: {why}");
        assert_eq!(world.rules_alone(), rules, "{address}:{port}");
        let holds = world.controller().json(&["status", "shop"])["holds"].to_string();
        assert!(holds.contains("vm-1") && holds.contains(says), "{address}:{port}: {holds}");
        let good = world.scratch.path().join("plan.yaml");
        world.controller().run(&["apply", good.to_str().unwrap(), "--wait=20s"]).ok();
        world.until_acked();
    }
    world.shift("orders", "50%");
    assert!(sides(&world.net, 50, LOGICAL).contains(&'T'));
}

/// What must not be touched is looked at again and again; and break-glass does not touch it either.
#[test]
fn what_must_not_be_touched_changes() {
    let Some(world) = World::new("what_must_not_be_touched_changes", PLAN) else { return };
    let agent = world.joined(&["--no-names"]);
    let apply = |plan: &str| {
        let file = world.scratch.file("changed.yaml", plan);
        world.controller().run(&["apply", file.to_str().unwrap(), "--wait=20s"]).ok();
        world.until_acked();
    };
    let etc = world.etc();
    fs::create_dir_all(etc.join("ssh")).unwrap();
    let (resolver, sshd) = (etc.join("resolv.conf"), etc.join("ssh/sshd_config"));
    for (address, port, file, says, line) in [
        ("192.0.2.53", 53, &resolver, "asks for names", "nameserver 192.0.2.53\n"),
        ("10.10.0.1", 2222, &sshd, "SSH", "Port 22\nPort 2222\n"),
    ] {
        apply(&with_service(address, port, "10.40.0.2"));
        let held = format!("{address} . tcp . {port} :");
        assert!(world.rules().contains(&held), "{}", world.rules());
        fs::write(file, line).unwrap();
        let why = world.until_nacked();
        assert!(why.contains(says), "{address}:{port}: {why}");
        assert!(!world.rules().contains(&held));
        if port == 53 {
            fs::write(file, "nameserver 10.30.0.2\n").unwrap();
            world.until_acked();
        }
    }
    agent.signal(nix::sys::signal::Signal::SIGSTOP);
    world.vm(&["agent", "rollback"]).ok();
    assert!(world.rules().contains("crossfade_rollback"));
    assert!(!world.rules().contains("10.10.0.1 . tcp . 2222"), "{}", world.rules());
    world.vm(&["agent", "rollback", "--undo"]).ok();
}

#[test]
fn a_table_of_another_program() {
    let Some(world) = World::new("a_table_of_another_program", PLAN) else { return };
    let theirs = "table inet crossfade {\n    set theirs { type ipv4_addr; }\n}\n";
    assert!(world.net.vm.nft_file(theirs).status.success());
    let rules = world.rules();
    let token = world.token(&["vm-1"]);
    let said = world.join_with(&token, &[]);
    assert!(said.code == 3 && said.out.contains("another program's"), "{said:?}");
    world.join_with(&token, &["--force"]).ok();
    let _agent = Agent::start(&world);
    world.vm(&["agent", "confirm"]).ok();
    let why = world.until_nacked();
    let status = until("it is told", || world.status().filter(|it| !it["broken"].is_null()));
    let broken = status["broken"].as_str().unwrap();
    assert!(broken.contains("inet crossfade") && why.contains("inet crossfade"), "{broken}; {why}");
    assert_eq!(world.rules(), rules, "theirs is as it was");
    world.net.vm.run("nft", &["delete", "table", "inet", "crossfade"]);
    until("the agent takes its place", || world.status()?["broken"].is_null().then_some(()));
    world.until_acked();
    world.shift("orders", "10%");
}

#[test]
fn no_rights_in_the_kernel() {
    let Some(world) = World::new("no_rights_in_the_kernel", PLAN) else { return };
    let before = settled(&world);
    world.join_with(&world.token(&["vm-1"]), &["--no-names"]).ok();
    let mut command = world.on_vm("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", BINARY, "agent", "run"]);
    let _agent = Agent::start_as(&world, command);
    world.vm(&["agent", "confirm"]).ok();
    let why = world.until_nacked();
    assert!(why.contains("CAP_NET_ADMIN") || why.contains("not permitted"), "{why}");
    let status = until("it is told", || world.status().filter(|it| !it["broken"].is_null()));
    assert!(status["broken"].as_str().is_some_and(|broken| why.contains(broken)), "{status}");
    assert_eq!(host(&world).rules, before.rules);
}

#[test]
fn etc_that_is_read_only() {
    let Some(world) = World::new("etc_that_is_read_only", PLAN) else { return };
    let resolver = fs::read_to_string(world.etc().join("resolv.conf")).unwrap();
    world.join_with(&world.token(&["vm-1"]), &[]).ok();
    let mut command = world.on_vm("sh");
    let script = "mount -o remount,bind,ro /etc && exec \"$@\"";
    command.args(["-c", script, "sh", BINARY, "agent", "run"]);
    let agent = Agent::start_as(&world, command);
    world.vm(&["agent", "confirm"]).ok();
    world.until_acked();
    world.shift("orders", "50%");
    assert!(sides(&world.net, 50, LOGICAL).contains(&'T'));
    assert_eq!(fs::read_to_string(world.etc().join("resolv.conf")).unwrap(), resolver);
    assert!(agent.log().contains("read-only"), "{}", agent.log());
}
