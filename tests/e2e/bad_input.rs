//! What an operator can get wrong before anything runs.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Controller, Scratch, crossfade, root};

const GOOD: &str = "apiVersion: crossfade.dev/v1alpha1
kind: CutoverPlan
metadata: { name: small }
spec:
  zones: [{ name: small.example., file: small.zone }]
  services:
    - name: web
      hosts: [web.small.example]
      ports: [{ name: http, port: 80, protocol: http }]
      legacy: { endpoints: [192.0.2.1] }
      target: { endpoints: [192.0.2.2] }
  steps: [{ split: 50%, bake: 1m }, { split: 100%, bake: 1m }]
";
const ZONE: &str = "$TTL 60\n@ SOA ns1 host 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.53\n";

#[test]
fn every_error_of_a_file_is_told_with_its_line() {
    let scratch = Scratch::new();
    scratch.file("small.zone", ZONE);
    let bad = GOOD.replace("50%", "50").replace("[web.small.example]", "[web.other.example]");
    let plan = scratch.file("plan.yaml", &bad);
    let complaint = crossfade(&["check", plan.to_str().unwrap()]).fails(2);
    for words in ["plan.yaml:8: ", "web.other.example", "plan.yaml:12: ", "50%"] {
        assert!(complaint.contains(words), "{words}:\n{complaint}");
    }
    let said = crossfade(&["check", plan.to_str().unwrap(), "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &json["valid"]), (2, &false.into()));
    assert!(json["errors"].as_array().unwrap().len() >= 2, "{json}");
}

#[test]
fn zone_files_are_checked_with_their_lines() {
    let scratch = Scratch::new();
    let plan = scratch.file("plan.yaml", GOOD);
    let plan = plan.to_str().unwrap();
    let filler: String = (0..995).map(|n| format!("h{n} A 192.0.2.1\n")).collect();
    for (name, text, says) in [
        ("no such file", None, "small.zone"),
        ("syntax in line 1000", Some(format!("{ZONE}{filler}oops A 1.2.3\n")), "small.zone:1000: "),
        ("a CNAME beside data", Some(format!("{ZONE}ns1 CNAME web\n")), "CNAME"),
        ("out of zone", Some(format!("{ZONE}www.other. A 192.0.2.1\n")), "www.other"),
        ("no SOA", Some("$TTL 60\n@ NS ns1\n".to_owned()), "SOA"),
        (
            "a name that is delegated away",
            Some(format!("{ZONE}web NS ns.web\nns.web A 192.0.2.9\n")),
            "no client would be told",
        ),
        ("an inclusion of itself", Some(format!("{ZONE}$INCLUDE small.zone\n")), "small.zone:5: "),
    ] {
        let file = scratch.path().join("small.zone");
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => drop(std::fs::remove_file(&file)),
        }
        let complaint = crossfade(&["check", plan]).fails(2);
        assert!(complaint.contains(says), "{name}:\n{complaint}");
    }
}

#[test]
fn a_taken_port_is_named() {
    let scratch = Scratch::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let start = |name: &str, args: &[&str]| {
        let all =
            ["serve", "--data", scratch.path().join(name).to_str().unwrap()].map(str::to_owned);
        let all: Vec<String> =
            all.into_iter().chain(args.iter().map(ToString::to_string)).collect();
        crossfade(&all.iter().map(String::as_str).collect::<Vec<_>>()).fails(1)
    };
    let api = tcp.local_addr().unwrap().to_string();
    let dns = udp.local_addr().unwrap().to_string();
    assert!(start("a", &["--api", &api, "--dns", "127.0.0.1:0"]).contains(&api));
    assert!(start("b", &["--api", "127.0.0.1:0", "--dns", &dns]).contains(&dns));
    let open = start("c", &["--api", "0.0.0.0:0", "--dns", "127.0.0.1:0"]);
    assert!(open.contains("loopback") || open.contains("127.0.0.1"), "{open}");
}

#[test]
fn a_directory_in_use_names_its_owner() {
    let scratch = Scratch::new();
    let controller = Controller::start(scratch.path(), &[]);
    let Err(said) = Controller::try_start(scratch.path(), &[]) else {
        panic!("a second one started")
    };
    assert_eq!(said.code, 1);
    assert!(said.err.contains(&controller.pid().to_string()), "{}", said.err);
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let scratch = Scratch::new();
    let file = scratch.file("file", "");
    let Err(said) = Controller::try_start(&file, &[]) else { panic!("it started in a file") };
    assert!(said.err.contains("file"), "{}", said.err);
    // Root may write anywhere that is not read-only by its medium.
    if program_is_root() {
        let Err(said) = Controller::try_start("/proc/crossfade".as_ref(), &[]) else {
            panic!("it started in /proc")
        };
        assert!(said.err.contains("/proc/crossfade"), "{}", said.err);
        return;
    }
    let locked = scratch.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    let Err(said) = Controller::try_start(&locked, &[]) else { panic!("it started read-only") };
    assert!(said.err.contains("locked"), "{}", said.err);
}

/// Else nobody could tell it to leave.
#[test]
fn a_directory_too_long_for_the_agents_socket_is_named_before_anything_is_done() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("d".repeat(97)).join("e".repeat(97));
    let path = directory.join("agent.sock");
    let data = directory.to_str().unwrap();
    for args in [
        &["agent", "join", "--data", data, "--token-file", "/dev/null"][..],
        &["agent", "run", "--data", data, "--controller", "127.0.0.1:1"],
    ] {
        let said = crossfade(args).fails(2);
        let why = format!("the path {} has {} bytes", path.display(), path.as_os_str().len());
        assert!(said.contains(&why) && said.contains("107") && said.contains("--data"), "{said}");
        assert!(!directory.exists(), "{args:?}");
    }
}

