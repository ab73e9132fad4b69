//! The hands: a few operations on a host's files and settings, below a root.

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, lchown,
    symlink,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use rustix::fs::XattrFlags;

use super::place::{
    Attribute, Bytes, FILE_BYTES_MAX, FileState, HostPath, LinkState, Moment, Owner, Place,
};
use super::sysctl::{self, Key};

/// The most bytes of extended attributes of one file: what Linux returns at most (`xattr(7)`).
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// What the journal does to a host. Each is one change as far as a crash can tell, but `make`,
/// which nobody looks at before it is renamed.
pub trait System {
    /// What stands there.
    ///
    /// # Errors
    /// It cannot be read, or is longer than [`FILE_BYTES_MAX`].
    fn look(&self, path: &HostPath) -> io::Result<Place>;
    /// Makes a file or link as told, new, and on disk.
    ///
    /// # Errors
    /// The operating system says no.
    fn make(&mut self, path: &HostPath, place: &Place) -> io::Result<()>;
    /// Puts one at the place of another at once.
    ///
    /// # Errors
    /// The operating system says no.
    fn rename(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()>;
    /// Writes over a file's bytes; mode, owner and the rest stay.
    ///
    /// # Errors
    /// Part of it may be done.
    fn overwrite(&mut self, path: &HostPath, bytes: &[u8]) -> io::Result<()>;
    /// Takes a file or link away; fine where there is none.
    ///
    /// # Errors
    /// The operating system says no.
    fn unlink(&mut self, path: &HostPath) -> io::Result<()>;
    /// Makes one directory.
    ///
    /// # Errors
    /// The operating system says no.
    fn make_directory(&mut self, path: &HostPath, mode: u32) -> io::Result<()>;
    /// Takes an empty directory away.
    ///
    /// # Errors
    /// [`io::ErrorKind::DirectoryNotEmpty`] among others.
    fn remove_directory(&mut self, path: &HostPath) -> io::Result<()>;
    /// What was done in the directory of this path is on disk.
    ///
    /// # Errors
    /// The operating system says no.
    fn settle(&mut self, path: &HostPath) -> io::Result<()>;
    /// A kernel setting.
    ///
    /// # Errors
    /// There is none of that name.
    fn sysctl(&self, key: &Key) -> io::Result<String>;
    /// Names below a directory of kernel settings.
    ///
    /// # Errors
    /// There is none of that name.
    fn sysctl_names(&self, key: &Key) -> io::Result<Vec<String>>;
    /// Sets one.
    ///
    /// # Errors
    /// The kernel says no.
    fn set_sysctl(&mut self, key: &Key, value: &str) -> io::Result<()>;
    /// Runs a command to its end.
    ///
    /// # Errors
    /// It cannot be run, fails, or does not end in time; with its own words.
    fn run(&mut self, argv: &[String]) -> io::Result<()>;
}

/// The host itself, or a tree that stands for it.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Everything below `root`; `/` is the host.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn on(&self, path: &HostPath) -> PathBuf {
        self.at(path.as_path())
    }
}

impl System for Disk {
    fn look(&self, path: &HostPath) -> io::Result<Place> {
        let path = self.on(path);
        let meta = match fs::symlink_metadata(&path) {
            Err(error) if is_missing(&error) => return Ok(Place::Absent),
            meta => meta?,
        };
        let owner = Owner { uid: meta.uid(), gid: meta.gid() };
        let nanoseconds = u32::try_from(meta.mtime_nsec()).unwrap_or_default();
        let modified = Some(Moment { seconds: meta.mtime(), nanoseconds });
        if meta.is_dir() {
            return Ok(Place::Directory);
        }
        if meta.is_symlink() {
            let target = Bytes(fs::read_link(&path)?.into_os_string().into_vec());
            let attributes = attributes(&path)?;
            return Ok(Place::Link(LinkState { target, owner, modified, attributes }));
        }
        if !meta.is_file() {
            return Ok(Place::Other);
        }
        let bytes = Bytes(read(&path)?);
        let (mode, attributes) = (meta.mode() & 0o7777, attributes(&path)?);
        Ok(Place::File(FileState { bytes, mode, owner, modified, attributes }))
    }

    fn make(&mut self, path: &HostPath, place: &Place) -> io::Result<()> {
        self.unlink(path)?;
        let path = self.on(path);
        match place {
            Place::File(file) => make_file(&path, file),
            Place::Link(link) => make_link(&path, link),
            Place::Absent | Place::Directory | Place::Other => {
                Err(io::Error::other(format!("{} is not made", place.word())))
            }
        }
    }

