//! Names on the VM: those of plans from disk, all others as the host's own servers answer them.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::main_job::PLAN;
use super::netns::Space;
use super::world::{Agent, UPSTREAM, World, until};
use crate::harness::BINARY;

/// How long a client of DNS waits, and how often it asks, as the C library does with the options of
/// this host's resolv.conf; then it has failed.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 2;

/// The name of the plan.
pub(super) const PLAN_NAME: &str = "orders.corp.example";

/// How often the agent is killed while it is asked.
const KILLS: u32 = 15;

/// A name server that answers whatever is asked with bytes that nobody would make up.
pub(super) struct Upstream {
    asked: Arc<AtomicU32>,
}

impl Upstream {
    pub(super) fn start(space: &Space) -> Self {
        let socket = space.enter(|| UdpSocket::bind((UPSTREAM, 53)).unwrap());
        let asked = Arc::<AtomicU32>::default();
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                count.fetch_add(1, Ordering::Relaxed);
                // Who asked may have gone.
                let _ = socket.send_to(&strange(&bytes[..length]), from);
            }
        });
        Self { asked }
    }
}

/// The answer to a query: odd flags, odd case, an option and a record of types that nobody knows.
fn strange(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut answer = query[..end].to_vec();
    answer[2..12].copy_from_slice(&[0x85, 0xb0, 0, 1, 0, 1, 0, 0, 0, 1]);
    answer.extend([0xc0, 12, 0xff, 0x42, 0, 1, 0, 0, 0, 7, 0, 3, b'a', 0, 0xfe]);
    answer.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 6, 0xfd, 0xe9, 0, 2, 1, 2]);
    answer
}

/// A query for the addresses of a name.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(label.len().try_into().unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Where the VM's processes ask: what its resolv.conf names.
pub(super) fn server(world: &World) -> SocketAddr {
    server_in(|| std::fs::read_to_string(world.etc().join("resolv.conf")).unwrap())
}

/// The same, of what stands in a resolv.conf.
pub(super) fn server_in(text: impl Fn() -> String) -> SocketAddr {
    until("the VM asks the agent", || {
        let text = text();
        if !text.contains("crossfade") {
            return None;
        }
        let line = text.lines().find_map(|line| line.strip_prefix("nameserver "))?;
        Some(SocketAddr::new(line.trim().parse().unwrap(), 53))
    })
}

pub(super) fn ask(server: SocketAddr, id: u16, name: &str) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // What the agent answers itself is answered at the first time of asking, whenever it is killed.
    let tries = if name == PLAN_NAME { 1 } else { TRIES };
    socket.set_read_timeout(Some(PATIENCE * TRIES / tries))?;
    socket.connect(server)?;
    let mut bytes = [0; 1_500];
    let mut tried = || {
        socket.send(&query(id, name))?;
        socket.recv(&mut bytes)
    };
    let mut answered = tried();
    for _ in 1..tries {
        // What was with another server when the agent was killed is asked again.
        answered = answered.or_else(|_| tried());
    }
    let length = answered?;
    Ok(bytes[..length].to_vec())
}

/// An answer has one address, the last four octets before what follows the answers.
pub(super) fn has_logical(answer: &[u8]) -> bool {
    answer.windows(6).any(|found| found == [0, 4, 192, 0, 2, 10])
}

