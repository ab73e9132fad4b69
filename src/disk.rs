//! What programs keep on disk beside tables: values as JSON, each file whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::verbs::Failure;

/// What was kept in this file of `directory`; `None`: nothing.
pub(crate) fn read<T: DeserializeOwned>(
    directory: &Path,
    name: &str,
) -> Result<Option<T>, Failure> {
    let bytes = match fs::read(directory.join(name)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", directory, name)(error)),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| failed("understand", directory, name)(error.into()))
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
