//! What one changed weight costs in a plan of many services: rendering, diff and the next tables.
//!
//! `cargo run --release -p xds --example weights -- [SERVICES [LIMITED]]` prints a row of the
//! figures: tab-separated, as `scripts/bench` reads it. CPU time is the kernel's account of the
//! thread over all changes, which follow one another; the slowest single one is by the clock. With
//! LIMITED there are so many doors of VMs that are limited to services, no two to the same, and
//! each may see every service whose weight changes.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plan::split::Split;
use plan::{Actor, Ask, Cause, Command, Decided, Facts, State};
use xds::render::{Door, Limit, Rendered, Role, Wanted, envoy};
use xds::{Tables, Urgency};

/// Weights that are changed, after a few that warm up.
const CHANGES: u32 = 100;
const WARM_UP: usize = 5;

/// The services whose weights change, in turn.
const CHANGED: usize = 32;

/// What it must be.
const AT_MOST: Duration = Duration::from_millis(5);

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(10_000), |word| word.parse())?;
    let limited: usize = std::env::args().nth(2).map_or(Ok(0), |word| word.parse())?;
    let states = states(count)?;
    let drained = BTreeSet::new();
    let mut doors: BTreeSet<Door> =
        [Role::Sidecar, Role::Gateway, Role::Grpc].into_iter().map(Door::of).collect();
    for n in 0..limited {
        let changed = (0..CHANGED).map(|n| format!("large/w{}", n * 97 % count).parse());
        let own = format!("own/w{n}").parse();
        let limit = Limit::to(Arc::new(changed.chain([own]).collect::<Result<_, _>>()?));
        doors.insert(Door { limit, ..Door::of(Role::Sidecar) });
    }
    let (mut rendered, mut tables) = (Rendered::default(), Tables::empty());
    let (mut slowest, mut edited, mut before) = (Duration::ZERO, 0, cpu()?);
    for (n, state) in states.iter().enumerate() {
        let wanted = Wanted {
            snapshot: state.snapshot(),
            drained: &drained,
            doors: &doors,
            trust_domain: None,
        };
        let begun = Instant::now();
        let (next, edits) = envoy(&wanted, &rendered);
        (rendered, edited) = (next, edits.len());
        tables = tables.next(state.token(), Urgency::Ordinary, edits);
        if n == 0 {
            eprintln!("{count} services from nothing: {edited} edits in {:?}", begun.elapsed());
        } else if n == WARM_UP {
            before = cpu()?;
        } else if n > WARM_UP {
            slowest = slowest.max(begun.elapsed());
        }
    }
    let each = (cpu()? - before) / CHANGES;
    let limits = if limited == 0 { String::new() } else { format!(" and {limited} limits") };
    println!(
        "mesh: {count} services{limits}, one weight changes: CPU of render and diff, mean of \
         {CHANGES}\t\
         <= {AT_MOST:?}\t{each:.2?} (slowest by the clock {slowest:.2?}, {edited} edits)\t{}",
        if each <= AT_MOST { "ok" } else { "short" }
    );
    Ok(())
}

/// One plan, and after it one weight after the other changed.
fn states(count: usize) -> Result<Vec<State>, Box<dyn Error>> {
    let plan = plan::check(&text(count)?).map_err(|problems| format!("{problems:?}"))?;
    let name = plan.name.clone();
    let mut states = vec![ask(&State::empty(), Command::Apply(Arc::new(plan)))?];
    for (n, bp) in (0..WARM_UP + usize::try_from(CHANGES)?).zip(1..) {
        let service = Some(format!("w{}", n % CHANGED * 97 % count).parse()?);
        let split = Split::from_bp(bp).ok_or("not a split")?;
        let command =
            Command::Shift { plan: name.clone(), service, split, overrides: BTreeSet::new() };
        states.push(ask(states.last().ok_or("no state")?, command)?);
    }
    Ok(states)
}

/// What this thread has had of a CPU.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().ok_or("not what the kernel says")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// A plan of so many services, split by proxies.
fn text(count: usize) -> Result<String, std::fmt::Error> {
    let mut text = String::from(
        "apiVersion: crossfade.dev/v1alpha1\nkind: CutoverPlan\nmetadata: { name: large }\nspec:\n\
         \x20 zones: [{ name: large.example. }]\n\
         \x20 clients: [{ networks: [127.0.0.0/8], plane: mesh }]\n\
         \x20 steps: [{ split: 1%, bake: 10m }, { split: 100%, bake: 1h }]\n  services:\n",
    );
    for n in 0..count {
        let part = format!("{}.{}", n >> 8, n & 255);
        write!(
            text,
            "    - name: w{n}\n      hosts: [w{n}.large.example]\n      address: 10.0.{part}\n\
             \x20     ports: [{{ name: main, port: 8080, protocol: http }}]\n\
             \x20     legacy: {{ endpoints: [10.1.{part}, 10.2.{part}] }}\n\
             \x20     target: {{ endpoints: [10.3.{part}, 10.4.{part}] }}\n"
        )?;
    }
    Ok(text)
}

fn ask(state: &State, command: Command) -> Result<State, Box<dyn Error>> {
    let actor = Actor::new("example");
    let ask = Ask { command, if_revision: None, key: None, actor, reason: None };
    match state.decide(&Cause::Operator(ask), &Facts::default())? {
        Decided::Commit(record) => Ok(state.apply(&record)?),
        _ => Err("nothing was committed".into()),
    }
}
