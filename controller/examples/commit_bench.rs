//! Compares an append to the store with a bare SQLite commit: same settings, same directory, taken
//! in turn. Prints both and their ratio.
//!
//! `cargo run --release -p controller --example commit_bench -- DIRECTORY`

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use controller::store::conformance::record;
use controller::store::{Head, Sqlite, Store, Urgency};
use rusqlite::Connection;

const ROUNDS: usize = 1_000;

/// Taken before the first round that counts.
const WARM_UP: usize = 50;

/// About the size of a record of a shift.
const NOTE: usize = 300;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: commit_bench DIRECTORY")?;
    let place = Path::new(&directory).join(format!("commit-bench-{}", std::process::id()));
    let measured = measure(&place).await;
    std::fs::remove_dir_all(&place)?;
    let (mut store, mut bare) = measured?;
    println!("{ROUNDS} commits each, in turn, in {directory}");
    println!("{:<8}{:>12}{:>12}{:>12}", "", "p50", "p99", "max");
    for (name, times) in [("store", &mut store), ("bare", &mut bare)] {
        times.sort_unstable();
        let [p50, p99, max] = quantiles(times);
        println!("{name:<8}{p50:>12.2?}{p99:>12.2?}{max:>12.2?}");
    }
    let (ours, theirs) = (quantiles(&store), quantiles(&bare));
    let ratio = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.div_duration_f64(*theirs));
    let ratio: String = ratio.map(|ratio| format!("{ratio:>11.2}x")).collect();
    println!("{:<8}{ratio}", "ratio");
    Ok(())
}

async fn measure(place: &Path) -> Result<(Vec<Duration>, Vec<Duration>), Box<dyn Error>> {
    let store = Sqlite::open(place)?;
    let bare = bare(&place.join("bare.db"))?;
    let mut head = Head::START;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let next = record(head, &"x".repeat(NOTE));
        head = Head::of(&next);
        let bytes = next.encode();
        let batch = [next];
        let begun = now();
        store.append(&batch, Urgency::Ordinary).await?;
        let appended = begun.elapsed();
        let begun = now();
        bare.prepare_cached("INSERT INTO log (bytes) VALUES (?1)")?.execute([bytes])?;
        let committed = begun.elapsed();
        if round >= WARM_UP {
            ours.push(appended);
            theirs.push(committed);
        }
    }
    Ok((ours, theirs))
}

fn bare(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection
        .execute_batch("CREATE TABLE log (revision INTEGER PRIMARY KEY, bytes BLOB) STRICT")?;
    Ok(connection)
}

fn quantiles(sorted: &[Duration]) -> [Duration; 3] {
    let last = sorted.len().saturating_sub(1);
    [sorted.len() / 2, sorted.len() * 99 / 100, last]
        .map(|at| sorted.get(at).copied().unwrap_or_default())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark's only clock")]
fn now() -> Instant {
    Instant::now()
}
