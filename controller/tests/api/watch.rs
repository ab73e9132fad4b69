//! Watching: each event whole, resumed by its id, ended when the server stops.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::world::{Request, World, get, post, request};

/// One watcher's stream.
struct Watcher {
    lines: BufReader<TcpStream>,
}

#[derive(Debug, Default)]
struct Event {
    id: String,
    event: String,
    data: Value,
}

impl Watcher {
    async fn new(world: &World, request: &Request) -> Self {
        let mut stream = world.connect().await;
        stream
            .write_all(&request.clone().header("Connection", "keep-alive").bytes())
            .await
            .unwrap();
        let mut watcher = Self { lines: BufReader::new(stream) };
        let status = watcher.line().await.unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        while watcher.line().await.is_some_and(|line| !line.is_empty()) {}
        watcher
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).await.unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event; `None`: the stream ended.
    async fn event(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let line = self.line().await?;
            // Chunk sizes stand between; no field of an event looks like one.
            match line.split_once(": ") {
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("event", name)) => event.event = name.to_owned(),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                Some(_) => {}
                None if line.is_empty() && !event.event.is_empty() => return Some(event),
                None => {}
            }
        }
    }

    /// The first event of which this holds.
    async fn until(&mut self, holds: impl Fn(&Value) -> bool) -> Event {
        loop {
            let event = self.event().await.expect("the stream goes on");
            if holds(&event.data) {
                return event;
            }
        }
    }
}

fn split(status: &Value) -> &Value {
    &status["services"][0]["splitBp"]
}

#[tokio::test]
async fn a_watcher_sees_the_last_state_and_resumes() {
    let world = World::new().await;
    world.shop().await;
    let mut watcher = Watcher::new(&world, &get("/v1/watch?plan=shop")).await;
    let first = watcher.event().await.unwrap();
    assert_eq!((first.event.as_str(), &first.data["plan"]), ("status", &"shop".into()));
    for bp in 1..=40 {
        let shift = post("/v1/plans/shop/shift", &format!(r#"{{"splitBp":{bp}}}"#));
        assert_eq!(world.send(&shift).await.status, 200);
    }
    let mut last = watcher.until(|status| *split(status) == 40).await;
    // Until the plane has acked, more events come; the same state is never sent twice.
    while last.data["converged"] != true {
        let next = watcher.event().await.unwrap();
        assert_ne!(next.id, last.id);
        last = next;
    }
    drop(watcher);
    let resumed = get("/v1/watch?plan=shop").header("Last-Event-ID", &last.id);
    let mut watcher = Watcher::new(&world, &resumed).await;
    let shift = post("/v1/plans/shop/shift", r#"{"splitBp":77}"#);
    assert_eq!(world.send(&shift).await.status, 200);
    // What it knew is not repeated: the first event is already the new state, or later.
    let next = watcher.event().await.unwrap();
    assert_ne!(next.id, last.id);
    if *split(&next.data) != 77 {
        watcher.until(|status| *split(status) == 77).await;
    }
    // Whoever missed it is told at once.
    let resumed = get("/v1/watch?plan=shop").header("Last-Event-ID", &last.id);
    let mut late = Watcher::new(&world, &resumed).await;
    assert_eq!(*split(&late.event().await.unwrap().data), 77);
    drop((watcher, late));
    world.stop().await;
}

#[tokio::test]
async fn all_plans_are_watched_and_a_plan_that_goes_ends_its_watch() {
    let world = World::new().await;
    let mut all = Watcher::new(&world, &get("/v1/watch")).await;
    assert_eq!(all.event().await.unwrap().data["plans"], serde_json::json!([]));
    world.shop().await;
    let mut one = Watcher::new(&world, &get("/v1/watch?plan=shop")).await;
    all.until(|statuses| statuses["plans"][0]["plan"] == "shop").await;
    assert_eq!(world.send(&request("DELETE", "/v1/plans/shop")).await.status, 200);
    all.until(|statuses| statuses["plans"] == serde_json::json!([])).await;
    let gone = one.until(|data| data["gone"] == true).await;
    assert_eq!(gone.event, "gone");
    assert!(one.event().await.is_none());
    drop(all);
    world.stop().await;
}

#[tokio::test]
async fn watchers_are_counted_and_end_when_the_server_stops() {
    let world = World::new().await;
    let mut watchers = Vec::new();
    for _ in 0..64 {
        watchers.push(Watcher::new(&world, &get("/v1/watch")).await);
    }
    let answer = world.send(&get("/v1/watch")).await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "too-many"));
    assert!(answer.header("retry-after").is_some());
    let (stopping, running) = world.begin_stop();
    for mut watcher in watchers {
        while watcher.event().await.is_some() {}
    }
    stopping.await.unwrap();
    running.stop().await;
}
