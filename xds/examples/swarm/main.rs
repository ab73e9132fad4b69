//! Load for a server of Delta ADS: thousands of streams, each on a connection of its own, that
//! subscribe to names, acknowledge everything and say when a change has reached all of them.
//!
//! ```text
//! swarm probe ADDRESS [KEY=VALUE …]
//! swarm run ADDRESS STREAMS NAMES [KEY=VALUE …]
//! ```
//!
//! `probe` prints the names that a node with this metadata wants, by type; NAMES is a file of that.
//!
//! `run` connects, waits until every stream has every name answered and prints a line of JSON. Then
//! it takes commands on standard input, one JSON object a line, and answers each with a line:
//!
//! - `{"do": "changes", "triggers": [T, …], "rest": MS}`: sends each trigger's HTTP request and
//!   waits until every stream has acknowledged what follows from it, then rests.
//! - `{"do": "hold"}`: whoever loses its stream waits; answers when nobody has one any more.
//! - `{"do": "storm", "trigger": T}`: all connect at once and say what versions they have; as soon
//!   as all have asked, the trigger is sent; answers when its change has reached all of them.
//!
//! A trigger is `{"to": "127.0.0.1:7400", "method": "POST", "path": "/…", "body": {…}}`. An ack
//! counts when it is handed to the connection that sends it. Nodes are called `swarm-0` and so on.
#![expect(clippy::print_stdout, reason = "a program whose answers are lines")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

mod board;
mod call;
mod names;
mod stream;
mod wire;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::board::Board;
use crate::call::Trigger;
use crate::names::Names;
use crate::stream::{Plan, Stream};

/// How long anything may take before the program gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A figure is done when nothing has come for so long after everybody had its change.
const QUIET: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["probe", server, metadata @ ..] => {
            let found = tokio::time::timeout(PATIENCE, names::probe(server.parse()?, metadata));
            println!("{}", found.await??);
        }
        ["run", server, streams, file, metadata @ ..] => {
            let names = Names::read(&std::fs::read_to_string(file)?)?;
            run(server.parse()?, streams.parse()?, names, metadata).await?;
        }
        _ => return Err("swarm probe ADDRESS | swarm run ADDRESS STREAMS NAMES".into()),
    }
    Ok(())
}

async fn run(
    server: SocketAddr,
    streams: usize,
    names: Names,
    metadata: &[&str],
) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let board = Arc::new(Board::new(streams));
    let plan = Arc::new(Plan::new(server, names, metadata)?);
    for number in 0..streams {
        tokio::spawn(Stream::new(number, plan.clone(), board.clone()).live());
    }
    board.wait(PATIENCE, |board| board.ready() == streams).await?;
    let seconds = begun.elapsed().as_secs_f64();
    say(&json!({ "seconds": seconds, "resources": board.resources(), "failed": board.failures() }));
    while let Some(line) = tokio::task::spawn_blocking(|| io::stdin().lines().next()).await? {
        let line = line?;
        let command: Value = serde_json::from_str(&line)?;
        let answer = match command.get("do").and_then(Value::as_str) {
            Some("changes") => changes(&board, &command).await?,
            Some("hold") => {
                board.hold(true);
                board.wait(PATIENCE, |board| board.open() == 0).await?;
                json!({ "open": 0 })
            }
            Some("storm") => storm(&board, &command).await?,
            _ => return Err(format!("not a command: {line}").into()),
        };
        say(&answer);
    }
    Ok(())
}

fn say(answer: &Value) {
    println!("{answer}");
}

/// Triggers one change after the other.
async fn changes(board: &Board, command: &Value) -> Result<Value, Box<dyn Error>> {
    let triggers = command.get("triggers").and_then(Value::as_array).ok_or("no triggers")?;
    let rest = command.get("rest").and_then(Value::as_u64).unwrap_or(0);
    let (mut all, mut each, mut resources) = (Vec::new(), Vec::new(), 0);
    for trigger in triggers {
        let trigger = Trigger::read(trigger)?;
        board.arm(Instant::now());
        trigger.send().await?;
        board.wait(PATIENCE, |board| board.arrived() == board.streams()).await?;
        settle(board).await;
        let (mut times, count) = board.times();
        each.push(quantiles(&mut times));
        all.append(&mut times);
        resources += count;
        tokio::time::sleep(Duration::from_millis(rest)).await;
    }
    let per_stream = resources as f64 / all.len().max(1) as f64;
    Ok(json!({
        "all": quantiles(&mut all), "each": each, "resources_per_stream": per_stream,
        "failed": board.failures(),
    }))
}

/// Everybody at once, with the versions from before.
async fn storm(board: &Board, command: &Value) -> Result<Value, Box<dyn Error>> {
    let trigger = Trigger::read(command.get("trigger").unwrap_or(&Value::Null))?;
    let begun = Instant::now();
    board.arm(begun);
    board.hold(false);
    board.wait(PATIENCE, |board| board.open() == board.streams()).await?;
    let asked = begun.elapsed().as_secs_f64();
    trigger.send().await?;
    board.wait(PATIENCE, |board| board.arrived() == board.streams()).await?;
    settle(board).await;
    let (mut times, count) = board.times();
    Ok(json!({
        "asked_seconds": asked, "all": quantiles(&mut times),
        "resent": count.saturating_sub(board.streams()), "failed": board.failures(),
    }))
}

/// Until nothing more comes.
async fn settle(board: &Board) {
    loop {
        let before = board.resources();
        tokio::time::sleep(QUIET).await;
        if board.resources() == before {
            return;
        }
    }
}

/// In milliseconds. The value that so many of 1 000 do not exceed.
fn quantiles(times: &mut [Duration]) -> Value {
    times.sort_unstable();
    let at = |share: usize| {
        let rank = (times.len() * share).div_ceil(1000);
        times.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    json!({ "p50": at(500), "p99": at(990), "max": at(1000) })
}

/// An error in words.
fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
