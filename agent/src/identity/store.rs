//! Identities on disk: whatever ends the process, and whenever, one of them is whole.
//!
//! ```text
//! identity/             0700
//!   7/                  the generation before
//!   8/                  the newest: key.pem, chain.pem, ca.pem, 0600 each
//!   current -> 8        for programs that read all three
//!   key.pem -> current/key.pem, and so chain.pem and ca.pem
//!   pending             the key of a request that may be under way, and what it is for
//!   joining             the same, of a request with a token
//! ```
//!
//! A generation is written beside the others and gets its name when it is whole and on the disk;
//! the newest one that is whole counts. A key is written before anything is asked for it, so that
//! an answer that is lost can be asked for again.

mod files;

use std::io;
use std::path::{Path, PathBuf};

use plan::Digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

pub use self::files::{Disk, Files};
use super::key::{Key, KeyError};
use super::{Identity, Unfit};

/// The longest file that is read, in bytes.
const FILE_MAX: u64 = 256 << 10;

/// The files of a generation.
const NAMES: [&str; 3] = ["key.pem", "chain.pem", "ca.pem"];

const CURRENT: &str = "current";
const PENDING: &str = "pending";
/// Beside it: a machine that joins anew and is refused goes on with what it had, and with what it
/// has asked for by that.
const JOINING: &str = "joining";
/// What is being made ends so, and is nothing yet.
const NEW: &str = ".new";

/// Where identities are kept.
#[derive(Debug)]
pub struct Store<F = Disk> {
    files: F,
    directory: PathBuf,
    /// The newest generation that was ever named; the next one is one more.
    newest: u64,
}

/// What was found.
#[derive(Debug)]
pub struct Found<F = Disk> {
    /// Where to keep the next one.
    pub store: Store<F>,
    /// The newest identity that is whole, expired or not.
    pub identity: Option<Identity>,
    /// What is there and cannot be used, in words.
    pub damaged: Vec<String>,
}

/// Identities cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system says no.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Its words.
        #[source]
        source: io::Error,
    },
    /// No key can be made.
    #[error("no key can be had")]
    Key(#[from] KeyError),
}

impl Store<Disk> {
    /// Opens `directory`, which is made where there is none.
    ///
    /// # Errors
    /// It cannot be made, or not be read.
    pub fn open(directory: &Path) -> Result<Found, StoreError> {
        Self::open_with(Disk, directory)
    }
}

