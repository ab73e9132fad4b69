//! What replicas and relays share: a directory, a name, whom to dial, and reporting.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plan::ServiceId;
use plan::snapshot::{Motion, Service};
use proto::crossfade::v1::report_service_client::ReportServiceClient;
use proto::crossfade::v1::{ReportRequest, ReportResponse};
use proto::envoy::config::core::v3::Node;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use xds::follow::dial::{Dial, TlsFiles};
use xds::follow::{Applied, Link};

use crate::cli::follow::Following;
use crate::config::default_data;
use crate::disk;
use crate::verbs::Failure;

/// Who has the directory.
pub(crate) const LOCK: &str = "lock";

/// How often to report unless the controller says otherwise.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Within these bounds the controller may say.
const REPORT_BOUNDS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];
/// How long after a stream of reports ended a new one is tried.
const REPORT_AGAIN: Duration = Duration::from_secs(1);

/// A directory that this process alone writes to.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where it is.
    pub(crate) directory: PathBuf,
    /// Held as long as the process runs.
    _lock: File,
}

/// The directory that was asked for, or `name` beside the controller's.
pub(crate) fn directory(asked: Option<&PathBuf>, name: &str) -> Result<PathBuf, Failure> {
    let default = || default_data().map(|data| data.join(name));
    asked
        .cloned()
        .or_else(default)
        .ok_or_else(|| Failure::Usage("no data directory: give --data DIR, or set HOME".to_owned()))
}

/// Makes the directory and takes it. One that is there and read-only is taken as it is.
pub(crate) fn take(directory: PathBuf) -> Result<Place, Failure> {
    let failed = |what| {
        let path = directory.clone();
        move |source| Failure::File { what, path, source }
    };
    std::fs::create_dir_all(&directory).map_err(failed("make"))?;
    let opened = lock(&directory, File::options().write(true).create(true).truncate(false));
    let (lock, is_writable) = match opened {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let opened = lock(&directory, &mut File::options());
            // Nobody was ever here: that it is read-only is why, not that there is no lock.
            (opened.map_err(|_| failed("open the lock in")(error))?, false)
        }
        opened => (opened.map_err(failed("open the lock in"))?, true),
    };
    if lock.try_lock().is_err() {
        let mut pid = String::new();
        // Only for the words.
        let _ = lock.take(32).read_to_string(&mut pid);
        let directory = directory.display();
        return Err(Failure::Failed(format!(
            "{directory} is in use by process {}; give another one with --data",
            pid.trim()
        )));
    }
    if lock.metadata().is_ok_and(|about| about.nlink() == 0) {
        let directory = directory.display();
        return Err(Failure::Failed(format!(
            "{directory} was let go by another process just now; try again"
        )));
    }
    if is_writable {
        // In place, which a full disk does not stop. It is only for the words: the lock counts.
        let pid = format!("{:<10}\n", std::process::id());
        let written = lock.write_all_at(pid.as_bytes(), 0).and_then(|()| lock.set_len(11));
        if let Err(error) = written {
            tracing::warn!(%error, "the lock does not say which process has it");
        }
    } else {
        let directory = directory.display();
        tracing::error!(%directory, "read-only: what is held stays in force, nothing new is taken");
    }
    Ok(Place { directory, _lock: lock })
}

/// What is not there yet of a directory in which somebody is about to join, so that who is refused
/// leaves nothing behind.
pub(crate) struct Absent {
    /// That directory, if it is not there, and those above it that are not.
    directories: Vec<PathBuf>,
    /// Where nobody was ever at work.
    unlocked: Option<PathBuf>,
}

impl Absent {
    /// Looks.
    pub(crate) fn of(directory: &Path) -> Self {
        let is_absent = |path: &Path| path.symlink_metadata().is_err();
        let above = directory.ancestors().take_while(|path| is_absent(path));
        let directories = above.map(Path::to_owned).collect();
        let unlocked = is_absent(&directory.join(LOCK)).then(|| directory.to_owned());
        Self { directories, unlocked }
    }

    /// Removes what has come since then, but for what somebody needs: all of it is empty.
    pub(crate) fn restore(self) {
        if let Some(directory) = self.unlocked.filter(|directory| directory.join(LOCK).exists()) {
            // Whoever has it now keeps it; it is removed by who has it.
            if let Ok(place) = take(directory) {
                let _ = std::fs::remove_file(place.directory.join(LOCK));
            }
        }
        // From the inside out; above one that is not empty none is.
        let _ = self.directories.iter().try_for_each(std::fs::remove_dir);
    }
}