    fn rename(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()> {
        fs::rename(self.on(from), self.on(to))
    }

    fn overwrite(&mut self, path: &HostPath, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let options = options.write(true).truncate(true).custom_flags(nofollow());
        let mut file = options.open(self.on(path))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn unlink(&mut self, path: &HostPath) -> io::Result<()> {
        match fs::remove_file(self.on(path)) {
            Err(error) if is_missing(&error) => Ok(()),
            done => done,
        }
    }

    fn make_directory(&mut self, path: &HostPath, mode: u32) -> io::Result<()> {
        let path = self.on(path);
        fs::DirBuilder::new().mode(mode).create(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))
    }

    fn remove_directory(&mut self, path: &HostPath) -> io::Result<()> {
        fs::remove_dir(self.on(path))
    }

    fn settle(&mut self, path: &HostPath) -> io::Result<()> {
        match self.on(path).parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    fn sysctl(&self, key: &Key) -> io::Result<String> {
        fs::read_to_string(self.at(&key.path())).map(|text| sysctl::plain(&text))
    }

    fn sysctl_names(&self, key: &Key) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.at(&key.path()))? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn set_sysctl(&mut self, key: &Key, value: &str) -> io::Result<()> {
        // One write, as the kernel wants it. Only in a tree that stands for a host is there
        // something left to cut off.
        let mut file = OpenOptions::new().write(true).open(self.at(&key.path()))?;
        let line = format!(
            "{value}
"
        );
        file.write_all(line.as_bytes())?;
        let _ = file.set_len(line.len() as u64);
        Ok(())
    }

    fn run(&mut self, argv: &[String]) -> io::Result<()> {
        // `timeout` is of coreutils, as `cp` is: a service manager that hangs must not hang us.
        let mut command = Command::new("timeout");
        let command = command.args(["--kill-after=5", "30"]).args(argv).stdin(Stdio::null());
        let output = command.stdout(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.trim().lines().next_back().unwrap_or_default();
        Err(io::Error::other(format!("{}: {words}", output.status)))
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn nofollow() -> i32 {
    nix::fcntl::OFlag::O_NOFOLLOW.bits()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(nofollow()).open(path)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn make_file(path: &Path, state: &FileState) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&state.bytes.0)?;
    let meta = file.metadata()?;
    let Owner { uid, gid } = state.owner;
    if (meta.uid(), meta.gid()) != (uid, gid) {
        fchown(&file, Some(uid), Some(gid))?;
    }
    set_attributes(path, &state.attributes)?;
    // After the owner and the access list: both can change the mode.
    file.set_permissions(Permissions::from_mode(state.mode))?;
    if let Some(moment) = state.modified {
        file.set_times(FileTimes::new().set_modified(time(moment)))?;
    }
    file.sync_all()
}

fn make_link(path: &Path, state: &LinkState) -> io::Result<()> {
    symlink(Path::new(std::ffi::OsStr::from_bytes(&state.target.0)), path)?;
    let meta = fs::symlink_metadata(path)?;
    let Owner { uid, gid } = state.owner;
    if (meta.uid(), meta.gid()) != (uid, gid) {
        lchown(path, Some(uid), Some(gid))?;
    }
    set_attributes(path, &state.attributes)?;
    if let Some(Moment { seconds, nanoseconds }) = state.modified {
        let modified = TimeSpec::new(seconds, i64::from(nanoseconds));
        let at = nix::fcntl::AT_FDCWD;
        utimensat(at, path, &TimeSpec::UTIME_OMIT, &modified, UtimensatFlags::NoFollowSymlink)?;
    }
    Ok(())
}

fn time(moment: Moment) -> std::time::SystemTime {
    let whole = Duration::from_secs(moment.seconds.unsigned_abs());
    let rest = Duration::from_nanos(u64::from(moment.nanoseconds));
    if moment.seconds < 0 { UNIX_EPOCH - whole + rest } else { UNIX_EPOCH + whole + rest }
}

/// None where the file system has no such thing.
fn attributes(path: &Path) -> io::Result<Vec<Attribute>> {
    let mut buffer = vec![0; ATTRIBUTE_BYTES_MAX];
    let length = match rustix::fs::llistxattr(path, buffer.as_mut_slice()) {
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        length => length?,
    };
    let mut found = Vec::new();
    for name in buffer.get(..length).unwrap_or_default().split(|b| *b == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
        let length = match rustix::fs::lgetxattr(path, name, value.as_mut_slice()) {
            Err(rustix::io::Errno::NODATA) => continue,
            length => length?,
        };
        value.truncate(length);
        found.push(Attribute { name: name.to_owned(), value: Bytes(value) });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Exactly these, but for labels that the kernel gives to whatever is made.
fn set_attributes(path: &Path, wanted: &[Attribute]) -> io::Result<()> {
    for Attribute { name, .. } in attributes(path)? {
        let inherited = !name.starts_with("security.");
        if inherited && !wanted.iter().any(|attribute| attribute.name == name) {
            rustix::fs::lremovexattr(path, name.as_str())?;
        }
    }
    for Attribute { name, value } in wanted {
        rustix::fs::lsetxattr(path, name.as_str(), &value.0, XattrFlags::empty())?;
    }
    Ok(())
}
