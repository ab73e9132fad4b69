//! An answer, written into a buffer that a thread keeps: nothing is allocated per query.
//!
//! What does not fit is taken back as a whole: [`Buffer::mark`] before a record set,
//! [`Buffer::rewind`] when it was too much.

use super::{HEADER, TCP_MAX, name::LABELS_MAX};

/// Names that can be pointed at in one answer. Beyond it names are written whole, so that a large
/// answer costs no more than this many comparisons per label.
const TARGETS_MAX: usize = 64;

/// Highest offset that a compression pointer can say (RFC 1035 section 4.1.4).
const POINTER_MAX: usize = 0x3fff;

/// The answer is longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A suffix of a name that was written, for compression.
#[derive(Clone, Copy)]
struct Target {
    hash: u32,
    at: u16,
}

/// Where an answer stood.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    len: usize,
    targets: usize,
}

/// Holds one answer at a time.
pub struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
    limit: usize,
    targets: [Target; TARGETS_MAX],
    targets_len: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Buffer {
    /// An empty buffer, large enough for any answer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: vec![0; TCP_MAX].into(),
            len: 0,
            limit: 0,
            targets: [Target { hash: 0, at: 0 }; TARGETS_MAX],
            targets_len: 0,
        }
    }

    /// The answer.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Starts an answer of at most `limit` octets.
    pub(crate) fn begin(&mut self, limit: usize) {
        self.len = 0;
        self.limit = limit.min(TCP_MAX);
        self.targets_len = 0;
    }

    /// Octets written.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keeps `octets` of the limit for what must come last.
    pub(crate) fn reserve(&mut self, octets: usize) {
        self.limit = self.limit.saturating_sub(octets);
    }

    /// Gives reserved octets back.
    pub(crate) fn release(&mut self, octets: usize) {
        self.limit = (self.limit + octets).min(TCP_MAX);
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { len: self.len, targets: self.targets_len }
    }

    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.len = mark.len;
        self.targets_len = mark.targets;
    }

    pub(crate) fn put(&mut self, octets: &[u8]) -> Result<(), Full> {
        let end = self.len + octets.len();
        if end > self.limit {
            return Err(Full);
        }
        self.bytes.get_mut(self.len..end).ok_or(Full)?.copy_from_slice(octets);
        self.len = end;
        Ok(())
    }

    pub(crate) fn put_u8(&mut self, value: u8) -> Result<(), Full> {
        self.put(&[value])
    }

    pub(crate) fn put_u16(&mut self, value: u16) -> Result<(), Full> {
        self.put(&value.to_be_bytes())
    }

    /// Overwrites octets that were written before.
    pub(crate) fn patch(&mut self, at: usize, octets: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + octets.len()) {
            place.copy_from_slice(octets);
        }
    }

    pub(crate) fn patch_u16(&mut self, at: usize, value: u16) {
        self.patch(at, &value.to_be_bytes());
    }

    /// An owner, type, class IN, TTL and a length to be set by [`Buffer::finish_data`], whose place
    /// is given back.
    pub(crate) fn head(&mut self, owner: u16, rtype: u16, ttl: u32) -> Result<usize, Full> {
        let [o1, o2] = (owner | 0xc000).to_be_bytes();
        let [t1, t2] = rtype.to_be_bytes();
        let [l1, l2, l3, l4] = ttl.to_be_bytes();
        self.put(&[o1, o2, t1, t2, 0, 1, l1, l2, l3, l4, 0, 0])?;
        Ok(self.len - 2)
    }

    /// Like [`Buffer::head`] with an owner that is written out; also gives the owner's offset.
    pub(crate) fn head_named(
        &mut self,
        owner: &[u8],
        rtype: u16,
        ttl: u32,
    ) -> Result<(u16, usize), Full> {
        let at = self.name(owner)?;
        let [t1, t2] = rtype.to_be_bytes();
        let [l1, l2, l3, l4] = ttl.to_be_bytes();
        self.put(&[t1, t2, 0, 1, l1, l2, l3, l4, 0, 0])?;
        Ok((at, self.len - 2))
    }

    /// Sets the length whose place is `at` to what was written since.
    pub(crate) fn finish_data(&mut self, at: usize) {
        let length = self.len.saturating_sub(at + 2);
        self.patch_u16(at, u16::try_from(length).unwrap_or(u16::MAX));
    }

    /// Writes a valid wire name, compressed, and gives an offset that stands for the whole name.
    pub(crate) fn name(&mut self, wire: &[u8]) -> Result<u16, Full> {
        let mut starts = [0u8; LABELS_MAX + 1];
        let mut hashes = [0u32; LABELS_MAX + 1];
        let count = label_starts(wire, &mut starts);
        let mut hash = 0u32;
        let labels = starts.iter().zip(hashes.iter_mut()).take(count);
        for (start, slot) in labels.rev() {
            hash = label_hash(hash, wire.get(usize::from(*start)..).unwrap_or_default());
            *slot = hash;
        }
        let begin = self.len;
        for (start, hash) in starts.iter().zip(hashes).take(count) {
            let suffix = wire.get(usize::from(*start)..).unwrap_or_default();
            if let Some(at) = self.find(hash, suffix) {
                self.put_u16(at | 0xc000)?;
                return Ok(if self.len - begin == 2 { at } else { offset(begin) });
            }
            self.remember(hash);
            let length = suffix.first().copied().map_or(0, usize::from);
            self.put(suffix.get(..=length).unwrap_or_default())?;
        }
        self.put_u8(0)?;
        Ok(offset(begin))
    }

    /// Makes the name at `at` in the answer, written outside [`Buffer::name`], a target.
    pub(crate) fn learn(&mut self, at: usize, wire: &[u8]) {
        let mut starts = [0u8; LABELS_MAX + 1];
        let count = label_starts(wire, &mut starts);
        let mut hash = 0u32;
        for start in starts.iter().take(count).rev() {
            hash = label_hash(hash, wire.get(usize::from(*start)..).unwrap_or_default());
            self.add_target(hash, at + usize::from(*start));
        }
    }

    fn remember(&mut self, hash: u32) {
        self.add_target(hash, self.len);
    }

    fn add_target(&mut self, hash: u32, at: usize) {
        let Some(slot) = self.targets.get_mut(self.targets_len) else { return };
        if let (true, Ok(at)) = (at <= POINTER_MAX, u16::try_from(at)) {
            *slot = Target { hash, at };
            self.targets_len += 1;
        }
    }

    fn find(&self, hash: u32, suffix: &[u8]) -> Option<u16> {
        let known = self.targets.get(..self.targets_len).unwrap_or_default();
        let mut same = known.iter().filter(|target| target.hash == hash);
        same.find(|target| self.is_at(usize::from(target.at), suffix)).map(|target| target.at)
    }

    /// Whether the name at `at` in the answer is `name`. Pointers only lead back, so this ends.
    pub(crate) fn is_at(&self, mut at: usize, name: &[u8]) -> bool {
        let mut rest = name;
        loop {
            let Some(&length) = self.bytes().get(at) else { return false };
            if length >= 0xc0 {
                let Some(&low) = self.bytes().get(at + 1) else { return false };
                let next = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                if next >= at {
                    return false;
                }
                at = next;
                continue;
            }
            let size = usize::from(length) + 1;
            let Some((label, after)) = rest.split_at_checked(size) else { return false };
            let Some(written) = self.bytes().get(at..at + size) else { return false };
            if !label.eq_ignore_ascii_case(written) {
                return false;
            }
            if length == 0 {
                return true;
            }
            rest = after;
            at += size;
        }
    }

    /// The header; counts are set by [`Buffer::patch_u16`].
    pub(crate) fn header(&mut self, id: u16, flags: u16) -> Result<(), Full> {
        let [i1, i2] = id.to_be_bytes();
        let [f1, f2] = flags.to_be_bytes();
        self.put(&[i1, i2, f1, f2, 0, 0, 0, 0, 0, 0, 0, 0])?;
        debug_assert_eq!(self.len, HEADER);
        Ok(())
    }
}

