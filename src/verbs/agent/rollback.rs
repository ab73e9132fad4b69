//! `crossfade agent rollback`: legacy on this VM, with no controller, agent or network.

use std::path::Path;

use agent::dataplane::DataplaneError;
use agent::rules;
use controller::clock::Clock;
use plan::ServiceId;

use super::{held, not_joined};
use crate::cli::agent::{Here, Rollback};
use crate::following;
use crate::glass::{self, Act, Glass, Log};
use crate::host::actor::{BY_RULES, NOT_BY_US};
use crate::host::kernel::Kernel;
use crate::host::world::World;
use crate::host::{changes, files, trial};
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
    // Held over what follows: the agent is not to take a change of ours in the kernel for
    // another's.
    let mut log = Log::open(&directory);
    let before = glass::read_or_nothing(&directory);
    let world = World::read(&directory)?;
    let by_others = is_by_others(&directory, &before, &world)?;
    match (by_others, args.undo, &args.service) {
        (true, true, Some(_)) => {
            let why = "break-glass is in force for everything, by plain nft, and not for some \
                       services alone; undo it without naming one";
            return Err(Failure::Refused(why.to_owned()));
        }
        (false, true, _) => in_force(&before, &services)?,
        _ => {}
    }
    let by = format!("uid:{}", nix::unistd::getuid());
    let by = By { by: &by, reason: args.reason.as_deref().unwrap_or_default() };
    let mut acts: Vec<_> = services.into_iter().map(|service| (act, service, by)).collect();
    if by_others && !args.undo {
        // For everything: naming a service takes nothing of that away.
        acts.insert(0, (Act::Rollback, None, By { by: BY_RULES, reason: NOT_BY_US }));
    }
    put(&directory, &world, &forced(&before, &acts))?;
    let mut glass = before;
    for (act, service, By { by, reason }) in &acts {
        let now = Clock::start().now();
        let written = log.as_mut().map_err(|error| chain(error)).and_then(|log| {
            let written = log.append(*act, service.as_ref(), by, reason, now);
            written.map_err(|error| chain(&error))
        });
        glass = written.map_err(|why| {
            Failure::Failed(format!("it is in force in the kernel, and not written down: {why}"))
        })?;
    }
    drop(log);
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

/// Who does something, and why.
#[derive(Clone, Copy)]
struct By<'a> {
    by: &'a str,
    reason: &'a str,
}

/// Whether rules of break-glass are in the kernel for more than what was written down.
fn is_by_others(directory: &Path, before: &Glass, world: &World) -> Result<bool, Failure> {
    let looked = Kernel::open().and_then(|mut kernel| kernel.glass());
    let Some(found) = looked.map_err(|error| unchanged(directory, &error))? else {
        return Ok(false);
    };
    let ours = world.rollback(|id| before.on(id).is_some());
    Ok(before.force.is_empty() || !found.is_subset(&ours.counters))
}

/// What is in force once this is done; `None`: everything.
fn forced(before: &Glass, acts: &[(Act, Option<ServiceId>, By<'_>)]) -> Vec<Option<ServiceId>> {
    let mut force: Vec<_> = before.force.iter().map(|force| force.service.clone()).collect();
    for (act, service, _) in acts {
        match (act, service) {
            (Act::Rollback, _) => force.push(service.clone()),
            (Act::Undo | Act::Dissolved, None) => force.clear(),
            (Act::Undo | Act::Dissolved, some) => force.retain(|one| one != some),
        }
    }
    force
}

/// What a command says that could not change the kernel.
fn unchanged(directory: &Path, error: &DataplaneError) -> Failure {
    Failure::Failed(format!(
        "the rules cannot be changed: {}; as root: nft -f {}",
        chain(error),
        directory.join(files::ROLLBACK).display()
    ))
}

/// Makes the kernel say so.
fn put(directory: &Path, world: &World, force: &[Option<ServiceId>]) -> Result<(), Failure> {
    let failed = |error| unchanged(directory, &error);
    let mut kernel = Kernel::open().map_err(failed)?;
    if force.is_empty() {
        return kernel.end_glass().map(drop).map_err(failed);
    }
    let covered = |id: &ServiceId| force.iter().any(|one| one.as_ref().is_none_or(|one| one == id));
    let table = world.rollback(covered);
    kernel.break_glass(&table).map_err(failed)?;
    let leaves = world.leaves();
    let covered = leaves.iter().map(|leaf| &leaf.id).filter(|id| covered(id));
    for mark in covered.filter_map(|id| world.marks.of(id)) {
        kernel.flush(mark, plan::Side::Target, Some(rules::Transport::Udp));
    }
    Ok(())
}

/// Puts in force what was held, before the network is up: the agent comes later.
pub(super) async fn restore(args: &Here) -> Result<Exit, Failure> {
    let directory = files::directory(args.data.as_ref())?;
    let Some(settings) = files::settings(&directory)? else { return Ok(Exit::Done) };
    if trial::is_over(&directory, &settings) {
        eprintln!("nobody confirmed the join: the agent takes it out");
        return Ok(Exit::Done);
    }
    let failed = |error: DataplaneError| Failure::Failed(chain(&error));
    let mut world = World::read(&directory)?;
    let compiled = world.compile().map_err(Failure::Failed)?;
    let mut kernel = Kernel::open().map_err(failed)?;
    kernel.commit(&compiled.table).map_err(failed)?;
    let glass = glass::read(&directory).map_err(|error| Failure::Failed(chain(&error)))?;
    let force: Vec<_> = glass.force.iter().map(|force| force.service.clone()).collect();
    if !force.is_empty() {
        put(&directory, &world, &force)?;
    }
    // The agent tries again: rules alone are worth having.
    for why in changes::forward(&directory).await.failed {
        eprintln!("not changed on this host: {why}");
    }
    Ok(Exit::Done)
}
