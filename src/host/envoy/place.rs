//! Where the agent and its Envoy meet: a directory of the agent's with two sockets, which are
//! theirs alone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use agent::envoy::grant;
use nix::unistd::{Uid, User, geteuid};
use plan::Digest;
use xds::bootstrap::{self, Sockets};
use xds::render::Door;

use crate::disk;
use crate::host::files;
use crate::verbs::Failure;

/// Where such directories are if Envoy runs as another user: the agent's own directory is closed to
/// others.
pub(super) const RUNTIME: &str = "/run/crossfade-agent";

/// As whom the unit of Envoy runs it for an agent that is not root.
const UNIT_USER: &str = "crossfade-envoy";

/// Where they meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The agent's, which others may pass.
    directory: PathBuf,
    /// As whom Envoy runs.
    runs: Runs,
}

/// As whom an Envoy runs, and so who starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    /// As this process, which starts it.
    Here,
    /// As this user; this process is root, and starts it.
    As(Owner),
    /// As this user, by a unit of its own: this process is not root.
    ByUnit(Owner),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: u32,
    group: u32,
}

impl Place {
    /// Wherever they may meet, whether or not anything is there: who asks need not be who made it.
    pub(super) fn all_of(data: &Path) -> [Self; 2] {
        [shared(data), own(data)].map(Self::at)
    }

    /// One that an agent has made, for the user of this process.
    pub(super) const fn at(directory: PathBuf) -> Self {
        Self { directory, runs: Runs::Here }
    }

    /// Where they meet if Envoy runs so.
    fn of(data: &Path, runs: Runs) -> Result<Self, Failure> {
        let directory = match runs {
            Runs::Here => own(data),
            Runs::As(_) | Runs::ByUnit(_) => shared(data),
        };
        let place = Self { directory, runs };
        // The longest path of all sockets here.
        files::fits_socket(&place.admin())?;
        Ok(place)
    }

    /// Makes it for an Envoy of this user.
    pub(super) fn make(data: &Path, user: &str) -> Result<Self, Failure> {
        let runs = runs(user, geteuid())?;
        let place = Self::of(data, runs)?;
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
        place.give(&own, 0o700).map_err(failed)?;
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
        self.give(&path, 0o600).map_err(failed)?;
        Ok(listener)
    }

    /// Writes what Envoy starts with. `identified`: it is handed this machine's certificate.
    pub(super) fn put_bootstrap(&self, node: &str, identified: bool) -> Result<(), Failure> {
        let path = self.bootstrap();
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| failed("name", path, io::ErrorKind::InvalidFilename.into()))
        };
        // Its directory is closed to others; the agent may be another user.
        let admin_mode = if self.is_by_unit() { 0o666 } else { 0o600 };
        let sockets = Sockets { xds: text(&self.xds())?, admin: text(&self.admin())?, admin_mode };
        let bootstrap = bootstrap::envoy_beside(node, Door::CAPTURE, identified, &sockets);
        let bytes = bootstrap.to_string();
        disk::write(&path, bytes.as_bytes(), 0o644)
            .map_err(|error| failed("write", &path, error))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
            .map_err(|error| failed("write", &path, error))
    }

    /// The directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What Envoy starts with.
    pub(super) fn bootstrap(&self) -> PathBuf {
        self.directory.join("bootstrap.json")
    }

    /// Envoy's admin interface.
    pub(super) fn admin(&self) -> PathBuf {
        self.own().join("admin.sock")
    }

    /// The user and group that a started Envoy changes to.
    pub(super) const fn changes_to(&self) -> Option<(u32, u32)> {
        match self.runs {
            Runs::As(owner) => Some((owner.user, owner.group)),
            Runs::Here | Runs::ByUnit(_) => None,
        }
    }

    /// Whether a unit of its own starts and ends it.
    pub(super) const fn is_by_unit(&self) -> bool {
        matches!(self.runs, Runs::ByUnit(_))
    }

    /// The user that Envoy runs as.
    pub(super) fn user(&self) -> u32 {
        match self.runs {
            Runs::Here => geteuid().as_raw(),
            Runs::As(owner) | Runs::ByUnit(owner) => owner.user,
        }
    }

    /// Removes it.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &self.directory, error));
            }
            _ => {}
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

    /// Gives it to Envoy's user; where that is not for this process to do, lets that user do all
    /// that the owner may.
    fn give(&self, path: &Path, mode: u32) -> io::Result<()> {
        let closed = fs::Permissions::from_mode(mode);
        match self.runs {
            Runs::Here => fs::set_permissions(path, closed),
            Runs::As(owner) => {
                lchown(path, Some(owner.user), Some(owner.group))?;
                fs::set_permissions(path, closed)
            }
            Runs::ByUnit(owner) => grant(path, owner.user, if mode == 0o700 { 7 } else { 6 }),
        }
    }
}

/// Where an Envoy of another user meets the agent of this directory.
fn shared(data: &Path) -> PathBuf {
    let name = Digest::of(whole(data).as_os_str().as_encoded_bytes()).to_string();
    Path::new(RUNTIME).join(name.get(..16).unwrap_or(&name))
}

/// Where one of the agent's user does.
fn own(data: &Path) -> PathBuf {
    whole(data).join(super::DIRECTORY).join("run")
}

/// The path as every process finds it.
fn whole(data: &Path) -> PathBuf {
    fs::canonicalize(data).unwrap_or_else(|_| data.to_owned())
}

/// Whether an Envoy can run as this user beside the agent of this directory, which will run as its
/// owner.
pub(super) fn check(data: &Path, user: &str) -> Result<(), Failure> {
    let owner = fs::metadata(data).map_err(|error| failed("look at", data, error))?;
    Place::of(data, runs(user, owner.uid().into())?).map(|_| ())
}

fn runs(user: &str, agent: Uid) -> Result<Runs, Failure> {
    let found = owner(user)?;
    if agent.is_root() {
        return Ok(Runs::As(found));
    }
    if found.user == agent.as_raw() {
        return Ok(Runs::Here);
    }
    if user == UNIT_USER {
        return Ok(Runs::ByUnit(found));
    }
    Err(Failure::Failed(format!(
        "the agent is not root, so Envoy cannot run as {user}: give --envoy-user {UNIT_USER}, \
         which has a unit of its own, or the agent's own user"
    )))
}

/// The number of a user that an Envoy can run as.
pub(super) fn number(name: &str) -> Option<u32> {
    owner(name).ok().map(|owner| owner.user)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_starts_it_goes_by_who_the_agent_is() {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let found = owner("nobody").unwrap();
        assert_eq!(runs("nobody", Uid::from_raw(0)).unwrap(), Runs::As(found));
        assert_eq!(runs("nobody", nobody.uid).unwrap(), Runs::Here);
        let other = Uid::from_raw(nobody.uid.as_raw() - 1);
        let told = runs("nobody", other).unwrap_err().to_string();
        assert!(told.contains("not root") && told.contains("--envoy-user"), "{told}");
        assert!(runs("root", other).unwrap_err().to_string().contains("must not run as root"));
        let told = runs("nosuchuser", other).unwrap_err().to_string();
        assert!(told.contains("no user nosuchuser"), "{told}");
    }
}
