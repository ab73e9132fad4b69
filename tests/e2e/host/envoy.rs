//! The Envoy beside the agent takes the VM's own calls while it is well, and whatever becomes of
//! it, of the agent or of the controller, those calls arrive.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::main_job::LOGICAL;
use super::peers::{answer, dial, letter};
use super::plans::{orders, shop};
use super::world::{Agent, World, try_until, until};
use crate::mesh::world::tool;

/// As whom Envoy runs here.
const USER: &str = "nobody";

/// The VM's own address, 10.50.0.1, is a client of the mesh plane.
pub(super) const PLAN: &str = shop!(
    "  clients:
    - { networks: [10.50.0.1/32], plane: mesh }
    - { networks: [10.20.0.0/16], plane: host }
  steps: [{ split: 50%, bake: 1m }, { split: 100%, bake: 1h }]
  services:
",
    orders!(),
    "      affinity: none\n"
);

/// A call that failed.
#[derive(Debug)]
struct Failed {
    begun: Instant,
    ended: Instant,
    why: String,
}

impl Failed {
    /// Whether it was under way at some moment of these.
    fn was_in(&self, from: Instant, to: Instant) -> bool {
        self.begun <= to && self.ended >= from
    }
}

/// The VM's own processes at work, each call a connection.
struct Calls {
    ends: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    thread: JoinHandle<Vec<Failed>>,
}

impl Calls {
    fn start(world: &World) -> Self {
        let (ends, made) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (end, count) = (Arc::clone(&ends), Arc::clone(&made));
        let work = move || {
            let mut failed = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let begun = Instant::now();
                if let Err(error) = call() {
                    failed.push(Failed { begun, ended: Instant::now(), why: error.to_string() });
                }
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(1));
            }
            failed
        };
        let thread = world.net.vm.enter(|| std::thread::spawn(work));
        Self { ends, made, thread }
    }

    /// Waits until some more were made.
    fn some(&self) {
        let before = self.made.load(Ordering::Relaxed);
        until("calls go on", || (self.made.load(Ordering::Relaxed) > before + 50).then_some(()));
    }

    /// Ends them; those that failed.
    fn stop(self) -> Vec<Failed> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Who answers a call of this thread, which is on the VM.
pub(super) fn call() -> std::io::Result<char> {
    let to: SocketAddr = LOGICAL.parse().unwrap();
    letter(&mut dial([0, 0, 0, 0].into(), to)?)
}

/// The program where any user may run it.
pub(super) fn program(world: &World) -> PathBuf {
    let found = tool("CROSSFADE_TEST_ENVOY", "mesh-1/bin/envoy");
    // What PyPI's `envoy` starts lies beside it.
    let packages = found.parent().unwrap().join("../lib");
    let inner = fs::read_dir(packages).into_iter().flatten().flatten();
    let mut inner = inner.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    let real = inner.find(|path| path.exists()).unwrap_or(found);
    let place = world.scratch.path().join("envoy");
    fs::copy(real, &place)
        .unwrap_or_else(|error| panic!("envoy: {error}; scripts/test installs it"));
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    place
}

/// The Envoys of the VM, by the addresses that they have for their own.
fn envoys(program: &Path) -> BTreeSet<i32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        exe.file_name() == program.file_name() && exe.starts_with(program.parent().unwrap())
    };
    all.filter(is_it).collect()
}

/// Where the agent and its Envoy meet.
pub(super) fn place() -> PathBuf {
    let mut all = fs::read_dir("/run/crossfade-agent").unwrap().flatten();
    all.next().unwrap().path()
}

/// A VM with an Envoy beside its agent.
pub(super) struct Beside {
    pub(super) agent: Agent,
    pub(super) world: World,
    program: PathBuf,
}

impl Beside {
    fn new(test: &str) -> Option<Self> {
        Self::of(test, PLAN)
    }

    /// One with this plan.
    pub(super) fn of(test: &str, plan: &str) -> Option<Self> {
        let beside = Self::begun(test, plan, |_| {})?;
        beside.until_captured(true);
        Some(beside)
    }

    /// The same, after something was done on the VM, and Envoy may not be well yet.
    pub(super) fn begun(test: &str, plan: &str, first: impl FnOnce(&World)) -> Option<Self> {
        Self::by(test, plan, &["vm-1"], first)
    }

