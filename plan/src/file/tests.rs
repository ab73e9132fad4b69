use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture;
use crate::spec::ZoneSource;

use super::*;

/// A plan with every field of the format.
const FULL: &str = "\
apiVersion: crossfade.dev/v1alpha1
kind: CutoverPlan
metadata: { name: full }
spec:
  strategy: gradual
  zones:
    - { name: corp.example., text: '@ SOA …', ttl: { steady: 2m, shifting: 3s } }
    - { name: b.example, file: b.zone }
  clients:
    - { networks: [10.8.0.0/16, '::/0'], plane: mesh }
    - { networks: [10.0.1.0/24], plane: host }
    - { networks: [10.0.2.0/24], plane: dns }
  resolvers: [{ name: hq, addresses: [10.0.0.54, 10.0.0.53] }]
  services:
    - name: orders
      hosts: [Orders.corp.example., b.example]
      address: 10.0.1.10
      ports: [{ name: a, port: 80, protocol: http }, { name: b, port: 81, protocol: grpc }]
      affinity: header:X-User
      salt: orders-2026
      preserveSource: true
      legacy: { endpoints: [10.0.1.12, 10.0.1.11] }
      target: { endpoints: ['2001:db8::1', 10.9.1.21] }
    - name: payments
      after: [orders]
      hosts: [payments.corp.example]
      address: 10.0.2.10
      ports: [{ name: a, port: 80, protocol: tcp }]
      legacy: { endpoints: [10.0.2.11] }
      target: { endpoints: [10.9.2.21] }
  steps:
    - { split: 1%, bake: 90m, expires: 4h, gates: [ok] }
    - { split: 100%, bake: 0s }
  gates: [{ name: ok, manual: { approvers: 2 } }]
  clientKey: { v4: 20, v6: 48 }
  gateways:
    - { name: edge, clientAddress: { xff: 2 }, egress: [10.9.0.0/24, '2001:db8:9::/64'],
        mtls: { addresses: [10.9.0.7, '2001:db8:9::7'] } }
    - { name: inner, clientAddress: proxy-protocol }
    - { name: plain }
  policy:
    maxStep: 99%
    drain: 90s
    freeze: [{ cron: '0 18 * * FRI', for: 62h, tz: Asia/Shanghai }]
";

#[track_caller]
fn problems(text: &str) -> Vec<Problem> {
    check(text).expect_err("the text is a plan")
}

