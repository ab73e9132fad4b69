//! The end of a plan: retired, its names handed to the zone file, forgotten.

use crate::harness::{Controller, Scratch};

const PLAN: &str = "apiVersion: crossfade.dev/v1alpha1
kind: CutoverPlan
metadata: { name: last }
spec:
  strategy: whole
  zones: [{ name: last.example., file: last.zone }]
  services:
    - name: web
      hosts: [web.last.example]
      ports: [{ name: http, port: 80, protocol: http }]
      legacy: { endpoints: [192.0.2.1] }
      target: { endpoints: [192.0.2.2] }
  steps: [{ split: 100%, bake: 1h }]
";

const ZONE: &str = "$ORIGIN last.example.
@ 60 IN SOA ns1 hostmaster 1 3600 600 86400 60
@ 60 IN NS ns1
ns1 60 IN A 192.0.2.53
";

#[test]
fn names_are_handed_to_the_zone_file_and_the_plan_is_forgotten() {
    let scratch = Scratch::new();
    let plan = scratch.file("last.yaml", PLAN);
    scratch.file("last.zone", ZONE);
    let controller = Controller::start(&scratch.path().join("data"), &[plan.to_str().unwrap()]);
    for args in [&["shift", "last", "100%"][..], &["resume", "last"], &["step", "last"]] {
        controller.run(args).ok();
    }
    let said = controller.run(&["retire", "last"]).ok();
    assert!(said.contains("still at legacy:\n  web dns: "), "{said}");
    let line = "web.last.example. 60 IN A 192.0.2.2";
    assert!(said.contains(line), "{said}");
    let again = controller.run(&["retire", "last"]).ok();
    assert!(again.contains(line), "the lines are told again: {again}");
    let status = controller.run(&["status", "last"]).ok();
    assert!(status.contains("crossfade retire last"), "{status}");

    scratch.file("last.zone", &format!("{ZONE}{line}\n"));
    controller.run(&["reload"]).ok();
    let status = controller.run(&["status", "last"]).ok();
    assert!(status.contains("its names have left"), "{status}");
    assert!(status.contains("crossfade delete last"), "{status}");
    assert!(controller.json(&["status", "last"])["services"][0]["planes"]["dns"].is_null());
    let complaint = controller.run(&["explain", "web"]).fails(2);
    assert!(complaint.contains("have left it"), "{complaint}");
    assert_eq!(controller.dig("web.last.example", "A", None), ["192.0.2.2"]);
    let said = controller.run(&["delete", "last"]).ok();
    assert!(said.contains("its zones are no longer served here"), "{said}");
}
