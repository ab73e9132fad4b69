//! `crossfade agent restore`: what a VM held is in force before its network is up.

use agent::dataplane::DataplaneError;

use super::unchanged;
use crate::cli::agent::Here;
use crate::glass;
use crate::host::kernel::Kernel;
use crate::host::world::World;
use crate::host::{changes, files, trial};
use crate::verbs::{Exit, Failure, chain};

/// Puts in force what was held, before the network is up: the agent comes later.
pub(super) async fn run(args: &Here) -> Result<Exit, Failure> {
    let directory = files::directory(args.data.as_ref())?;
    let Some(settings) = files::settings(&directory)? else { return Ok(Exit::Done) };
    if trial::is_over(&directory, &settings) {
        eprintln!("nobody confirmed the join: the agent takes it out");
        return Ok(Exit::Done);
    }
    trial::begin(&directory, &settings);
    if let Err(error) = files::give_to_owner(&directory) {
        eprintln!("crossfade: {}; the agent may not read it", chain(&error));
    }
    let failed = |error: DataplaneError| Failure::Failed(chain(&error));
    let mut world = World::at_boot(&directory)?;
    let compiled = world.compile().map_err(Failure::Failed)?;
    Kernel::leave_behind(&compiled.table).map_err(failed)?;
    let glass = glass::read_or_nothing(&directory);
    if !glass.force.is_empty() {
        Kernel::put_glass(&world, &glass).map_err(|error| unchanged(&error))?;
    }
    // The agent tries again: rules alone are worth having.
    for why in changes::forward(&directory).await.failed {
        eprintln!("not changed on this host: {why}");
    }
    Ok(Exit::Done)
}
