//! Prints what a plan becomes at proxies of every role, and can write it to files.
//!
//! `cargo run -p xds --example render -- PLAN.yaml [PERCENT] [rollback] [drain] [DIR]`: the plan is
//! applied, shifted to PERCENT, and rolled back if asked for; `drain` closes what is left on the
//! losing side. With DIR, every table is written there as one binary DeltaDiscoveryResponse.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::{env, fs};

use plan::command::Scope as Reach;
use plan::split::Split;
use plan::{Actor, Ask, Cause, Command, Decided, Facts, State};
use xds::render::{Door, Rendered, Role, Wanted, envoy};
use xds::{Tables, Urgency};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let file = words.next().ok_or("usage: PLAN.yaml [PERCENT] [rollback] [drain] [DIR]")?;
    let plan = plan::check(&fs::read_to_string(file)?).map_err(|problems| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    })?;
    let gateway = plan.gateways.first().map(|gateway| gateway.name.clone());
    let name = plan.name.clone();
    let mut state = ask(&State::empty(), Command::Apply(Arc::new(plan)))?;
    let (mut drain, mut directory) = (false, None);
    for word in words {
        match (word.as_str(), word.parse::<Split>()) {
            ("rollback", _) => state = ask(&state, Command::Rollback(Reach::All))?,
            ("drain", _) => drain = true,
            (_, Ok(split)) => {
                let (plan, overrides) = (name.clone(), BTreeSet::new());
                state = ask(&state, Command::Shift { plan, service: None, split, overrides })?;
            }
            (_, Err(_)) => directory = Some(word),
        }
    }
    let services = state.snapshot().services.iter().map(|service| service.id.clone());
    let drained = services.filter(|_| drain).collect();
    let door = |role| Door { gateway: gateway.clone(), ..Door::of(role) };
    let doors = Role::ALL.into_iter().map(door).collect();
    let wanted =
        Wanted { snapshot: state.snapshot(), drained: &drained, doors: &doors, trust_domain: None };
    let (rendered, edits) = envoy(&wanted, &Rendered::default());
    for conflict in rendered.conflicts() {
        eprintln!("{conflict}");
    }
    let tables = Tables::empty().next(state.token(), Urgency::Ordinary, edits);
    for (scope, type_url, table) in tables.iter() {
        let mut message = Vec::new();
        for resource in table.iter() {
            println!("{scope}\t{}\t{}\t{}", type_url.short(), resource.name(), resource.version());
            message.extend_from_slice(resource.encoded.delta());
        }
        if let Some(directory) = &directory {
            fs::write(format!("{directory}/{scope}~{}.pb", type_url.short()), message)?;
        }
    }
    Ok(())
}

fn ask(state: &State, command: Command) -> Result<State, Box<dyn Error>> {
    let actor = Actor::new("example");
    let ask = Ask { command, if_revision: None, key: None, actor, reason: None };
    match state.decide(&Cause::Operator(ask), &Facts::default())? {
        Decided::Commit(record) => Ok(state.apply(&record)?),
        _ => Ok(state.clone()),
    }
}
