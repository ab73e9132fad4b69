//! The socket of the file system where a relay with an identity serves.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use controller::api::socket;

/// Who may connect: whoever may may have the key. The directory's group, where it is handed on to
/// files in it, is how a proxy of another user comes in.
const MODE: u32 = 0o660;

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
    socket::replace(path, MODE).map(|(listener, _)| listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
