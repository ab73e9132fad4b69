//! The command line: exit codes, help, completions, names that are not quite right.

use crate::harness::{Controller, Scratch, crossfade, program, root};

/// The verbs and flags of the outward interface. A name that goes from here breaks somebody's
/// script.
const INTERFACE: &str = include_str!("interface.txt");

#[test]
fn help_has_every_verb_and_flag_of_the_interface() {
    for line in INTERFACE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (verb, flags) = line.split_once(':').unwrap();
        let mut args: Vec<&str> = verb.split(' ').collect();
        args.push("--help");
        let help = crossfade(&args).ok();
        for flag in flags.split_whitespace() {
            assert!(help.contains(flag), "crossfade {verb} --help has no {flag}:\n{help}");
        }
        let grouped = ["audit"].contains(&verb);
        assert!(grouped || help.contains("Example"), "crossfade {verb} --help has no example");
    }
}

#[test]
fn completions_and_manual_pages() {
    let scratch = Scratch::new();
    let script = crossfade(&["completions", "bash"]).ok();
    let file = scratch.file("crossfade.bash", &script);
    program("bash", &["-n", file.to_str().unwrap()]).ok();
    let pages = scratch.path().join("man1");
    crossfade(&["man", pages.to_str().unwrap()]).ok();
    let pages_of = std::fs::read_dir(&pages).unwrap().flatten();
    let mut offered: Vec<String> =
        pages_of.map(|page| page.file_name().to_str().unwrap().to_owned()).collect();
    offered.push(crossfade(&["agent", "--help"]).ok());
    for shell in ["bash", "zsh", "fish"] {
        let script = crossfade(&["completions", shell]).ok();
        for shown in ["rollback", "doctor", "drain", "override", "envoy-user", "restore", "version"]
        {
            assert!(script.contains(shown), "{shell} does not offer {shown}");
        }
        offered.push(script);
    }
    // What service units run is offered to nobody; `crossfade restore` is for operators.
    for said in offered {
        for hidden in HIDDEN {
            assert!(!said.contains(hidden), "{hidden}: {said}");
        }
    }
    let verbs = "confirm doctor drain help join leave rollback run status";
    assert_eq!(completed("agent ", &script), format!("--help --output --server --version {verbs}"));
    assert_eq!(completed("agent re", &script), "");
    assert_eq!(completed("agent rollback --und", &script), "--undo");
    let shift = std::fs::read_to_string(pages.join("crossfade-shift.1")).unwrap();
    assert!(shift.contains("override"), "{shift}");
}

/// Of verbs that service units run: their names, of pages too, and what is said of them.
const HIDDEN: [&str; 5] = [
    "host-helper",
    "agent-restore",
    "agent-envoy",
    "Keep the Envoy running",
    "Put the kernel rules",
];

/// What bash offers after `crossfade` and these words, the last of which is being typed.
fn completed(words: &str, script: &str) -> String {
    let ask = format!(
        "{script}
        COMP_WORDS=(crossfade \"$@\") COMP_CWORD=$#
        _crossfade crossfade \"${{!#}}\" \"${{@: -2:1}}\"
        printf '%s\\n' \"${{COMPREPLY[@]}}\" | grep -v ^-[^-] | LC_ALL=C sort | xargs"
    );
    let words: Vec<&str> = words.split(' ').collect();
    let args = [&["-c", ask.as_str(), "bash"], words.as_slice()].concat();
    program("bash", &args).ok().trim().to_owned()
}

/// What is typed, the exit code, and what the complaint says.
struct Case {
    args: &'static [&'static str],
    code: i32,
    says: &'static [&'static str],
}

#[test]
fn exit_codes_and_complaints() {
    let scratch = Scratch::new();
    let plan = root().join("examples/shop/plan.yaml");
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    controller.run(&["shift", "orders", "10%"]).ok();
    controller.run(&["rollback", "orders"]).ok();
    let case = |args, code, says| Case { args, code, says };
    for Case { args, code, says } in [
        case(&["shift", "orders", "25"], 2, &["`25` has no `%`", "25%"]),
        case(&["shift", "orders", "-1%"], 2, &["at least 0%"]),
        case(&["shift", "orders", "100.01%"], 2, &["at most 100%"]),
        case(&["shift", "ordres", "25%"], 2, &["did you mean `orders`?"]),
        case(&["shift", "shop/ordres", "25%"], 2, &["ordres"]),
        case(&["status", "shap"], 2, &["shap", "shop"]),
        case(
            &["shift", "orders", "25%"],
            3,
            &["rolled back", "try: crossfade resume shop --if-revision"],
        ),
        case(&["resume", "shop"], 3, &["try: crossfade resume shop --if-revision"]),
        case(&["resume", "shop", "--if-revision", "1"], 3, &["revision"]),
        case(&["start", "shop"], 3, &["try: "]),
        case(&["shift", "orders", "25%", "--override", "freeze"], 2, &["--reason"]),
        case(&["delete", "shop"], 3, &["shop"]),
        case(&["sinks", "forget", "dns/gone"], 2, &["dns/gone"]),
        case(&["check", "no-such-plan.yaml"], 2, &["no-such-plan.yaml"]),
        case(&["frobnicate"], 2, &["frobnicate"]),
        case(&["explain", "shop"], 2, &["shop/orders"]),
        case(&["answer", "a..b"], 2, &["a..b"]),
        case(&["answer", "orders.corp.example", "NOTYPE"], 2, &["NOTYPE"]),
    ] {
        let complaint = controller.run(args).fails(code);
        for words in says {
            assert!(complaint.contains(words), "{args:?} does not say {words}:\n{complaint}");
        }
    }
}