#[test]
fn plan_names_from_disk_and_others_byte_for_byte() {
    let test = "plan_names_from_disk_and_others_byte_for_byte";
    let Some(mut world) = World::new(test, PLAN) else { return };
    let upstream = Upstream::start(&world.net.legacy);
    let agent = world.joined(&[]);
    let at = server(&world);
    until("the plan's names are known", || {
        (world.status()?["names"]["names"].as_u64() >= Some(1)).then_some(())
    });
    world.kill_controller();
    agent.kill();
    let _agent = Agent::start(&world);
    let relayed = upstream.asked.load(Ordering::Relaxed);
    let asked = world.net.vm.enter(|| ask(at, 7, PLAN_NAME).unwrap());
    assert!(has_logical(&asked), "the first query of all: {asked:x?}");
    assert_eq!(upstream.asked.load(Ordering::Relaxed), relayed, "nobody else was asked");
    for (id, name) in
        [(1, "www.example.org"), (0xffff, "Odd-Case.EXAMPLE.net"), (9, "corp.example")]
    {
        let asked = world.net.vm.enter(|| ask(at, id, name).unwrap());
        assert_eq!(asked, strange(&query(id, name)), "{name}");
    }
    let status = world.status().unwrap();
    assert_eq!(status["names"]["upstreams"][0], format!("{UPSTREAM}:53"), "{status}");
    assert_eq!(status["names"]["failed"], 0, "{status}");
}

fn resolver(world: &World) -> String {
    std::fs::read_to_string(world.etc().join("resolv.conf")).unwrap_or_default()
}

