//! What one weight change costs: `cargo run --release -p xds --example render_cost`.
//!
//! 10 000 services in 100 plans, one of them shifted 1 000 times; every role looks, and all the
//! services share one gateway port. Prints a row: CPU of rendering and of the tables, per change.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;

use plan::split::Split;
use plan::{Actor, Ask, Cause, Command, Decided, Facts, State};
use xds::render::{Door, Rendered, Role, Wanted, envoy};
use xds::{Tables, Urgency};

const PLANS: usize = 100;
const SERVICES: usize = 100;
const CHANGES: u16 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut state = State::empty();
    for plan in 0..PLANS {
        let parsed =
            plan::check(&text(plan)?).map_err(|problems| format!("{:?}", problems.first()))?;
        state = ask(&state, Command::Apply(Arc::new(parsed)))?;
    }
    let drained = BTreeSet::new();
    for roles in [vec![Role::Sidecar, Role::Grpc], Role::ALL.to_vec()] {
        let doors: BTreeSet<Door> = roles.iter().copied().map(Door::of).collect();
        let mut rendered = Rendered::default();
        let mut tables = Tables::empty();
        let (mut edits_made, mut spent) = (0, 0.0);
        for change in 0..=CHANGES {
            let wanted = Wanted { snapshot: state.snapshot(), drained: &drained, doors: &doors };
            let start = cpu()?;
            let (next, edits) = envoy(&wanted, &rendered);
            edits_made = edits.len();
            tables = tables.next(state.token(), Urgency::Ordinary, edits);
            rendered = next;
            let took = cpu()? - start;
            match change {
                0 => println!("{roles:?}: everything {:.0} ms", took * 1e3),
                _ => spent += took,
            }
            let plan: plan::PlanName = "p50".parse()?;
            let split = Split::from_bp(change + 1).ok_or("no split")?;
            let service = Some("s50".parse()?);
            let command = Command::Shift { plan, service, split, overrides: BTreeSet::new() };
            state = ask(&state, command)?;
        }
        let each = spent * 1e3 / f64::from(CHANGES);
        println!("{roles:?}: {edits_made} edits, {each:.3} ms a change");
    }
    Ok(())
}

fn text(plan: usize) -> Result<String, std::fmt::Error> {
    let mut text = format!(
        "apiVersion: crossfade.dev/v1alpha1\nkind: CutoverPlan\n\
         metadata: {{ name: p{plan} }}\nspec:\n\
         \x20 zones: [{{ name: p{plan}.example. }}]\n  \
         clients: [{{ networks: [10.0.0.0/8], plane: mesh }}]\n  services:\n"
    );
    for service in 0..SERVICES {
        writeln!(
            text,
            "    - {{ name: s{service}, hosts: [s{service}.p{plan}.example], \
             address: 10.{plan}.{service}.1, \
             ports: [{{ name: http, port: 8080, protocol: grpc }}], \
             legacy: {{ endpoints: [10.{plan}.{service}.2] }}, \
             target: {{ endpoints: [10.{plan}.{service}.3] }} }}"
        )?;
    }
    text.push_str("  steps: [{ split: 100%, bake: 1s }]\n");
    Ok(text)
}

fn ask(state: &State, command: Command) -> Result<State, Box<dyn Error>> {
    let actor = Actor::new("example");
    let ask = Ask { command, if_revision: None, key: None, actor, reason: None };
    match state.decide(&Cause::Operator(ask), &Facts::default())? {
        Decided::Commit(record) => Ok(state.apply(&record)?),
        _ => Ok(state.clone()),
    }
}

/// Seconds of CPU of this thread (proc(5), `schedstat`).
fn cpu() -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = text.split_whitespace().next().ok_or("no schedstat")?.parse()?;
    Ok(nanos / 1e9)
}
