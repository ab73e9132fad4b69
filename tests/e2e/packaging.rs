//! What is installed with the product: units that systemd understands and that expose little.

use std::fs;
use std::process::Command;

use crate::harness::{Scratch, program, root};

/// Whether there is what reads units; scripts/test installs it.
fn has_systemd_analyze(test: &str) -> bool {
    if Command::new("systemd-analyze").arg("--version").output().is_ok_and(|o| o.status.success()) {
        return true;
    }
    eprintln!("SKIPPED {test}: systemd-analyze is not installed");
    false
}

/// A copy of packaging/ whose agent's unit is changed.
fn with_agent_unit(change: impl Fn(&str) -> String) -> Scratch {
    let scratch = Scratch::new();
    let (from, to) = (root().join("packaging"), scratch.path());
    program("cp", &["-r", from.to_str().unwrap(), to.to_str().unwrap()]).ok();
    let unit = to.join("packaging/systemd/crossfade-agent.service");
    let text = fs::read_to_string(&unit).unwrap();
    let changed = change(&text);
    assert_ne!(changed, text, "nothing was changed");
    fs::write(unit, changed).unwrap();
    scratch
}

#[test]
fn units_are_right_and_expose_little() {
    if !has_systemd_analyze("units_are_right_and_expose_little") {
        return;
    }
    let check = root().join("packaging/check");
    let told = program(check.to_str().unwrap(), &[]).ok();
    for unit in ["crossfade", "crossfade-dns", "crossfade-agent", "crossfade-restore"] {
        let line = format!("{unit}.service ");
        assert!(told.lines().any(|told| told.starts_with(&line)), "no {unit}:\n{told}");
    }
}

#[test]
fn a_unit_that_is_wrong_or_exposed_is_told() {
    if !has_systemd_analyze("a_unit_that_is_wrong_or_exposed_is_told") {
        return;
    }
    let wrong = with_agent_unit(|text| text.replace("Restart=always", "Restart=perhaps"));
    let check = wrong.path().join("packaging/check");
    let told = program(check.to_str().unwrap(), &[]).fails(1);
    assert!(told.contains("perhaps"), "{told}");

    let open =
        |text: &str| text.replace("ProtectSystem=strict", "").replace("SystemCallFilter", "#");
    let exposed = with_agent_unit(open);
    let check = exposed.path().join("packaging/check");
    let told = program(check.to_str().unwrap(), &[]).fails(1);
    assert!(told.contains("crossfade-agent.service: exposed by more than 2.0"), "{told}");
}

/// The commands in units are commands that there are.
#[test]
fn units_start_what_there_is() {
    let folder = root().join("packaging/systemd");
    let mut starts = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter_map(|line| line.split_once("=/usr/bin/crossfade ")) {
            let verb: Vec<&str> =
                line.1.split(' ').take_while(|word| !word.starts_with(['-', '$'])).collect();
            let help: Vec<&str> = verb.iter().copied().chain(["--help"]).collect();
            crate::harness::crossfade(&help).ok();
            starts += 1;
        }
    }
    assert!(starts >= 5, "only {starts}");
}
