//! Cutting a stream into messages: each has its length in two octets before it (RFC 1035 section
//! 4.2.2).

/// Longest message taken. What real clients send stays below 512 octets.
pub(super) const QUERY_MAX: usize = 4_096;

/// What has arrived and was not answered yet.
pub(super) struct Inbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// A message longer than [`QUERY_MAX`] was announced: nothing good follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; 2 + QUERY_MAX].into(), start: 0, end: 0 }
    }

    /// Nothing is waiting, not even a part of a message.
    pub(super) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room for what comes next. Never empty once [`Inbox::next`] has given None.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` octets were put into the room.
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let waiting = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some((prefix, rest)) = waiting.split_first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*prefix));
        if length > QUERY_MAX {
            return Err(TooLong);
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        self.start += 2 + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_that_is_too_long_ends_it() {
        let mut inbox = Inbox::new();
        inbox.room()[..2].copy_from_slice(&4_097_u16.to_be_bytes());
        inbox.filled(2);
        assert_eq!(inbox.next(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..20),
            cuts in prop::collection::vec(1_usize..900, 1..50),
        ) {
            let stream: Vec<u8> = messages
                .iter()
                .flat_map(|message| {
                    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
                    length.into_iter().chain(message.iter().copied())
                })
                .collect();
            let mut inbox = Inbox::new();
            let mut out = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                while let Some(message) = inbox.next().unwrap() {
                    out.push(message.to_vec());
                }
                if rest.is_empty() {
                    break;
                }
                let room = inbox.room();
                let count = room.len().min(*cut).min(rest.len());
                room[..count].copy_from_slice(&rest[..count]);
                inbox.filled(count);
                rest = &rest[count..];
            }
            prop_assert_eq!(out, messages);
            prop_assert!(inbox.is_empty());
        }
    }
}
