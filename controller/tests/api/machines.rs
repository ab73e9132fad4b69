//! Tokens and machines by the API.

use serde_json::json;
use xds::join::Ticket;

use crate::world::{World, get, post, request};

#[tokio::test]
async fn a_token_is_made_shown_once_and_taken_back() {
    let world = World::new().await;
    world.shop().await;
    let body = json!({
        "name": "vm-1", "forSeconds": 60, "services": ["shop/orders"], "from": "10.0.0.0/24",
        "reason": "ticket 4711",
    });
    let answer = world.send(&post("/v1/tokens", &body.to_string())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let made = answer.json();
    let ticket: Ticket = made["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(ticket.name.as_str(), "vm-1");
    assert_eq!(ticket.controllers, ["controller.example:7410"]);
    assert_eq!(made["pin"], ticket.pin.to_string());
    let notes = made["notes"].to_string();
    assert!(notes.contains("an Envoy on it gets nothing"), "{notes}");

    let listed = world.send(&get("/v1/tokens")).await;
    assert!(!listed.text().contains("cfj1_"), "{listed:?}");
    let tokens = listed.json();
    let [token] = tokens["tokens"].as_array().unwrap().as_slice() else { panic!("{tokens}") };
    assert_eq!(token["name"], "vm-1");
    assert_eq!((&token["from"], &token["expired"]), (&json!("10.0.0.0/24"), &json!(false)));
    assert_eq!(token["services"], json!(["shop/orders"]));

    let again = post("/v1/tokens", r#"{"name":"vm-1","controllers":["[::1]:1"]}"#);
    let again = world.send(&again).await.json();
    let notes = again["notes"].to_string();
    assert!(notes.contains("worth nothing now") && notes.contains("loopback"), "{notes}");

    let deleted = world.send(&request("DELETE", "/v1/tokens/vm-1?reason=over")).await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({ "deleted": "vm-1" })));
    assert_eq!(world.send(&get("/v1/tokens")).await.json(), json!({ "tokens": [] }));
    world.stop().await;
}

#[tokio::test]
async fn bad_calls_are_told_apart() {
    let world = World::new().await;
    let token = |body: &str| post("/v1/tokens", body);
    let delete = |target: &str| request("DELETE", target);
    for (what, call, status, code, words) in [
        ("no name", token("{}"), 400, "bad-body", "name"),
        ("a bad name", token(r#"{"name":"VM 1"}"#), 400, "bad-body", "lower-case"),
        ("too long", token(r#"{"name":"a","forSeconds":86401}"#), 400, "bad-body", "24 h"),
        ("no time", token(r#"{"name":"a","forSeconds":0}"#), 400, "bad-body", "1 s"),
        ("no network", token(r#"{"name":"a","from":"lan"}"#), 400, "bad-body", "from"),
        ("no such service", token(r#"{"name":"a","services":["x/y"]}"#), 404, "not-found", "x"),
        ("no host", token(r#"{"name":"a","controllers":["a"]}"#), 400, "bad-body", "HOST:PORT"),
        ("unknown field", token(r#"{"name":"a","ttl":1}"#), 400, "bad-body", "ttl"),
        ("no such token", delete("/v1/tokens/vm-1"), 404, "not-found", "no token waits"),
        ("no such machine", delete("/v1/agents/vm-1"), 404, "not-found", "no machine is called"),
        ("no name of a machine", delete("/v1/agents/VM"), 400, "bad-request", "lower-case"),
    ] {
        let answer = world.send(&call).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {answer:?}");
        assert!(answer.text().contains(words), "{what}: {answer:?}");
    }
    assert_eq!(world.send(&get("/v1/agents")).await.json(), json!({ "agents": [] }));
    let figures = world.send(&get("/metrics")).await;
    assert!(figures.text().contains("crossfade_agents{state=\"frozen\"} 0"), "{figures:?}");
    world.stop().await;
}
