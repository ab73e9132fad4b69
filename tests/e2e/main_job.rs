//! The main job: a quarter of the clients moves, the same quarter every time, and comes back.

use std::collections::BTreeMap;

use crate::harness::{Controller, Scratch, root};

const LEGACY: [&str; 2] = ["10.0.1.11", "10.0.1.12"];
const TARGET: [&str; 3] = ["10.9.1.21", "10.9.1.22", "10.9.1.23"];

fn shop(scratch: &Scratch) -> Controller {
    let plan = root().join("examples/shop/plan.yaml");
    Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()])
}

/// The side of each client by what it is told.
fn sides(controller: &Controller) -> BTreeMap<String, bool> {
    let clients = (0..200).map(|n| format!("198.{}.{n}.0/24", 18 + n % 2));
    let ask = |client: String| {
        let told = controller.dig("orders.corp.example", "A", Some(&client));
        let target = told == TARGET;
        assert!(target || told == LEGACY, "{client}: {told:?}");
        (client, target)
    };
    clients.map(ask).collect()
}

#[test]
fn a_quarter_moves_stays_and_comes_back() {
    let scratch = Scratch::new();
    let controller = shop(&scratch);
    assert!(sides(&controller).values().all(|target| !target));

    controller.run(&["shift", "orders", "10%"]).ok();
    let tenth = sides(&controller);
    let said = controller.run(&["shift", "orders", "25%", "--reason", "a quarter"]).ok();
    assert!(said.contains("shift shop/orders to 25%: durable"), "{said}");
    assert!(said.contains("arrived everywhere"), "{said}");
    assert!(said.contains("the last old DNS answer expires at"), "{said}");
    let quarter = sides(&controller);
    // 200 clients, p = 1/4: five standard deviations are 31.
    let moved = quarter.values().filter(|target| **target).count();
    assert!((19..=81).contains(&moved), "{moved} of 200");
    assert!(tenth.iter().all(|(client, target)| !target || quarter[client]), "nobody moved back");
    assert_eq!(sides(&controller), quarter, "the same quarter every time");

    for (client, target) in quarter.iter().take(5) {
        let explained = controller.json(&["explain", "orders", "--client", client]);
        let side = if *target { "target" } else { "legacy" };
        assert_eq!(explained["client"]["side"], side, "{client}");
        let answer = controller.json(&["answer", "orders.corp.example", "--client", client]);
        assert_eq!(answer["scope"], 24, "{answer}");
    }

    controller.run(&["rollback", "orders", "--reason", "enough"]).ok();
    assert!(sides(&controller).values().all(|target| !target));
    let status = controller.json(&["status", "shop"]);
    assert_eq!(status["phase"], "rolled-back");
    assert_eq!(status["services"][0]["planes"]["dns"]["ackedBp"], 0);

    let history = controller.run(&["history", "shop"]).ok();
    for words in ["shift shop/orders 25%", "a quarter", "rollback shop/orders", "enough"] {
        assert!(history.contains(words), "{words}:\n{history}");
    }
    controller.run(&["audit", "verify"]).ok();
}

#[test]
fn everything_is_there_after_a_crash_and_the_answers_are_the_same() {
    let scratch = Scratch::new();
    let controller = shop(&scratch);
    controller.run(&["shift", "orders", "25%"]).ok();
    let before = sides(&controller);
    let revision = controller.revision("shop");
    controller.kill();

    let controller = shop(&scratch);
    assert_eq!(controller.revision("shop"), revision, "the file is not applied again");
    assert_eq!(sides(&controller), before);
    let phase = controller.json(&["status", "shop"]);
    assert_eq!(phase["services"][0]["splitBp"], 2500);
    controller.run(&["pause", "shop", "--reason", "the end"]).ok();
    controller.run(&["shift", "orders", "24%", "--reason", "told in the log"]).ok();
    let (code, log) = controller.terminate();
    assert_eq!(code, Some(0), "SIGTERM is a good end");
    // Not a terminal: a JSON object a line.
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let told: Vec<_> = lines.filter(|line| line["fields"]["message"] == "committed").collect();
    assert_eq!(told.len(), 1, "only the shift changed anything: {log}");
    assert_eq!(told[0]["fields"]["command"], "shift shop/orders 24%");
    assert_eq!(told[0]["fields"]["reason"], "told in the log");
}

#[test]
fn the_zone_around_the_names_is_served_as_it_is() {
    let scratch = Scratch::new();
    let controller = shop(&scratch);
    for (name, rtype, expected) in [
        ("wiki.corp.example", "A", vec!["10.0.3.80"]),
        ("corp.example", "MX", vec!["10 mail.corp.example."]),
        ("anything.dev.corp.example", "A", vec!["10.0.4.1"]),
        ("_grpc._tcp.corp.example", "SRV", vec!["10 5 9000 payments.corp.example."]),
        ("nothing.corp.example", "A", vec![]),
    ] {
        assert_eq!(controller.dig(name, rtype, None), expected, "{name} {rtype}");
    }
    let chain = controller.dig("www.corp.example", "A", None);
    assert_eq!(
        chain,
        ["10.0.1.11", "10.0.1.12", "orders.corp.example.", "shop.corp.example."],
        "a name that points at the plan's follows it"
    );
}