/// Writes the VM's resolv.conf as clients of DHCP do: another file takes its place.
fn write_resolver(world: &World, text: &str) {
    let (path, new) = (world.etc().join("resolv.conf"), world.etc().join("resolv.conf.dhcp"));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn a_resolver_that_others_write_again_asks_the_agent_and_it_asks_theirs() {
    let test = "a_resolver_that_others_write_again_asks_the_agent_and_it_asks_theirs";
    let Some(world) = World::new(test, PLAN) else { return };
    let _agent = world.joined(&[]);
    let at = server(&world);
    let ours = resolver(&world);
    // Nobody is named while it is written.
    write_resolver(&world, "# not yet\n");
    until("it is written again", || (resolver(&world) == ours).then_some(()));
    let upstreams = || world.status().map(|status| status["names"]["upstreams"].to_string());
    assert_eq!(upstreams().unwrap(), format!("[\"{UPSTREAM}:53\"]"));
    // Ours is named by whoever read it.
    let theirs = format!("search corp.example\nnameserver {}\nnameserver 10.30.0.9\n", at.ip());
    write_resolver(&world, &theirs);
    until("theirs are asked", || (upstreams()? == "[\"10.30.0.9:53\"]").then_some(()));
    until("and the agent first", || {
        let text = resolver(&world);
        let names = |ip: &str| text.find(&format!("nameserver {ip}\n"));
        let first = names(&at.ip().to_string())? < names("10.30.0.9")?;
        (first && text.contains("crossfade") && text.contains("search corp.example")).then_some(())
    });
    let status = world.status().unwrap();
    assert!(status["notes"].to_string().contains("written again"), "{status}");
    let said = world.vm(&["agent", "leave"]).ok();
    assert!(said.contains("left as others made it"), "{said}");
    assert_eq!(resolver(&world), theirs, "what others wrote last");
}

#[test]
fn an_address_that_another_took_meanwhile_ends_nothing() {
    let test = "an_address_that_another_took_meanwhile_ends_nothing";
    let Some(world) = World::new(test, PLAN) else { return };
    let agent = world.joined(&[]);
    let at = server(&world);
    agent.kill();
    // The kernel shows no socket that is connected, and it is in the way all the same.
    let taken = world.net.vm.enter(|| UdpSocket::bind(at).unwrap());
    taken.connect("127.0.0.1:9").unwrap();
    let _agent = Agent::start(&world);
    let elsewhere = until("names are answered elsewhere", || {
        let status = world.status()?;
        let listen: SocketAddr = status["names"]["listen"][0].as_str()?.parse().ok()?;
        (listen != at && status["names"]["names"] == 1).then_some(listen)
    });
    until("the VM asks there", || (server(&world) == elsewhere).then_some(()));
    assert!(!resolver(&world).contains(&format!("{}\n", at.ip())), "{}", resolver(&world));
    let asked = world.net.vm.enter(|| ask(elsewhere, 7, PLAN_NAME).unwrap());
    assert!(has_logical(&asked), "{asked:x?}");
    let status = world.status().unwrap();
    assert_eq!(status["names"]["upstreams"].to_string(), format!("[\"{UPSTREAM}:53\"]"));
}

#[test]
fn names_that_cannot_be_answered_at_first_are_answered_once_they_can() {
    let test = "names_that_cannot_be_answered_at_first_are_answered_once_they_can";
    let Some(world) = World::new(test, PLAN) else { return };
    world.join_with(&world.token(&["vm-1"]), &[]).ok();
    // As before a client of DHCP has run.
    std::fs::remove_file(world.etc().join("resolv.conf")).unwrap();
    std::os::unix::fs::symlink("/run/none", world.etc().join("resolv.conf")).unwrap();
    let _agent = Agent::start(&world);
    world.vm(&["agent", "confirm"]).ok();
    world.until_acked();
    let notes = || world.status().map(|status| status["notes"].to_string());
    until("it is told", || notes()?.contains("names: left alone: ").then_some(()));
    assert!(world.status().unwrap()["names"].is_null());
    write_resolver(&world, "nameserver 10.30.0.2\n");
    let at = server(&world);
    let asked = world.net.vm.enter(|| ask(at, 7, PLAN_NAME).unwrap());
    assert!(has_logical(&asked), "{asked:x?}");
    until("nothing is told", || (!notes()?.contains("left alone")).then_some(()));
}

/// A file that nobody may change, until this goes.
struct Fixed(PathBuf);

impl Fixed {
    fn new(path: PathBuf) -> Self {
        crate::harness::program("chattr", &["+i", path.to_str().unwrap()]).ok();
        Self(path)
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        crate::harness::program("chattr", &["-i", self.0.to_str().unwrap()]);
    }
}

/// How long a file stays as it is: a fight would have ended.
const FIXED_FOR: Duration = Duration::from_secs(4);

#[test]
fn a_resolver_that_may_not_be_written_is_no_fight() {
    let test = "a_resolver_that_may_not_be_written_is_no_fight";
    let Some(world) = World::new(test, PLAN) else { return };
    let agent = world.joined(&[]);
    server(&world);
    agent.signal(Signal::SIGSTOP);
    write_resolver(&world, "nameserver 10.30.0.9\n");
    let fixed = Fixed::new(world.etc().join("resolv.conf"));
    agent.signal(Signal::SIGCONT);
    let notes = || world.status().map(|status| status["notes"].to_string());
    until("it is told", || notes()?.contains("cannot change /etc/resolv.conf").then_some(()));
    let begun = Instant::now();
    while begun.elapsed() < FIXED_FOR {
        let notes = notes().unwrap();
        assert!(!notes.contains("again and again") && !notes.contains("written again"), "{notes}");
    }
    drop(fixed);
    server(&world);
    let notes = notes().unwrap();
    assert!(notes.contains("1 times; written again") && !notes.contains("cannot"), "{notes}");
}

#[test]
fn a_fight_ends_and_is_told() {
    let Some(world) = World::new("a_fight_ends_and_is_told", PLAN) else { return };
    let _agent = world.joined(&[]);
    server(&world);
    let mut fought = 0_u32;
    until("the agent gives up", || {
        if resolver(&world).contains("crossfade") {
            fought += 1;
            write_resolver(&world, &format!("nameserver 10.30.0.{}\n", fought % 8 + 2));
        }
        let status = world.status()?;
        status["notes"].to_string().contains("left as they made it").then_some(())
    });
    assert!((5..20).contains(&fought), "{fought}");
    let theirs = resolver(&world);
    assert!(!theirs.contains("crossfade"), "{theirs}");
    world.vm(&["agent", "leave"]).ok();
    assert_eq!(resolver(&world), theirs);
}

/// A service manager that keeps descriptors while the agent restarts, as systemd does.
struct Manager {
    ends: Arc<AtomicBool>,
    keeping: Option<JoinHandle<()>>,
    script: PathBuf,
    place: PathBuf,
}

impl Manager {
    /// One whose notes and descriptors are in a program of its own: it starts the agent whenever it
    /// has ended, and tells its process in a file.
    fn start(world: &World) -> Self {
        let script = crate::harness::root().join("tests/e2e/peers/manager.py");
        let place = world.scratch.path().join("manager");
        std::fs::create_dir(&place).unwrap();
        Self { ends: Arc::default(), keeping: None, script, place }
    }

    fn run(&mut self, world: &World) {
        let mut command = world.on_vm(&crate::harness::python());
        command.arg(&self.script).arg(&self.place).arg(BINARY);
        command.args(["agent", "run", "--log-format", "text"]);
        let log = std::fs::File::create(self.place.join("log")).unwrap();
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let ends = Arc::clone(&self.ends);
        self.keeping = Some(std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            // Closing would leave the agent; it ends both.
            crate::harness::program("kill", &["-TERM", &child.id().to_string()]).ok();
            child.wait().unwrap();
        }));
    }

    /// The agent that runs now, once it is ready; `not` this one.
    #[track_caller]
    fn ready(&self, not: Option<i32>) -> i32 {
        until("the manager's agent is ready", || {
            let text = std::fs::read_to_string(self.place.join("ready")).ok()?;
            text.trim().parse().ok().filter(|pid| Some(*pid) != not)
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.join("log")).unwrap_or_default()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(keeping) = self.keeping.take() {
            keeping.join().unwrap();
        }
        if std::thread::panicking() {
            eprintln!("the agent said:\n{}", self.log());
        }
    }
}

