//! The service manager starts an agent anew that does nothing any more.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::AT_FDCWD;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use super::main_job::PLAN;
use super::world::{Agent, World, until};
use crate::harness::BINARY;

/// What the service manager is told within: several times as often.
const WITHIN: Duration = Duration::from_millis(600);

/// What the agent tells the service manager next; `None`: nothing, for several times as long.
fn told(manager: &UnixDatagram) -> Option<String> {
    let mut bytes = [0; 1_000];
    match manager.recv(&mut bytes) {
        Ok(length) => Some(String::from_utf8_lossy(&bytes[..length]).into_owned()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// Whoever opens this file waits for as long as what is given lives, as on a disk that hangs: the
/// kernel asks us whether it may be opened, and we say nothing.
fn hang_on(path: &Path) -> Fanotify {
    let asked = Fanotify::init(InitFlags::FAN_CLASS_CONTENT, EventFFlags::O_RDONLY).unwrap();
    let (add, open) = (MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_PERM);
    asked.mark(add, open, AT_FDCWD, Some(path)).unwrap();
    asked
}

/// The task that changes rules waits for ever, and all others go on.
#[test]
fn an_agent_that_hangs_does_not_say_that_it_is_well() {
    let test = "an_agent_that_hangs_does_not_say_that_it_is_well";
    let Some(mut world) = World::new(test, PLAN) else { return };
    let agent = world.joined(&["--no-names"]);
    world.kill_controller();
    agent.kill();
    // Nothing is held, so that what lies ready is first opened when something is.
    for file in fs::read_dir(world.data()).unwrap() {
        let path = file.unwrap().path();
        if path.display().to_string().contains("hosttable.") {
            fs::remove_file(path).unwrap();
        }
    }
    let _hung = hang_on(&world.data().join("rollback.nft"));
    let manager = world.scratch.path().join("manager");
    let mut command = world.on_vm(BINARY);
    command.args(["agent", "run"]).env("NOTIFY_SOCKET", &manager);
    command.env("WATCHDOG_USEC", WITHIN.as_micros().to_string());
    let manager = UnixDatagram::bind(&manager).unwrap();
    manager.set_read_timeout(Some(WITHIN * 4)).unwrap();
    let _agent = Agent::start_as(&world, command);
    for word in ["READY=1", "WATCHDOG=1", "WATCHDOG=1"] {
        until(word, || told(&manager)?.contains(word).then_some(()));
    }
    world.start_controller(&[]);
    until("nobody says that it is well", || told(&manager).is_none().then_some(()));
    assert!(world.status().is_some(), "it is asked, and answers");
}
