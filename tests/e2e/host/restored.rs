//! The packaged controller: its log is backed up and put back by the commands of docs/install.md.

use std::fs;

use serde_json::Value;

use super::machine::{Machine, can_boot, package};
use super::main_job::PLAN;
use super::world::{World, until};
use crate::harness::root;

const SERVER: &str = "unix:/var/lib/crossfade/controller/crossfade.sock";

/// What the page says: to back up, and to restore.
fn commands() -> (String, String) {
    let page = fs::read_to_string(root().join("docs/install.md")).unwrap();
    let begin = page.find("crossfade backup /root/crossfade.backup").unwrap();
    let block = page[begin..].split("```").next().unwrap();
    let (backup, restore) = block.split_once('\n').unwrap();
    assert_eq!(restore.lines().count(), 5, "{restore}");
    (backup.to_owned(), restore.to_owned())
}

/// The plan, once the controller answers.
#[track_caller]
fn status(machine: &Machine) -> Value {
    until("the controller answers", || {
        let said = machine.said(&["crossfade", "status", "shop", "--server", SERVER, "-o", "json"]);
        (said.code == 0).then(|| serde_json::from_str(&said.out).unwrap())
    })
}

fn order(machine: &Machine, words: &[&str]) {
    let words = [&["crossfade"], words, &["--server", SERVER, "--no-wait"]].concat();
    machine.run(&words);
}

#[test]
fn the_packaged_controller_is_restored_as_the_page_says() {
    let test = "the_packaged_controller_is_restored_as_the_page_says";
    let Some(world) = can_boot(test).then(|| World::new(test, PLAN)).flatten() else { return };
    let package = package(&world, "1.0.0");
    let plan = world.scratch.path().join("plan.yaml");
    let machine = Machine::new(&world, &[package.clone(), plan]);
    machine.install(&[package]);
    machine.run(&["systemctl", "start", "crossfade"]);
    let is_up = || {
        let said = machine.said(&["crossfade", "plans", "--server", SERVER]);
        (said.code == 0).then_some(())
    };
    until("the controller answers", is_up);
    order(&machine, &["apply", "/var/tmp/plan.yaml"]);
    order(&machine, &["shift", "orders", "50%"]);
    let (backup, restore) = commands();
    machine.run(&["sh", "-euc", &backup]);
    order(&machine, &["rollback", "orders"]);
    assert_eq!(split(&status(&machine)), 0);

    machine.run(&["sh", "-euc", &restore]);
    let found = status(&machine);
    assert_eq!(split(&found), 5_000, "{found}");
    assert_eq!((&found["incarnation"], &found["phase"]), (&2.into(), &"paused".into()), "{found}");
    assert_eq!(found["holds"][0]["reason"], "restored", "{found}");
    // It goes on as the user who runs it, and nothing that holds its key lies about.
    order(&machine, &["resume", "shop"]);
    order(&machine, &["rollback", "orders"]);
    assert_eq!(split(&status(&machine)), 0);
    let place = "/var/lib/crossfade/controller";
    let owned = machine.run(&["find", place, "-not", "-user", "crossfade"]);
    assert_eq!(owned, "");
    let open =
        machine.run(&["find", place, "/root/crossfade.backup", "-type", "f", "-perm", "/077"]);
    assert_eq!(open, "");
    assert!(!machine.path(&format!("{place}/restore.backup")).exists());
}

/// That of `orders`, in hundredths of a percent.
fn split(status: &Value) -> u64 {
    status["services"][0]["splitBp"].as_u64().unwrap_or_else(|| panic!("{status}"))
}
