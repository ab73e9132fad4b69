//! What a machine is called.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// The name of a machine: its node id, a segment of its SPIFFE ID, and what operators call it.
///
/// 1 to 63 characters: lower-case letters, digits, `-` and `.`, beginning and ending with a letter
/// or digit. A host name's first label, or a short host name, is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineName(Box<str>);

/// The text names no machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a machine's name has 1 to 63 lower-case letters, digits, `-` and `.`, the first and the last \
     a letter or digit"
)]
pub struct MachineNameError;

impl MachineName {
    /// The longest one, in characters.
    pub const MAX: usize = 63;

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `node` is this machine's, or that of a program on it: `NAME` or `NAME/…`.
    pub fn covers(&self, node: &str) -> bool {
        node.strip_prefix(self.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for MachineName {
    type Err = MachineNameError;

    fn from_str(text: &str) -> Result<Self, MachineNameError> {
        let is_plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let fine = (1..=Self::MAX).contains(&bytes.len())
            && bytes.first().is_some_and(is_plain)
            && bytes.last().is_some_and(is_plain)
            && bytes.iter().all(|b| is_plain(b) || matches!(b, b'-' | b'.'))
            // `..` is a step up in a path; SPIFFE forbids it as a segment, and nobody needs it.
            && !text.contains("..");
        if fine { Ok(Self(text.into())) } else { Err(MachineNameError) }
    }
}

impl TryFrom<String> for MachineName {
    type Error = MachineNameError;

    fn try_from(text: String) -> Result<Self, MachineNameError> {
        text.parse()
    }
}

impl From<MachineName> for String {
    fn from(name: MachineName) -> Self {
        name.0.into()
    }
}

impl Borrow<str> for MachineName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for MachineName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for MachineName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
