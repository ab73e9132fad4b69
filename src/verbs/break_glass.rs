//! `crossfade dns rollback`: legacy on this machine's replica, with no controller.

use std::fmt::Write as _;

use controller::clock::Clock;
use plan::{ServiceId, Timestamp};
use serde::Serialize;
use xds::TypeUrl;
use xds::follow::Held;
use xds::own::ZoneTable;

use super::{Context, Exit, Failure, chain};
use crate::cli::args::Subject;
use crate::cli::follow::BreakGlass;
use crate::cli::{Output, page};
use crate::replica::break_glass::{self, Act, Glass};
use crate::{following, replica};

/// What is in force, for scripts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    in_force: Vec<InForce<'a>>,
    running: bool,
}

#[derive(Debug, Serialize)]
struct InForce<'a> {
    /// `null`: every service.
    service: Option<&'a ServiceId>,
    since: Timestamp,
    by: &'a str,
    reason: &'a str,
}

/// Writes it down, which puts it in force, and says so.
pub(crate) fn run(args: &BreakGlass, context: &Context) -> Result<Exit, Failure> {
    let directory = following::directory(args.data.as_ref(), replica::DIRECTORY)?;
    if !directory.is_dir() {
        let directory = directory.display();
        return Err(Failure::Usage(format!(
            "{directory} is no replica's directory; name it with --data DIR"
        )));
    }
    let failed = |error: break_glass::GlassError| Failure::Failed(chain(&error));
    let mut glass = break_glass::read(&directory).map_err(failed)?;
    let by = format!("uid:{}", nix::unistd::getuid());
    let reason = args.reason.as_deref().unwrap_or_default();
    let act = if args.undo { Act::Undo } else { Act::Rollback };
    let services = match &args.service {
        None => vec![None],
        Some(subject) => {
            let held = services(&directory)?;
            find(subject, &held)?.into_iter().map(Some).collect()
        }
    };
    if args.undo {
        in_force(&glass, &services)?;
    }
    for service in services {
        let now = Clock::start().now();
        glass = break_glass::append(&directory, act, service.as_ref(), &by, reason, now)
            .map_err(failed)?;
    }
    print(&glass, following::is_taken(&directory), context)
}

/// That there is something to undo.
fn in_force(glass: &Glass, services: &[Option<ServiceId>]) -> Result<(), Failure> {
    for service in services {
        let exact = glass.force.iter().any(|force| force.service == *service);
        let all = glass.force.iter().any(|force| force.service.is_none());
        match service {
            None if glass.force.is_empty() => {
                return Err(Failure::Refused("no break-glass is in force".to_owned()));
            }
            Some(id) if !exact && all => {
                return Err(Failure::Refused(format!(
                    "break-glass is in force for everything, not for {id} alone; undo it without \
                     naming a service"
                )));
            }
            Some(id) if !exact => {
                return Err(Failure::Refused(format!("no break-glass is in force for {id}")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the replica holds, running or not.
fn services(directory: &std::path::Path) -> Result<Vec<ServiceId>, Failure> {
    let held = Held::read(directory, &TypeUrl::from(TypeUrl::ZONE_TABLE))
        .map_err(|error| Failure::Failed(chain(&error)))?;
    let tables = held.resources.values().filter_map(|item| ZoneTable::decode(&item.body).ok());
    let mut services: Vec<ServiceId> =
        tables.flat_map(|table| table.services).map(|leaf| leaf.id.clone()).collect();
    services.sort();
    Ok(services)
}

/// A service by its full name, a service whose name is unique, or all of a plan.
fn find(subject: &Subject, held: &[ServiceId]) -> Result<Vec<ServiceId>, Failure> {
    let named: Vec<&ServiceId> = match subject {
        Subject::Service(plan, service) => {
            held.iter().filter(|id| id.plan == *plan && id.service == *service).collect()
        }
        Subject::Word(word) => held.iter().filter(|id| id.service.as_str() == word).collect(),
    };
    match (named.as_slice(), subject) {
        ([one], _) => Ok(vec![ServiceId::clone(one)]),
        ([], Subject::Word(word)) => {
            let plan: Vec<ServiceId> =
                held.iter().filter(|id| id.plan.as_str() == word).cloned().collect();
            if plan.is_empty() { Err(unknown(held)) } else { Ok(plan) }
        }
        ([], Subject::Service(..)) => Err(unknown(held)),
        (several, _) => Err(Failure::Usage(format!(
            "several services are called so; name one in full: {}",
            list(several.iter().copied())
        ))),
    }
}

fn unknown(held: &[ServiceId]) -> Failure {
    Failure::Usage(format!("the replica holds no such service; it holds: {}", list(held.iter())))
}

fn list<'a>(services: impl Iterator<Item = &'a ServiceId>) -> String {
    let names: Vec<String> = services.map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn print(glass: &Glass, running: bool, context: &Context) -> Result<Exit, Failure> {
    if context.output == Output::Json {
        let in_force = glass.force.iter().map(|force| InForce {
            service: force.service.as_ref(),
            since: force.since,
            by: &force.by,
            reason: &force.reason,
        });
        let in_force = in_force.collect();
        page::json(&Shown { in_force, running })?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for force in &glass.force {
        let service =
            force.service.as_ref().map_or_else(|| "everything".to_owned(), ToString::to_string);
        let _ = writeln!(text, "{service}  legacy here since {} by {}", force.since, force.by);
    }
    if glass.force.is_empty() {
        text.push_str("no break-glass is in force\n");
    }
    text.push_str(if running {
        "the replica takes it up within 100 ms\n"
    } else {
        "no replica runs here; it takes this up when it starts\n"
    });
    page::print(&text)?;
    Ok(Exit::Done)
}
