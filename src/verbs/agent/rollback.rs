//! `crossfade agent rollback`: legacy on this VM, with no controller, agent or network.

use std::path::Path;
use std::{fs, io};

use agent::dataplane::Forget;
use controller::clock::Clock;

use super::{held, not_joined, unchanged};
use crate::cli::agent::Rollback;
use crate::following;
use crate::glass::{self, Act, BY_RULES, Deed, Glass, GlassError, Log, NOT_BY_US};
use crate::host::actor::turned;
use crate::host::files;
use crate::host::kernel::Kernel;
use crate::host::world::World;
use crate::verbs::among::among;
use crate::verbs::break_glass::{in_force, print};
use crate::verbs::{Context, Exit, Failure, chain};

/// Changes the kernel first and writes it down then: the disk may be full, and a process that hangs
/// may have the log.
pub(super) fn run(args: &Rollback, context: &Context) -> Result<Exit, Failure> {
    let directory = files::directory(args.here.data.as_ref())?;
    open_to_us(&directory, args)?;
    left_to_us()?;
    let act = if args.undo { Act::Undo } else { Act::Rollback };
    let by_nft = |failure| by_nft(failure, &directory, act);
    let world = World::read(&directory).map_err(by_nft)?;
    if act == Act::Rollback && world.is_empty() {
        return Err(nothing_held(&directory));
    }
    let services = match &args.service {
        None => vec![None],
        Some(subject) => {
            let held = held(&directory).map_err(by_nft)?;
            among(subject, &held, "this VM")?.into_iter().map(Some).collect()
        }
    };
    // Held over what follows where it can be had at once: the agent is not to take a change of ours
    // in the kernel for another's.
    let log = Log::try_open(&directory);
    let before = glass::read_or_nothing(&directory);
    let by_others = is_by_others(&before, &world).map_err(by_nft)?;
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
    let (by, reason) = (by.as_str(), args.reason.as_deref().unwrap_or_default());
    let deed = |service| Deed { act, service, by, reason };
    let mut deeds: Vec<_> = services.into_iter().map(deed).collect();
    // For everything: naming a service takes nothing of that away.
    let others = Deed { act: Act::Rollback, service: None, by: BY_RULES, reason: NOT_BY_US };
    let others: Vec<_> = by_others.then_some(others).into_iter().collect();
    let stood = before.after(&others, Clock::start().now());
    if !args.undo {
        deeds.splice(..0, others);
    }
    let put =
        |glass: &Glass| Kernel::put_glass(&world, glass).map_err(|error| by_nft(unchanged(&error)));
    let ours = before.after(&deeds, Clock::start().now());
    put(&ours)?;
    let written = write_down(&directory, log, before, &deeds);
    // What others wrote down meanwhile is in force too.
    let all = match &written {
        Ok(all) if all.is_more_than(&ours) => {
            put(all)?;
            all
        }
        Ok(_) | Err(_) => &ours,
    };
    turn_datagrams(&world, &stood, all);
    let glass = written?;
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

/// That the directory is there and is ours to read. What is not ours is not absent.
fn open_to_us(directory: &Path, args: &Rollback) -> Result<(), Failure> {
    let denied = |directory: &Path| {
        Failure::Failed(format!(
            "{} is for root alone: sudo crossfade agent rollback …; or sudo {}",
            directory.display(),
            nft(directory, if args.undo { Act::Undo } else { Act::Rollback })
        ))
    };
    let packaged = Path::new(files::PACKAGED);
    match fs::read_dir(directory) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(denied(directory)),
        // Without root another directory is looked at where none is named.
        Err(_) if directory != packaged && args.here.data.is_none() && is_there(packaged) => {
            Err(denied(packaged))
        }
        Err(_) => Err(not_joined(directory)),
    }
}

/// That the name of the table is ours to take: what `nft -f` does would delete another's too.
fn left_to_us() -> Result<(), Failure> {
    // Who may not ask is told so where rules are changed.
    let others = Kernel::open().ok().and_then(|mut kernel| kernel.others_glass());
    let [_, table] = Kernel::TABLES;
    others.map_or(Ok(()), |why| {
        Err(Failure::Failed(format!(
            "{why}; see whose it is: nft list table inet {table}; until it has another name, \
             break-glass is at the controller alone: crossfade rollback"
        )))
    })
}

/// What is said where no table of a plan is held, so that nothing would be sent to legacy.
fn nothing_held(directory: &Path) -> Failure {
    let is_there = |name| directory.join(name).symlink_metadata().is_ok();
    if is_there(files::ROLLBACK) {
        let why = "no service can be read here; what the agent held when it last changed anything \
                   lies ready";
        return by_nft(Failure::Failed(why.to_owned()), directory, Act::Rollback);
    }
    if is_there(files::SETTINGS) {
        let why = "no service is held here: nothing of this VM goes anywhere but to legacy";
        return Failure::Refused(why.to_owned());
    }
    not_joined(directory)
}

/// Whether a directory is there, if it can be told.
fn is_there(directory: &Path) -> bool {
    match directory.try_exists() {
        Ok(there) => there,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// Writes down what was done; waits a moment for the log where somebody else has it.
fn write_down(
    directory: &Path,
    log: Result<Option<Log>, GlassError>,
    mut glass: Glass,
    deeds: &[Deed<'_>],
) -> Result<Glass, Failure> {
    let failed = |error: GlassError| {
        let why = chain(&error);
        Failure::Failed(format!("it is in force in the kernel, and not written down: {why}"))
    };
    let log = log.and_then(|log| log.map_or_else(|| Log::open(directory), Ok));
    let mut log = log.map_err(failed)?;
    for Deed { act, service, by, reason } in deeds {
        let now = Clock::start().now();
        glass = log.append(*act, service.as_ref(), by, reason, now).map_err(failed)?;
    }
    Ok(glass)
}

/// Whether rules of break-glass are in the kernel for more than what was written down.
fn is_by_others(before: &Glass, world: &World) -> Result<bool, Failure> {
    let looked = Kernel::open().and_then(|mut kernel| kernel.glass());
    let Some(found) = looked.map_err(|error| unchanged(&error))? else {
        return Ok(false);
    };
    let ours = world.rollback(|id| before.covers(id));
    Ok(before.force.is_empty() || !found.is_subset(&ours.counters))
}

/// What does the same with nothing of ours.
fn nft(directory: &Path, act: Act) -> String {
    match act {
        Act::Rollback => format!("nft -f {}", directory.join(files::ROLLBACK).display()),
        Act::Undo | Act::Dissolved => {
            let [_, table] = Kernel::TABLES;
            format!("nft delete table inet {table}")
        }
    }
}

/// Whatever this command cannot do, plain `nft` does.
fn by_nft(failure: Failure, directory: &Path, act: Act) -> Failure {
    Failure::Failed(format!("{}; as root: {}", chain(&failure), nft(directory, act)))
}

/// Datagrams that are under way go that way too, to legacy or back.
fn turn_datagrams(world: &World, before: &Glass, glass: &Glass) {
    let marked = turned(&world.leaves(), &world.marks, before, glass);
    let which = Forget { marked, ..Forget::default() };
    if let Ok(mut kernel) = Kernel::open() {
        kernel.forget(&which);
    }
}
