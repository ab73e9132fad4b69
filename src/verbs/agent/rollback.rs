//! `crossfade agent rollback`: legacy on this VM, with no controller, agent or network.

use std::path::Path;

use agent::rules;
use controller::clock::Clock;
use plan::ServiceId;
use xds::TypeUrl;
use xds::follow::Held;
use xds::own::HostTable;

use super::{held, not_joined};
use crate::cli::agent::{Here, Rollback};
use crate::following;
use crate::glass::{self, Act, Glass};
use crate::host::bring;
use crate::host::files::{self, Settings};
use crate::host::kernel::Kernel;
use crate::host::looks;
use crate::host::world::World;
use crate::verbs::among::among;
use crate::verbs::break_glass::{in_force, print};
use crate::verbs::{Context, Exit, Failure, chain};

/// Changes the kernel first and writes it down then: the disk may be full.
pub(super) fn run(args: &Rollback, context: &Context) -> Result<Exit, Failure> {
    let directory = files::directory(args.here.data.as_ref())?;
    if !directory.is_dir() {
        return Err(not_joined(&directory));
    }
    let act = if args.undo { Act::Undo } else { Act::Rollback };
    let services = match &args.service {
        None => vec![None],
        Some(subject) => {
            let found = among(subject, &held(&directory)?, "this VM")?;
            found.into_iter().map(Some).collect()
        }
    };
    let before = glass::read(&directory).map_err(|error| Failure::Failed(chain(&error)))?;
    let stands = before.force.is_empty() && is_standing()?;
    if args.undo && !stands {
        in_force(&before, &services)?;
    }
    let mut after = forced(&before, act, &services);
    if stands && !args.undo {
        // By `nft -f`, for everything: naming a service takes nothing of that away.
        after.push(None);
    }
    put(&directory, &after)?;
    let (by, reason) =
        (format!("uid:{}", nix::unistd::getuid()), args.reason.as_deref().unwrap_or_default());
    let mut glass = before;
    for service in &services {
        let now = Clock::start().now();
        glass = glass::append(&directory, act, service.as_ref(), &by, reason, now).map_err(
            |error| {
                let why = chain(&error);
                Failure::Failed(format!(
                    "it is in force in the kernel, and not written down: {why}"
                ))
            },
        )?;
    }
    // Root made the file; the agent is to write in it too.
    if let Err(error) = files::give_to_owner(&directory) {
        tracing::warn!(why = %chain(&error), "the agent cannot write break-glass down");
    }
    let after = [
        "the kernel has it; the agent tells the controller",
        "the kernel has it; no agent runs here to tell the controller",
    ];
    print(&glass, following::is_taken(&directory), after, context)
}

/// Whether rules of break-glass are in the kernel, whoever put them there.
fn is_standing() -> Result<bool, Failure> {
    let looked = Kernel::open(None).and_then(|mut kernel| kernel.is_glass_broken());
    looked.map_err(|error| Failure::Failed(chain(&error)))
}

/// What is in force once this is done; `None`: everything.
fn forced(before: &Glass, act: Act, services: &[Option<ServiceId>]) -> Vec<Option<ServiceId>> {
    let mut force: Vec<_> = before.force.iter().map(|force| force.service.clone()).collect();
    for service in services {
        match (act, service) {
            (Act::Rollback, _) => force.push(service.clone()),
            (Act::Undo | Act::Dissolved, None) => force.clear(),
            (Act::Undo | Act::Dissolved, some) => force.retain(|one| one != some),
        }
    }
    force
}

/// Makes the kernel say so.
fn put(directory: &Path, force: &[Option<ServiceId>]) -> Result<(), Failure> {
    let failed = |error: agent::dataplane::DataplaneError| {
        Failure::Failed(format!(
            "the rules cannot be changed: {}; as root: nft -f {}",
            chain(&error),
            directory.join(files::ROLLBACK).display()
        ))
    };
    let mut kernel = Kernel::open(None).map_err(failed)?;
    if force.is_empty() {
        return kernel.end_glass().map(drop).map_err(failed);
    }
    let world = world(directory)?;
    let merged = world.merged(None);
    let covered = |id: &ServiceId| force.iter().any(|one| one.as_ref().is_none_or(|one| one == id));
    let services: Vec<_> =
        merged.services.iter().filter(|leaf| covered(&leaf.id)).cloned().collect();
    let marks: Vec<_> = services.iter().filter_map(|leaf| world.marks.of(&leaf.id)).collect();
    let table = rules::rollback(&HostTable { services, ..merged }, &world.host, &world.marks);
    kernel.break_glass(&table).map_err(failed)?;
    for mark in marks {
        kernel.flush(mark, plan::Side::Target, Some(rules::Transport::Udp));
    }
    Ok(())
}

/// What the agent holds, running or not.
fn world(directory: &Path) -> Result<World, Failure> {
    let settings = files::settings(directory)?;
    let host = settings.as_ref().map_or_else(looks::unjoined, looks::host);
    let mut world = World::new(host, files::marks(directory));
    let held = Held::read(directory, &TypeUrl::from(TypeUrl::HOST_TABLE))
        .map_err(|error| Failure::Failed(chain(&error)))?;
    world.take(&held);
    Ok(world)
}

/// Puts in force what was held, before the network is up: the agent comes later.
pub(super) async fn restore(args: &Here) -> Result<Exit, Failure> {
    let directory = files::directory(args.data.as_ref())?;
    let Some(Settings { .. }) = files::settings(&directory)? else { return Ok(Exit::Done) };
    let failed = |error: agent::dataplane::DataplaneError| Failure::Failed(chain(&error));
    let mut world = world(&directory)?;
    let compiled = world.compile().map_err(Failure::Failed)?;
    let mut kernel = Kernel::open(None).map_err(failed)?;
    kernel.commit(&compiled.table).map_err(failed)?;
    let glass = glass::read(&directory).map_err(|error| Failure::Failed(chain(&error)))?;
    let force: Vec<_> = glass.force.iter().map(|force| force.service.clone()).collect();
    if !force.is_empty() {
        put(&directory, &force)?;
    }
    // The agent tries again: rules alone are worth having.
    for why in bring::bring_forwarding(&directory).await.failed {
        eprintln!("not changed on this host: {why}");
    }
    Ok(Exit::Done)
}
