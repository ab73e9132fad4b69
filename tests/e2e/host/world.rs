//! What the tests of the host plane share: a VM between its clients, its backends and the
//! controller, each in a network namespace, and the real binary in them. On the VM `/etc` and
//! `/var/lib` are copies, so that nothing here changes the machine.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::main_job::{LOGICAL, PLAN};
use super::netns;
use super::peers::{Backends, sides};
use crate::harness::{BINARY, Controller, Said, Scratch};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where agents reach the controller.
pub(crate) const XDS: &str = "10.50.0.2:7410";

/// What the host's own resolver asks before it joins.
pub(crate) const UPSTREAM: &str = "10.30.0.2";

/// A VM sees other `/etc` and `/var/lib`, and no service manager.
const ON_VM: &str = "
for file in /etc/resolv.conf /etc/hosts /etc/hostname; do umount $file 2>/dev/null; done
for hidden in /run/systemd /run/NetworkManager /run/resolvconf; do
    [ -d $hidden ] && mount -t tmpfs none $hidden
done
set -e
mount --bind \"$VM/etc\" /etc
mount --bind \"$VM/lib\" /var/lib
exec \"$@\"";

/// One world at a time: they have processors and the kernel's table of flows in common.
static TURN: Mutex<()> = Mutex::new(());

/// A VM and what is around it.
pub(crate) struct World {
    pub(crate) controller: Option<Controller>,
    pub(crate) net: netns::World,
    pub(crate) scratch: Scratch,
    /// What a controller that is started has in its environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    _backends: Backends,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl World {
    /// A controller with this plan, both backends, and a VM that has not joined. `None`: it may not
    /// be made here, which is told.
    pub(crate) fn new(test: &str, plan: &str) -> Option<Self> {
        let turn = || TURN.lock().unwrap_or_else(PoisonError::into_inner);
        netns::allowed(test).then(|| Self::made(plan, Some(turn())))
    }

    /// The same, beside others: a test that mostly waits.
    pub(crate) fn beside(test: &str, plan: &str) -> Option<Self> {
        netns::allowed(test).then(|| Self::made(plan, None))
    }

    fn made(plan: &str, turn: Option<MutexGuard<'static, ()>>) -> Self {
        let scratch = Scratch::new();
        let vm = scratch.path().join("vm");
        fs::create_dir_all(vm.join("lib")).unwrap();
        copy_etc(&vm.join("etc"));
        let net = netns::World::new();
        // The agent has to make the VM forward.
        net.vm.sysctl("net.ipv4.ip_forward", "0");
        net.vm.sysctl("net.ipv6.conf.all.forwarding", "0");
        let backends = Backends::start(&net);
        let environment = Vec::new();
        let mut world =
            Self { controller: None, net, scratch, environment, _backends: backends, _turn: turn };
        world.start_controller(&[world.scratch.file("plan.yaml", plan).to_str().unwrap()]);
        world
    }

    /// Starts the controller, again or for the first time.
    pub(crate) fn start_controller(&mut self, more: &[&str]) {
        let data = self.scratch.path().join("controller");
        let args: Vec<&str> = ["--log", "warn"].iter().chain(more).copied().collect();
        let start = || Controller::start_with(&data, XDS, &args, &self.environment);
        self.controller = Some(self.net.controller.enter(start));
    }

    /// The controller.
    pub(crate) fn controller(&self) -> &Controller {
        self.controller.as_ref().unwrap()
    }

    /// SIGKILL of the controller.
    pub(crate) fn kill_controller(&mut self) {
        self.controller.take().unwrap().kill();
    }

    /// The directory that is `/etc` on the VM.
    pub(crate) fn etc(&self) -> PathBuf {
        self.scratch.path().join("vm/etc")
    }

    /// The directory of the agent, which is `/var/lib/crossfade/agent` there.
    pub(crate) fn data(&self) -> PathBuf {
        self.scratch.path().join("vm/lib/crossfade/agent")
    }

    /// A program on the VM.
    pub(crate) fn on_vm(&self, program: &str) -> Command {
        let mut command = self.net.vm.command("unshare");
        command.args(["--mount", "sh", "-c", ON_VM, "sh", program]);
        command.env("VM", self.scratch.path().join("vm"));
        command.env("CROSSFADE_SERVER", "http://127.0.0.1:1");
        command
    }

    /// The binary under test on the VM, to its end.
    pub(crate) fn vm(&self, args: &[&str]) -> Said {
        Said::of(self.on_vm(BINARY).args(args).output().unwrap())
    }