    /// The same with a token that is made so.
    fn by(test: &str, plan: &str, token: &[&str], first: impl FnOnce(&World)) -> Option<Self> {
        let world = World::new(test, plan)?;
        let program = program(&world);
        let path = program.to_str().unwrap();
        first(&world);
        let agent = world.joined_by(token, &["--no-names", "--envoy", path, "--envoy-user", USER]);
        Some(Self { world, agent, program })
    }

    /// Whether the VM's own calls are sent to Envoy.
    pub(super) fn is_captured(&self) -> bool {
        self.world.rules().contains("redirect to :15001")
    }

    /// What `agent status` says of Envoy.
    pub(super) fn status(&self) -> Value {
        self.world.status().unwrap()["envoy"].clone()
    }

    #[track_caller]
    pub(super) fn until_captured(&self, captured: bool) {
        let found = try_until(|| (self.is_captured() == captured).then_some(()));
        let envoy = || self.world.status().map(|status| status["envoy"].to_string());
        assert!(found.is_some(), "captured is not {captured}: {:?}", envoy());
    }

    /// The one Envoy.
    #[track_caller]
    pub(super) fn envoy(&self) -> i32 {
        let found: Vec<i32> = envoys(&self.program).into_iter().collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    }

    /// How many connections Envoy took for the service.
    fn taken(&self) -> u64 {
        self.counted("shop/orders", "upstream_cx_total")
    }

