//! Messages of gRPC, in and out (gRPC over HTTP/2, "Length-Prefixed-Message").

use std::collections::VecDeque;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::session::{Close, Code};

/// One byte that says whether the message is compressed, four bytes of its length.
const PREFIX: usize = 5;

/// What comes in: pieces of any size; messages go out.
#[derive(Debug)]
pub(super) struct Inbox {
    limit: usize,
    /// The piece that came last, where messages are wholly in it: nothing is copied.
    piece: Bytes,
    /// The beginning of a message whose rest is not here yet. Empty in between, without memory.
    partial: BytesMut,
}

impl Inbox {
    /// For messages of at most this many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, piece: Bytes::new(), partial: BytesMut::new() }
    }

    /// Takes a piece, after all messages before it were taken out.
    pub(super) fn put(&mut self, piece: Bytes) {
        if self.partial.is_empty() {
            self.piece = piece;
        } else {
            self.partial.extend_from_slice(&piece);
        }
    }

    /// The next message, if it is here. What it needs is not kept after `None`.
    ///
    /// # Errors
    /// It is too long, which is told by its first bytes, or compressed.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Close> {
        if self.partial.is_empty() {
            let Some(length) = self.length(&self.piece)? else {
                self.keep();
                return Ok(None);
            };
            if self.piece.len() < PREFIX + length {
                self.keep();
                return Ok(None);
            }
            self.piece.advance(PREFIX);
            let message = self.piece.split_to(length);
            if self.piece.is_empty() {
                self.piece = Bytes::new();
            }
            return Ok(Some(message));
        }
        let Some(length) = self.length(&self.partial)? else { return Ok(None) };
        if self.partial.len() < PREFIX + length {
            return Ok(None);
        }
        let mut whole = std::mem::take(&mut self.partial).freeze();
        whole.advance(PREFIX);
        let message = whole.split_to(length);
        self.piece = whole;
        Ok(Some(message))
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_amid(&self) -> bool {
        !self.partial.is_empty() || !self.piece.is_empty()
    }

    /// Copies what is left, so that a few bytes do not hold the connection's whole read buffer.
    fn keep(&mut self) {
        if !self.piece.is_empty() {
            self.partial.extend_from_slice(&self.piece);
        }
        self.piece = Bytes::new();
    }

    fn length(&self, at: &[u8]) -> Result<Option<usize>, Close> {
        let Some(([flag, length @ ..], _)) = at.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        if *flag != 0 {
            let message = "the message is compressed; send messages as they are (identity)";
            return Err(Close { code: Code::Unimplemented, message: message.to_owned() });
        }
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.limit {
            return Err(Close::exhausted(format!(
                "the request has {length} bytes; at most {} are taken",
                self.limit
            )));
        }
        Ok(Some(length))
    }
}

/// What goes out: messages in parts, as chunks that HTTP/2 sends as one frame each.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    parts: VecDeque<Bytes>,
    /// Bytes left of the message.
    left: usize,
    /// The message is long enough for its last byte to go alone.
    watched: bool,
}

impl Outbox {
    /// The smallest frame that every HTTP/2 peer takes (RFC 9113 section 4.2).
    const CHUNK: usize = 16 << 10;
    /// Parts from here on are sent as they are; copying less is cheaper than another frame.
    const COPY_MAX: usize = 4 << 10;
    /// Of messages from here on the last byte goes as a chunk of its own. A chunk is asked for when
    /// the one before has a place in the window, be it for its first byte alone; with the last byte
    /// apart, a message that is not wholly read is seen to wait here. Shorter ones may lie in
    /// buffers below, where they hold little.
    const WATCHED_MIN: usize = 4 << 10;

    /// Takes a message, after the one before went out.
    pub(super) fn put(&mut self, parts: Vec<Bytes>) {
        let length: usize = parts.iter().map(Bytes::len).sum();
        let mut prefix = BytesMut::with_capacity(PREFIX);
        prefix.put_u8(0);
        prefix.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        self.left = PREFIX + length;
        self.watched = self.left >= Self::WATCHED_MIN;
        self.parts = VecDeque::from(parts);
        self.parts.push_front(prefix.freeze());
    }

