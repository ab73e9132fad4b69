//! Where the agent and its Envoy meet: a directory of the agent's with two sockets, which are
//! Envoy's user's alone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use plan::Digest;
use xds::bootstrap::{self, Sockets};
use xds::render::Door;

use crate::disk;
use crate::verbs::Failure;

/// Where such directories are if the agent is root: its own directory is closed to others.
const RUNTIME: &str = "/run/crossfade-agent";

/// Where they meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The agent's, which others may pass.
    directory: PathBuf,
    /// As whom Envoy runs; `None`: as the agent.
    user: Option<Owner>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: u32,
    group: u32,
}

impl Place {
    /// Where they meet, whether or not anything is there.
    pub(super) fn of(data: &Path) -> Self {
        let directory = if geteuid().is_root() {
            let name = Digest::of(data.as_os_str().as_encoded_bytes()).to_string();
            Path::new(RUNTIME).join(name.get(..16).unwrap_or(&name))
        } else {
            data.join(super::DIRECTORY).join("run")
        };
        Self { directory, user: None }
    }

    /// Makes it for an Envoy of this user. Only root can run it as somebody else.
    pub(super) fn make(data: &Path, user: &str) -> Result<Self, Failure> {
        let mut place = Self::of(data);
        if geteuid().is_root() {
            place.user = Some(owner(user)?);
        } else {
            tracing::info!("this agent is not root, so Envoy runs as its user");
        }
        let failed = |source| failed("make", &place.directory, source);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&place.directory)
            .map_err(failed)?;
        // What was asked for is lessened by the umask.
        fs::set_permissions(&place.directory, fs::Permissions::from_mode(0o711)).map_err(failed)?;
        let own = place.own();
        match fs::DirBuilder::new().mode(0o700).create(&own) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        place.give(&own).map_err(failed)?;
        Ok(place)
    }

    /// Listens where Envoy follows, for its user alone.
    pub(super) fn listen(&self) -> Result<UnixListener, Failure> {
        let path = self.xds();
        let failed = |source| failed("listen on", &path, source);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        self.give(&path).map_err(failed)?;
        Ok(listener)
    }

    /// Writes what Envoy starts with. `identified`: it is handed this machine's certificate.
    pub(super) fn put_bootstrap(&self, node: &str, identified: bool) -> Result<(), Failure> {
        let path = self.bootstrap();
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| failed("name", path, io::ErrorKind::InvalidFilename.into()))
        };
        let sockets = Sockets { xds: text(&self.xds())?, admin: text(&self.admin())? };
        let bootstrap = bootstrap::envoy_beside(node, Door::CAPTURE, identified, &sockets);
        let bytes = bootstrap.to_string();
        disk::write(&path, bytes.as_bytes(), 0o644)
            .map_err(|error| failed("write", &path, error))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
            .map_err(|error| failed("write", &path, error))
    }

    /// What Envoy starts with.
    pub(super) fn bootstrap(&self) -> PathBuf {
        self.directory.join("bootstrap.json")
    }

    /// Envoy's admin interface.
    pub(super) fn admin(&self) -> PathBuf {
        self.own().join("admin.sock")
    }

    /// The user and group that Envoy runs as, if not as the agent.
    pub(super) fn run_as(&self) -> Option<(u32, u32)> {
        self.user.map(|owner| (owner.user, owner.group))
    }

    /// The user that Envoy runs as.
    pub(super) fn user(&self) -> u32 {
        self.user.map_or_else(|| geteuid().as_raw(), |owner| owner.user)
    }

    /// Removes it.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &self.directory, error));
            }
            _ => {}
        }
        if self.directory.starts_with(RUNTIME) {
            // Another agent may have its own there.
            let _ = fs::remove_dir(RUNTIME);
        }
        Ok(())
    }

    fn xds(&self) -> PathBuf {
        self.directory.join("xds.sock")
    }

    /// Envoy's own directory.
    fn own(&self) -> PathBuf {
        self.directory.join("own")
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        self.user.map_or(Ok(()), |owner| lchown(path, Some(owner.user), Some(owner.group)))
    }
}

fn owner(name: &str) -> Result<Owner, Failure> {
    let found = User::from_name(name).map_err(|error| {
        Failure::Failed(format!("the user {name} of Envoy cannot be looked up: {error}"))
    })?;
    let found = found.ok_or_else(|| {
        Failure::Failed(format!(
            "there is no user {name} for Envoy; make it: useradd --system --no-create-home {name}"
        ))
    })?;
    if found.uid.is_root() {
        return Err(Failure::Failed(
            "Envoy must not run as root: what its user sends is never redirected to it".to_owned(),
        ));
    }
    Ok(Owner { user: found.uid.as_raw(), group: found.gid.as_raw() })
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> Failure {
    Failure::File { what, path: path.to_owned(), source }
}