#[track_caller]
fn only(text: &str) -> Problem {
    let mut problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn every_field_reaches_the_plan() {
    let plan = fixture::plan_from(FULL);
    assert_eq!(plan.zones[0].source, ZoneSource::Text("@ SOA …".into()));
    assert_eq!(plan.zones[1].source, ZoneSource::File("b.zone".into()));
    let written = write(&plan);
    assert_eq!(check(&written.to_string()).as_ref(), Ok(&plan));
    let spec = &written["spec"];
    for (pointer, expected) in [
        ("/zones/0/ttl", json!({ "steady": "120s", "shifting": "3s" })),
        ("/zones/1/name", json!("b.example.")),
        ("/clients/0/networks", json!(["10.8.0.0/16", "::/0"])),
        ("/clients/1/plane", json!("host")),
        ("/resolvers/0/addresses", json!(["10.0.0.53", "10.0.0.54"])),
        ("/services/0/hosts", json!(["orders.corp.example", "b.example"])),
        ("/services/0/address", json!("10.0.1.10")),
        ("/services/0/ports/1", json!({ "name": "b", "port": 81, "protocol": "grpc" })),
        ("/services/0/affinity", json!("header:x-user")),
        ("/services/0/salt", json!("orders-2026")),
        ("/services/0/legacy/endpoints", json!(["10.0.1.11", "10.0.1.12"])),
        ("/services/0/target/endpoints", json!(["10.9.1.21", "2001:db8::1"])),
        ("/services/1/after", json!(["orders"])),
        ("/services/1/salt", json!("full/payments")),
        ("/services/1/affinity", json!("client-ip")),
        ("/steps/0", json!({ "split": "1%", "bake": "1h30m", "expires": "4h", "gates": ["ok"] })),
        ("/gates/0", json!({ "name": "ok", "manual": { "approvers": 2 } })),
        ("/clientKey", json!({ "v4": 20, "v6": 48 })),
        (
            "/gateways/0",
            json!({
                "name": "edge",
                "clientAddress": { "xff": 2 },
                "egress": ["10.9.0.0/24", "2001:db8:9::/64"],
                "mtls": { "addresses": ["10.9.0.7", "2001:db8:9::7"] },
            }),
        ),
        ("/gateways/1", json!({ "name": "inner", "clientAddress": "proxy-protocol" })),
        ("/gateways/2", json!({ "name": "plain", "clientAddress": "direct" })),
        ("/policy/drain", json!("1m30s")),
        ("/policy/maxStep", json!("99%")),
        (
            "/policy/freeze/0",
            json!({ "cron": "0 18 * * FRI", "for": "2d14h", "tz": "Asia/Shanghai" }),
        ),
    ] {
        assert_eq!(spec.pointer(pointer), Some(&expected), "{pointer}");
    }
}

#[test]
fn defaults_are_those_of_the_types() {
    let plan = fixture::plan();
    assert_eq!(plan.strategy, crate::spec::Strategy::Gradual);
    assert_eq!(plan.zones[0].ttl, crate::spec::Ttl { steady: 60, shifting: 5 });
    assert_eq!(plan.zones[0].source, ZoneSource::Own);
    assert_eq!(plan.clients.key, crate::spec::ClientKey { v4: 24, v6: 56 });
    assert_eq!(plan.policy, crate::policy::Policy::default());
    let short = fixture::SHOP.replace("corp.example. }", "corp.example., ttl: { steady: 2s } }");
    assert_eq!(
        fixture::plan_from(&short).zones[0].ttl,
        crate::spec::Ttl { steady: 2, shifting: 2 }
    );
}

/// The paths of all fields in a value, list positions left out.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            found.insert(format!("{at}/{name}"));
            paths(value, &format!("{at}/{name}"), found);
        }),
        Value::Array(items) => items.iter().for_each(|item| paths(item, at, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The paths of all fields in a schema.
fn described(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            found.insert(format!("{at}/{name}"));
            assert!(field["description"].is_string(), "{at}/{name} has no description");
            described(field, &format!("{at}/{name}"), found);
        }
    }
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        described(one, at, found);
    }
    if schema["items"].is_object() {
        described(&schema["items"], at, found);
    }
}

#[test]
fn schema_parser_and_writer_agree_on_the_fields() {
    let mut in_schema = BTreeSet::new();
    described(schema().as_value(), "", &mut in_schema);
    let mut written = BTreeSet::new();
    paths(&write(&fixture::plan_from(FULL)), "", &mut written);
    assert_eq!(in_schema, written);
}

/// What the schema calls required, the parser does too: each is taken out in turn.
#[test]
fn a_required_field_that_is_missing_is_told() {
    fn take_out(whole: &Value, schema: &Value, at: &str) -> usize {
        let items = whole.pointer(at).and_then(Value::as_array).map_or(0, Vec::len);
        let mut taken = 0;
        if items > 0 {
            return take_out(whole, &schema["items"], &format!("{at}/0"));
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{at}/{name}");
            if schema["required"].as_array().is_some_and(|all| all.contains(&json!(name))) {
                let mut without = whole.clone();
                without.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(name);
                let told = problems(&without.to_string());
                let expected = format!("`{name}` is missing");
                assert!(told.iter().any(|problem| problem.problem == expected), "{path}: {told:?}");
                taken += 1;
            }
            taken += take_out(whole, field, &path);
        }
        taken
    }
    let whole = write(&fixture::plan_from(FULL));
    assert_eq!(take_out(&whole, schema().as_value(), ""), 33);
}

#[test]
fn a_problem_reads_as_one_line() {
    let problem = only(&fixture::SHOP.replace("split: 25%", "split: 25"));
    let line = "spec.steps[2].split: `25` has no `%`; write `25%`";
    assert_eq!(problem.to_string(), format!("line 23: {line}"));
    assert_eq!(problem.in_file("shop/plan.yaml").to_string(), format!("shop/plan.yaml:23: {line}"));
    let long =
        fixture::SHOP.replace("name: shop", &format!("name: \"a\\nb{}\"", "c".repeat(9_999)));
    let line = only(&long).to_string();
    assert!(line.len() < 700 && !line.contains('\n'), "{line}");
}

