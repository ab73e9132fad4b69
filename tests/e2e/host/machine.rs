//! A VM whose systemd is the real one: booted in the namespace of a world's VM, with the Debian
//! package of the binary under test. Its files are this machine's, changed on a disk of its own
//! that it keeps over boots.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::world::{World, until};
use crate::harness::{BINARY, Said, program, root};
use crate::mesh::world::tool;

/// What a process of the machine has in its environment.
const ENVIRONMENT: [&str; 3] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"];

/// Makes a package: the binary, where to, its version.
const PACKAGE: &str = ". scripts/lib.sh
    package_of \"$1\" \"$2\" --profile dev --fast --deb-version \"$3\" --quiet";

/// A machine that was booted.
pub(crate) struct Machine {
    disk: PathBuf,
    booted: Child,
    /// Its first process, as it is numbered here.
    init: u32,
}

/// Whether a machine can be booted here; what is missing is told.
pub(crate) fn can_boot(test: &str) -> bool {
    let groups = fs::read_to_string("/proc/filesystems").unwrap_or_default().contains("cgroup2");
    if groups && Path::new("/lib/systemd/systemd").exists() {
        return true;
    }
    eprintln!("SKIPPED {test}: it boots systemd, which is not installed or has no cgroup2 here");
    false
}

/// The Debian package of the binary under test, as this version.
pub(crate) fn package(world: &World, version: &str) -> PathBuf {
    let out = world.scratch.path().join(format!("package-{version}"));
    let mut command = Command::new("bash");
    command.args(["-euc", PACKAGE, "bash", BINARY, out.to_str().unwrap(), version]);
    command.env("CARGO_DEB", tool("CROSSFADE_TEST_CARGO_DEB", "package-1/bin/cargo-deb"));
    Said::of(command.current_dir(root()).output().unwrap()).ok();
    packages(&out).pop().unwrap()
}

/// What scripts/test has fetched of Debian: a package, and what it needs.
pub(crate) fn fetched(name: &str) -> Vec<PathBuf> {
    packages(&tool("CROSSFADE_TEST_DEBIAN", "debian-1").join(name))
}

fn packages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}; scripts/test fetches it", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "deb"));
    files
}

impl Machine {
    /// A new one; `files` are put into its `/var/tmp`.
    pub(crate) fn new(world: &World, files: &[PathBuf]) -> Self {
        let disk = world.scratch.path().join("disk");
        for part in ["changes", "work", "root"] {
            fs::create_dir_all(disk.join(part)).unwrap();
        }
        let place = disk.join("changes/var/tmp");
        fs::create_dir_all(&place).unwrap();
        for file in files {
            fs::copy(file, place.join(file.file_name().unwrap())).unwrap();
        }
        Self::boot(world, disk)
    }

    /// The same machine again: what was in its memory and its kernel's is gone.
    pub(crate) fn reboot(mut self, world: &World) -> Self {
        self.power_off();
        let vm = &world.net.vm;
        vm.run("nft", &["flush", "ruleset"]);
        vm.run("conntrack", &["-F"]);
        vm.sysctl("net.ipv4.ip_forward", "0");
        vm.sysctl("net.ipv6.conf.all.forwarding", "0");
        Self::boot(world, self.disk.clone())
    }

    fn boot(world: &World, disk: PathBuf) -> Self {
        let script = root().join("tests/e2e/boot.sh");
        let network = format!("--net=/run/netns/{}", world.net.vm.name());
        let mut booted = Command::new("nsenter")
            .args([&network, "unshare", "--mount", "sh", script.to_str().unwrap()])
            .arg(&disk)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let init = until("systemd runs", || {
            assert!(booted.try_wait().unwrap().is_none(), "the machine does not boot");
            init_below(booted.id())
        });
        let machine = Self { disk, booted, init };
        until("the machine is up", || {
            let said = machine.said(&["systemctl", "is-system-running"]);
            (said.out.trim() == "running").then_some(())
        });
        machine
    }

    /// A program of the machine.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string()]);
        command.args(["-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w", "env", "-i"]);
        command.args(ENVIRONMENT).arg(program);
        command
    }

    /// What a command said there, and how it ended.
    pub(crate) fn said(&self, words: &[&str]) -> Said {
        Said::of(self.command(words[0]).args(&words[1..]).output().unwrap())
    }

    /// What a command printed there, which must go well.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> String {
        let said = self.said(words);
        assert_eq!(said.code, 0, "{words:?}: {said:?}\n{}", self.log());
        said.out
    }

    /// A file as a process there sees it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Its text; nothing, where it is not there.
    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Installs packages that lie in its `/var/tmp`.
    #[track_caller]
    pub(crate) fn install(&self, packages: &[PathBuf]) {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files: Vec<String> =
            packages.iter().map(|path| format!("/var/tmp/{}", name(path))).collect();
        let mut words = vec!["dpkg", "--install"];
        words.extend(files.iter().map(String::as_str));
        self.run(&words);
    }

    /// Joins with a token of `vm-1`, and confirms.
    #[track_caller]
    pub(crate) fn join(&self, world: &World) -> String {
        self.join_with(world, &[])
    }

    /// The same, with more to say.
    #[track_caller]
    pub(crate) fn join_with(&self, world: &World, more: &[&str]) -> String {
        let said = self.join_as(world, &[&["--yes"], more].concat());
        assert_eq!(said.code, 0, "{said:?}\n{}", self.log());
        world.until_acked();
        said.out
    }

    /// Pastes the line of a token of `vm-1`, with more words.
    pub(crate) fn join_as(&self, world: &World, more: &[&str]) -> Said {
        let mut command = self.command("crossfade");
        command.args(["agent", "join"]).args(more).stdin(Stdio::piped());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let token = world.token(&["vm-1", "--replace"]);
        child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        Said::of(child.wait_with_output().unwrap())
    }

    /// The main process of a unit, as it is numbered there; 0: none runs.
    pub(crate) fn main_pid(&self, unit: &str) -> u32 {
        let said = self.run(&["systemctl", "show", "--property=MainPID", "--value", unit]);
        said.trim().parse().unwrap()
    }

    /// The only value of a property of the agent's unit.
    pub(crate) fn agent_is(&self, property: &str) -> String {
        let property = format!("--property={property}");
        self.run(&["systemctl", "show", &property, "--value", "crossfade-agent"]).trim().to_owned()
    }

    /// What the agent says of itself; `None`: it does not answer.
    pub(crate) fn agent(&self) -> Option<Value> {
        let said = self.said(&["crossfade", "agent", "status", "-o", "json"]);
        (said.code == 0).then(|| serde_json::from_str(&said.out).unwrap())
    }

    /// What its units wrote to the journal.
    pub(crate) fn log(&self) -> String {
        self.said(&["journalctl", "--no-pager", "--quiet", "--unit=crossfade-*"]).out
    }

    fn power_off(&mut self) {
        // Power is lost: nobody is told.
        let init = Pid::from_raw(self.init.try_into().unwrap());
        // It may have ended already.
        let _ = kill(init, Signal::SIGKILL);
        let _ = self.booted.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the machine said:\n{}", self.log());
        }
        self.power_off();
    }
}

/// The systemd that this process has started, once it is one.
fn init_below(process: u32) -> Option<u32> {
    let told = program("pgrep", &["-P", &process.to_string()]);
    told.out.split_whitespace().find_map(|child| {
        let child: u32 = child.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        if name.trim() == "systemd" { Some(child) } else { init_below(child) }
    })
}
