//! A tree that stands for a host, everything that can be compared of it, and hands that die.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use super::super::disk::{Disk, System};
use super::super::place::{Bytes, HostPath, Place};
use super::super::sysctl::Key;
use super::super::{Applied, Change, ChangeError, Journal, OpenError};

/// A directory of one test, gone with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (id, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("crossfade-journal-{id}-{next}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn place(&self) -> &Path {
        &self.0
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub(crate) fn journal(&self) -> Journal {
        unlocked(|| Journal::open(&self.state())).rooted(self.root())
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A host before anything was changed on it.
    pub(crate) fn host() -> Self {
        let new = Self::new();
        new.write("etc/hosts", "127.0.0.1 localhost\n");
        new.write("etc/plain.conf", "\u{0}binary\u{1}\n");
        new.write("etc/tool.conf", "a = b\n");
        new.write("run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\n");
        let etc = new.root().join("etc");
        symlink("../run/systemd/resolve/stub-resolv.conf", etc.join("resolv.conf")).unwrap();
        symlink("nowhere", etc.join("dangling")).unwrap();
        fs::set_permissions(etc.join("plain.conf"), fs::Permissions::from_mode(0o4751)).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789);
        for name in ["hosts", "plain.conf"] {
            fs::File::options()
                .write(true)
                .open(etc.join(name))
                .unwrap()
                .set_modified(old)
                .unwrap();
        }
        if nix::unistd::geteuid().is_root() {
            chown(etc.join("hosts"), Some(101), Some(102)).unwrap();
            lchown(etc.join("dangling"), Some(103), Some(104)).unwrap();
        }
        let empty = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(etc.join("hosts"), "user.ours", b"\x00\xff", empty).unwrap();
        for (key, value) in [
            ("ip_forward", "0"),
            ("conf/all/forwarding", "0"),
            ("conf/all/accept_redirects", "0"),
            ("conf/default/forwarding", "0"),
            ("conf/default/accept_redirects", "1"),
            ("conf/eth0/forwarding", "0"),
            ("conf/eth0/accept_redirects", "1"),
            ("conf/eth0/rp_filter", "1"),
        ] {
            new.write(&format!("proc/sys/net/ipv4/{key}"), &format!("{value}\n"));
        }
        new
    }

    pub(crate) fn seen(&self) -> BTreeMap<PathBuf, String> {
        let mut seen = BTreeMap::new();
        walk(&self.root(), &mut seen);
        seen
    }
}

