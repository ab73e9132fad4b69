//! SIGKILL at any moment: nothing acknowledged is lost, nothing is done twice.

use std::process::{Command, Stdio};

use crate::harness::{BINARY, Controller, Scratch, root};

/// `scripts/bench crash` does 300.
const CRASHES: u32 = 12;
/// At most so many shifts between two crashes: all of them stay below the first gate.
const WRITES: u32 = 200;

#[test]
fn acknowledged_commands_outlive_crashes() {
    let scratch = Scratch::new();
    let plan = root().join("examples/shop/plan.yaml");
    let data = scratch.path().join("data");
    let start = || Controller::start(&data, &[plan.to_str().unwrap()]);
    let mut acknowledged = Vec::new();
    for crash in 0..CRASHES {
        let controller = start();
        let history = controller.run(&["history", "shop", "--limit", "1000"]).ok();
        for reason in &acknowledged {
            let times = history.matches(&format!("«{reason}»")).count();
            assert_eq!(times, 1, "{reason} is there once:\n{history}");
        }
        controller.run(&["audit", "verify"]).ok();
        // Shifts of one basis point each, until the controller is killed among them.
        let server = controller.server();
        let writer = std::thread::spawn(move || write(&server, crash));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let before = records(&history);
        let after = usize::try_from(crash * 37 % 11 + 1).unwrap();
        let written = || records(&controller.run(&["history", "shop", "--limit", "1000"]).out);
        while written() < before + after && std::time::Instant::now() < deadline {}
        controller.kill();
        acknowledged.extend(writer.join().unwrap());
    }
    assert!(acknowledged.len() > 10, "too little was written to say anything");
}

/// How many of the writers' records a history has.
fn records(history: &str) -> usize {
    history.lines().filter(|line| line.contains('«')).count()
}

/// Writes until it is refused; the reasons of what was acknowledged.
fn write(server: &str, crash: u32) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0..WRITES {
        let reason = format!("{crash}-{n}");
        // Another split each time: a shift to the present one would change nothing.
        let bp = crash * WRITES + n + 1;
        let split = format!("{}.{:02}%", bp / 100, bp % 100);
        let done = Command::new(BINARY)
            .args(["shift", "orders", &split, "--no-wait", "--reason", &format!("«{reason}»")])
            .env("CROSSFADE_SERVER", server)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        if !done.success() {
            break;
        }
        acknowledged.push(reason);
    }
    acknowledged
}