    /// What `crossfade token create` prints for pasting.
    pub(crate) fn token(&self, args: &[&str]) -> String {
        let args: Vec<&str> = ["token", "create"].iter().chain(args).copied().collect();
        let said = self.controller().run(&args).ok();
        let found = said.split_whitespace().find(|word| word.starts_with("cfj1_"));
        found.unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    /// Joins with this token.
    pub(crate) fn join_with(&self, token: &str, more: &[&str]) -> Said {
        let file = self.scratch.file("token.txt", token);
        let args = ["agent", "join", "--token-file", file.to_str().unwrap(), "--no-start"];
        let args: Vec<&str> = args.iter().chain(more).copied().collect();
        self.vm(&args)
    }

    /// The VM joins as `vm-1`, the agent runs, and the operator says that all is well.
    pub(crate) fn joined(&self, more: &[&str]) -> Agent {
        self.joined_by(&["vm-1"], more)
    }

    /// The same with a token that is made so.
    pub(crate) fn joined_by(&self, token: &[&str], more: &[&str]) -> Agent {
        self.join_with(&self.token(token), more).ok();
        let agent = Agent::start(self);
        self.vm(&["agent", "confirm"]).ok();
        self.until_acked();
        agent
    }

    /// What the agent says of itself; `None`: it does not answer.
    pub(crate) fn status(&self) -> Option<Value> {
        let said = self.vm(&["agent", "status", "-o", "json"]);
        (said.code == 0).then(|| serde_json::from_str(&said.out).unwrap())
    }

    /// The VM among the controller's sinks.
    pub(crate) fn sink(&self) -> Option<Value> {
        let sinks = self.controller().json(&["sinks"]);
        sinks.as_array()?.iter().find(|sink| sink["id"] == "vm-1").cloned()
    }

    /// Waits until the VM has acknowledged everything.
    #[track_caller]
    pub(crate) fn until_acked(&self) {
        until("vm-1 has everything", || {
            let sink = self.sink()?;
            let has = sink["plans"].as_array().is_none_or(|plans| !plans.is_empty());
            let well = sink["connected"] == true && sink["lag"] == 0 && sink["nack"].is_null();
            (has && well).then_some(())
        });
    }

    /// Waits until the VM has refused, and says why.
    #[track_caller]
    pub(crate) fn until_nacked(&self) -> String {
        until("vm-1 refuses", || {
            let sink = self.sink()?;
            (!sink["nack"].is_null()).then(|| sink["nack"].to_string())
        })
    }

    /// Shifts, and it arrives everywhere.
    #[track_caller]
    pub(crate) fn shift(&self, service: &str, percent: &str) {
        let said = self.controller().run(&["shift", service, percent, "--wait=20s"]);
        assert!(said.code == 0 && said.out.contains("arrived everywhere"), "{percent}: {said:?}");
    }

    /// Back to legacy, and it arrives everywhere.
    #[track_caller]
    pub(crate) fn rollback(&self, service: &str) {
        let said = self.controller().run(&["rollback", service, "--wait=20s"]);
        assert!(said.code == 0 && said.out.contains("arrived everywhere"), "{said:?}");
    }

    /// The rules in the VM's kernel.
    pub(crate) fn rules(&self) -> String {
        self.net.vm.run("nft", &["list", "ruleset"])
    }

    /// The same without what counts.
    pub(crate) fn rules_alone(&self) -> String {
        self.net.vm.run("nft", &["--stateless", "list", "ruleset"])
    }
}

/// A world in which half of the clients are to be on target, and where each of so many is.
pub(crate) fn at_half(test: &str, clients: u16) -> Option<(World, Agent, Vec<char>)> {
    let world = World::new(test, PLAN)?;
    let agent = world.joined(&["--no-names"]);
    world.shift("orders", "50%");
    let sides = sides(&world.net, clients, LOGICAL);
    assert!(sides.contains(&'L') && sides.contains(&'T'));
    Some((world, agent, sides))
}

/// A running agent; it goes with SIGKILL.
pub(crate) struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts what has joined, and waits until it runs.
    pub(crate) fn start(world: &World) -> Self {
        let mut command = world.on_vm(BINARY);
        command.args(["agent", "run"]);
        Self::start_as(world, command)
    }

    /// The same, by a command that becomes the agent.
    pub(crate) fn start_as(world: &World, command: Command) -> Self {
        let mut agent = Self::start_unasked(world, command);
        until("the agent runs", || {
            assert!(agent.child.try_wait().unwrap().is_none(), "{}", agent.log());
            let data = agent.data();
            let owner = fs::read_to_string(data.join("lock")).unwrap_or_default();
            let ours = owner.trim() == agent.pid().to_string();
            (ours && UnixStream::connect(data.join("agent.sock")).is_ok()).then_some(())
        });
        agent
    }

    /// The same, and waits for nothing.
    pub(crate) fn start_unasked(world: &World, mut command: Command) -> Self {
        let log = world.scratch.path().join("agent.log");
        let told = File::options().create(true).append(true).open(&log).unwrap();
        command.env("CROSSFADE_LOG_FORMAT", "text");
        let child = command.stdout(Stdio::null()).stderr(told).spawn().unwrap();
        Self { child, log }
    }

    /// Its directory, as it sees it itself.
    pub(crate) fn data(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/var/lib/crossfade/agent", self.pid()))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit code, once it has ended by itself; -1 for a signal.
    pub(crate) fn has_ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    /// Waits for that.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> i32 {
        until("the agent ends", || self.has_ended())
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the agent said:\n{}", self.log());
        }
    }
}

/// A copy of `/etc` with a resolver that nobody manages.
fn copy_etc(to: &Path) {
    crate::harness::program("cp", &["-a", "/etc", to.to_str().unwrap()]).ok();
    let resolv = to.join("resolv.conf");
    // It may be a link into a directory that the VM does not see.
    let _ = fs::remove_file(&resolv);
    fs::write(&resolv, format!("# by hand\nnameserver {UPSTREAM}\noptions timeout:1\n")).unwrap();
}

/// Waits until this gives something.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// The same, with another patience.
#[track_caller]
pub(crate) fn until_within<T>(
    patience: Duration,
    what: &str,
    look: impl FnMut() -> Option<T>,
) -> T {
    try_within(patience, look).unwrap_or_else(|| panic!("{what}: not within {patience:?}"))
}

/// The same; who calls says what was not found.
pub(crate) fn try_until<T>(look: impl FnMut() -> Option<T>) -> Option<T> {
    try_within(PATIENCE, look)
}

fn try_within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
