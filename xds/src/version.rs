//! Versions of resources, as they stand on the wire.

use std::fmt;
use std::sync::Arc;

use plan::Token;
use twox_hash::XxHash64;

/// The version of a resource.
///
/// Ours is `<incarnation>.<since>-<hash>`: the token of the record that last changed the resource,
/// and 16 hexadecimal digits of its content's hash. It is the same after a restart and at every
/// replica, and it is ordered by its token. Any other text is a library user's own: it passes
/// through unchanged and is not ordered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// Ours.
    Ours {
        /// The record that last changed the resource.
        since: Token,
        /// xxh64 of the encoded resource.
        hash: u64,
    },
    /// Somebody else's.
    Foreign(Arc<str>),
}

impl Version {
    /// The version of this encoded resource, last changed at `since`.
    pub fn of(since: Token, body: &[u8]) -> Self {
        Self::Ours { since, hash: XxHash64::oneshot(0, body) }
    }

    /// What stands on the wire. Never fails: what is not ours is foreign.
    pub fn parse(text: &str) -> Self {
        let ours = text.split_once('-').and_then(|(since, hash)| {
            let hex =
                hash.len() == 16 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let since: Token = since.parse().ok()?;
            let hash = u64::from_str_radix(hash, 16).ok().filter(|_| hex)?;
            Some(Self::Ours { since, hash })
        });
        // Only what prints as it was read: `+1.02` is somebody else's.
        ours.filter(|ours| ours.to_string() == text).unwrap_or_else(|| Self::Foreign(text.into()))
    }

    /// The record that last changed the resource; `None` where versions are not ordered.
    pub const fn since(&self) -> Option<Token> {
        match self {
            Self::Ours { since, .. } => Some(*since),
            Self::Foreign(_) => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours { since, hash } => write!(f, "{since}-{hash:016x}"),
            Self::Foreign(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_survive_the_wire() {
        let since = Token { incarnation: 3, revision: 42 };
        let version = Version::of(since, b"body");
        assert_eq!(Version::parse(&version.to_string()), version);
        assert_eq!(version.since(), Some(since));
        for foreign in ["", "7", "v1-x", "1.2-00", "1.2-00000000000000FF", "+1.2-00000000000000ff"]
        {
            let version = Version::parse(foreign);
            assert!(matches!(version, Version::Foreign(_)), "{foreign}");
            assert_eq!(version.to_string(), foreign);
            assert_eq!(version.since(), None);
        }
    }
}
