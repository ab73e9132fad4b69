//! Tokens number snapshots; digests chain records.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The number of a snapshot, compared lexicographically. Never goes back at any receiver.
///
/// Printed `incarnation.revision`, for example `1.42`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub struct Token {
    /// Raised by a restore from backup. The first is 1.
    pub incarnation: u32,
    /// Raised by one with every record. 0 is the empty log.
    pub revision: u64,
}

impl Token {
    /// The token of an empty log.
    pub const START: Self = Self { incarnation: 1, revision: 0 };

    /// Older than the token of any log: of whoever has taken nothing yet.
    pub const NEVER: Self = Self { incarnation: 0, revision: 0 };

    /// The token of the next record in the same incarnation.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { incarnation: self.incarnation, revision: self.revision.saturating_add(1) }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.revision)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let token = text.split_once('.').and_then(|(incarnation, revision)| {
            Some(Self { incarnation: incarnation.parse().ok()?, revision: revision.parse().ok()? })
        });
        token.ok_or(TokenError)
    }
}

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is written incarnation.revision, for example `1.42`")]
pub struct TokenError;

/// A SHA-256 digest (FIPS 180-4), printed as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The parent of the first record.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest itself, 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.len() != 64 || !text.is_ascii() {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let pair = text.get(2 * i..2 * i + 2).ok_or(DigestError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| DigestError)?;
        }
        Ok(Self(bytes))
    }
}

/// The text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct DigestError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_compare_incarnation_first() {
        let token = |incarnation, revision| Token { incarnation, revision };
        assert!(token(2, 1) > token(1, 99));
        assert!(token(1, 100) > token(1, 99));
        assert_eq!("1.42".parse(), Ok(token(1, 42)));
        assert_eq!(token(1, 42).to_string(), "1.42");
        assert_eq!("1".parse::<Token>(), Err(TokenError));
    }

    #[test]
    fn digests_print_as_they_parse() {
        let digest = Digest::of(b"abc");
        // FIPS 180-4, example "abc".
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("ba".parse::<Digest>(), Err(DigestError));
    }
}
