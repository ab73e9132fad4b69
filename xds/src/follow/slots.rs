//! Two slots on disk, written in turn: whatever happens while one is written, the other is whole.
//!
//! A slot is `magic ‖ sequence ‖ length ‖ SHA-256(sequence ‖ length ‖ payload) ‖ payload`, numbers
//! in network order, 8 bytes each. Of two whole slots the one with the higher sequence counts.
//! Files are written over in place, so that a full disk does not stop a slot that is no longer than
//! before; what stands after the payload means nothing.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

/// What a slot begins with.
const MAGIC: [u8; 8] = *b"XFSLOT\x00\x01";

/// What is said of something else in a slot's place.
const NO_FILE: &str = "it is no file";

/// Magic, sequence, length and digest.
const HEAD: usize = 8 + 8 + 8 + 32;

/// Two files.
#[derive(Debug)]
pub struct Slots {
    paths: [PathBuf; 2],
    limit: u64,
    /// Of the newest whole slot; 0 where there is none.
    sequence: u64,
    /// Which one is written next: never the newest whole one.
    next: usize,
}

/// Slots with what they hold.
#[derive(Debug)]
pub struct Opened {
    /// To write to.
    pub slots: Slots,
    /// The newest whole payload.
    pub payload: Option<Vec<u8>>,
    /// What is not whole.
    pub damaged: Vec<Damage>,
}

/// A slot that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Why nothing was read or written.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The operating system says no.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// It is more than a slot may have.
    #[error("{length} bytes are over the limit of {limit}")]
    TooLong {
        /// How much it is.
        length: u64,
        /// How much it may be.
        limit: u64,
    },
}

impl Slots {
    /// Reads `DIRECTORY/NAME.0` and `.1`, which need not be there. Payloads are at most `limit`
    /// bytes.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn open(directory: &Path, name: &str, limit: u64) -> Result<Opened, SlotError> {
        let paths = [0, 1].map(|n| directory.join(format!("{name}.{n}")));
        let mut slots = Self { paths, limit, sequence: 0, next: 0 };
        let (mut payload, mut damaged) = (None, Vec::new());
        for at in [0, 1] {
            let Some(path) = slots.paths.get(at) else { continue };
            let found = read(path, limit).map_err(|source| SlotError::File {
                what: "read",
                path: path.clone(),
                source,
            })?;
            match found {
                Found::Nothing => {}
                Found::Damaged(why) => damaged.push(Damage { path: path.clone(), why }),
                Found::Whole { sequence, payload: bytes } => {
                    if sequence > slots.sequence {
                        slots.sequence = sequence;
                        slots.next = 1 - at;
                        payload = Some(bytes);
                    }
                }
            }
        }
        Ok(Opened { slots, payload, damaged })
    }

    /// Writes a payload over the older slot. When it returns, it is on disk.
    ///
    /// # Errors
    /// It may be on disk or not; the one before is, and what is written next goes to the same slot.
    pub fn write(&mut self, payload: &[u8]) -> Result<(), SlotError> {
        let length = payload.len() as u64;
        if length > self.limit {
            return Err(SlotError::TooLong { length, limit: self.limit });
        }
        let Some(path) = self.paths.get(self.next) else { return Ok(()) };
        let sequence = self.sequence.saturating_add(1);
        write(path, &head(sequence, payload), payload).map_err(|source| SlotError::File {
            what: "write",
            path: path.clone(),
            source,
        })?;
        self.sequence = sequence;
        self.next = 1 - self.next;
        Ok(())
    }
}

enum Found {
    Nothing,
    Damaged(&'static str),
    Whole { sequence: u64, payload: Vec<u8> },
}

fn head(sequence: u64, payload: &[u8]) -> [u8; HEAD] {
    let length = payload.len() as u64;
    let mut digest = Sha256::new();
    digest.update(sequence.to_be_bytes());
    digest.update(length.to_be_bytes());
    digest.update(payload);
    let mut head = [0; HEAD];
    let parts = MAGIC.into_iter().chain(sequence.to_be_bytes()).chain(length.to_be_bytes());
    head.iter_mut().zip(parts.chain(digest.finalize())).for_each(|(to, from)| *to = from);
    head
}

fn read(path: &Path, limit: u64) -> io::Result<Found> {
    // Whoever owns the directory may have put a link there, which root must not follow, or a pipe,
    // which nobody is to wait for.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = File::options().read(true).custom_flags(flags.bits()).open(path);
    let mut file = match opened {
        Ok(file) if file.metadata()?.is_file() => file,
        Ok(_) => return Ok(Found::Damaged(NO_FILE)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
            return Ok(Found::Damaged(NO_FILE));
        }
        Err(error) => return Err(error),
    };
    let mut found = [0; HEAD];
    match file.read_exact(&mut found) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            // Made and never written is no damage: there was nothing to lose.
            let empty = file.metadata()?.len() == 0;
            return Ok(if empty { Found::Nothing } else { Found::Damaged("its head is cut") });
        }
        Err(error) => return Err(error),
    }
    let [magic, sequence, length] = [0, 8, 16].map(|at| {
        let mut word = [0; 8];
        word.iter_mut().zip(found.iter().skip(at)).for_each(|(to, from)| *to = *from);
        word
    });
    let (sequence, length) = (u64::from_be_bytes(sequence), u64::from_be_bytes(length));
    if magic != MAGIC {
        return Ok(Found::Damaged("it does not begin as a slot"));
    }
    if length > limit || sequence == 0 {
        return Ok(Found::Damaged("its head cannot be"));
    }
    let mut payload = Vec::new();
    file.take(length).read_to_end(&mut payload)?;
    if payload.len() as u64 != length {
        return Ok(Found::Damaged("it is cut"));
    }
    if head(sequence, &payload) != found {
        return Ok(Found::Damaged("its digest is another one"));
    }
    Ok(Found::Whole { sequence, payload })
}

fn write(path: &Path, head: &[u8], payload: &[u8]) -> io::Result<()> {
    let new = !path.try_exists()?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(head)?;
    file.write_all(payload)?;
    file.sync_all()?;
    if new && let Some(directory) = path.parent() {
        // The name itself must survive.
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