/// Opens once nobody has the journal: a process that another test forks has our files open until
/// it becomes another program.
pub(crate) fn unlocked<S>(open: impl Fn() -> Result<Journal<S>, OpenError>) -> Journal<S> {
    loop {
        match open() {
            Err(OpenError::Busy(_)) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn walk(directory: &Path, seen: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let who = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        let when = format!("{}.{}", meta.mtime(), meta.mtime_nsec());
        // The kernel's settings have no times, and a directory's is not brought back.
        let setting = path.components().any(|part| part.as_os_str() == "proc");
        let text = if meta.is_dir() {
            walk(&path, seen);
            who
        } else if meta.is_symlink() {
            format!("{who} {when} -> {}", fs::read_link(&path).unwrap().display())
        } else if setting {
            format!("{who} {}", fs::read_to_string(&path).unwrap().trim())
        } else {
            let mut value = [0; 64];
            let label = rustix::fs::lgetxattr(&path, "user.ours", value.as_mut_slice());
            let label = label.map(|length| value[..length].to_vec()).ok();
            format!("{who} {when} {label:?} {:?}", fs::read(&path).unwrap())
        };
        seen.insert(path, text);
    }
}

pub(crate) fn path(text: &str) -> HostPath {
    HostPath::try_from(PathBuf::from(text)).unwrap()
}

/// Changes in the words of a test.
pub(crate) trait Short {
    fn write_file(&mut self, path: &str, text: &str) -> Result<Applied, ChangeError>;
    fn sysctl(&mut self, key: &str, value: &str) -> Result<Applied, ChangeError>;
    fn on_undo(&mut self, argv: &[&str]) -> Result<Applied, ChangeError>;
    /// What is changed and not undone, oldest first.
    fn pending(&self) -> Vec<String>;
}

impl<S: System> Short for Journal<S> {
    fn write_file(&mut self, at: &str, text: &str) -> Result<Applied, ChangeError> {
        let bytes = Bytes(text.as_bytes().to_vec());
        self.apply(&Change::WriteFile { path: path(at), bytes, mode: 0o644 })
    }

    fn sysctl(&mut self, key: &str, value: &str) -> Result<Applied, ChangeError> {
        self.apply(&Change::Sysctl { key: key.parse().unwrap(), value: value.to_owned() })
    }

    fn on_undo(&mut self, argv: &[&str]) -> Result<Applied, ChangeError> {
        self.apply(&Change::OnUndo { argv: argv.iter().map(|word| (*word).to_owned()).collect() })
    }

    fn pending(&self) -> Vec<String> {
        self.steps.iter().filter(|step| !step.undone).map(|s| s.action.to_string()).collect()
    }
}

/// Every kind of change, some of them of one path.
pub(crate) fn changes() -> Vec<Change> {
    let write = |at: &str, text: &str, mode| Change::WriteFile {
        path: path(at),
        bytes: Bytes(text.as_bytes().to_vec()),
        mode,
    };
    vec![
        Change::OnUndo { argv: vec!["true".into()] },
        write("/etc/resolv.conf", "nameserver 127.0.0.1\n", 0o644),
        write("/etc/systemd/resolved.conf.d/crossfade.conf", "[Resolve]\n", 0o644),
        write("/etc/hosts", "127.0.0.1 localhost\n192.0.2.1 orders\n", 0o600),
        write("/etc/hosts", "again\n", 0o640),
        write("/etc/plain.conf", "plain\n", 0o644),
        write("/run/new/file", "new\n", 0o644),
        write("/etc/dangling", "no link\n", 0o644),
        write("/etc/tool.conf", "a = b\n", 0o644),
        Change::Sysctl { key: "net.ipv4.ip_forward".parse().unwrap(), value: "1".into() },
        Change::Sysctl { key: "net/ipv4/conf/eth0/rp_filter".parse().unwrap(), value: "2".into() },
    ]
}

/// Hands of a process that dies before its n-th change of the host, over a kernel that changes
/// settings of interfaces along with `ip_forward`.
pub(crate) struct Mortal {
    pub(crate) disk: Disk,
    pub(crate) left: Rc<Cell<u32>>,
    pub(crate) journal: PathBuf,
    /// No other file can take the place of this one, as of a mount.
    pub(crate) mounted: Option<&'static str>,
}

impl Mortal {
    /// Checks that the journal tells of this path already, and dies when the time has come.
    fn live(&self, what: &str) {
        let told = fs::read(self.journal.join("journal")).unwrap_or_default();
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.contains(what), "{what} is changed before the journal tells of it");
        match self.left.get() {
            0 => std::panic::resume_unwind(Box::new("killed")),
            left => self.left.set(left - 1),
        }
    }

    fn path(&self, path: &HostPath) {
        let text = path.to_string();
        // A neighbour goes by the directory that it shares with the path it is for.
        let known = match text.rsplit_once("/.crossfade.") {
            Some((directory, _)) => directory.to_owned(),
            None => text,
        };
        self.live(&known);
    }
}

impl System for Mortal {
    fn look(&self, path: &HostPath) -> io::Result<Place> {
        self.disk.look(path)
    }

    fn make(&mut self, path: &HostPath, place: &Place) -> io::Result<()> {
        self.path(path);
        self.disk.make(path, place)
    }

    fn rename(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()> {
        self.path(to);
        if self.mounted.is_some_and(|mounted| to.as_path() == Path::new(mounted)) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        self.disk.rename(from, to)
    }

    fn overwrite(&mut self, path: &HostPath, bytes: &[u8]) -> io::Result<()> {
        self.path(path);
        self.disk.overwrite(path, &bytes[..bytes.len() / 2])?;
        self.path(path);
        self.disk.overwrite(path, bytes)
    }

    fn unlink(&mut self, path: &HostPath) -> io::Result<()> {
        self.path(path);
        self.disk.unlink(path)
    }

    fn make_directory(&mut self, path: &HostPath, mode: u32) -> io::Result<()> {
        self.path(path);
        self.disk.make_directory(path, mode)
    }

    fn remove_directory(&mut self, path: &HostPath) -> io::Result<()> {
        self.path(path);
        self.disk.remove_directory(path)
    }

    fn settle(&mut self, path: &HostPath) -> io::Result<()> {
        self.path(path);
        self.disk.settle(path)
    }

    fn sysctl(&self, key: &Key) -> io::Result<String> {
        self.disk.sysctl(key)
    }

    fn sysctl_names(&self, key: &Key) -> io::Result<Vec<String>> {
        self.disk.sysctl_names(key)
    }

    /// As Linux does (`inet_forward_change`).
    fn set_sysctl(&mut self, key: &Key, value: &str) -> io::Result<()> {
        let kernel = "net.ipv4.ip_forward".parse::<Key>().unwrap();
        self.live(&String::from(key.clone()));
        let set = |key: &Key, value: &str| self.disk.clone().set_sysctl(key, value);
        if *key == kernel {
            for name in ["all", "default", "eth0"] {
                set(&format!("net.ipv4.conf.{name}.forwarding").parse().unwrap(), value)?;
            }
            let redirects = if value == "1" { "0" } else { "1" };
            set(&"net.ipv4.conf.all.accept_redirects".parse().unwrap(), redirects)?;
        }
        set(key, value)
    }

    fn run(&mut self, argv: &[String]) -> io::Result<()> {
        self.live(&argv.join(" "));
        self.disk.run(argv)
    }
}
