//! Nonces of one stream.

use std::sync::Arc;
use std::time::Duration;

/// Numbers of responses, from 1, behind the moment at which the stream began: a client that comes
/// again may still have the nonces of the stream before, and they must not mean anything here
/// (envoy#15767).
#[derive(Debug, Default)]
pub(super) struct Nonces {
    stream: u64,
    last: u64,
}

impl Nonces {
    /// The stream begins.
    pub(super) fn begin(&mut self, now: Duration) {
        // Wraps after centuries.
        self.stream = u64::try_from(now.as_nanos()).unwrap_or_default();
    }

    /// The next one, and how it is written.
    pub(super) fn next(&mut self) -> (u64, Arc<str>) {
        self.last = self.last.saturating_add(1);
        (self.last, format!("{:x}-{}", self.stream, self.last).into())
    }

    /// What was written by [`Nonces::next`]; `None` for everything else.
    pub(super) fn read(&self, text: &str) -> Option<u64> {
        let (stream, nonce) = text.split_once('-')?;
        let ours = u64::from_str_radix(stream, 16).ok()? == self.stream;
        // Only as it is written: `+1` and `01` are somebody else's.
        let canonical = matches!(nonce.as_bytes(), [b'1'..=b'9', ..]);
        nonce.parse().ok().filter(|nonce| ours && canonical && *nonce <= self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_stream_wrote_is_read() {
        let mut nonces = Nonces::default();
        nonces.begin(Duration::from_nanos(0x1f));
        assert_eq!(nonces.next(), (1, "1f-1".into()));
        assert_eq!(nonces.read("1f-1"), Some(1));
        for text in ["", "1", "-1", "1f-", "1f-2", "1f-0", "1f-01", "1f-+1", "1e-1", "x-1"] {
            assert_eq!(nonces.read(text), None, "{text}");
        }
    }
}
