//! Sockets of the file system: the API's file belongs to the one live server, its owner and root.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The most bytes of a socket's path that Linux takes, less the ending of the name it is made under
/// (`sun_path` of unix(7) has 108 with a final zero).
const PATH_BYTES_MAX: usize = 107 - NEW.len();

/// The ending of the name under which a socket is made before it gets its own.
const NEW: &str = ".new";

/// Only the owner and root may connect.
const MODE: u32 = 0o600;

/// A listening unix socket. Its file goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// Device and number of our file: never remove somebody else's.
    file: (u64, u64),
}

/// Why the unix socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A live server owns it.
    #[error(
        "{} is in use by a running server; stop that one or choose another data directory",
        path.display()
    )]
    Live {
        /// The file.
        path: PathBuf,
    },
    /// Something else has that name.
    #[error("{} is there and is no socket; move it away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The system takes no path this long.
    #[error(
        "the path {} is too long for a socket ({PATH_BYTES_MAX} bytes at most); choose a shorter \
         data directory", path.display()
    )]
    Long {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot make the socket {}: {source}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Socket {
    /// Listens on this file. The file of a dead server is replaced.
    pub(crate) async fn bind(path: &Path) -> Result<Self, SocketError> {
        let own = || path.to_owned();
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(SocketError::Long { path: own() });
        }
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(SocketError::Foreign { path: own() });
            }
            Ok(_) if UnixStream::connect(path).await.is_ok() => {
                return Err(SocketError::Live { path: own() });
            }
            Ok(_) | Err(_) => {}
        }
        let refused = |source| SocketError::Refused { path: own(), source };
        let (listener, made) = replace(path, MODE).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let listener = UnixListener::from_std(listener).map_err(refused)?;
        Ok(Self { listener, path: path.to_owned(), file: (made.dev(), made.ino()) })
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a socket under another name and moves it into place, over what is there: at no moment can
/// anybody connect before its mode is set. With it, what its file is.
///
/// # Errors
/// The system's.
pub fn replace(path: &Path, mode: u32) -> io::Result<(net::UnixListener, Metadata)> {
    let mut new = path.as_os_str().to_owned();
    new.push(NEW);
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = net::UnixListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(mode))?;
    let made = fs::symlink_metadata(&new)?;
    fs::rename(&new, path)?;
    Ok((listener, made))
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == self.file);
        if ours {
            // A file left behind is replaced by the next start: nothing to do about an error.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("cf-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_live_socket_is_refused_and_a_dead_one_replaced() {
        let dir = Dir::new("socket");
        let path = dir.0.join("api.sock");
        // A dead server's file: bound, then closed without being removed.
        drop(net::UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        UnixStream::connect(&path).await.unwrap();
        let error = Socket::bind(&path).await.unwrap_err();
        assert!(matches!(error, SocketError::Live { .. }), "{error}");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let dir = Dir::new("file");
        let path = dir.0.join("api.sock");
        fs::write(&path, "mine").unwrap();
        let error = Socket::bind(&path).await.unwrap_err();
        assert!(matches!(error, SocketError::Foreign { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let long = dir.0.join("x".repeat(120));
        assert!(matches!(Socket::bind(&long).await, Err(SocketError::Long { .. })));
        let nowhere = dir.0.join("no/such/dir");
        assert!(matches!(Socket::bind(&nowhere).await, Err(SocketError::Refused { .. })));
    }
}