#[test]
fn anchors_are_expanded() {
    let ports = "ports: [{ name: http, port: 8080, protocol: http }]";
    let text = fixture::SHOP
        .replacen(ports, &ports.replace("ports:", "ports: &ports"), 1)
        .replacen(ports, "ports: *ports", 1);
    assert!(text.contains("&ports") && text.contains("*ports") && !text.contains(ports));
    assert_eq!(fixture::plan_from(&text), fixture::plan());
    // A problem in an alias is told at its anchor, once for each place it is used.
    let told = problems(&text.replace("8080", "0"));
    let fields: Vec<&str> = told.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["spec.services[0].ports[0].port", "spec.services[1].ports[0].port"]);
    assert_eq!(told[0].line, told[1].line);
}

#[test]
fn json_is_read_as_it_is_written_elsewhere() {
    let plan = fixture::plan_from(FULL);
    let pretty = serde_json::to_string_pretty(&write(&plan)).unwrap();
    for text in
        [pretty.replace("  ", "\t"), pretty.replace('/', "\\/"), pretty.replace('\n', "\r\n")]
    {
        assert_eq!(check(&text).as_ref(), Ok(&plan), "{text}");
    }
    // JSON may write what is beyond U+FFFF as two escapes, and most writers do.
    for (salt, read) in [
        (r"\ud83d\ude00", "😀"),
        (r"a\uD83D\uDE00\ud83d\ude01b", "a😀😁b"),
        (r"\\ud83d\\ude00", r"\ud83d\ude00"),
        (r"\u00e9\\", r"é\"),
    ] {
        let text = pretty.replace("orders-2026", salt);
        assert_eq!(&*fixture::plan_from(&text).services[0].salt, read, "{salt}");
    }
    assert!(check(&pretty.replace("orders-2026", r"\ud83d")).is_err());
}

#[test]
fn nested_zones_give_a_host_to_the_longest_origin() {
    let text = fixture::SHOP.replace(
        "{ name: corp.example. }",
        "{ name: example. }, { name: corp.example. }, { name: orders.corp.example. }",
    );
    let plan = fixture::plan_from(&text);
    let zone = |host: &str| plan.zone_of(&host.parse().unwrap()).unwrap().name.to_string();
    assert_eq!(zone("orders.corp.example"), "orders.corp.example");
    assert_eq!(zone("payments.corp.example"), "corp.example");
}

#[test]
fn another_port_is_fine_where_no_dns_client_is_left() {
    let text = fixture::SHOP.replace("10.9.1.21,", "10.9.1.21:30080,").replace(
        "  services:",
        "  clients: [{ networks: [0.0.0.0/1, 128.0.0.0/1, '::/0'], plane: mesh }]\n  services:",
    );
    let plan = fixture::plan_from(&text);
    assert_eq!(plan.services[0].target.as_slice()[0].to_string(), "10.9.1.21:30080");
    assert_eq!(problems(&text.replace("'::/0'", "'::/1'")).len(), 1);
}

#[test]
fn limits_on_counts() {
    let many = |count: usize, one: &dyn Fn(usize) -> String| -> String {
        (0..count).map(|n| one(n) + ", ").collect()
    };
    let endpoints = |count| {
        let list = many(count, &|n| format!("10.7.{}.{}", n >> 8, n & 255));
        fixture::SHOP.replace("10.0.1.11, 10.0.1.12", &list)
    };
    assert!(check(&endpoints(ENDPOINTS_MAX)).is_ok());
    let problem = only(&endpoints(ENDPOINTS_MAX + 1));
    assert_eq!(problem.problem, "`endpoints` has 1001 values, more than 1000");
    assert_eq!(problem.field, "spec.services[0].legacy.endpoints");
    let hosts = |count| {
        let list = many(count, &|n| format!("h{n}.corp.example"));
        fixture::SHOP.replace("orders.corp.example", &list)
    };
    assert!(check(&hosts(HOSTS_MAX)).is_ok());
    assert_eq!(only(&hosts(HOSTS_MAX + 1)).field, "spec.services[0].hosts");
}

#[test]
fn deep_files_are_refused() {
    let deep = |depth: usize| {
        format!("{}\nx: {}{}\n", fixture::SHOP, "[".repeat(depth), "]".repeat(depth))
    };
    assert_eq!(only(&deep(63)).problem, "unknown field `x`");
    assert_eq!(only(&deep(64)).problem, "values are nested deeper than 64 levels");
    assert_eq!(only(&deep(200_000)).problem, "values are nested deeper than 64 levels");
    let blocks: String = (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert_eq!(only(&blocks).problem, "values are nested deeper than 64 levels");
    // An alias stands as deep as its anchor's content reaches from there.
    let half =
        |key: &str, inner: &str| format!("{key}: {}{inner}{}\n", "[".repeat(40), "]".repeat(40));
    let text = format!(
        "{}{}{}",
        fixture::SHOP,
        half("x", "&a [[]]").replace("x: [", "x: &b ["),
        half("y", "*b")
    );
    assert_eq!(only(&text).problem, "values are nested deeper than 64 levels");
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let list = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{list}]\n"));
    }
    let told = only(&bomb).problem;
    assert_eq!(told, "the file has more than 1000000 values, with its anchors expanded");
    // Anchors around anchors keep the same values many times.
    let nested: String = (0..60).map(|n| format!("&a{n} [")).collect();
    let text = format!("x: {nested}{}{}\n", "y, ".repeat(30_000), "]".repeat(60));
    assert_eq!(only(&text).problem, told);
    let many = format!("x: [{}]\n", "y,".repeat(1_000_000));
    assert_eq!(only(&many).problem, told);
}