fn program_is_root() -> bool {
    crate::harness::program("id", &["-u"]).ok().trim() == "0"
}

#[test]
fn a_settings_file_is_read_strictly() {
    let scratch = Scratch::new();
    let config = scratch.file("crossfade.toml", "api = '127.0.0.1:0'\nspeed = 'fast'\n");
    let complaint = crossfade(&["serve", "--config", config.to_str().unwrap()]).fails(2);
    for words in ["crossfade.toml", "speed", "line 2"] {
        assert!(complaint.contains(words), "{words}:\n{complaint}");
    }
}

#[test]
fn commands_for_a_plan_that_is_gone_say_so() {
    let scratch = Scratch::new();
    scratch.file("small.zone", ZONE);
    let plan = scratch.file("plan.yaml", GOOD);
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    controller.run(&["delete", "small"]).ok();
    for args in [&["start", "small"][..], &["shift", "small/web", "5%"], &["rollback", "small/web"]]
    {
        let said = controller.run(args);
        assert_eq!(said.code, 2, "{args:?}: {said:?}");
    }
    assert!(controller.dig("web.small.example", "A", None).is_empty(), "its names are gone");
}

#[test]
fn a_web_page_cannot_drive_it() {
    let scratch = Scratch::new();
    let plan = root().join("examples/shop/plan.yaml");
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    let url = format!("http://{}/v1/plans/shop/shift", controller.api);
    let post = |headers: &[&str]| {
        let mut args =
            vec!["-s", "-o", "/dev/null", "-w", "%{http_code}", "-d", "{\"split\":\"5%\"}"];
        headers.iter().for_each(|header| args.extend(["-H", header]));
        args.push(&url);
        crate::harness::program("curl", &args).ok()
    };
    let json = "content-type: application/json";
    assert_eq!(post(&[json, "origin: https://evil.example"]), "403");
    assert_eq!(post(&[json, "host: evil.example"]), "403");
    assert_eq!(post(&["content-type: text/plain"]), "415");
    assert_eq!(controller.revision("shop"), "1", "none of them changed anything");
    assert_eq!(post(&[json]), "200");
}