#[test]
fn limits_say_what_would_be_allowed() {
    let scratch = Scratch::new();
    let plan = root().join("examples/shop/plan.yaml");
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    let complaint = controller.run(&["shift", "orders", "30%"]).fails(3);
    assert!(complaint.contains("25%"), "{complaint}");
    let complaint = controller.run(&["shift", "payments", "5%"]).fails(3);
    assert!(complaint.contains("try: crossfade shift shop/orders 5%"), "{complaint}");
    controller.run(&["shift", "shop/orders", "5%"]).ok();
    controller.run(&["shift", "payments", "5%"]).ok();
    controller.run(&["shift", "shop", "25%"]).ok();
    let complaint = controller.run(&["shift", "shop", "30%"]).fails(3);
    assert!(complaint.contains("crossfade approve shop sign-off"), "{complaint}");
    controller.run(&["approve", "shop", "sign-off"]).ok();
    controller.run(&["shift", "shop", "30%"]).ok();
    let said = controller.run(&["shift", "orders", "10%"]).ok();
    assert!(said.contains("payments"), "lowering takes along what comes after: {said}");
    let splits = controller.json(&["status", "shop"]);
    assert_eq!(splits["services"][1]["splitBp"], 1000);
}

#[test]
fn what_does_not_arrive_in_time_is_said() {
    let scratch = Scratch::new();
    let plan = root().join("examples/mesh.yaml");
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    let plans = controller.json(&["plans"]);
    let name = plans[0]["plan"].as_str().unwrap();
    let said = controller.run(&["shift", name, "10%", "--wait=1s"]);
    assert!(said.out.contains("not converged within 1s"), "{said:?}");
    assert_eq!(said.code, 4, "{said:?}");
    let status = controller.json(&["status", name]);
    assert!(status["holds"].as_array().unwrap().iter().any(|hold| hold["reason"] == "no-sink"));
    assert!(status["services"][0]["planes"]["mesh"]["ackedBp"].is_null());
    controller.run(&["shift", name, "5%", "--no-wait"]).ok();
}

#[test]
fn without_an_argument_the_only_plan_is_meant() {
    let scratch = Scratch::new();
    let plan = root().join("examples/shop/plan.yaml");
    let other = root().join("examples/delegated-name.yaml");
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    controller.run(&["rollback"]).ok();
    controller.run(&["apply", other.to_str().unwrap()]).ok();
    let complaint = controller.run(&["rollback"]).fails(2);
    assert!(complaint.contains("crossfade rollback shop"), "{complaint}");
    let said = controller.run(&["rollback", "--all"]).ok();
    assert!(said.contains("partner-api at revision"), "{said}");
}

#[test]
fn a_plan_applied_twice_changes_nothing() {
    let scratch = Scratch::new();
    let plan = root().join("examples/shop/plan.yaml");
    let plan = plan.to_str().unwrap();
    let controller = Controller::start(&scratch.path().join("data"), &[plan]);
    let revision = controller.revision("shop");
    let diff = controller.json(&["diff", plan]);
    assert_eq!(diff["changes"], false, "{diff}");
    let said = controller.run(&["apply", plan]).ok();
    assert!(said.contains("nothing to change"), "{said}");
    assert_eq!(controller.revision("shop"), revision);
}

#[test]
fn a_refusal_is_json_too() {
    let scratch = Scratch::new();
    let plan = root().join("examples/shop/plan.yaml");
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    let said = controller.run(&["shift", "orders", "30%", "-o", "json"]);
    let problem: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(problem["code"], "refused", "{problem}");
    assert_eq!(problem["reason"], "max-step", "{problem}");
    assert_eq!(problem["clear"], "crossfade shift shop/orders 25%", "{problem}");
    assert_eq!(said.code, 3, "{said:?}");
}

#[test]
fn a_service_of_its_plans_name_does_not_stand_before_a_rollback() {
    let scratch = Scratch::new();
    let plan = root().join("examples/whole.yaml");
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    controller.run(&["rollback", "ledger"]).ok();
    controller.run(&["explain", "ledger"]).ok();
    controller.run(&["rollback", "ledger/ledger"]).ok();
}

#[test]
fn a_rollback_of_a_part_says_what_is_left() {
    let scratch = Scratch::new();
    let plan = root().join("examples/shop/plan.yaml");
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    controller.run(&["shift", "shop", "10%"]).ok();
    controller.run(&["rollback", "payments"]).ok();
    let said = controller.run(&["status", "shop"]).ok();
    assert!(said.contains("still on target: orders"), "{said}");
    controller.run(&["rollback", "orders"]).ok();
    let said = controller.run(&["status", "shop"]).ok();
    assert!(said.contains("everyone was taken back"), "{said}");
}
