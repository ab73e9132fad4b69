//! `crossfade dns rollback`: legacy on this machine's replica, with no controller.

use std::fmt::Write as _;

use controller::clock::Clock;
use plan::{ServiceId, Timestamp};
use serde::Serialize;
use xds::TypeUrl;
use xds::follow::Held;
use xds::own::ZoneTable;

use super::among::among;
use super::{Context, Exit, Failure, chain};
use crate::cli::follow::BreakGlass;
use crate::cli::{Output, page};
use crate::glass::{self, Act, Glass};
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
    let failed = |error: glass::GlassError| Failure::Failed(chain(&error));
    let mut glass = glass::read(&directory).map_err(failed)?;
    let by = format!("uid:{}", nix::unistd::getuid());
    let reason = args.reason.as_deref().unwrap_or_default();
    let act = if args.undo { Act::Undo } else { Act::Rollback };
    let services = match &args.service {
        None => vec![None],
        Some(subject) => {
            let held = services(&directory)?;
            among(subject, &held, "the replica")?.into_iter().map(Some).collect()
        }
    };
    if args.undo {
        in_force(&glass, &services)?;
    }
    for service in services {
        let now = Clock::start().now();
        glass =
            glass::append(&directory, act, service.as_ref(), &by, reason, now).map_err(failed)?;
    }
    let after = [
        "the replica takes it up within 100 ms",
        "no replica runs here; it takes this up when it starts",
    ];
    print(&glass, following::is_taken(&directory), after, context)
}

/// That there is something to undo.
pub(super) fn in_force(glass: &Glass, services: &[Option<ServiceId>]) -> Result<(), Failure> {
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

/// Says what is in force; `after` is what follows where its process runs, and where it does not.
pub(super) fn print(
    glass: &Glass,
    running: bool,
    after: [&str; 2],
    context: &Context,
) -> Result<Exit, Failure> {
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
    let [runs, rests] = after;
    let _ = writeln!(text, "{}", if running { runs } else { rests });
    page::print(&text)?;
    Ok(Exit::Done)
}
