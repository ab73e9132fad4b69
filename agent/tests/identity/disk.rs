//! Whatever ends the process, and whenever: an identity is there.

use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use agent::identity::key::Key;
use agent::identity::store::{Disk, Files, Found};
use agent::identity::{Identity, Store};

use crate::authority::{DOMAIN, Issuer, certificate, issuer};
use crate::world::{Folder, real_now};

/// A disk that takes so many steps, does the next one by half, and is then gone: what a process
/// leaves that is killed there.
#[derive(Clone, Copy, Debug)]
struct Ends {
    steps: usize,
    gone: bool,
}

impl Ends {
    fn after(steps: usize) -> Self {
        Self { steps, gone: false }
    }

    fn step(
        &mut self,
        all: impl FnOnce() -> io::Result<()>,
        half: impl FnOnce(),
    ) -> io::Result<()> {
        if self.gone {
            return Err(io::Error::other("it was killed"));
        }
        match self.steps.checked_sub(1) {
            Some(left) => {
                self.steps = left;
                all()
            }
            None => {
                self.gone = true;
                half();
                Err(io::Error::other("it is killed"))
            }
        }
    }
}

impl Files for Ends {
    fn directory(&mut self, path: &Path) -> io::Result<()> {
        self.step(|| Disk.directory(path), || {})
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let half = || drop(Disk.write(path, &bytes[..bytes.len() / 2]));
        self.step(|| Disk.write(path, bytes), half)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| Disk.rename(from, to), || {})
    }

    fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()> {
        self.step(|| Disk.symlink(target, path), || {})
    }

    fn sync(&mut self, directory: &Path) -> io::Result<()> {
        self.step(|| Disk.sync(directory), || {})
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        // Of a directory some are gone.
        let half = || drop(Disk.remove(&path.join("chain.pem")));
        self.step(|| Disk.remove(path), half)
    }
}

fn issued(issuer: &Issuer, key: Key) -> Identity {
    let pair = rcgen::KeyPair::from_pem(&key.pem()).unwrap();
    let uri = format!("spiffe://{DOMAIN}/agent/vm-1");
    let leaf = certificate(issuer, &pair, (&uri, None), real_now());
    Identity::of(vec![leaf], key, vec![issuer.der().clone()]).unwrap()
}

/// Opens and renews once.
fn renew<F: Files>(
    found: &mut Found<F>,
    issuer: &Issuer,
) -> Result<Identity, agent::identity::StoreError> {
    let key = found.store.prepare(b"the last certificate")?;
    let next = issued(issuer, key);
    found.store.install(&next)?;
    Ok(next)
}