/// Opens the lock. Whoever owns the directory may have put something else in its place, which root
/// must neither follow nor write to: a link, or another name of another user's file.
fn lock(directory: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let lock = disk::plain(options.read(true), &directory.join(LOCK))?;
    let (about, above) = (lock.metadata()?, directory.metadata()?);
    let is_ours = [nix::unistd::geteuid().as_raw(), above.uid()].contains(&about.uid());
    if is_ours && about.nlink() <= 1 {
        return Ok(lock);
    }
    let why = "the lock is another user's file, or has another name; remove it";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Whether a process has the directory.
pub(crate) fn is_taken(directory: &Path) -> bool {
    lock(directory, &mut File::options()).is_ok_and(|lock| lock.try_lock_shared().is_err())
}

/// The process that has the directory. What is written there may be of one before it, and the
/// directory may be another's, while root ends what this names: only a process of ours that has the
/// very file open is meant.
pub(crate) fn owner(directory: &Path) -> Option<i32> {
    let file = lock(directory, &mut File::options()).ok()?;
    let about = file.metadata().ok()?;
    let mut written = String::new();
    file.take(32).read_to_string(&mut written).ok()?;
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let holders = locks.lines().filter_map(|line| holder(line, about.ino()));
    let candidates = written.trim().parse().into_iter().chain(holders).filter(|pid| *pid > 1);
    let own = i32::try_from(std::process::id()).ok();
    let mut candidates = candidates.filter(|pid| Some(*pid) != own);
    let file = (about.dev(), about.ino());
    candidates.find(|pid| is_ours(*pid, directory) && has_open(*pid, file))
}

/// Whether it is this program, or runs as whoever owns the directory.
fn is_ours(pid: i32, directory: &Path) -> bool {
    let called = |process: &str| std::fs::read(format!("/proc/{process}/comm")).ok();
    let uid = |path: &Path| std::fs::metadata(path).map(|found| found.uid()).ok();
    let is_called_so = called(&pid.to_string()) == called("self");
    is_called_so || uid(Path::new(&format!("/proc/{pid}"))) == uid(directory)
}

/// The process of a line of `/proc/locks` (proc(5)) that is about this file: its number, the lock's
/// kind, two more words, the process, and the file as `MAJOR:MINOR:INODE`.
fn holder(line: &str, inode: u64) -> Option<i32> {
    let mut words = line.split_ascii_whitespace().skip(1);
    words.next().filter(|kind| *kind == "FLOCK")?;
    let pid = words.nth(2)?.parse().ok()?;
    let (_, found) = words.next()?.rsplit_once(':')?;
    (found.parse() == Ok(inode)).then_some(pid)
}

fn has_open(pid: i32, file: (u64, u64)) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let abouts = open.filter_map(|fd| std::fs::metadata(fd.ok()?.path()).ok());
    abouts.map(|about| (about.dev(), about.ino())).any(|found| found == file)
}

/// What it is called among the sinks.
pub(crate) fn node_name(asked: Option<&String>) -> Result<String, Failure> {
    let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    asked.cloned().or_else(host).filter(|name| !name.is_empty()).ok_or_else(|| {
        Failure::Usage("this host has no name; give one with --node NAME".to_owned())
    })
}

/// Whom to follow, and how.
pub(crate) fn dial(controllers: &[String], following: &Following) -> Result<Dial, Failure> {
    let files = match (&following.tls_ca, &following.tls_cert, &following.tls_key) {
        (Some(ca), Some(certificate), Some(key)) => {
            Some(TlsFiles { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() })
        }
        _ => None,
    };
    Dial::new(controllers, files.as_ref())
        .map_err(|error| Failure::Usage(crate::verbs::chain(&error)))
}

/// The first service that a controller which came up from a backup would move, though no operator
/// has acted on its plan since. Both lists are sorted by id.
pub(crate) fn moved_by_restore<'a>(
    held: &[Arc<Service>],
    new: &'a [Arc<Service>],
) -> Option<&'a ServiceId> {
    let moves = |leaf: &&Arc<Service>| {
        leaf.motion == Motion::Restored
            && held
                .binary_search_by(|old| old.id.cmp(&leaf.id))
                .is_ok_and(|at| held.get(at).is_some_and(|old| old.serving != leaf.serving))
    };
    new.iter().find(moves).map(|leaf| &leaf.id)
}

/// Asks the one task that changes things, and waits until it has done it.
pub(crate) async fn ask<A>(
    asks: &mpsc::Sender<A>,
    ask: impl FnOnce(oneshot::Sender<Applied>) -> A,
) -> Applied {
    let (done, applied) = oneshot::channel();
    // That task goes only with the process.
    let _ = asks.send(ask(done)).await;
    match applied.await {
        Ok(applied) => applied,
        Err(_) => std::future::pending().await,
    }
}

/// Random bits, not for secrets.
pub(crate) fn random() -> impl FnMut() -> u64 + Send {
    let state = RandomState::new();
    let mut n = 0_u64;
    move || {
        n = n.wrapping_add(1);
        state.hash_one(n)
    }
}

