//! What programs keep on disk beside tables: values as JSON, each file whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::verbs::Failure;

/// The longest file that is read, in bytes: marks of 4 095 services are far shorter.
const BYTES_MAX: u64 = 16 << 20;

/// What was kept in this file of `directory`; `None`: nothing.
pub(crate) fn read<T: DeserializeOwned>(
    directory: &Path,
    name: &str,
) -> Result<Option<T>, Failure> {
    let bytes = match bytes(&directory.join(name)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", directory, name)(error)),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| failed("understand", directory, name)(error.into()))
}

/// What a file holds, at most [`BYTES_MAX`] of it.
pub(crate) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    plain(File::options().read(true), path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file, and nothing else: whoever owns the directory may have put a link there, which root
/// must not follow, or a pipe, which nobody is to wait for.
pub(crate) fn plain(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = options.custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"))
}

/// Keeps this in a file of `directory`.
pub(crate) fn put(directory: &Path, name: &str, value: &impl Serialize) -> Result<(), Failure> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| failed("write", directory, name)(error.into()))?;
    bytes.push(b'\n');
    write(&directory.join(name), &bytes, 0o644).map_err(failed("write", directory, name))
}

/// Writes a file whole or not at all, durably.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Made anew: root follows no link that the directory's owner may have put there.
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// What went wrong with this file of `directory`.
pub(crate) fn failed<'a>(
    what: &'static str,
    directory: &'a Path,
    name: &'a str,
) -> impl FnOnce(io::Error) -> Failure + 'a {
    move |source| Failure::File { what, path: directory.join(name), source }
}