#[test]
fn killed_at_any_step_it_has_the_identity_before_or_the_next() {
    let issuer = issuer();
    let mut steps = 0;
    loop {
        let folder = Folder::new();
        let directory = folder.identity();
        let mut found = Store::open(&directory).unwrap();
        for _ in 0..2 {
            renew(&mut found, &issuer).unwrap();
        }
        let before = Store::open(&directory).unwrap().identity.unwrap().key.public();

        let ended = Store::open_with(Ends::after(steps), &directory)
            .and_then(|mut found| renew(&mut found, &issuer));
        let found = Store::open(&directory).unwrap();
        assert!(found.damaged.is_empty(), "{steps}: what has a name is whole: {:?}", found.damaged);
        let now = found.identity.expect("an identity is there").key.public();
        match &ended {
            Ok(next) => assert_eq!(now, next.key.public(), "{steps}"),
            Err(_) if now == before => {}
            Err(_) => {
                // It got its name before the process was killed.
                let mut store = found.store;
                assert_ne!(store.prepare(b"the one after").unwrap().public(), now, "{steps}");
            }
        }
        for name in ["key.pem", "chain.pem", "ca.pem"] {
            assert!(!std::fs::read(directory.join(name)).unwrap().is_empty(), "{steps} {name}");
        }
        let next = renew(&mut Store::open(&directory).unwrap(), &issuer).unwrap();
        let kept = Store::open(&directory).unwrap();
        assert_eq!(kept.identity.unwrap().key.public(), next.key.public(), "{steps}");
        if ended.is_ok() {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 12, "every step was one to be killed at: {steps}");
}

#[test]
fn a_key_that_was_asked_with_is_not_forgotten() {
    let folder = Folder::new();
    let issuer = issuer();
    let mut found = Store::open(&folder.identity()).unwrap();
    let key = found.store.prepare(b"a").unwrap().public();
    // One for a token is another, and neither is in the other's way.
    let (first, is_new) = found.store.prepare_first(b"a").unwrap();
    assert!(is_new && first.public() != key);
    // Killed, and started again.
    let mut found = Store::open(&folder.identity()).unwrap();
    assert_eq!(found.store.prepare(b"a").unwrap().public(), key);
    let (again, is_new) = found.store.prepare_first(b"a").unwrap();
    assert!(!is_new && again.public() == first.public());
    found.store.forget_first().unwrap();
    assert!(found.store.prepare_first(b"a").unwrap().1);
    assert_eq!(found.store.prepare(b"a").unwrap().public(), key);
    // Something else is asked by: that key was never asked with.
    let other = found.store.prepare(b"b").unwrap().public();
    assert_ne!(other, key);
    let key = found.store.prepare(b"b").unwrap();
    found.store.install(&issued(&issuer, key)).unwrap();
    assert_ne!(found.store.prepare(b"b").unwrap().public(), other, "it is in use");
}

#[test]
fn what_is_damaged_is_told_and_the_one_before_counts() {
    let issuer = issuer();
    for name in ["key.pem", "chain.pem", "ca.pem"] {
        for damage in [&b""[..], b"\xff", b"-----BEGIN CERTIFICATE-----\n!\n"] {
            let folder = Folder::new();
            let mut found = Store::open(&folder.identity()).unwrap();
            let first = renew(&mut found, &issuer).unwrap();
            renew(&mut found, &issuer).unwrap();
            std::fs::write(folder.identity().join(name), damage).unwrap();
            let found = Store::open(&folder.identity()).unwrap();
            assert_eq!(found.identity.unwrap().key.public(), first.key.public(), "{name}");
            assert_eq!(found.damaged.len(), 1, "{:?}", found.damaged);
            let key = std::fs::read_to_string(folder.identity().join("key.pem")).unwrap();
            assert_eq!(key, first.key.pem(), "others read the same one");
        }
    }
}

/// Whoever owns the directory above may plant something there for root, who joins.
#[test]
fn links_lead_to_nobody_elses_files() {
    let folder = Folder::new();
    let directory = folder.identity();
    let above = directory.parent().unwrap();
    std::fs::create_dir_all(above).unwrap();
    let (victim, elsewhere) = (above.join("victim"), above.join("elsewhere"));
    std::fs::write(&victim, "theirs").unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o755)).unwrap();

    symlink(&elsewhere, &directory).unwrap();
    assert!(Store::open(&directory).is_err());
    let mode = std::fs::metadata(&elsewhere).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    std::fs::remove_file(&directory).unwrap();

    let mut found = Store::open(&directory).unwrap();
    symlink(&victim, directory.join("pending.new")).unwrap();
    symlink(&victim, directory.join("pending")).unwrap();
    let key = found.store.prepare(b"a").unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "theirs");
    found.store.install(&issued(&issuer(), key)).unwrap();
    assert!(Store::open(&directory).unwrap().identity.is_some());

    // Nobody waits for a pipe.
    let mut found = Store::open(&directory).unwrap();
    nix::unistd::mkfifo(&directory.join("pending"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    found.store.prepare(b"b").unwrap();

    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&directory, Some(4_711), None).unwrap();
        assert!(Store::open(&directory).is_err(), "another user's");
    }
}