#[test]
fn a_reload_takes_a_changed_zone_and_refuses_a_broken_one() {
    let scratch = Scratch::new();
    let (plan, zone) = (root().join("examples/shop/plan.yaml"), "corp.example.zone");
    let text = std::fs::read_to_string(root().join("examples/shop").join(zone)).unwrap();
    let plan = scratch.file("plan.yaml", &std::fs::read_to_string(plan).unwrap());
    scratch.file(zone, &text);
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);

    let said = controller.run(&["reload"]).ok();
    assert_eq!(said, "no zone changed\n");
    let steps = std::fs::read_to_string(&plan).unwrap().replace("bake: 30m", "bake: 31m");
    scratch.file("plan.yaml", &steps);
    let said = controller.run(&["reload"]).ok();
    assert!(said.contains("take that over: crossfade apply "), "{said}");

    scratch.file(zone, &text.replace("10.0.3.80", "10.0.3.81"));
    let said = controller.run(&["reload", "--reason", "wiki moves"]).ok();
    assert!(said.contains("zones changed: shop"), "{said}");
    let told = || controller.dig("wiki.corp.example", "A", None);
    // A reload returns once it is durable; the answer follows within milliseconds.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while told() != ["10.0.3.81"] {
        assert!(std::time::Instant::now() < deadline, "{:?}", told());
    }
    scratch.file(zone, &format!("{text}\nbroken IN A not-an-address\n"));
    let complaint = controller.run(&["reload"]).fails(2);
    let line = text.lines().count() + 2;
    assert!(complaint.contains(&format!("{zone}:{line}: ")), "{complaint}");
    assert_eq!(told(), ["10.0.3.81"], "the last good text goes on");
    assert!(controller.run(&["reload"]).err.contains("not-an-address"));
}

#[test]
fn a_backup_comes_back_paused_with_a_higher_incarnation() {
    let scratch = Scratch::new();
    let controller = shop(&scratch);
    controller.run(&["shift", "orders", "10%"]).ok();
    let backup = scratch.path().join("backup");
    let backup = backup.to_str().unwrap();
    controller.run(&["backup", backup]).ok();
    assert!(controller.run(&["backup", backup]).fails(1).contains("exists"));
    controller.run(&["rollback", "shop"]).ok();
    let data = scratch.path().join("data");
    let restore =
        || crate::harness::crossfade(&["restore", backup, "--data", data.to_str().unwrap()]);
    let refused = restore().fails(1);
    assert!(refused.contains(&controller.pid().to_string()), "{refused}");
    controller.kill();

    restore().ok();
    let controller = shop(&scratch);
    let status = controller.json(&["status", "shop"]);
    assert_eq!((&status["incarnation"], &status["phase"]), (&2.into(), &"paused".into()));
    assert_eq!(status["holds"][0]["reason"], "restored");
    assert_eq!(status["services"][0]["splitBp"], 1000, "as it was when it was backed up");
    controller.run(&["audit", "verify"]).ok();
}

#[test]
fn automation_walks_the_steps_by_itself() {
    let scratch = Scratch::new();
    let plan = scratch.file(
        "fast.yaml",
        "apiVersion: crossfade.dev/v1alpha1
kind: CutoverPlan
metadata: { name: fast }
spec:
  strategy: whole
  zones: [{ name: fast.example., ttl: { steady: 1s, shifting: 1s } }]
  services:
    - name: web
      hosts: [web.fast.example]
      ports: [{ name: http, port: 80, protocol: http }]
      legacy: { endpoints: [192.0.2.1] }
      target: { endpoints: [192.0.2.2] }
  steps: [{ split: 100%, bake: 1s }]
",
    );
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    let said = controller.run(&["start", "fast"]).ok();
    assert!(said.contains("durable"), "{said}");
    // 30 s of settling after the start, the steady TTL, then the bake.
    let watched = std::process::Command::new(crate::harness::BINARY)
        .args(["status", "fast", "--watch"])
        .env("CROSSFADE_SERVER", controller.server())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let phases = phases_until(watched, "complete");
    assert!(phases.iter().any(|phase| phase == "held"), "{phases:?}");
    assert_eq!(controller.dig("web.fast.example", "A", None), ["192.0.2.2"]);
}

/// The phases that a watch prints, up to this one.
fn phases_until(mut watched: std::process::Child, last: &str) -> Vec<String> {
    use std::io::BufRead as _;
    let out = std::io::BufReader::new(watched.stdout.take().unwrap());
    let mut phases = Vec::new();
    for line in out.lines() {
        let line = line.unwrap();
        let phase = line.split(' ').nth(1).unwrap_or_default().to_owned();
        phases.push(phase);
        if phases.last().map(String::as_str) == Some(last) {
            break;
        }
    }
    watched.kill().unwrap();
    watched.wait().unwrap();
    assert_eq!(phases.last().map(String::as_str), Some(last), "{phases:?}");
    phases
}