    /// What Envoy counted so for clusters whose names begin so, together.
    pub(super) fn counted(&self, cluster: &str, what: &str) -> u64 {
        let said = self.asked("stats");
        let is_it = |line: &&str| line.contains(cluster) && line.contains(&format!(".{what}:"));
        let counts = said.lines().filter(is_it);
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// What Envoy says there.
    fn asked(&self, path: &str) -> String {
        let admin = place().join("own/admin.sock");
        let args = ["-s", "--unix-socket", admin.to_str().unwrap()];
        let url = format!("http://envoy/{path}");
        let said = Command::new("curl").args(args).arg(url).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Another one must not be started meanwhile; it may have ended already.
        let _ = kill(Pid::from_raw(self.agent.pid().try_into().unwrap()), Signal::SIGKILL);
        for pid in envoys(&self.program) {
            // It may have ended already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[test]
fn its_calls_go_through_envoy_while_it_is_well() {
    let Some(vm) = Beside::new("its_calls_go_through_envoy_while_it_is_well") else { return };
    let pid = vm.envoy();
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    assert_eq!(owner, nix::unistd::User::from_name(USER).unwrap().unwrap().uid.as_raw());
    vm.world.shift("orders", "100%");
    let before = vm.taken();
    let own = |count: u32| -> String {
        vm.world.net.vm.enter(|| (0..count).map(|_| call().unwrap()).collect())
    };
    until("the split is Envoy's", || (own(1) == "T").then_some(()));
    assert_eq!(own(50), "T".repeat(50));
    assert!(vm.taken() >= before + 50, "they went through Envoy");
    vm.world.rollback("orders");
    until("back, too", || (own(1) == "L").then_some(()));
    assert_eq!(own(50), "L".repeat(50));
}

/// Another service of the same clients, which has the address of its VM.
const OTHER: &str = "
    - name: payments
      hosts: [payments.corp.example]
      address: 10.30.0.2
      ports: [{ name: pay, port: 8081, protocol: tcp }]
      affinity: none
      legacy: { endpoints: [10.30.0.2] }
      target: { endpoints: [10.40.0.2] }
";

/// Where that is.
const OTHER_LOGICAL: &str = "10.30.0.2:8081";

/// Who answers so many calls of the VM's own there.
fn own_calls(vm: &Beside, to: &str, count: u32) -> String {
    let to: SocketAddr = to.parse().unwrap();
    let call = |_| letter(&mut dial([0, 0, 0, 0].into(), to).unwrap()).unwrap();
    vm.world.net.vm.enter(|| (0..count).map(call).collect())
}

/// Whether anything that the agent keeps has this word.
fn is_kept(vm: &Beside, word: &str) -> bool {
    let path = vm.world.data();
    Command::new("grep").args(["-rqa", word]).arg(path).status().unwrap().success()
}

#[test]
fn the_envoy_of_a_limited_vm_knows_its_services_alone() {
    let test = "the_envoy_of_a_limited_vm_knows_its_services_alone";
    let plan = format!("{}{OTHER}", PLAN.trim_end());
    let others = |world: &World| {
        answer(&world.net.legacy, 8081, b'L');
        answer(&world.net.target, 8081, b'T');
    };
    let token = ["vm-1", "--services", "shop/orders"];
    let Some(mut vm) = Beside::by(test, &plan, &token, others) else { return };
    vm.until_captured(true);
    // Its own is captured and split.
    vm.world.shift("orders", "50%");
    let before = vm.taken();
    let said = own_calls(&vm, LOGICAL, 60);
    assert!(said.contains('L') && said.contains('T'), "{said}");
    assert!(vm.taken() >= before + 60, "they went through Envoy");
    // The other is not known on the VM, and goes as without an agent.
    vm.world.shift("payments", "100%");
    assert_eq!(own_calls(&vm, OTHER_LOGICAL, 20), "L".repeat(20));
    let known = vm.asked("config_dump?include_eds");
    assert!(known.contains("shop/orders/http/target"), "{known}");
    assert!(!known.contains("payments") && !known.contains("8081"), "{known}");
    assert!(is_kept(&vm, "orders") && !is_kept(&vm, "payments"));
    // It joins again, for the other alone.
    vm.agent.signal(Signal::SIGTERM);
    assert_eq!(vm.agent.ended(), 0);
    let token = vm.world.token(&["vm-1", "--replace", "--services", "shop/payments"]);
    let path = vm.program.to_str().unwrap();
    let flags = ["--no-names", "--envoy", path, "--envoy-user", USER];
    vm.world.join_with(&token, &flags).ok();
    vm.agent = Agent::start(&vm.world);
    // Its listener is drained for a while; nothing is behind it.
    until("Envoy reaches the other alone", || {
        let known = vm.asked("clusters");
        (known.contains("shop/payments/pay/target") && !known.contains("orders")).then_some(())
    });
    until("its calls are split", || (own_calls(&vm, OTHER_LOGICAL, 1) == "T").then_some(()));
    assert_eq!(own_calls(&vm, OTHER_LOGICAL, 20), "T".repeat(20));
}

#[test]
fn without_it_calls_go_directly() {
    let Some(vm) = Beside::new("without_it_calls_go_directly") else { return };
    let calls = Calls::start(&vm.world);
    calls.some();
    let (pid, killed) = (vm.envoy(), Instant::now());
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    vm.until_captured(false);
    let direct = Instant::now();
    calls.some();
    // Another one is started, and takes them again.
    vm.until_captured(true);
    calls.some();
    assert_ne!(vm.envoy(), pid);
    // One that hangs is none.
    let (pid, hangs) = (vm.envoy(), Instant::now());
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    vm.until_captured(false);
    let aside = Instant::now();
    calls.some();
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    vm.until_captured(true);
    assert_eq!(vm.envoy(), pid, "it was well again before it was started anew");
    calls.some();
    let failed = calls.stop();
    eprintln!("direct after {:?}, {:?}", direct - killed, aside - hangs);
    let meant = |failed: &Failed| failed.was_in(killed, direct) || failed.was_in(hangs, aside);
    let stray: Vec<_> = failed.iter().filter(|failed| !meant(failed)).take(5).collect();
    assert!(stray.is_empty(), "{stray:?} of {}", failed.len());
}

#[test]
fn it_goes_on_without_the_agent_and_starts_without_the_controller() {
    let test = "it_goes_on_without_the_agent_and_starts_without_the_controller";
    let Some(mut vm) = Beside::new(test) else { return };
    vm.world.shift("orders", "100%");
    let calls = Calls::start(&vm.world);
    calls.some();
    let pid = vm.envoy();
    for _ in 0..5 {
        vm.agent.signal(Signal::SIGKILL);
        vm.agent.ended();
        calls.some();
        assert!(vm.is_captured() && vm.envoy() == pid, "the agent's end is not its");
        vm.agent = Agent::start(&vm.world);
        calls.some();
        assert!(vm.is_captured() && vm.envoy() == pid, "it is taken up, not started twice");
    }
    let failed = calls.stop();
    let reasons: BTreeSet<&str> = failed.iter().map(|failed| failed.why.as_str()).collect();
    assert!(failed.is_empty(), "{} failed: {reasons:?}", failed.len());
    // Nobody knows the plan but the agent's disk.
    vm.agent.signal(Signal::SIGKILL);
    vm.agent.ended();
    vm.world.kill_controller();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    vm.agent = Agent::start(&vm.world);
    vm.until_captured(true);
    assert_ne!(vm.envoy(), pid);
    let before = vm.taken();
    let own: String = vm.world.net.vm.enter(|| (0..20).map(|_| call().unwrap()).collect());
    assert_eq!(own, "T".repeat(20), "as it was");
    assert!(vm.taken() >= before + 20);
    // An agent that stops leaves nobody to see that Envoy is gone.
    let pid = vm.envoy();
    vm.agent.signal(Signal::SIGTERM);
    assert_eq!(vm.agent.ended(), 0);
    assert!(!vm.is_captured() && vm.envoy() == pid, "calls go without it, and it goes on");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let own: String = vm.world.net.vm.enter(|| (0..20).map(|_| call().unwrap()).collect());
    assert_eq!(own, "T".repeat(20));
    vm.agent = Agent::start(&vm.world);
    vm.until_captured(true);
}

#[test]
fn leaving_takes_it_along() {
    let Some(mut vm) = Beside::new("leaving_takes_it_along") else { return };
    assert_eq!(vm.world.vm(&["agent", "leave"]).code, 0);
    assert_eq!(vm.agent.ended(), 0);
    assert_eq!(envoys(&vm.program), BTreeSet::new());
    assert!(!Path::new("/run/crossfade-agent").exists());
    vm.world.net.vm.enter(|| call().unwrap_err());
}

/// An Envoy beside the agent's that shows the VM's certificate at 127.0.0.1:15443.
fn showing(beside: &Beside) -> Child {
    let place = place();
    let mut bootstrap: Value =
        serde_json::from_slice(&fs::read(place.join("bootstrap.json")).unwrap()).unwrap();
    let secret = json!({ "name": "crossfade/identity",
        "sds_config": { "ads": {}, "resource_api_version": "V3" } });
    bootstrap["node"]["id"] = json!("shows");
    bootstrap["admin"]["address"]["pipe"]["path"] = json!(place.join("own/shows.sock"));
    let discovered = bootstrap["dynamic_resources"].as_object_mut().unwrap();
    discovered.retain(|key, _| key == "ads_config");
    bootstrap["static_resources"]["listeners"] = json!([{
        "name": "shows",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 15_443 } },
        "filter_chains": [{
            "filters": [{ "name": "echo", "typed_config": { "@type":
                "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo" } }],
            "transport_socket": { "name": "tls", "typed_config": {
                "@type": "type.googleapis.com/\
                          envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": { "tls_certificate_sds_secret_configs": [secret] }
            } }
        }]
    }]);
    let file = beside.world.scratch.file("shows.json", &bootstrap.to_string());
    let user = nix::unistd::User::from_name(USER).unwrap().unwrap();
    let mut command = beside.world.net.vm.command("setpriv");
    let ids = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid)];
    command.args(ids).arg("--clear-groups").arg(&beside.program);
    command.args(["--config-path", file.to_str().unwrap(), "--disable-hot-restart"]);
    command.args(["--concurrency", "1", "--log-level", "off"]).spawn().unwrap()
}

#[test]
fn a_proxy_is_shown_the_vms_certificate_and_nobody_else() {
    let test = "a_proxy_is_shown_the_vms_certificate_and_nobody_else";
    let Some(vm) = Beside::new(test) else { return };
    let socket = fs::metadata(place().join("xds.sock")).unwrap();
    let user = nix::unistd::User::from_name(USER).unwrap().unwrap();
    assert_eq!((socket.uid(), socket.mode() & 0o777), (user.uid.as_raw(), 0o600));
    let mut envoy = showing(&vm);
    let shown = until("it shows a certificate", || {
        let ask = "openssl s_client -connect 127.0.0.1:15443 </dev/null 2>/dev/null \
                   | openssl x509 -noout -text";
        let said = vm.world.net.vm.try_run("sh", &["-c", ask]);
        said.status.success().then(|| String::from_utf8(said.stdout).unwrap())
    });
    envoy.kill().unwrap();
    envoy.wait().unwrap();
    assert!(shown.contains("URI:spiffe://crossfade.internal/agent/vm-1"), "{shown}");
}