impl<F: Files> Store<F> {
    /// The same, by these files.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(files: F, directory: &Path) -> Result<Found<F>, StoreError> {
        let mut store = Self { files, directory: directory.to_owned(), newest: 0 };
        store.files.directory(directory).map_err(failed("make", directory))?;
        let mut found = store.generations()?;
        found.sort_unstable_by(|a, b| b.cmp(a));
        store.newest = found.first().copied().unwrap_or(0);
        let mut damaged = Vec::new();
        for generation in found {
            match store.read(generation) {
                Ok(identity) => {
                    store.point(generation)?;
                    return Ok(Found { store, identity: Some(identity), damaged });
                }
                Err(why) => {
                    let path = store.path(&generation.to_string());
                    damaged.push(format!("{} is no identity: {why}", path.display()));
                }
            }
        }
        Ok(Found { store, identity: None, damaged })
    }

    /// The key to ask for a certificate with, on disk already: the one that it was asked for with
    /// before, or a new one. `last` is what is asked by: the last certificate.
    ///
    /// # Errors
    /// None can be made or kept.
    pub fn prepare(&mut self, last: &[u8]) -> Result<Key, StoreError> {
        Ok(self.key_for(PENDING, last)?.0)
    }

    /// The same for a first certificate, by a token; and whether it is new: then nobody was ever
    /// asked with it.
    ///
    /// # Errors
    /// As [`Store::prepare`].
    pub fn prepare_first(&mut self, token: &[u8]) -> Result<(Key, bool), StoreError> {
        self.key_for(JOINING, token)
    }

    /// Forgets the key for a first certificate, which nobody was given or will be.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget_first(&mut self) -> Result<(), StoreError> {
        let path = self.path(JOINING);
        self.files.remove(&path).map_err(failed("remove", &path))?;
        self.sync()
    }

    fn key_for(&mut self, name: &str, purpose: &[u8]) -> Result<(Key, bool), StoreError> {
        let label = format!("for {}\n", Digest::of(purpose));
        let path = self.path(name);
        if let Ok(text) = self.text(&path)
            && let Some(pem) = text.strip_prefix(&label)
            && let Ok(key) = Key::from_pem(pem)
        {
            return Ok((key, false));
        }
        let key = Key::generate()?;
        let new = self.path(&format!("{name}{NEW}"));
        let text = format!("{label}{}", key.pem());
        self.files.write(&new, text.as_bytes()).map_err(failed("write", &new))?;
        self.files.rename(&new, &path).map_err(failed("name", &path))?;
        self.sync()?;
        Ok((key, true))
    }

    /// Keeps an identity; from here on it is the newest. The one before stays beside it.
    ///
    /// # Errors
    /// It cannot be kept; the one before counts.
    pub fn install(&mut self, identity: &Identity) -> Result<(), StoreError> {
        let generation = self.newest.saturating_add(1);
        let path = self.path(&generation.to_string());
        let new = self.path(&format!("{generation}{NEW}"));
        self.files.remove(&new).map_err(failed("remove", &new))?;
        self.files.directory(&new).map_err(failed("make", &new))?;
        let texts = [identity.key.pem(), identity.chain_pem(), identity.ca_pem()];
        for (name, text) in NAMES.iter().zip(&texts) {
            let file = new.join(name);
            self.files.write(&file, text.as_bytes()).map_err(failed("write", &file))?;
        }
        self.files.sync(&new).map_err(failed("sync", &new))?;
        self.files.rename(&new, &path).map_err(failed("name", &path))?;
        self.newest = generation;
        self.sync()?;
        self.point(generation)?;
        self.tidy(generation)
    }

    /// Lets `current` and the names of the files lead to a generation.
    fn point(&mut self, generation: u64) -> Result<(), StoreError> {
        let mut links = vec![(CURRENT.to_owned(), generation.to_string())];
        links.extend(NAMES.map(|name| (name.to_owned(), format!("{CURRENT}/{name}"))));
        let mut changed = false;
        for (name, target) in links {
            let path = self.path(&name);
            if self.files.link(&path).ok().flatten().as_deref() == Some(Path::new(&target)) {
                continue;
            }
            changed = true;
            let new = self.path(&format!("{name}{NEW}"));
            self.files.remove(&new).map_err(failed("remove", &new))?;
            self.files.symlink(Path::new(&target), &new).map_err(failed("link", &new))?;
            self.files.rename(&new, &path).map_err(failed("name", &path))?;
        }
        if changed { self.sync() } else { Ok(()) }
    }

    /// Removes what is no longer needed: all generations but this one and the one before, the
    /// keys that were pending, and what was left half made.
    fn tidy(&mut self, generation: u64) -> Result<(), StoreError> {
        let mut old: Vec<u64> = self.generations()?;
        old.retain(|found| *found < generation);
        old.sort_unstable();
        old.pop();
        let old = old.iter().map(u64::to_string).chain([PENDING, JOINING].map(str::to_owned));
        let paths: Vec<PathBuf> = old.map(|name| self.path(&name)).collect();
        for path in paths {
            self.files.remove(&path).map_err(failed("remove", &path))?;
        }
        self.sync()
    }

    /// The generations that have a name, whole or not.
    fn generations(&self) -> Result<Vec<u64>, StoreError> {
        let names = self.files.list(&self.directory).map_err(failed("read", &self.directory))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn read(&self, generation: u64) -> Result<Identity, String> {
        let directory = self.path(&generation.to_string());
        let [key, chain, ca] = NAMES.map(|name| self.text(&directory.join(name)));
        let key = Key::from_pem(&key?).map_err(|error| error.to_string())?;
        let (chain, ca) = (certificates(&chain?)?, certificates(&ca?)?);
        Identity::of(chain, key, ca).map_err(|error: Unfit| error.to_string())
    }

    fn text(&self, path: &Path) -> Result<String, String> {
        let bytes = self.files.read(path, FILE_MAX).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|_| "it is no text".to_owned())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let directory = self.directory.clone();
        self.files.sync(&directory).map_err(failed("sync", &directory))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.map_err(|_| "a certificate cannot be read".to_owned())
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { doing, path, source }
}
