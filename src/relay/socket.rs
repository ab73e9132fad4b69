//! The socket of the file system where a relay with an identity serves.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Who may connect: whoever may may have the key. The directory's group, where it is handed on to
/// files in it, is how a proxy of another user comes in.
const MODE: u32 = 0o660;

/// Under this ending a socket is made before it gets its own name: nobody can connect before its
/// mode is set.
const NEW: &str = ".new";

/// Listens there; the file of a relay that has ended is replaced.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            let words = "something is there that is no socket; move it away";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, words));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let words = "somebody serves there; stop that one, or take another file";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, words));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut new = path.as_os_str().to_owned();
    new.push(NEW);
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(MODE))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_takes_the_place_of_a_dead_one_alone() {
        let directory = std::env::temp_dir().join(format!("cf-relay-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("xds.sock");
        let first = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        listen(&path).unwrap();
        let file = directory.join("plan.yaml");
        fs::write(&file, "precious").unwrap();
        assert_eq!(listen(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        fs::remove_dir_all(&directory).unwrap();
    }
}