    /// The next chunk; `None` where the message is out.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        while self.parts.front().is_some_and(Bytes::is_empty) {
            self.parts.pop_front();
        }
        if self.left == 0 || self.parts.is_empty() {
            *self = Self::default();
            return None;
        }
        let apart = usize::from(self.watched && self.left > 1);
        let room = Self::CHUNK.min(self.left - apart);
        let chunk = match self.parts.front_mut() {
            Some(first) if first.len() >= Self::COPY_MAX || first.len() >= room => {
                first.split_to(room.min(first.len()))
            }
            _ => self.coalesced(room),
        };
        self.left -= chunk.len();
        Some(chunk)
    }

    fn coalesced(&mut self, room: usize) -> Bytes {
        let mut fits = 0;
        for part in &self.parts {
            if part.len() >= Self::COPY_MAX || fits >= room {
                break;
            }
            fits += part.len();
        }
        let mut chunk = BytesMut::with_capacity(fits.min(room));
        while let Some(part) = self.parts.front_mut() {
            let free = room - chunk.len();
            if free == 0 || part.len() >= Self::COPY_MAX {
                break;
            }
            chunk.extend_from_slice(&part.split_to(free.min(part.len())));
            if part.is_empty() {
                self.parts.pop_front();
            }
        }
        chunk.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut out = vec![0];
        out.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        out.extend(message);
        out
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_first_bytes() {
        let mut inbox = Inbox::new(100);
        inbox.put(Bytes::from_static(&[0, 0, 0, 0, 101]));
        assert_eq!(inbox.next().unwrap_err().code, Code::ResourceExhausted);
        let mut inbox = Inbox::new(100);
        inbox.put(Bytes::from_static(&[1, 0, 0, 0, 1]));
        assert_eq!(inbox.next().unwrap_err().code, Code::Unimplemented);
    }

    #[test]
    fn nothing_is_kept_between_messages() {
        let mut inbox = Inbox::new(100);
        let bytes = framed(b"orders");
        for piece in bytes.chunks(3) {
            inbox.put(Bytes::copy_from_slice(piece));
            let message = inbox.next().unwrap();
            assert_eq!(message.is_some(), !inbox.is_amid());
        }
        assert_eq!((inbox.partial.capacity(), inbox.piece.len()), (0, 0));
    }

    #[test]
    fn the_last_byte_of_a_long_message_goes_alone() {
        let mut outbox = Outbox::default();
        outbox.put(vec![Bytes::from(vec![7; 40_000])]);
        let chunks: Vec<usize> =
            std::iter::from_fn(|| outbox.next()).map(|chunk| chunk.len()).collect();
        assert_eq!(chunks, [5, 16_384, 16_384, 7_231, 1]);
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
            cut in 1usize..40,
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let mut inbox = Inbox::new(50);
            let mut seen = Vec::new();
            for piece in bytes.chunks(cut) {
                inbox.put(Bytes::copy_from_slice(piece));
                while let Some(message) = inbox.next().unwrap() {
                    seen.push(message.to_vec());
                }
            }
            prop_assert_eq!(seen, messages);
            prop_assert!(!inbox.is_amid());
        }

        #[test]
        fn parts_go_out_as_one_message(
            sizes in prop::collection::vec(prop_oneof![0usize..20, 1_000usize..30_000], 0..12)
        ) {
            let parts: Vec<Bytes> =
                sizes.iter().zip(1..).map(|(size, n)| Bytes::from(vec![n; *size])).collect();
            let whole = framed(&parts.concat());
            let mut outbox = Outbox::default();
            outbox.put(parts);
            let mut out = Vec::new();
            while let Some(chunk) = outbox.next() {
                prop_assert!(!chunk.is_empty() && chunk.len() <= Outbox::CHUNK);
                out.extend_from_slice(&chunk);
            }
            prop_assert_eq!(out, whole);
        }
    }
}
