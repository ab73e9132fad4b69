//! What one changed weight costs in a plan of many services: rendering, diff and the next tables.
//!
//! `cargo run --release -p xds --example weights -- [SERVICES]` prints a row of the figures:
//! tab-separated, as `scripts/bench` reads it. One thread that waits for nobody: the time it takes is
//! an upper bound of its CPU time.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plan::split::Split;
use plan::{Actor, Ask, Cause, Command, Decided, Facts, State};
use xds::render::{Door, Rendered, Role, Wanted, envoy};
use xds::{Tables, Urgency};

/// Weights that are changed, after a few that warm up.
const CHANGES: u32 = 100;
const WARM_UP: u32 = 5;

/// What it must be.
const AT_MOST: Duration = Duration::from_millis(5);

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(10_000), |word| word.parse())?;
    let plan = plan::check(&text(count)?).map_err(|problems| format!("{problems:?}"))?;
    let name = plan.name.clone();
    let mut state = ask(&State::empty(), Command::Apply(Arc::new(plan)))?;
    let drained = BTreeSet::new();
    let doors = [Role::Sidecar, Role::Gateway, Role::Grpc].into_iter().map(Door::of).collect();
    let (mut rendered, mut tables) = (Rendered::default(), Tables::empty());
    let mut times = Vec::new();
    for n in 0..=WARM_UP + CHANGES {
        let wanted = Wanted { snapshot: state.snapshot(), drained: &drained, doors: &doors };
        let begun = Instant::now();
        let (next, edits) = envoy(&wanted, &rendered);
        let changed = edits.len();
        let next_tables = tables.next(state.token(), Urgency::Ordinary, edits);
        let took = begun.elapsed();
        (rendered, tables) = (next, next_tables);
        if n == 0 {
            eprintln!("{count} services from nothing: {changed} edits in {took:?}");
        } else if n > WARM_UP {
            times.push((took, changed));
        }
        let service = Some(format!("w{}", usize::try_from(n)? * 97 % count).parse()?);
        let split = Split::from_bp(u16::try_from(n)? + 1).ok_or("not a split")?;
        let (plan, overrides) = (name.clone(), BTreeSet::new());
        state = ask(&state, Command::Shift { plan, service, split, overrides })?;
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).or_else(|| times.last()).copied();
    let ((half, edits), (worst, _)) = at(50).zip(at(100)).ok_or("nothing was measured")?;
    println!(
        "mesh: {count} services, one weight changes: render and diff, slowest of {CHANGES}\t\
         <= {AT_MOST:?}\t{worst:.2?} (p50 {half:.2?}, {edits} edits)\t{}",
        if worst <= AT_MOST { "ok" } else { "short" }
    );
    Ok(())
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