#[test]
fn a_plan_over_16_mib_is_refused_without_its_zone_texts() {
    let with = |text: &str, rest: &str| {
        fixture::SHOP.replace(
            "{ name: corp.example. }",
            &format!("{{ name: corp.example., text: \"{text}\" }}"),
        ) + rest
    };
    // Characters of four bytes: bytes are counted, not characters.
    let zone = format!("; {}\\n", "😀".repeat(40)).repeat(150_000);
    assert!(zone.len() > TEXT_MAX);
    let plan = fixture::plan_from(&with(&zone, ""));
    let ZoneSource::Text(text) = &plan.zones[0].source else { panic!("{:?}", plan.zones[0].name) };
    assert_eq!(text.lines().count(), 150_000);
    let comment = format!("# {}\n", "x".repeat(TEXT_MAX));
    let problem = only(&with(&zone, &comment));
    assert!(
        problem.problem.ends_with("bytes without its zone texts, more than 16777216"),
        "{problem}"
    );
}

#[test]
fn a_field_is_found_twice_in_small_and_large_maps() {
    for between in [0, 1, 15, 16, 17, 100] {
        let fields: String = (0..between).map(|n| format!("x{n}: 1\n")).collect();
        let told = problems(&format!("a: 1\n{fields}a: 2\n"));
        let twice: Vec<&Problem> =
            told.iter().filter(|problem| problem.problem == "`a` is given twice").collect();
        assert_eq!(twice.len(), 1, "{between}");
        assert_eq!((twice[0].line, twice[0].field.as_str()), (between + 2, "a"));
    }
}

#[test]
fn many_problems_are_cut() {
    let fields: String = (0..5_000).map(|n| format!("x{n}: 1\n")).collect();
    let told = problems(&format!("{}{fields}", fixture::SHOP));
    assert_eq!(told.len(), PROBLEMS_MAX + 1);
    assert_eq!(told.last().unwrap().problem, "4000 more problems are not shown");
}

proptest! {
    /// Whatever the text, `check` answers: a plan, or problems with a place.
    #[test]
    fn no_text_breaks_it(
        cuts in prop::collection::vec((0..FULL.len(), 0..40_usize, ".{0,3}"), 1..4),
    ) {
        let mut text = FULL.to_owned();
        for (at, length, put) in cuts {
            let at = text.floor_char_boundary(at);
            let end = text.floor_char_boundary((at + length).min(text.len())).max(at);
            text.replace_range(at..end, &put);
        }
        if let Err(problems) = check(&text) {
            prop_assert!(!problems.is_empty());
            // YAML breaks lines at either, and the end of the text may lie on a line of its own.
            let breaks = text.chars().filter(|c| matches!(c, '\n' | '\r')).count();
            let lines = u32::try_from(breaks + 2).unwrap();
            for problem in problems {
                prop_assert!((1..=lines).contains(&problem.line), "{:?}", problem);
                prop_assert!(!problem.problem.is_empty() && !problem.fix.is_empty());
            }
        }
    }

    /// What is written is read back as the same plan.
    #[test]
    fn every_plan_reads_back_as_it_was_written(plan in plans()) {
        let written = write(&plan).to_string();
        prop_assert_eq!(check(&written), Ok(plan));
    }
}

