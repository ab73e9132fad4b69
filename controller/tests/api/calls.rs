//! What each call answers: a table of requests, and the answers that need a look inside.

use std::sync::Arc;

use controller::api::Files;
use controller::api::reload::{Reread, ZoneText};
use controller::store::Fault;
use futures::future::BoxFuture;
use plan::file::Problem;

use crate::world::{Request, World, get, post, put, request};

/// A request, the status and the code that it is answered with; no code: no problem.
struct Case {
    request: Request,
    status: u16,
    code: &'static str,
}

fn case(request: Request, status: u16, code: &'static str) -> Case {
    Case { request, status, code }
}

async fn check(world: &World, cases: Vec<Case>) {
    for Case { request, status, code } in cases {
        let answer = world.send(&request).await;
        let told = (answer.status, answer.code());
        assert_eq!(told, (status, code.to_owned()), "{request:?}\n{}", answer.text());
    }
}

fn demo() -> String {
    plan::file::write(&plan::fixture::plan()).to_string()
}

#[tokio::test]
async fn malformed_heads() {
    let world = World::new().await;
    let cases = vec![
        case(get("/v1/plans"), 200, ""),
        case(get("/nothing"), 404, "no-route"),
        case(get("/v1/plans/"), 404, "no-route"),
        case(get("/v1/plans?x=1"), 400, "bad-request"),
        case(get("/v1/plans/Shop/status"), 400, "bad-request"),
        case(get("/v1/plans/%ff/status"), 400, "bad-request"),
        case(get("/v1/plans").header("Host", "evil.example"), 403, "unknown-host"),
        case(get("/v1/plans").header("Host", "ops.corp.example:443"), 200, ""),
        case(get("/v1/plans").header("Host", "[::1"), 400, "bad-request"),
        case(get("/v1/plans").header("Origin", "https://evil.example"), 403, "foreign-origin"),
        case(get("/v1/plans").header("Sec-Fetch-Site", "cross-site"), 403, "foreign-origin"),
        case(request("PATCH", "/v1/plans"), 405, "method-not-allowed"),
        case(request("GET", "http://evil.example/v1/plans"), 403, "unknown-host"),
        case(request("HEAD", "/healthz"), 200, ""),
    ];
    check(&world, cases).await;
    let mut bare = get("/v1/plans");
    bare.headers.clear();
    assert_eq!(world.send(&bare).await.code(), "bad-request");
    assert_eq!(world.send_unix(&bare).await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn malformed_bodies() {
    let world = World::new().await;
    world.shop().await;
    let shift = "/v1/plans/shop/shift";
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(1_001));
    let huge = format!(r#"{{"reason":"{}"}}"#, "x".repeat(64 << 10));
    let cases = vec![
        // A page can send these without asking for leave: the type is refused before all else.
        case(post(shift, "{}").header("Content-Type", "text/plain"), 415, "unsupported-type"),
        case(request("POST", shift), 415, "unsupported-type"),
        case(request("POST", "/v1/rollback"), 415, "unsupported-type"),
        case(
            put("/v1/plans/shop", "").header("Content-Type", "text/yaml"),
            415,
            "unsupported-type",
        ),
        case(post(shift, ""), 400, "bad-body"),
        case(post(shift, "{"), 400, "bad-body"),
        case(post(shift, "[]"), 400, "bad-body"),
        case(post("/v1/plans/shop/start", "[]"), 400, "bad-body"),
        case(post(shift, "{}"), 400, "bad-body"),
        case(post(shift, r#"{"split":"25"}"#), 400, "bad-body"),
        case(post(shift, r#"{"split":"101%"}"#), 400, "bad-body"),
        case(post(shift, r#"{"split":"-1%"}"#), 400, "bad-body"),
        case(post(shift, r#"{"split":"0.125%"}"#), 400, "bad-body"),
        case(post(shift, r#"{"split":"1%","splitBp":100}"#), 400, "bad-body"),
        case(post(shift, r#"{"split":"1%","percent":1}"#), 400, "bad-body"),
        case(post("/v1/plans/shop/start", &long), 400, "bad-body"),
        case(post("/v1/plans/shop/start", &huge), 413, "too-large"),
        case(post("/v1/plans/shop/approve", "{}"), 400, "bad-body"),
        case(post(shift, r#"{"split":"1%"}"#).header("If-Match", "1"), 400, "bad-request"),
        case(post(shift, r#"{"split":"1%"}"#).header("If-Match", "*"), 400, "bad-request"),
        case(post(shift, r#"{"split":"1%"}"#).header("If-Match", "W/\"1\""), 400, "bad-request"),
        case(post(shift, r#"{"split":"1%"}"#).header("Idempotency-Key", ""), 400, "bad-request"),
    ];
    check(&world, cases).await;
    let answer = world.send(&post(shift, r#"{"split": "25"}"#)).await.json();
    assert_eq!(answer["errors"][0]["field"], "split", "{answer}");
    world.stop().await;
}

#[tokio::test]
async fn refusals() {
    let world = World::new().await;
    let revision = world.shop().await.json()["revision"].as_u64().unwrap();
    let stale = format!("\"{}\"", revision + 7);
    let one = r#"{"split":"1%"}"#;
    let cases = vec![
        case(get("/v1/plans/shap/status"), 404, "not-found"),
        case(get("/v1/plans/shap/history"), 404, "not-found"),
        case(get("/v1/plans/shap/explain?service=orders"), 404, "not-found"),
        case(get("/v1/plans/shop/explain?service=order"), 404, "not-found"),
        case(get("/v1/plans/shop/explain"), 400, "bad-request"),
        case(get("/v1/plans/shop/explain?service=orders&client=x"), 400, "bad-request"),
        case(get("/v1/plans/shop/history?limit=0"), 400, "bad-request"),
        case(get("/v1/plans/shop/history?limit=1001"), 400, "bad-request"),
        case(get("/v1/plans/shop/history?before=x"), 400, "bad-request"),
        case(get("/v1/answer"), 400, "bad-request"),
        case(get("/v1/answer?name=orders.corp.example&type=NOPE"), 400, "bad-request"),
        case(get("/v1/watch?plan=shap"), 404, "not-found"),
        case(request("DELETE", "/v1/sinks/none"), 404, "not-found"),
        case(request("DELETE", "/v1/plans/shap"), 404, "not-found"),
        case(post("/v1/plans/shap/start", "{}"), 404, "not-found"),
        case(post("/v1/plans/shop/shift", r#"{"split":"1%","service":"x"}"#), 404, "not-found"),
        case(post("/v1/plans/shop/approve", r#"{"gate":"x"}"#), 404, "not-found"),
        case(post("/v1/plans/shop/shift", one).header("If-Match", &stale), 412, "stale"),
        case(post("/v1/plans/shop/resume", "{}"), 409, "refused"),
        case(post("/v1/plans/shop/retire", "{}"), 409, "refused"),
        case(post("/v1/plans/shop/rollback", "{}"), 200, ""),
        case(post("/v1/plans/shop/shift", one), 409, "refused"),
        case(post("/v1/plans/shop/resume", "{}"), 412, "stale"),
    ];
    check(&world, cases).await;
    let near = world.send(&get("/v1/plans/shap/status")).await.json();
    assert!(near["detail"].as_str().unwrap().contains("shop"), "{near}");
    let refused = world.send(&post("/v1/plans/shop/shift", one)).await.json();
    assert_eq!(refused["reason"], "phase", "{refused}");
    assert!(refused["clear"].as_str().unwrap().starts_with("crossfade resume shop"), "{refused}");
    world.stop().await;
}

#[tokio::test]
async fn plans_that_are_wrong_name_line_and_remedy() {
    let world = World::new().await;
    let mut with_file: serde_json::Value = serde_json::from_str(&demo()).unwrap();
    with_file["spec"]["zones"][0]["file"] = "corp.zone".into();
    let with_file = with_file.to_string();
    let mut with_text: serde_json::Value = serde_json::from_str(&demo()).unwrap();
    with_text["spec"]["zones"][0]["text"] = "@ 60 SOA a b 1 2 3 4 5\n@ NS\n".into();
    let with_text = with_text.to_string();
    let cases = [
        (put("/v1/plans/shop", "kind: [\n"), ""),
        (put("/v1/plans/shop", "a: 1\nb: 2\n"), ""),
        (put("/v1/plans/other", &demo()), "metadata.name"),
        (put("/v1/plans/shop", &with_file), "spec.zones[0].file"),
        (put("/v1/plans/shop", &with_text), ""),
        (put("/v1/plans/shop?dryRun=true", &with_text), ""),
    ];
    for (request, field) in cases {
        let answer = world.send(&request).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "invalid-plan"), "{answer:?}");
        let problem = answer.json();
        let first = &problem["errors"][0];
        assert!(first["line"].as_u64().unwrap() > 0, "{problem}");
        assert!(!first["problem"].as_str().unwrap().is_empty(), "{problem}");
        assert!(!first["fix"].as_str().unwrap().is_empty(), "{problem}");
        if !field.is_empty() {
            assert_eq!(first["field"], field, "{problem}");
        }
    }
    let told = world.send(&put("/v1/plans/shop", &with_text)).await.json();
    assert_eq!(told["errors"][1]["line"], 2, "{told}");
    let told = world.send(&put("/v1/plans/shop", &with_file)).await.json();
    assert!(told["errors"][0]["fix"].as_str().unwrap().contains("text:"), "{told}");
    assert_eq!(world.handle.state().plans().count(), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_repeated_call_takes_effect_once() {
    let world = World::new().await;
    world.shop().await;
    let shift = |split: &str| {
        post("/v1/plans/shop/shift", &format!(r#"{{"split":"{split}"}}"#))
            .header("Idempotency-Key", "k-1")
    };
    let first = world.send(&shift("5%")).await.json();
    assert_eq!((&first["changed"], &first["repeated"]), (&true.into(), &false.into()), "{first}");
    let again = world.send(&shift("5%")).await.json();
    assert_eq!(again["repeated"], true, "{again}");
    assert_eq!(again["revision"], first["revision"]);
    let other = world.send(&shift("6%")).await;
    assert_eq!((other.status, other.code().as_str()), (422, "key-reused"));
    world.stop().await;
}

#[tokio::test]
async fn a_plan_goes_in_and_comes_out() {
    let world = World::new().await;
    let compared = world.send(&put("/v1/plans/shop?dryRun=true", &demo())).await;
    assert_eq!((compared.status, &compared.json()["new"]), (200, &true.into()), "{compared:?}");
    assert_eq!(world.handle.state().plans().count(), 0);
    let mut plan: serde_json::Value = serde_json::from_str(&demo()).unwrap();
    plan["spec"]["zones"][0]["text"] = "@ 60 SOA ns1 a 1 2 3 4 5\n@ 60 NS ns1\n".into();
    let applied = world.send(&put("/v1/plans/shop", &plan.to_string())).await.json();
    assert_eq!((&applied["changed"], &applied["plan"]), (&true.into(), &"shop".into()));
    let shown = world.send(&get("/v1/plans/shop")).await;
    assert_eq!(shown.header("etag").unwrap(), format!("\"{}\"", applied["revision"]));
    assert_eq!(shown.json()["spec"]["zones"][0]["text"], plan["spec"]["zones"][0]["text"]);
    // What came out goes in again, and changes nothing.
    let again = world.send(&put("/v1/plans/shop", shown.text())).await.json();
    assert_eq!(again["changed"], false, "{again}");
    assert_eq!(again["revision"], applied["revision"]);
    let gone =
        request("DELETE", "/v1/plans/shop").header("If-Match", shown.header("etag").unwrap());
    assert_eq!(world.send(&gone).await.status, 200);
    assert_eq!(world.send(&get("/v1/plans/shop")).await.code(), "not-found");
    let history = world.send(&get("/v1/plans/shop/history?limit=1")).await.json();
    assert_eq!(history["entries"].as_array().unwrap().len(), 1, "{history}");
    assert_eq!(history["entries"][0]["actor"], "tcp:127.0.0.1");
    let before = history["before"].as_u64().unwrap();
    let older = world.send(&get(&format!("/v1/plans/shop/history?before={before}"))).await.json();
    assert_eq!(older["entries"].as_array().unwrap().len(), 1, "{older}");
    assert_eq!(older["before"], serde_json::Value::Null);
    world.stop().await;
}

#[tokio::test]
async fn the_kernel_says_who_asks_on_the_unix_socket() {
    let world = World::new().await;
    world.shop().await;
    let pause = post("/v1/plans/shop/rollback", r#"{"reason":"drill"}"#);
    let answer = world.send_unix(&pause).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let history = world.send(&get("/v1/plans/shop/history")).await.json();
    let uid = nix::unistd::getuid();
    let name = nix::unistd::User::from_uid(uid).unwrap().unwrap().name;
    assert_eq!(history["entries"][0]["actor"], format!("uid:{uid} ({name})"));
    assert_eq!(history["entries"][0]["reason"], "drill");
    world.stop().await;
}

#[tokio::test]
async fn the_controller_tells_of_itself() {
    let world = World::new().await;
    world.shop().await;
    let info = world.send(&get("/v1/info")).await.json();
    assert_eq!(info["api"][0], format!("http://{}", world.address));
    assert_eq!(info["api"][1], format!("unix:{}", world.unix.display()));
    assert_eq!(info["incarnation"], 1);
    let verified = world.send(&get("/v1/audit/verify")).await.json();
    assert_eq!((&verified["records"], &verified["head"]["revision"]), (&1.into(), &1.into()));
    let all = world.send(&post("/v1/rollback", "{}")).await.json();
    assert_eq!(all["plans"][0]["plan"], "shop", "{all}");
    let explain = get("/v1/plans/shop/explain?service=orders&client=10.8.0.7");
    assert_eq!(world.send(&explain).await.json()["client"]["plane"], "dns");
    let metrics = world.send(&get("/metrics")).await;
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "crossfade_plan_revision{plan=\"shop\"} 2.0",
        "crossfade_plan_phase{plan=\"shop\",phase=\"rolled-back\"} 1.0",
        "crossfade_split_ratio{plan=\"shop\",service=\"orders\",plane=\"dns\",\
            kind=\"intended\"} 0.0",
        "crossfade_records_total{} 2",
        "crossfade_append_duration_seconds_count 2",
        "crossfade_commands_total{outcome=\"done\"} 2",
        "crossfade_dns_queries_total{transport=\"udp\"} 0",
        "crossfade_api_requests_total{method=\"POST\",route=\"/v1/rollback\",status=\"200\"} 1",
        "# EOF",
    ] {
        assert!(metrics.text().lines().any(|told| told == line), "{line}\n{}", metrics.text());
    }
    world.stop().await;
}

#[tokio::test]
async fn an_answer_says_why() {
    let world = World::new().await;
    world.shop().await;
    let mut answer = serde_json::Value::Null;
    // The plane takes the plan up a moment after it is durable.
    let mut changes = world.handle.changes();
    for _ in 0..100 {
        let name = "/v1/answer?name=orders.corp.example&type=a&client=10.0.0.0/24";
        answer = world.send(&get(name)).await.json();
        if answer["rcode"] == "NOERROR" {
            break;
        }
        changes.next().await.unwrap();
    }
    assert_eq!(answer["rcode"], "NOERROR", "{answer}");
    assert_eq!(answer["type"], "A");
    assert_eq!(answer["answer"].as_array().unwrap().len(), 2, "{answer}");
    assert!(answer["reason"].to_string().contains("everyone is on legacy"), "{answer}");
    world.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_is_told() {
    let world = World::new().await;
    world.shop().await;
    world.store.inject(Fault::Failed);
    let shift = post("/v1/plans/shop/shift", r#"{"split":"1%"}"#);
    let answer = world.send(&shift).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "store-failed"), "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    world.store.inject(Fault::Full);
    let answer = world.send(&shift).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "store-full"), "{answer:?}");
    world.stop().await;
}

/// Files that hold what the test says.
struct OneZone(Result<&'static str, ()>);

impl Files for OneZone {
    fn read_again(&self) -> BoxFuture<'_, Result<Reread, Vec<Problem>>> {
        let name = || "shop".parse().unwrap();
        let zone = |text: &&str| ZoneText {
            plan: name(),
            zone: "corp.example".parse().unwrap(),
            file: "corp.zone".to_owned(),
            text: Some(Arc::from(*text)),
        };
        let read = match &self.0 {
            Ok(text) => Ok(Reread {
                plans: vec![name()],
                zones: vec![zone(text)],
                notes: vec!["noted".to_owned()],
            }),
            Err(()) => Err(vec![Problem {
                file: Some("shop.yaml".to_owned()),
                line: 3,
                column: 1,
                field: "spec".to_owned(),
                problem: "gone".to_owned(),
                fix: "write it".to_owned(),
            }]),
        };
        Box::pin(async { read })
    }
}

#[tokio::test]
async fn a_reload_commits_what_changed() {
    let text = "@ 60 SOA ns1 a 1 2 3 4 5\n@ 60 NS ns1\n";
    let world = World::with_files(Some(Arc::new(OneZone(Ok(text))))).await;
    world.shop().await;
    let done = world.send(&post("/v1/reload", "{}")).await.json();
    assert_eq!((&done["changed"], &done["plans"][0]["plan"]), (&true.into(), &"shop".into()));
    assert_eq!((&done["notes"][0], &done["skipped"]), (&"noted".into(), &serde_json::json!([])));
    assert_eq!(world.send(&post("/v1/reload", "{}")).await.json()["changed"], false);
    world.stop().await;
    for (files, file) in [(Ok("@ NS\n"), "corp.zone"), (Err(()), "shop.yaml")] {
        let world = World::with_files(Some(Arc::new(OneZone(files)))).await;
        world.shop().await;
        let answer = world.send(&post("/v1/reload", "{}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "invalid-plan"));
        assert_eq!(answer.json()["errors"][0]["file"], file);
        world.stop().await;
    }
    let world = World::new().await;
    world.shop().await;
    let skipped = world.send(&post("/v1/reload", "{}")).await.json();
    assert_eq!(skipped["skipped"], serde_json::json!(["shop"]), "{skipped}");
    world.stop().await;
}

#[tokio::test]
async fn a_backup_is_a_store() {
    let world = World::new().await;
    world.shop().await;
    // The CA's key is in it, and on loopback nobody knows who asks.
    let answer = world.send(&post("/v1/backup", "{}")).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "socket-only"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("crossfade.sock"));
    let answer = world.send_unix(&post("/v1/backup", "{}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("crossfade-head"), Some("1.1"));
    assert!(answer.body.starts_with(b"SQLite format 3\0"));
    let left = std::fs::read_dir(world.unix.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "only the socket is left in the directory");
    world.stop().await;
}
