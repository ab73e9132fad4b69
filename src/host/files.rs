//! What an agent keeps in its directory beside tables and identity.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use agent::rules::Marks;
use ipnet::IpNet;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{Gid, Uid, fchownat};
use plan::Timestamp;
use serde::{Deserialize, Serialize};

use crate::disk::{failed, put, read, write};
use crate::following;
use crate::verbs::Failure;

/// Its directory beside the controller's.
pub(crate) const DIRECTORY: &str = "agent";
/// What join wrote.
pub(crate) const SETTINGS: &str = "agent.json";
/// The break-glass rules, for plain `nft -f`.
pub(crate) const ROLLBACK: &str = "rollback.nft";
/// Which service has which mark.
const MARKS: &str = "marks.json";
/// The control socket.
pub(crate) const SOCKET: &str = "agent.sock";
/// The longest path of a socket, in bytes: `sun_path` of unix(7) has 108 with a final zero.
const SOCKET_PATH_MAX: usize = 107;
/// There since the operator said that the VM is well.
const CONFIRMED: &str = "confirmed";
/// When a join that nobody confirmed undoes itself.
const TRIAL: &str = "trial.json";

/// Where the packaged agent keeps what it has, and where its changes of the host are written down.
pub(crate) const PACKAGED: &str = "/var/lib/crossfade/agent";
const PACKAGED_HOST: &str = "/var/lib/crossfade/host";
/// Who the packaged agent runs as.
const USER: &str = "crossfade-agent";
/// Directories of an agent's directory are no deeper.
const DEPTH_MAX: u8 = 4;

/// What join chose for this VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Settings {
    /// What it is called: its node id.
    pub(crate) name: String,
    /// Whom it follows, HOST:PORT.
    pub(crate) controllers: Vec<String>,
    /// Whether it has an identity; else it follows loopback in the clear.
    pub(crate) joined: bool,
    /// The address that stands for its own processes.
    pub(crate) address: IpAddr,
    /// How names are answered.
    pub(crate) names: Names,
    /// Networks that are never forwarded from its own address.
    #[serde(default)]
    pub(crate) exempt: Vec<IpNet>,
    /// The Envoy beside it.
    #[serde(default)]
    pub(crate) envoy: Option<EnvoySettings>,
}

/// How names are answered on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Names {
    /// They are left alone.
    Off,
    /// The host is brought to ask the agent, in the way that leaves the least trace.
    #[default]
    Auto,
    /// There, and whoever wants to asks there.
    At(SocketAddr),
}

/// The Envoy beside an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EnvoySettings {
    /// The program.
    pub(crate) program: PathBuf,
    /// The user that it runs as.
    pub(crate) user: String,
}

/// The agent's directory.
pub(crate) fn directory(asked: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    following::directory(asked, DIRECTORY)
}

/// Whether the packaged agent is meant, which only root may ask: none was named.
pub(crate) fn is_for_root(asked: &Path) -> bool {
    let is_default = directory(None).is_ok_and(|default| default == asked);
    !nix::unistd::geteuid().is_root() && is_default && Path::new(PACKAGED).is_dir()
}

/// Where changes of the host are written down: for the packaged agent a place that it cannot write
/// to itself.
pub(crate) fn journal(directory: &Path) -> PathBuf {
    if directory == Path::new(PACKAGED) {
        PathBuf::from(PACKAGED_HOST)
    } else {
        directory.to_owned()
    }
}

/// Makes a directory, for its owner alone. That of the packaged agent is the agent's, and no other:
/// what root reads there as its own must be nobody else's to write.
pub(crate) fn make(directory: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "make", path: directory.to_owned(), source };
    let is_new = !directory.exists();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    if is_new && directory == Path::new(PACKAGED) && nix::unistd::geteuid().is_root() {
        // Absent where nothing was installed: then the agent runs as whoever starts it.
        if let Ok(Some(user)) = nix::unistd::User::from_name(USER) {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            std::os::unix::fs::chown(directory, Some(uid), Some(gid)).map_err(failed)?;
        }
    }
    Ok(())
}