/// A process of the VM that asks for a plan name and a foreign one in turn.
pub(super) struct Asking {
    ends: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    thread: JoinHandle<Vec<String>>,
}

impl Asking {
    pub(super) fn start(world: &World, at: SocketAddr) -> Self {
        let (ends, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (end, count) = (Arc::clone(&ends), Arc::clone(&asked));
        let work = move || {
            let mut failed = Vec::new();
            for id in (0..=u16::MAX).cycle() {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let name = [PLAN_NAME, "www.example.org"][usize::from(id % 2)];
                match ask(at, id, name) {
                    Ok(answer) if id % 2 == 0 && has_logical(&answer) => {}
                    Ok(answer) if answer == strange(&query(id, name)) => {}
                    other => failed.push(format!("{id} {name}: {other:x?}")),
                }
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(1));
            }
            failed
        };
        let thread = world.net.vm.enter(|| std::thread::spawn(work));
        Self { ends, asked, thread }
    }

    #[track_caller]
    pub(super) fn round(&self) {
        let before = self.asked.load(Ordering::Relaxed);
        until("some were answered", || {
            (self.asked.load(Ordering::Relaxed) >= before + 20).then_some(())
        });
    }

    pub(super) fn stop(self) -> (u32, Vec<String>) {
        self.ends.store(true, Ordering::Relaxed);
        let failed = self.thread.join().unwrap();
        (self.asked.load(Ordering::Relaxed), failed)
    }
}

#[test]
fn queries_wait_while_the_agent_restarts() {
    let Some(world) = World::new("queries_wait_while_the_agent_restarts", PLAN) else { return };
    let _upstream = Upstream::start(&world.net.legacy);
    world.join_with(&world.token(&["vm-1"]), &[]).ok();
    let mut manager = Manager::start(&world);
    manager.run(&world);
    let mut pid = manager.ready(None);
    world.vm(&["agent", "confirm"]).ok();
    world.until_acked();
    let asking = Asking::start(&world, server(&world));
    for round in 0..KILLS {
        // Some as soon as it is ready.
        if round % 3 != 0 {
            asking.round();
        }
        crate::harness::program("kill", &["-KILL", &pid.to_string()]).ok();
        pid = manager.ready(Some(pid));
    }
    asking.round();
    let (asked, failed) = asking.stop();
    assert!(failed.is_empty(), "of {asked}: {failed:?}");
    let status = world.status().unwrap();
    assert!(status["broken"].is_null() && status["names"]["names"] == 1, "{status}");
}