/// Says to whoever is followed what `say` gives, now and then and when `now` is notified.
pub(crate) async fn report(
    node: Node,
    mut links: watch::Receiver<Option<Link>>,
    now: &Notify,
    mut say: impl AsyncFnMut() -> ReportRequest,
) {
    loop {
        let link = links.borrow_and_update().clone();
        let Some(link) = link else {
            if links.changed().await.is_err() {
                return;
            }
            continue;
        };
        let (sending, requests) = mpsc::channel(1);
        let first = ReportRequest { node: Some(node.clone()), ..say().await };
        // A channel with room for one takes it.
        let _ = sending.send(first).await;
        let mut client = ReportServiceClient::new(link.channel);
        let ended = async {
            let responses = client.report(ReceiverStream::new(requests)).await?.into_inner();
            go_on(&sending, responses, now, &mut say).await
        };
        tokio::select! {
            ended = ended => if let Err(status) = ended {
                tracing::debug!(%status, "reports were not taken");
            },
            changed = links.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        tokio::time::sleep(REPORT_AGAIN).await;
    }
}

async fn go_on(
    sending: &mpsc::Sender<ReportRequest>,
    mut responses: Streaming<ReportResponse>,
    now: &Notify,
    say: &mut impl AsyncFnMut() -> ReportRequest,
) -> Result<(), tonic::Status> {
    let mut every = tokio::time::interval(REPORT_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = now.notified() => {}
            response = responses.message() => {
                let Some(response) = response? else { return Ok(()) };
                if let Some(asked) = response.every.and_then(interval) {
                    every = tokio::time::interval(asked);
                    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
                }
                continue;
            }
        }
        if sending.send(say().await).await.is_err() {
            return Ok(());
        }
    }
}

fn interval(asked: proto::google::protobuf::Duration) -> Option<Duration> {
    let seconds = u64::try_from(asked.seconds).ok()?;
    let nanos = u32::try_from(asked.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let [least, most] = REPORT_BOUNDS;
    Some(Duration::new(seconds, nanos).clamp(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_directory_is_who_has_its_lock_open() {
        let line = "17: FLOCK  ADVISORY  WRITE 4242 fd:01:991 0 EOF";
        assert_eq!(holder(line, 991), Some(4242));
        for (line, inode) in [
            (line, 992),
            ("17: POSIX  ADVISORY  WRITE 4242 fd:01:991 0 EOF", 991),
            ("17: -> FLOCK  ADVISORY  WRITE 4242 fd:01:991 0 EOF", 991),
            ("17: FLOCK", 991),
            ("", 991),
        ] {
            assert_eq!(holder(line, inode), None, "{line} {inode}");
        }
        let directory = std::env::temp_dir().join(format!("cf-owner-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        // Written by one that has gone: its number is another process's now.
        std::fs::write(directory.join(LOCK), "1\n").unwrap();
        assert_eq!(owner(&directory), None);
        let path = directory.join(LOCK);
        let mut flock = std::process::Command::new("flock");
        let mut child = flock.arg("--no-fork").arg(&path).args(["sleep", "60"]).spawn().unwrap();
        let found = loop {
            if let Some(found) = owner(&directory) {
                break found;
            }
            assert!(child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        };
        assert_eq!(u32::try_from(found), Ok(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }

    /// Who is refused leaves nothing behind, and nothing of others is taken away.
    #[test]
    fn what_was_not_there_goes_and_what_was_stays() {
        let base = std::env::temp_dir().join(format!("cf-absent-{}", std::process::id()));
        std::fs::create_dir_all(&base).unwrap();
        let directory = base.join("lib/agent");
        let names = |path: &Path| -> Vec<std::ffi::OsString> {
            path.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        let absent = Absent::of(&directory);
        drop(take(directory.clone()).unwrap());
        absent.restore();
        assert_eq!(names(&base), [""; 0]);

        // A key that may be needed, and where it is.
        let absent = Absent::of(&directory);
        drop(take(directory.clone()).unwrap());
        std::fs::write(directory.join("key"), "").unwrap();
        absent.restore();
        assert_eq!(names(&directory), ["key"]);

        // Somebody is at work there meanwhile, or was before.
        let absent = Absent::of(&directory);
        let place = take(directory.clone()).unwrap();
        absent.restore();
        assert!(is_taken(&directory) && directory.join(LOCK).exists());
        drop(place);
        let absent = Absent::of(&directory);
        drop(take(directory.clone()).unwrap());
        absent.restore();
        assert!(directory.join(LOCK).exists());
        std::fs::remove_dir_all(&base).unwrap();
    }

    /// Whoever owns the directory may plant something in the lock's place.
    #[test]
    fn a_lock_is_a_file_of_its_own() {
        let directory = std::env::temp_dir().join(format!("cf-lock-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (path, victim) = (directory.join(LOCK), directory.join("victim"));
        std::fs::write(&victim, "more than eleven bytes of theirs").unwrap();
        let plants: [&dyn Fn(); 3] = [
            &|| std::os::unix::fs::symlink(&victim, &path).unwrap(),
            &|| std::fs::hard_link(&victim, &path).unwrap(),
            &|| nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        ];
        for plant in plants {
            plant();
            assert!(take(directory.clone()).is_err());
            assert!(!is_taken(&directory));
            assert_eq!(owner(&directory), None);
            std::fs::remove_file(&path).unwrap();
        }
        let text = std::fs::read_to_string(&victim).unwrap();
        assert_eq!(text, "more than eleven bytes of theirs");
        let place = take(directory.clone()).unwrap();
        assert!(is_taken(&directory));
        drop(place);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
