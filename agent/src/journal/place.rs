//! What stands at a path, as a value: enough to put it back byte for byte.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest file that is changed, in bytes. Files of configuration are far shorter; what is
/// longer is something else than we think.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// Nothing.
    Absent,
    /// A file.
    File(FileState),
    /// A symbolic link.
    Link(LinkState),
    /// A directory. Its contents are not part of it.
    Directory,
    /// A socket, a device, a pipe: never touched.
    Other,
}

/// A file with all that makes it the same again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileState {
    /// What it holds.
    pub bytes: Bytes,
    /// Permissions with set-id and sticky bits: 12 bits.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
    /// When it was last changed; none: now.
    pub modified: Option<Moment>,
    /// Extended attributes, access lists and security labels among them.
    pub attributes: Vec<Attribute>,
}

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkState {
    /// Where it points, as it is written.
    pub target: Bytes,
    /// Whose it is.
    pub owner: Owner,
    /// When it was last changed; none: now.
    pub modified: Option<Moment>,
    /// Extended attributes.
    pub attributes: Vec<Attribute>,
}

/// User and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A time of the file system, from the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// The rest.
    pub nanoseconds: u32,
}

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its name with its namespace, such as `security.selinux`.
    pub name: String,
    /// Its value.
    pub value: Bytes,
}

/// Bytes; base64 where they are written down.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Place {
    /// Whether `now` is what was written as `self`. Times and attributes are not compared: a
    /// relabelled or touched file has the same contents still.
    pub(super) fn is_same(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Absent, Self::Absent) | (Self::Directory, Self::Directory) => true,
            (Self::File(wrote), Self::File(now)) => {
                wrote.bytes == now.bytes && wrote.mode == now.mode && wrote.owner == now.owner
            }
            (Self::Link(wrote), Self::Link(now)) => {
                wrote.target == now.target && wrote.owner == now.owner
            }
            (
                Self::Absent | Self::File(_) | Self::Link(_) | Self::Directory | Self::Other,
                Self::Absent | Self::File(_) | Self::Link(_) | Self::Directory | Self::Other,
            ) => false,
        }
    }

    /// Whether `now` can be `self` half written over in place: fewer bytes from the beginning.
    pub(super) fn is_begun_as(&self, now: &Self) -> bool {
        matches!((self, now), (Self::File(whole), Self::File(part))
            if whole.bytes.0.starts_with(&part.bytes.0))
    }

    /// In a few words.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::File(_) => "a file",
            Self::Link(_) => "a link",
            Self::Directory => "a directory",
            Self::Other => "neither file nor link",
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// An absolute path without `..`, that names something in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub struct HostPath(PathBuf);

/// A path that no change is made at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: not an absolute path in UTF-8 without `..`", .0.display())]
pub struct BadPath(pub PathBuf);

impl HostPath {
    /// The path as it is on the host.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The directory that it is in; none for what is directly below `/`.
    pub(super) fn parent(&self) -> Option<Self> {
        Self::try_from(self.0.parent()?.to_path_buf()).ok()
    }

    /// Where a link here points.
    pub(super) fn pointed(&self, target: &Bytes) -> Option<Self> {
        let target = Path::new(OsStr::from_bytes(&target.0));
        let mut out = PathBuf::from("/");
        for part in self.0.parent()?.join(target).components() {
            match part {
                Component::Normal(name) => out.push(name),
                Component::ParentDir => _ = out.pop(),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Self::try_from(out).ok()
    }

    /// A neighbour of its own for one step: never a name that others use.
    pub(super) fn temporary(&self, step: u64) -> Self {
        Self(self.0.with_file_name(format!(".crossfade.{step}.tmp")))
    }
}

impl TryFrom<PathBuf> for HostPath {
    type Error = BadPath;

    fn try_from(path: PathBuf) -> Result<Self, BadPath> {
        let mut parts = path.components();
        let rooted = parts.next() == Some(Component::RootDir);
        let plain = parts.clone().all(|part| matches!(part, Component::Normal(_)));
        if !rooted || !plain || path.file_name().is_none() || path.to_str().is_none() {
            return Err(BadPath(path));
        }
        Ok(Self(path.components().collect()))
    }
}

impl From<HostPath> for PathBuf {
    fn from(path: HostPath) -> Self {
        path.0
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}