fn offset(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// Fills the start of each label of a wire name and gives their number, the root not counted.
fn label_starts(wire: &[u8], starts: &mut [u8; LABELS_MAX + 1]) -> usize {
    let mut at = 0usize;
    let mut count = 0usize;
    for slot in starts.iter_mut() {
        let length = wire.get(at).copied().unwrap_or_default();
        let (1.., Ok(start)) = (length, u8::try_from(at)) else { break };
        *slot = start;
        count += 1;
        at += 1 + usize::from(length);
    }
    count
}

/// Hash of the name that starts with the first label of `wire`, given that of what follows it.
fn label_hash(tail: u32, wire: &[u8]) -> u32 {
    let length = wire.first().copied().map_or(0, usize::from);
    let label = wire.get(..=length).unwrap_or_default();
    label.iter().fold(tail.rotate_left(7) ^ 0x811c_9dc5, |hash, octet| {
        (hash ^ u32::from(octet.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    fn wire(text: &str) -> Vec<u8> {
        Name::from_text(text).unwrap().as_wire().to_vec()
    }

    #[test]
    fn names_are_compressed_and_offsets_hold() {
        let mut buffer = Buffer::new();
        buffer.begin(512);
        assert_eq!(buffer.name(&wire("a.example")), Ok(0));
        assert_eq!(buffer.name(&wire("b.example")), Ok(11));
        assert_eq!(buffer.bytes().get(11..), Some(&[1, b'b', 0xc0, 2][..]));
        assert_eq!(buffer.name(&wire("B.EXAMPLE")), Ok(11));
        assert_eq!(buffer.len(), 17);
        assert_eq!(buffer.name(&wire(".")), Ok(17));
        assert!(buffer.is_at(11, &wire("b.example")));
        assert!(!buffer.is_at(11, &wire("b.example.org")));
        assert!(!buffer.is_at(11, &wire("example")));
    }

    #[test]
    fn the_limit_holds_and_rewinding_forgets_targets() {
        let mut buffer = Buffer::new();
        buffer.begin(12);
        let mark = buffer.mark();
        assert_eq!(buffer.name(&wire("a.long.example")), Err(Full));
        buffer.rewind(mark);
        assert_eq!(buffer.name(&wire("a.example")), Ok(0));
        assert_eq!(buffer.len(), 11);
        assert_eq!(buffer.put_u8(1), Ok(()));
        assert_eq!(buffer.put_u8(1), Err(Full));
    }

    #[test]
    fn beyond_the_target_table_names_stay_right() {
        let mut buffer = Buffer::new();
        buffer.begin(TCP_MAX);
        for index in 0..3000 {
            let name = wire(&format!("n{index}.zone{}.example", index % 90));
            let at = usize::from(buffer.name(&name).unwrap());
            assert!(buffer.is_at(at, &name), "{index}");
        }
    }
}
