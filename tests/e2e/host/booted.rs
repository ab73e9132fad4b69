//! The package on a VM with a real systemd: units as they are, users, the helper, sockets that are
//! kept, upgrades, a boot without a controller, and removal.

use std::collections::BTreeMap;
use std::fs;

use super::leave::walk;
use super::load::Load;
use super::machine::{Machine, can_boot, package};
use super::main_job::{LOGICAL, PLAN};
use super::names::{Asking, Upstream, server_in};
use super::peers::sides;
use super::world::{World, try_until};

/// How often the agent is killed.
const KILLS: u32 = 8;

/// How many clients are looked at.
const CLIENTS: u16 = 200;

/// What Debian keeps of users when a package goes, and what the machine writes itself.
const OTHERS: [&str; 8] =
    ["passwd", "passwd-", "shadow", "shadow-", "group", "group-", "gshadow", "gshadow-"];

pub(super) fn etc(machine: &Machine) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let etc = machine.path("/etc");
    walk(&etc, &mut found);
    let is_ours = |path: &str| OTHERS.iter().all(|name| path.rsplit('/').next() != Some(name));
    found.retain(|path, _| is_ours(path));
    let inside = |path: String| path.split_once("/root/etc").unwrap().1.to_owned();
    found.into_iter().map(|(path, what)| (inside(path), what)).collect()
}

/// The agent that systemd runs, other than `not`, once it answers.
#[track_caller]
pub(super) fn ready(machine: &Machine, not: u32) -> u32 {
    let mut said = String::new();
    let found = try_until(|| {
        let pid = machine.main_pid("crossfade-agent");
        let status = machine.agent();
        said = format!("process {pid}, not {not}: {status:?}");
        let is_well = status.is_some_and(|status| status["broken"].is_null());
        (is_well && pid != 0 && pid != not).then_some(pid)
    });
    found.unwrap_or_else(|| panic!("the agent is not there: {said}"))
}

/// Its user, its rights and its way to what needs root are those of the unit.
fn is_confined(machine: &Machine, pid: u32) {
    let user = machine.run(&["ps", "-o", "user:32=", "-p", &pid.to_string()]);
    assert_eq!(user.trim(), "crossfade-agent");
    let status = machine.text(&format!("/proc/{pid}/status"));
    // CAP_NET_BIND_SERVICE and CAP_NET_ADMIN, by their numbers.
    let rights = format!("{:016x}", 1_u64 << 10 | 1 << 12);
    for line in [format!("CapEff:\t{rights}"), "NoNewPrivs:\t1".into(), "Seccomp:\t2".into()] {
        assert!(status.contains(&line), "{line}: {status}");
    }
}

#[test]
fn a_package_from_joining_over_an_upgrade_and_a_boot_to_its_removal() {
    let test = "a_package_from_joining_over_an_upgrade_and_a_boot_to_its_removal";
    let Some(mut world) = can_boot(test).then(|| World::new(test, PLAN)).flatten() else { return };
    let _upstream = Upstream::start(&world.net.legacy);
    let versions = ["1.0.0", "1.0.1"].map(|version| package(&world, version));
    let machine = Machine::new(&world, &versions);
    let (rules, before) = (world.rules(), etc(&machine));
    machine.install(&versions[..1]);
    assert_eq!(machine.main_pid("crossfade-agent"), 0, "nothing starts by itself");
    let said = machine.join(&world);
    assert!(said.contains("rules in force") && said.contains("confirmed"), "{said}");
    let first = ready(&machine, 0);
    is_confined(&machine, first);
    world.shift("orders", "50%");
    let at_half = sides(&world.net, CLIENTS, LOGICAL);
    assert!(at_half.contains(&'L') && at_half.contains(&'T'));
    let server = server_in(|| machine.text("/etc/resolv.conf"));

    // Killed, and upgraded: nobody sees it.
    let load = Load::start(&world.net, LOGICAL);
    let asking = Asking::start(&world, server);
    let mut pid = first;
    for round in 0..KILLS {
        if round % 2 == 0 {
            load.round();
            asking.round();
        }
        machine.run(&["kill", "-KILL", &pid.to_string()]);
        pid = ready(&machine, pid);
    }
    machine.install(&versions[1..]);
    let upgraded = ready(&machine, pid);
    load.round();
    asking.round();
    let told = load.stop();
    assert!(told.failed.is_empty() && told.moved.is_empty(), "{told:?}\n{}", machine.log());
    let (asked, failed) = asking.stop();
    assert!(failed.is_empty(), "of {asked}: {failed:?}\n{}", machine.log());
    assert_ne!(upgraded, pid, "it was restarted");
    assert_eq!(machine.agent_is("Result"), "success");

    // A boot, and no controller.
    world.kill_controller();
    let machine = machine.reboot(&world);
    assert_eq!(sides(&world.net, CLIENTS, LOGICAL), at_half);
    let pid = ready(&machine, 0);
    let status = machine.agent().unwrap();
    assert!(status["controller"].is_null(), "{status}");
    is_confined(&machine, pid);
    let restored = ["systemctl", "is-active", "crossfade-restore"];
    assert_eq!(machine.run(&restored).trim(), "active");
    let server = server_in(|| machine.text("/etc/resolv.conf"));
    let asking = Asking::start(&world, server);
    asking.round();
    assert_eq!(asking.stop().1, Vec::<String>::new());
    world.start_controller(&[]);
    world.until_acked();
    world.shift("orders", "20%");

    is_gone(&world, &machine, &rules, &before);
}

/// Removed, and purged: the host is as it was before.
fn is_gone(world: &World, machine: &Machine, rules: &str, before: &BTreeMap<String, String>) {
    machine.run(&["dpkg", "--remove", "crossfade"]);
    assert_eq!(world.rules(), rules);
    let left = world.controller().json(&["agents"]);
    assert_eq!(left[0]["state"], "revoked", "{left}");
    machine.run(&["dpkg", "--purge", "crossfade"]);
    assert!(!machine.path("/var/lib/crossfade").exists());
    let after = etc(machine);
    for (path, what) in before {
        assert_eq!(after.get(path), Some(what), "{path}");
    }
    let more: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert!(more.is_empty(), "{more:?}");
    assert!(fs::read_dir(machine.path("/run")).unwrap().flatten().all(|entry| {
        entry.file_name().to_str().is_none_or(|name| !name.contains("crossfade"))
    }));
}
