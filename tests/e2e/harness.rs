//! The real binary in a directory of its own, and what the tests ask of it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use serde_json::Value;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_crossfade");

/// The tree.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A directory that goes with the test.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new, empty one.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("crossfade-e2e-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self { path }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it with this text.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: it lies in the system's directory for such things.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// The exit code; -1 for a signal.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Said {
    /// Of a process that has ended.
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The output, where the command went well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// The complaint, where the command ended with this code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.err
    }
}

/// Runs the binary without a controller.
pub(crate) fn crossfade(args: &[&str]) -> Said {
    let mut command = Command::new(BINARY);
    command.args(args).env("CROSSFADE_SERVER", "http://127.0.0.1:1");
    Said::of(command.output().unwrap())
}

/// Runs another program; what is missing is a fault of the set-up.
#[track_caller]
pub(crate) fn program(name: &str, args: &[&str]) -> Said {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(name).args(args).env("PATH", path).output();
    Said::of(output.unwrap_or_else(|error| panic!("{name}: {error}; scripts/test installs it")))
}

/// The Python with dnspython that scripts/test sets up.
pub(crate) fn python() -> String {
    std::env::var("CROSSFADE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// A port of this address for a DNS server, none that the kernel gives to clients: `dig` lets its
/// socket share a port with others of its user, as our UDP threads do, so the kernel could give it
/// ours, and it would hear its own query.
pub(crate) fn dns_port(address: &str) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_000, "no port of {address} is free for DNS");
        let tcp = TcpListener::bind((address, port));
        if tcp.is_ok() && UdpSocket::bind((address, port)).is_ok() {
            return port;
        }
    }
}

/// A running controller.
pub(crate) struct Controller {
    /// Where the API answers.
    pub(crate) api: SocketAddr,
    /// Where DNS answers.
    pub(crate) dns: SocketAddr,
    /// Where xDS answers.
    pub(crate) xds: SocketAddr,
    data: PathBuf,
    child: Child,
    /// Kept open: a closed pipe would end what prints into it.
    _out: BufReader<ChildStdout>,
}

impl Controller {
    /// Starts one over `data`, on ports of its own.
    pub(crate) fn start(data: &Path, args: &[&str]) -> Self {
        Self::start_at(data, "127.0.0.1:0", args)
    }

    /// Starts one whose clients know where xDS answers.
    pub(crate) fn start_at(data: &Path, xds: &str, args: &[&str]) -> Self {
        Self::run_at(data, xds, args).unwrap_or_else(|said| panic!("{}{}", said.out, said.err))
    }

    /// Starts one, or says why it does not start.
    pub(crate) fn try_start(data: &Path, args: &[&str]) -> Result<Self, Said> {
        Self::run_at(data, "127.0.0.1:0", args)
    }

    /// Starts one whose clients know where xDS answers, with more in its environment.
    pub(crate) fn start_with(
        data: &Path,
        xds: &str,
        args: &[&str],
        environment: &[(&str, String)],
    ) -> Self {
        let mut command = Command::new(BINARY);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::run_by(command, data, xds, args)
            .unwrap_or_else(|said| panic!("{}{}", said.out, said.err))
    }

    fn run_at(data: &Path, xds: &str, args: &[&str]) -> Result<Self, Said> {
        Self::run_by(Command::new(BINARY), data, xds, args)
    }

    fn run_by(mut command: Command, data: &Path, xds: &str, args: &[&str]) -> Result<Self, Said> {
        let dns = format!("127.0.0.1:{}", dns_port("127.0.0.1"));
        let mut child = command
            .args(["serve", "--api", "127.0.0.1:0", "--dns", &dns, "--xds", xds])
            .args(["--dns-threads", "2", "--data"])
            .arg(data)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (mut api, mut dns, mut xds) = (None, None, None);
        let mut line = String::new();
        while xds.is_none() {
            line.clear();
            if out.read_line(&mut line).unwrap() == 0 {
                return Err(Said::of(child.wait_with_output().unwrap()));
            }
            if let Some(url) = line.strip_prefix("api http://") {
                api = url.trim().parse().ok();
            }
            if let Some(address) = line.strip_prefix("dns ") {
                dns = address.split(' ').next().and_then(|address| address.parse().ok());
            }
            if let Some(address) = line.strip_prefix("xds ") {
                xds = address.split(' ').next().and_then(|address| address.parse().ok());
            }
        }
        let data = data.to_owned();
        let (api, dns, xds) = (api.unwrap(), dns.unwrap(), xds.unwrap());
        Ok(Self { api, dns, xds, data, child, _out: out })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The unix socket as a server argument.
    pub(crate) fn server(&self) -> String {
        format!("unix:{}", self.data.join("crossfade.sock").display())
    }

    /// Runs a verb against it.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        let mut command = Command::new(BINARY);
        command.args(args).env("CROSSFADE_SERVER", self.server());
        Said::of(command.output().unwrap())
    }

    /// Runs a verb against it and reads its JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
        let out = self.run(&args).ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// The addresses that `dig` is told, sorted; `subnet` is sent as the client's network.
    #[track_caller]
    pub(crate) fn dig(&self, name: &str, rtype: &str, subnet: Option<&str>) -> Vec<String> {
        let port = self.dns.port().to_string();
        let subnet = subnet.map(|subnet| format!("+subnet={subnet}"));
        let mut args = vec!["@127.0.0.1", "-p", &port, name, rtype, "+short", "+tries=1"];
        args.extend(subnet.as_deref());
        let mut lines: Vec<String> =
            program("dig", &args).ok().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The plan's revision.
    #[track_caller]
    pub(crate) fn revision(&self, plan: &str) -> String {
        self.json(&["status", plan])["revision"].to_string()
    }

    /// SIGKILL, as a crash.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, as a service manager; how it ends, and what its log said.
    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        program("kill", &["-TERM", &self.pid().to_string()]).ok();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
