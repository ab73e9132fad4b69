//! Captured calls go to Envoy and to nobody else, whoever wants its port, and what is wrong with it
//! is told on the VM.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::envoy::{Beside, PLAN, call};
use super::world::{World, until};

/// Where captured calls arrive.
const PORT: &str = "127.0.0.1:15001";

/// The row of `doctor`.
fn row(world: &World) -> Value {
    let said = world.vm(&["agent", "doctor", "-o", "json"]);
    let rows: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    rows.into_iter().find(|row| row["check"] == "envoy-port").unwrap()
}

#[test]
fn a_program_that_has_its_port_is_sent_nothing() {
    let test = "a_program_that_has_its_port_is_sent_nothing";
    let mut stranger = None;
    let take = |world: &World| {
        stranger = Some(world.net.vm.enter(|| TcpListener::bind(PORT).unwrap()));
    };
    let Some(vm) = Beside::begun(test, PLAN, take) else { return };
    until("the agent says whose the port is", || {
        let told = vm.status();
        let trouble = told["trouble"].as_str().unwrap_or_default();
        assert_eq!(told["well"], false, "{told}");
        trouble.contains("127.0.0.1:15001 is taken by a program of user 0").then_some(())
    });
    assert!(!vm.is_captured());
    let own = || -> String { vm.world.net.vm.enter(|| (0..20).map(|_| call().unwrap()).collect()) };
    assert_eq!(own(), "L".repeat(20));
    let told = row(&vm.world);
    assert_eq!(told["verdict"], "warn", "{told}");
    assert!(told["mend"].as_str().unwrap().contains("ss -lntp"), "{told}");
    let text = vm.world.vm(&["agent", "status"]).out;
    assert!(text.contains("envoy") && text.contains("not well: "), "{text}");
    // It goes, and Envoy has its port.
    stranger.take();
    vm.until_captured(true);
    assert_eq!(own(), "L".repeat(20));
    assert_eq!(row(&vm.world)["verdict"], "good");
}

/// Whether somebody who is not Envoy's user gets the port.
fn gets_port() -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    let at: SocketAddr = PORT.parse().unwrap();
    socket.bind(&at.into()).and_then(|()| socket.listen(1)).is_ok()
}

/// Is over when it goes, as it does when a test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nobody_gets_its_port_while_it_is_away() {
    let Some(vm) = Beside::of("nobody_gets_its_port_while_it_is_away", PLAN) else { return };
    let pid = vm.envoy();
    let told = vm.status();
    assert_eq!((&told["well"], &told["pid"]), (&true.into(), &pid.into()), "{told}");
    let over = AtomicBool::new(false);
    let got = std::thread::scope(|scope| {
        let ends = Ends(&over);
        let tries = scope.spawn(|| {
            vm.world.net.vm.enter(|| {
                let mut got = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    got += u32::from(gets_port());
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                got
            })
        });
        for _ in 0..3 {
            kill(Pid::from_raw(vm.envoy()), Signal::SIGKILL).unwrap();
            vm.until_captured(false);
            vm.until_captured(true);
        }
        drop(ends);
        tries.join().unwrap()
    });
    assert_eq!(got, 0);
    let told = vm.status();
    assert_eq!((&told["well"], &told["pid"]), (&true.into(), &vm.envoy().into()), "{told}");
    assert!(told["lastEnd"].as_str().unwrap().contains("signal: 9"), "{told}");
}

#[test]
fn joining_looks_at_the_user_and_keeps_the_whole_path() {
    let test = "joining_looks_at_the_user_and_keeps_the_whole_path";
    let Some(world) = World::new(test, PLAN) else { return };
    let token = world.token(&["vm-1"]);
    let join = |user| {
        let args = ["--force", "--no-names", "--envoy", "./some/envoy", "--envoy-user", user];
        world.join_with(&token, &args)
    };
    let said = join("nosuchuser");
    assert!(said.code != 0 && said.err.contains("no user nosuchuser for Envoy"), "{said:?}");
    join("nobody").ok();
    let kept = std::fs::read(world.data().join("agent.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let program = kept["envoy"]["program"].as_str().unwrap();
    assert!(program.starts_with('/') && program.ends_with("/some/envoy"), "{program}");
}