/// Plans of one to six services with all that may differ between them.
fn plans() -> impl Strategy<Value = Plan> {
    let services = prop::collection::vec(
        (any::<[u8; 2]>(), 1..4_u8, "[ -~é€]{1,20}", 1..=65_535_u16, 0..3_usize),
        1..6,
    );
    let steps = prop::collection::btree_set(1..10_000_u16, 0..8);
    let rest =
        (1..=32_u8, 1..=128_u8, 1..=i32::MAX, any::<bool>(), 0..100_000_000_u64, 1..=10_000_u16);
    (services, steps, rest).prop_map(|(services, steps, rest)| {
        let (v4, v6, ttl, whole, bake, most) = rest;
        let affinities = ["client-ip", "none", "header:x-user", "cookie:A!b"];
        let services: Vec<Value> = services
            .iter()
            .enumerate()
            .map(|(n, (hosts, endpoints, salt, port, after))| {
                let side = |net: u8| -> Vec<String> {
                    (0..*endpoints).map(|e| format!("10.{net}.{n}.{e}")).collect()
                };
                let after: Vec<String> = (0..*after.min(&n)).map(|n| format!("s{n}")).collect();
                json!({
                    "name": format!("s{n}"),
                    "after": after,
                    "hosts": [
                        format!("h{}-{n}.z.example", hosts[0]),
                        format!("S{n}.{}.Z.example.", hosts[1]),
                    ],
                    "ports": [{ "name": "p", "port": port, "protocol": "tcp" }],
                    "affinity": affinities[usize::from(hosts[0] % 4)],
                    "salt": salt,
                    "legacy": { "endpoints": side(1) },
                    "target": { "endpoints": side(2) },
                })
            })
            .collect();
        let splits = steps.into_iter().filter(|_| !whole).chain([10_000]);
        let step = |bp: u16| {
            let split = crate::split::Split::from_bp(bp).unwrap().to_string();
            let bake = format!("{bake}ms");
            json!({ "split": split, "bake": bake, "expires": "300d", "gates": ["g"] })
        };
        let policy = match crate::split::Split::from_bp(most) {
            Some(most) if most.bp() == 10_000 => {
                json!({ "maxStep": most.to_string(), "drain": format!("{v6}s") })
            }
            _ => {
                let lasts = format!("{most}s");
                json!({ "freeze": [{ "cron": "*/5 1-3 * * MON", "for": lasts, "tz": "UTC" }] })
            }
        };
        let file = json!({
            "apiVersion": "crossfade.dev/v1alpha1",
            "kind": "CutoverPlan",
            "metadata": { "name": "p" },
            "spec": {
                "strategy": if whole { "whole" } else { "gradual" },
                "zones": [{ "name": "z.example.", "ttl": { "steady": format!("{ttl}s") } }],
                "services": services,
                "steps": splits.map(step).collect::<Vec<_>>(),
                "gates": [{ "name": "g", "manual": { "approvers": 1 } }],
                "clientKey": { "v4": v4, "v6": v6 },
                "gateways": (0..v4 % 17).map(gateway).collect::<Vec<_>>(),
                "policy": policy,
            },
        });
        fixture::plan_from(&file.to_string())
    })
}

fn gateway(n: u8) -> Value {
    let address = match n {
        0 => json!("direct"),
        1 => json!("proxy-protocol"),
        hops => json!({ "xff": hops }),
    };
    let mut gateway =
        json!({ "name": format!("g{n}"), "clientAddress": address, "egress": ["10.9.0.0/24"] });
    if n == 2 {
        gateway["mtls"] = json!({ "addresses": ["10.9.0.7", "fd00::7"] });
    }
    gateway
}
