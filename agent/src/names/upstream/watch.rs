//! Tells when files that name servers change, however they are written: in place, by renaming
//! another over them, or by turning a link.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

/// How long the files must be quiet before a change is told: writers truncate first.
pub const QUIET: Duration = Duration::from_millis(100);

/// How long a file that is never quiet holds a change back.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Most folders that are watched: those of a few files and of what they link to.
const FOLDERS_MAX: usize = 16;

/// Most links that are followed from one file, as the kernel does about.
const LINKS_MAX: usize = 16;

/// Watches the folders of files.
#[derive(Debug)]
pub struct Watch {
    events: AsyncFd<Events>,
    files: Vec<PathBuf>,
}

/// Only for its descriptor.
#[derive(Debug)]
struct Events(Inotify);

impl std::os::fd::AsRawFd for Events {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    /// Watches these files, which need not exist; a folder that does not is not watched.
    ///
    /// # Errors
    /// When the kernel has no more watches, or outside a runtime.
    pub fn new(files: &[PathBuf]) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        #[expect(deprecated, reason = "the descriptor is owned by what is registered")]
        let events = AsyncFd::with_interest(Events(inotify), Interest::READABLE)?;
        let watch = Self { events, files: files.to_vec() };
        watch.cover()?;
        Ok(watch)
    }

    /// Watches the folder of every file and of every link on the way to it. Twice is as once.
    fn cover(&self) -> io::Result<()> {
        let folders: BTreeSet<PathBuf> = self.files.iter().flat_map(|file| way(file)).collect();
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_ONLYDIR;
        for folder in folders.iter().take(FOLDERS_MAX) {
            match self.events.get_ref().0.add_watch(folder, flags) {
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Waits until something in these folders changed and was quiet for [`QUIET`]. Read the files
    /// then: other files of the folders count too. May be dropped while it waits.
    ///
    /// # Errors
    /// When the kernel gives no more events.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.drain().await?;
        let end = Instant::now() + PATIENCE;
        loop {
            let until = end.min(Instant::now() + QUIET);
            match timeout_at(until, self.drain()).await {
                Ok(outcome) if Instant::now() < end => outcome?,
                Ok(_) | Err(_) => break,
            }
        }
        // A link may point elsewhere now.
        self.cover()
    }

    /// Waits for events and takes all there are.
    async fn drain(&self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            match self.events.get_ref().0.read_events() {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The folders that decide what is found at `file`.
fn way(file: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut at = file.to_path_buf();
    for _ in 0..LINKS_MAX {
        let Some(folder) = at.parent().map(Path::to_path_buf) else { break };
        folders.push(folder.clone());
        let Ok(target) = std::fs::read_link(&at) else { break };
        at = folder.join(target);
    }
    folders
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("cf-watch-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn every_way_of_writing_is_seen() {
        let scratch = Scratch::new("ways");
        let (etc, run) = (scratch.0.join("etc"), scratch.0.join("run"));
        fs::create_dir_all(&etc).unwrap();
        fs::create_dir_all(&run).unwrap();
        let (file, target) = (etc.join("resolv.conf"), run.join("real.conf"));
        let mut watch = Watch::new(&[file.clone(), scratch.0.join("none/there")]).unwrap();
        fs::write(&file, "a").unwrap();
        watch.changed().await.unwrap();
        fs::write(&target, "b").unwrap();
        fs::rename(&target, &file).unwrap();
        watch.changed().await.unwrap();
        fs::remove_file(&file).unwrap();
        watch.changed().await.unwrap();
        symlink("../run/real.conf", &file).unwrap();
        watch.changed().await.unwrap();
        // What the link points to is watched from now on.
        fs::write(&target, "c").unwrap();
        watch.changed().await.unwrap();
    }

    #[tokio::test]
    async fn a_burst_is_one_change() {
        let scratch = Scratch::new("burst");
        let file = scratch.0.join("resolv.conf");
        let mut watch = Watch::new(std::slice::from_ref(&file)).unwrap();
        for round in 0..50 {
            fs::write(&file, round.to_string()).unwrap();
        }
        watch.changed().await.unwrap();
        let more = tokio::time::timeout(2 * QUIET, watch.changed()).await;
        assert!(more.is_err(), "nothing is left to tell");
    }
}
