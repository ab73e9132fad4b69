use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("xf-slots-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn open(&self) -> Opened {
        Slots::open(&self.0, "t", 1 << 20).unwrap()
    }

    fn file(&self, n: usize) -> PathBuf {
        self.0.join(format!("t.{n}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_newest_counts_and_slots_take_turns() {
    let scratch = Scratch::new();
    let mut opened = scratch.open();
    assert!(opened.payload.is_none() && opened.damaged.is_empty());
    for payload in ["one", "a longer two", "3", ""] {
        opened.slots.write(payload.as_bytes()).unwrap();
        let again = scratch.open();
        assert_eq!(again.payload.as_deref(), Some(payload.as_bytes()));
        assert!(again.damaged.is_empty());
        opened = again;
    }
    let error = opened.slots.write(&vec![0; (1 << 20) + 1]).unwrap_err();
    assert!(matches!(error, SlotError::TooLong { .. }));
    assert_eq!(scratch.open().payload.as_deref(), Some(&b""[..]));
}

/// Whoever owns the directory can put something else in a slot's place: nobody follows it or waits.
#[test]
fn what_is_no_file_is_no_slot() {
    for planted in ["pipe", "link", "folder"] {
        let scratch = Scratch::new();
        let mut opened = scratch.open();
        opened.slots.write(b"before").unwrap();
        opened.slots.write(b"newest").unwrap();
        let (slot, moved) = (scratch.file(1), scratch.0.join("moved"));
        fs::rename(&slot, &moved).unwrap();
        match planted {
            "pipe" => nix::unistd::mkfifo(&slot, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "link" => std::os::unix::fs::symlink(&moved, &slot).unwrap(),
            _ => fs::create_dir(&slot).unwrap(),
        }
        let mut opened = scratch.open();
        assert_eq!(opened.payload.as_deref(), Some(&b"before"[..]), "{planted}");
        assert_eq!(opened.damaged, [Damage { path: slot, why: NO_FILE }]);
        assert!(opened.slots.write(b"another").is_err(), "{planted}");
    }
}

/// Every single byte of the newest slot, every bit pattern of it that a flip gives: the one before
/// counts, and the damage is told.
#[test]
fn every_flipped_byte_is_found() {
    let scratch = Scratch::new();
    let mut opened = scratch.open();
    opened.slots.write(b"before").unwrap();
    opened.slots.write(b"newest").unwrap();
    let good = fs::read(scratch.file(1)).unwrap();
    for at in 0..good.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= mask;
            fs::write(scratch.file(1), &bytes).unwrap();
            let opened = scratch.open();
            assert_eq!(opened.payload.as_deref(), Some(&b"before"[..]), "byte {at} ^ {mask:x}");
            assert_eq!(opened.damaged.len(), 1, "byte {at} ^ {mask:x}");
        }
    }
    fs::write(scratch.file(0), b"rubbish").unwrap();
    let opened = scratch.open();
    assert_eq!((opened.payload, opened.damaged.len()), (None, 2));
}

proptest! {
    // Each case waits for the disk several times.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever part of a write reached the disk, in whatever order its blocks did, the payload
    /// before or the one that was being written comes back, and writing goes on.
    #[test]
    fn torn_writes_leave_one_whole(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..5),
        torn in prop::collection::vec(any::<u8>(), 1..600),
        reached in prop::collection::vec(any::<bool>(), 16),
        cut in any::<prop::sample::Index>(),
    ) {
        let scratch = Scratch::new();
        let mut opened = scratch.open();
        for payload in &payloads {
            opened.slots.write(payload).unwrap();
        }
        let path = scratch.file(opened.slots.next);
        let old = fs::read(&path).unwrap_or_default();
        let head = head(opened.slots.sequence + 1, &torn);
        let whole: Vec<u8> = head.iter().chain(&torn).copied().collect();
        let written = whole.get(..cut.index(whole.len() + 1)).unwrap();
        let mut disk = old.clone();
        disk.resize(old.len().max(written.len()), 0);
        for (n, block) in written.chunks(64).enumerate() {
            if reached[n % reached.len()] {
                disk[n * 64..n * 64 + block.len()].copy_from_slice(block);
            }
        }
        fs::write(&path, &disk).unwrap();
        let mut again = scratch.open();
        let found = again.payload.take().unwrap();
        prop_assert!(found == *payloads.last().unwrap() || found == torn);
        again.slots.write(b"after").unwrap();
        prop_assert_eq!(scratch.open().payload, Some(b"after".to_vec()));
    }
}