/// Whether commands can ask an agent of this directory: else it could not be told to leave.
pub(crate) fn may_be_asked(directory: &Path) -> Result<(), Failure> {
    fits_socket(&directory.join(SOCKET))
}

/// Whether a socket can have this path.
pub(crate) fn fits_socket(path: &Path) -> Result<(), Failure> {
    let length = path.as_os_str().len();
    if length <= SOCKET_PATH_MAX {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::Usage(format!(
        "the path {path} has {length} bytes, and a socket's has {SOCKET_PATH_MAX} at most; \
         choose a shorter directory with --data"
    )))
}

/// Gives what root wrote in the directory to its owner, who is to run as somebody else.
pub(crate) fn give_to_owner(directory: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "give away", path: directory.to_owned(), source };
    let owner = fs::metadata(directory).map_err(failed)?;
    if nix::unistd::geteuid().is_root() && owner.uid() != 0 {
        let opened = open(directory, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty());
        let to = (owner.uid().into(), owner.gid().into());
        give(&opened.map_err(io::Error::from).map_err(failed)?, to, DEPTH_MAX).map_err(failed)?;
    }
    Ok(())
}

/// By descriptors: who owns the directory may put a link in the place of anything at any time. A
/// file with a second name is left to whom it belongs.
fn give(directory: &OwnedFd, to: (Uid, Gid), depth: u8) -> io::Result<()> {
    let entries = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    for entry in entries {
        let name = entry?.file_name();
        let found = fstatat(directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        if kind != SFlag::S_IFDIR && found.st_nlink > 1 {
            continue;
        }
        let (uid, gid) = (Some(to.0), Some(to.1));
        fchownat(directory, name.as_os_str(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if depth > 0 && kind == SFlag::S_IFDIR {
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            let inner = openat(directory, name.as_os_str(), flags, Mode::empty())?;
            give(&inner, to, depth - 1)?;
        }
    }
    Ok(())
}

/// What join wrote; `None`: this VM has not joined.
pub(crate) fn settings(directory: &Path) -> Result<Option<Settings>, Failure> {
    read(directory, SETTINGS)
}

/// Keeps what join chose.
pub(crate) fn put_settings(directory: &Path, settings: &Settings) -> Result<(), Failure> {
    put(directory, SETTINGS, settings)
}

/// Which service has which mark. A file that is damaged is told and begun anew: flows that are
/// there keep their way, and only drains and counts of them are lost.
pub(crate) fn marks(directory: &Path) -> Marks {
    match read(directory, MARKS) {
        Ok(marks) => marks.unwrap_or_default(),
        Err(error) => {
            tracing::error!(why = %crate::verbs::chain(&error), "marks of services begin anew");
            Marks::default()
        }
    }
}

/// Keeps the marks.
pub(crate) fn put_marks(directory: &Path, marks: &Marks) -> Result<(), Failure> {
    put(directory, MARKS, marks)
}

/// When a join that nobody confirmed undoes itself, if that was written down.
pub(crate) fn trial(directory: &Path) -> Option<Timestamp> {
    read(directory, TRIAL).ok().flatten()
}

/// A new join is on trial anew.
pub(crate) fn begin_trial(directory: &Path) -> Result<(), Failure> {
    for name in [TRIAL, CONFIRMED] {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", directory, name)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes that down.
pub(crate) fn put_trial(directory: &Path, end: Timestamp) -> Result<(), Failure> {
    put(directory, TRIAL, &end)
}

/// Whether the operator said that the VM is well.
pub(crate) fn is_confirmed(directory: &Path) -> bool {
    directory.join(CONFIRMED).exists()
}

/// The operator says that the VM is well.
pub(crate) fn confirm(directory: &Path) -> Result<(), Failure> {
    write(&directory.join(CONFIRMED), b"", 0o644).map_err(failed("write", directory, CONFIRMED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_kept_and_strange_files_are_told() {
        let directory =
            std::env::temp_dir().join(format!("crossfade-files-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(settings(&directory).unwrap(), None);
        let chosen = Settings {
            name: "vm-7".to_owned(),
            controllers: vec!["10.0.0.5:7410".to_owned()],
            joined: true,
            address: "10.0.1.11".parse().unwrap(),
            names: Names::At("127.0.0.1:53".parse().unwrap()),
            exempt: vec!["10.0.9.0/24".parse().unwrap()],
            envoy: None,
        };
        put_settings(&directory, &chosen).unwrap();
        assert_eq!(settings(&directory).unwrap(), Some(chosen));
        fs::write(directory.join(SETTINGS), "{ \"nonsense\": 1 }").unwrap();
        let told = crate::verbs::chain(&settings(&directory).unwrap_err());
        assert!(told.contains("agent.json") && told.contains("nonsense"), "{told}");
        fs::remove_dir_all(&directory).unwrap();
    }

    /// As long as the kernel takes it, and no longer.
    #[test]
    fn a_path_is_as_long_as_a_socket_may_have_it() {
        let base = std::env::temp_dir().join(format!("crossfade-long-{}", std::process::id()));
        for (length, fits) in [(104, true), (SOCKET_PATH_MAX, true), (108, false), (250, false)] {
            let rest = length - base.as_os_str().len() - 2 - SOCKET.len();
            let directory = base.join("d".repeat(rest));
            let path = directory.join(SOCKET);
            assert_eq!(path.as_os_str().len(), length);
            fs::create_dir_all(&directory).unwrap();
            let bound = std::os::unix::net::UnixListener::bind(&path);
            assert_eq!(bound.is_ok(), fits, "{length}");
            let told = may_be_asked(&directory).map_err(|error| error.to_string());
            assert_eq!(told.is_ok(), fits, "{told:?}");
            let names = |why: &String| why.contains("107") && why.contains(path.to_str().unwrap());
            assert!(told.as_ref().err().is_none_or(names), "{told:?}");
        }
        fs::remove_dir_all(&base).unwrap();
    }

    /// What an owner of the directory can make root do: nothing to what is not in it.
    #[test]
    fn links_lead_root_nowhere() {
        if !Uid::effective().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let base = std::env::temp_dir().join(format!("crossfade-links-{}", std::process::id()));
        let directory = base.join("agent");
        fs::create_dir_all(directory.join("deep")).unwrap();
        fs::create_dir(base.join("roots")).unwrap();
        for name in ["secret", "roots/inner"] {
            fs::write(base.join(name), "root's").unwrap();
        }
        fs::write(directory.join("deep/own"), "").unwrap();
        let (secret, roots) = (base.join("secret"), base.join("roots"));
        std::os::unix::fs::symlink(&secret, directory.join("linked")).unwrap();
        std::os::unix::fs::symlink(&secret, directory.join("kept.new")).unwrap();
        std::os::unix::fs::symlink(&roots, directory.join("tree")).unwrap();
        fs::hard_link(&secret, directory.join("named")).unwrap();
        std::os::unix::fs::chown(&directory, Some(4_711), Some(4_711)).unwrap();
        give_to_owner(&directory).unwrap();
        write(&directory.join("kept"), b"new", 0o600).unwrap();
        let uid = |path: &str| fs::symlink_metadata(base.join(path)).unwrap().uid();
        assert_eq!(["secret", "roots", "roots/inner"].map(uid), [0; 3]);
        assert_eq!(["agent/deep", "agent/deep/own", "agent/linked"].map(uid), [4_711; 3]);
        assert_eq!(fs::read_to_string(&secret).unwrap(), "root's");
        assert_eq!(fs::read_to_string(directory.join("kept")).unwrap(), "new");
        fs::remove_dir_all(&base).unwrap();
    }
}
