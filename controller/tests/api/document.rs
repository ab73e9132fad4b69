//! The router and the OpenAPI document say the same.

use std::collections::BTreeSet;

use crate::world::{World, get, request};

const METHODS: [&str; 8] =
    ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"];

#[tokio::test]
async fn every_route_is_in_the_document_and_the_other_way_round() {
    let world = World::new().await;
    let document = world.send(&get("/openapi.json")).await.json();
    let paths = document["paths"].as_object().unwrap();
    let expected = [
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/readyz",
        "/v1/agents",
        "/v1/agents/{name}",
        "/v1/answer",
        "/v1/audit/verify",
        "/v1/backup",
        "/v1/info",
        "/v1/plans",
        "/v1/plans/{plan}",
        "/v1/plans/{plan}/approve",
        "/v1/plans/{plan}/explain",
        "/v1/plans/{plan}/history",
        "/v1/plans/{plan}/pause",
        "/v1/plans/{plan}/resume",
        "/v1/plans/{plan}/retire",
        "/v1/plans/{plan}/rollback",
        "/v1/plans/{plan}/shift",
        "/v1/plans/{plan}/start",
        "/v1/plans/{plan}/status",
        "/v1/plans/{plan}/step",
        "/v1/reload",
        "/v1/rollback",
        "/v1/sinks",
        "/v1/sinks/{id}",
        "/v1/tokens",
        "/v1/tokens/{name}",
        "/v1/watch",
    ];
    assert_eq!(paths.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected.into());
    for (path, methods) in paths {
        let target = path.replace("{plan}", "shop").replace("{id}", "x").replace("{name}", "vm-1");
        for method in METHODS {
            let documented = methods.get(method.to_ascii_lowercase()).is_some();
            // Nothing but the method is right, so no call gets further than its checks.
            let wrong = request(method, &format!("{target}?nonsense=1"));
            let answer = world.send(&wrong).await;
            assert_eq!(answer.status == 405, !documented, "{method} {path}: {answer:?}");
            if !documented {
                assert_eq!(answer.code(), "method-not-allowed");
                let allow = answer.header("allow").unwrap();
                let allowed: BTreeSet<_> = allow.split(',').map(str::trim).collect();
                let named = methods.as_object().unwrap().keys();
                let mut named: BTreeSet<_> = named.map(|m| m.to_ascii_uppercase()).collect();
                if named.contains("GET") {
                    named.insert("HEAD".to_owned());
                }
                assert_eq!(allowed, named.iter().map(String::as_str).collect(), "{path}");
            }
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn every_reference_in_the_document_leads_somewhere() {
    let world = World::new().await;
    let document = world.send(&get("/openapi.json")).await.json();
    assert_eq!(document["openapi"], "3.1.1");
    let text = document.to_string();
    let mut count = 0;
    for part in text.split("\"$ref\":\"#").skip(1) {
        let (pointer, _) = part.split_once('"').unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
        count += 1;
    }
    assert!(count > 100, "{count}");
    assert!(!text.contains("$defs"), "a schema kept parts of its own");
    world.stop().await;
}
