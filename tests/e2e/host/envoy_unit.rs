//! The Envoy of the packaged agent: a user and a unit of its own, no right, and gone when the VM
//! leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use super::envoy::{PLAN, call, program};
use super::machine::{Machine, can_boot, package};
use super::world::{World, until, until_within};

/// Where it is installed.
const PROGRAM: &str = "/usr/local/bin/envoy";

/// How long calls may be refused once agent and Envoy are killed: the agent's unit waits 200 ms,
/// and it has to start. Five times what that takes where nothing else runs.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// The one Envoy, as it is numbered there.
fn envoy(machine: &Machine) -> Option<u32> {
    let said = machine.said(&["pidof", PROGRAM]);
    let pids: Vec<u32> = said.out.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.len() <= 1, "{pids:?}");
    pids.first().copied()
}

/// A machine whose agent has joined with an Envoy, which takes its own calls.
fn joined(world: &World) -> Machine {
    let package = package(world, "1.0.0");
    let machine = Machine::new(world, &[package.clone(), program(world)]);
    machine.install(&[package]);
    machine.run(&["install", "-m", "755", "/var/tmp/envoy", PROGRAM]);
    machine.join_with(world, &["--no-names", "--envoy", PROGRAM]);
    until_captured(world, true);
    machine
}

#[track_caller]
fn until_captured(world: &World, captured: bool) {
    until(&format!("captured is {captured}"), || {
        (world.rules().contains("redirect to :15001") == captured).then_some(())
    });
}

/// Its user and its rights, and that neither the agent's files nor the helper are for it.
fn has_no_right(machine: &Machine, pid: u32) {
    let user = machine.run(&["ps", "-o", "user:32=", "-p", &pid.to_string()]);
    assert_eq!(user.trim(), "crossfade-envoy");
    let status = machine.text(&format!("/proc/{pid}/status"));
    let none = format!("{:016x}", 0);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t{none}")), "{set}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let place = fs::read_dir(machine.path("/run/crossfade-agent")).unwrap().flatten();
    let mut places = place.filter(|entry| entry.path().is_dir());
    let place = places.next().unwrap().path();
    let others = |path: &str| fs::metadata(place.join(path)).unwrap().permissions().mode() & 0o7;
    assert_eq!(["xds.sock", "own"].map(others), [0, 0]);
    let reads = |path: &str| {
        let words = ["setpriv", "--reuid=crossfade-envoy", "--clear-groups", "cat", path];
        machine.said(&words).code == 0
    };
    assert!(!reads("/var/lib/crossfade/agent/agent.json"));
}

#[test]
fn as_packaged_it_has_a_user_of_its_own_and_goes_when_the_vm_leaves() {
    let test = "as_packaged_it_has_a_user_of_its_own_and_goes_when_the_vm_leaves";
    let Some(world) = can_boot(test).then(|| World::new(test, PLAN)).flatten() else { return };
    let machine = joined(&world);
    let pid = envoy(&machine).unwrap();
    has_no_right(&machine, pid);
    world.shift("orders", "100%");
    let own = || -> String { world.net.vm.enter(|| (0..20).map(|_| call().unwrap()).collect()) };
    assert_eq!(own(), "T".repeat(20));
    // Neither who keeps it running nor the agent is what it lives by.
    for unit in ["crossfade-envoy", "crossfade-agent"] {
        let kept = machine.main_pid(unit);
        machine.run(&["kill", "-KILL", &kept.to_string()]);
        until("another one is there", || {
            (![0, kept].contains(&machine.main_pid(unit))).then_some(())
        });
        assert_eq!(own(), "T".repeat(20));
        assert_eq!(envoy(&machine), Some(pid));
    }
    // It is, and is started again.
    machine.run(&["kill", "-KILL", &pid.to_string()]);
    until("another one is well", || {
        let told = machine.agent()?["envoy"].clone();
        let is_other = told["pid"].as_u64().is_some_and(|found| found != u64::from(pid));
        (told["well"] == true && is_other).then_some(())
    });
    until_captured(&world, true);
    assert_eq!(own(), "T".repeat(20));
    // Killed along with the agent: calls are refused until the service manager has the agent back.
    let all = [machine.main_pid("crossfade-agent"), envoy(&machine).unwrap()];
    let [agent, pid] = all.map(|pid| pid.to_string());
    let killed = Instant::now();
    machine.run(&["kill", "-KILL", &agent, &pid]);
    until_within(BACK_WITHIN, "calls are answered again", || world.net.vm.enter(|| call().ok()));
    eprintln!("answered {:?} after agent and Envoy were killed", killed.elapsed());
    until("another one is well", || {
        machine.agent()?["envoy"]["well"].as_bool().filter(|well| *well).map(|_| ())
    });
    until_captured(&world, true);
    assert_eq!(own(), "T".repeat(20));
    // And gone.
    machine.run(&["crossfade", "agent", "leave"]);
    assert_eq!(envoy(&machine), None);
    assert!(!machine.path("/run/crossfade-agent").exists());
    until("its unit has ended", || (machine.main_pid("crossfade-envoy") == 0).then_some(()));
}
