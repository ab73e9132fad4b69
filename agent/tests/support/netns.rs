//! Network namespaces for tests: a legacy VM in the middle of its clients, its old and its new
//! backends and the controller, on this machine, with real packets. Needs root.
//!
//! ```text
//! client ── vm ── legacy
//!            ├─── target
//!            └─── controller
//! ```
//!
//! | | IPv4 | IPv6 |
//! |---|---|---|
//! | client | 10.10.0.2, and as sources 10.20.0.0/16 | fd10::2, and fd20::/112 |
//! | vm | 10.10.0.1, 10.30.0.1, 10.40.0.1, 10.50.0.1 | fd10::1, fd30::1, fd40::1, fd50::1 |
//! | logical, on `lo` of vm | 192.0.2.10 | 2001:db8::10 |
//! | legacy | 10.30.0.2 | fd30::2 |
//! | target | 10.40.0.2 | fd40::2 |
//! | controller | 10.50.0.2 | fd50::2 |
//!
//! Everybody's default route leads to the VM, so that sources can be preserved. Namespaces go
//! with the value that made them; what a killed test left is taken away by the next one.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::{File, read_dir};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};
use nix::unistd::geteuid;

/// Where `ip netns` keeps names of namespaces.
const NAMES: &str = "/run/netns";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Whether this process may make namespaces; if not, it is said that a test was skipped.
pub(crate) fn allowed(test: &str) -> bool {
    if geteuid().is_root() {
        return true;
    }
    eprintln!("SKIPPED {test}: it makes network namespaces, for which it must be root");
    false
}

/// One network namespace; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Space {
    name: String,
}

impl Space {
    /// An empty one; `role` ends its name.
    pub(crate) fn new(role: &str) -> Self {
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cf{}-{number}-{role}", std::process::id());
        must(&run("ip", &["netns", "add", &name]));
        let space = Self { name };
        space.ip("link set lo up");
        space
    }

    /// Its name, for `ip netns exec`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Does something in a thread that is in this namespace: sockets that it makes stay here.
    pub(crate) fn enter<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.settle();
                task()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves this thread into the namespace, for good.
    pub(crate) fn settle(&self) {
        let file = File::open(Path::new(NAMES).join(&self.name)).expect("the namespace is there");
        setns(file, CloneFlags::CLONE_NEWNET).expect("root may go there");
    }

    /// Runs a program here; its outcome.
    pub(crate) fn try_run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut all = vec!["netns", "exec", &self.name, program];
        all.extend_from_slice(arguments);
        run("ip", &all)
    }

    /// Runs a program here, which must succeed; what it printed.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        must(&self.try_run(program, arguments))
    }

    /// A program to be started here.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// `ip …` here, words parted by spaces.
    pub(crate) fn ip(&self, words: &str) {
        let words = ["-n", &self.name].into_iter().chain(words.split(' '));
        must(&run("ip", &words.collect::<Vec<_>>()));
    }

    /// Loads rules with `nft -f`.
    pub(crate) fn nft_file(&self, text: &str) -> Output {
        use std::io::Write as _;
        let mut child = self
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nft is there");
        let mut input = child.stdin.take().expect("it was asked for");
        input.write_all(text.as_bytes()).expect("nft reads");
        drop(input);
        child.wait_with_output().expect("nft ends")
    }

    /// Sets a kernel parameter of this namespace.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        self.run("sysctl", &["-qw", &format!("{name}={value}")]);
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        run("ip", &["netns", "del", &self.name]);
    }
}

/// The five namespaces, connected.
#[derive(Debug)]
pub(crate) struct World {
    /// Where clients are.
    pub(crate) client: Space,
    /// The legacy VM, which the agent runs on.
    pub(crate) vm: Space,
    /// The old backend.
    pub(crate) legacy: Space,
    /// The new backend.
    pub(crate) target: Space,
    /// The controller.
    pub(crate) controller: Space,
}

impl World {
    /// Makes all of it.
    pub(crate) fn new() -> Self {
        let world = Self {
            client: Space::new("client"),
            vm: Space::new("vm"),
            legacy: Space::new("legacy"),
            target: Space::new("target"),
            controller: Space::new("controller"),
        };
        world.vm.sysctl("net.ipv4.ip_forward", "1");
        world.vm.sysctl("net.ipv6.conf.all.forwarding", "1");
        world.connect(&world.client, "10");
        world.connect(&world.legacy, "30");
        world.connect(&world.target, "40");
        world.connect(&world.controller, "50");
        world.vm.ip("address add 192.0.2.10/32 dev lo");
        world.vm.ip("address add 2001:db8::10/128 dev lo nodad");
        world.vm.ip("route add 10.20.0.0/16 via 10.10.0.2");
        world.vm.ip("-6 route add fd20::/112 via fd10::2");
        // Its processes may say any of the sources.
        world.client.sysctl("net.ipv6.ip_nonlocal_bind", "1");
        world.client.ip("route add local 10.20.0.0/16 dev lo");
        world.client.ip("-6 route add local fd20::/112 dev lo");
        world
    }

    /// Connects a namespace with the VM: 10.N.0.0/24 and fdN::/64.
    fn connect(&self, space: &Space, net: &str) {
        let (here, there) = (format!("to{net}"), "vm0");
        let vm = self.vm.name();
        let words = format!("link add {there} type veth peer name {here} netns {vm}");
        space.ip(&words);
        for (space, device, last) in [(&self.vm, here.as_str(), 1), (space, there, 2)] {
            space.ip(&format!("address add 10.{net}.0.{last}/24 dev {device}"));
            space.ip(&format!("address add fd{net}::{last}/64 dev {device} nodad"));
            space.ip(&format!("link set {device} up"));
        }
        space.ip(&format!("route add default via 10.{net}.0.1"));
        space.ip(&format!("-6 route add default via fd{net}::1"));
    }
}

/// Takes away namespaces of tests that no longer run.
fn sweep() {
    let names = read_dir(NAMES).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix("cf").and_then(|rest| rest.split_once('-'));
        let gone = process.is_some_and(|(id, _)| {
            id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists()
        });
        if gone {
            run("ip", &["netns", "del", &name]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().expect("iproute2 is there")
}

fn must(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
