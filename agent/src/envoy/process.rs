//! What an Envoy is started with, and how it is known again among processes.

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The most threads that carry connections: what one VM's own processes send.
const THREADS_MAX: usize = 4;

/// What an Envoy is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments(Vec<OsString>);

impl Arguments {
    /// For this bootstrap, on a machine of so many cores. No hot restart: another Envoy of the
    /// machine may have the shared memory that goes with it, and its own restart is quick.
    pub fn new(bootstrap: &Path, cores: usize) -> Self {
        let threads = cores.div_ceil(2).clamp(1, THREADS_MAX).to_string();
        let words = ["--disable-hot-restart", "--concurrency", &threads, "--log-level", "warning"];
        let bootstrap = ["--config-path".into(), bootstrap.as_os_str().to_owned()];
        Self(bootstrap.into_iter().chain(words.map(OsString::from)).collect())
    }

    /// What follows the program.
    pub fn words(&self) -> &[OsString] {
        &self.0
    }

    /// Whether a process was started for the same bootstrap; `line` is its `/proc/PID/cmdline`.
    /// What else it was started with may be an older version's.
    pub fn began(&self, line: &[u8]) -> bool {
        let wanted = self.0.iter().take(2).map(|word| word.as_encoded_bytes());
        let wanted: Vec<&[u8]> = wanted.collect();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.windows(wanted.len()).any(|words| words == wanted)
    }
}

/// A process, and no other one that gets its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it began, in ticks since the machine did.
    pub began: u64,
}

/// What of `/proc/PID/stat` matters (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Whether it has ended, and only its parent has not heard of it.
    pub is_dead: bool,
    /// As [`Process::began`].
    pub began: u64,
}

impl Stat {
    /// Reads it; `None`: it is nothing of the kind.
    pub fn parse(text: &str) -> Option<Self> {
        // The name is in parentheses, and may hold some itself.
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        // The third field is the state, the 22nd the start.
        let began = fields.nth(18)?.parse().ok()?;
        Some(Self { is_dead: matches!(state, "Z" | "X" | "x"), began })
    }
}

/// What this thread starts from now on has none of the capabilities that the service manager gave
/// this process to hand on; its own it keeps.
///
/// # Errors
/// The kernel's.
pub fn hand_on_nothing() -> io::Result<()> {
    Ok(rustix::thread::clear_ambient_capability_set()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_go_with_the_machine() {
        for (cores, threads) in [(0, "1"), (1, "1"), (2, "1"), (3, "2"), (8, "4"), (96, "4")] {
            let arguments = Arguments::new(Path::new("/b.json"), cores);
            let at = arguments.words().iter().position(|word| word == "--concurrency").unwrap();
            assert_eq!(arguments.words()[at + 1], threads, "{cores}");
            assert!(arguments.words().iter().any(|word| word == "--disable-hot-restart"));
        }
    }

    #[test]
    fn an_envoy_is_known_again_by_its_bootstrap() {
        let ours = Arguments::new(Path::new("/d/b.json"), 4);
        for (line, known) in [
            ("/usr/bin/envoy\0--config-path\0/d/b.json\0--concurrency\x002\0", true),
            ("python\0envoy\0--config-path\0/d/b.json\0", true),
            ("envoy\0--config-path\0/d/b.json2\0", false),
            ("envoy\0-c\0/d/b.json\0", false),
            ("vi\0/d/b.json\0", false),
            ("grep\0--config-path /d/b.json\0", false),
            ("", false),
        ] {
            assert_eq!(ours.began(line.as_bytes()), known, "{line:?}");
        }
    }

    /// In a thread of its own: a thread's rights are its own.
    #[test]
    fn what_is_started_has_no_right_of_this_process() {
        use rustix::thread::CapabilitySet;
        let started = || {
            let mut command = std::process::Command::new("cat");
            let said = command.arg("/proc/self/status").output().unwrap().stdout;
            let said = String::from_utf8(said).unwrap();
            let line = said.lines().find_map(|line| line.strip_prefix("CapAmb:"));
            u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
        };
        let tried = std::thread::spawn(move || {
            let mut sets = rustix::thread::capabilities(None).unwrap();
            sets.inheritable |= CapabilitySet::NET_ADMIN;
            rustix::thread::set_capabilities(None, sets)?;
            rustix::thread::configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, true)?;
            let before = started();
            hand_on_nothing().unwrap();
            Ok::<_, rustix::io::Errno>((before, started()))
        });
        match tried.join().unwrap() {
            Ok((before, after)) => assert_eq!((before, after), (1 << 12, 0)),
            Err(error) => eprintln!("skipped: it needs the right to hand on: {error}"),
        }
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let stat = |name: &str, state: &str| {
            let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
            format!("77 ({name}) {state} {}", fields.join(" "))
        };
        for (text, found) in [
            (stat("envoy", "S"), Some((false, 22))),
            (stat("a) R (b", "Z"), Some((true, 22))),
            ("77 (envoy) S 1 2".to_owned(), None),
            (String::new(), None),
        ] {
            let found = found.map(|(is_dead, began)| Stat { is_dead, began });
            assert_eq!(Stat::parse(&text), found, "{text}");
        }
    }
}
