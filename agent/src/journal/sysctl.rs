//! Kernel settings: their names, and which others the kernel changes along with one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name of a setting, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The name of a kernel setting, as the path below `/proc/sys`: `net/ipv4/ip_forward`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a kernel setting; such as net.ipv4.ip_forward")]
pub struct BadKey(String);

/// A value with the key it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Which.
    pub key: Key,
    /// Its value, with single spaces between its words.
    pub value: String,
}

impl Key {
    /// Below `/proc/sys`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/proc/sys").join(&self.0)
    }

    /// The key of a file below `/proc/sys`.
    pub(super) fn below(&self, part: &str) -> Option<Self> {
        format!("{}/{part}", self.0).parse().ok()
    }

    /// The directory whose entries (interfaces, `all`, `default`) the kernel changes along with
    /// this key, and which of their files.
    ///
    /// Writing `net.ipv4.ip_forward` sets `forwarding` of every interface and turns
    /// `accept_redirects` of `all` over (Linux, `inet_forward_change`); writing the same value back
    /// would leave a host that refused redirects accepting them.
    pub(super) fn changes_along(&self) -> Option<(Self, &'static [&'static str])> {
        let (family, files): (_, &'static [_]) = match self.0.as_str() {
            "net/ipv4/ip_forward" | "net/ipv4/conf/all/forwarding" => {
                ("net/ipv4/conf", &["forwarding", "accept_redirects"])
            }
            "net/ipv6/conf/all/forwarding" => ("net/ipv6/conf", &["forwarding"]),
            _ => return None,
        };
        Some((Self(family.into()), files))
    }
}

/// The value as it is compared: words with single spaces between.
pub(super) fn plain(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl FromStr for Key {
    type Err = BadKey;

    /// `net.ipv4.ip_forward` or `net/ipv4/ip_forward`; with slashes, dots belong to names of
    /// interfaces (`sysctl.d(5)`).
    fn from_str(text: &str) -> Result<Self, BadKey> {
        let path = if text.contains('/') { text.to_owned() } else { text.replace('.', "/") };
        let fits = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:@".contains(&b))
        };
        let known = path.len() <= NAME_BYTES_MAX && path.contains('/') && path.split('/').all(fits);
        if known { Ok(Self(path)) } else { Err(BadKey(text.to_owned())) }
    }
}

impl TryFrom<String> for Key {
    type Error = BadKey;

    fn try_from(text: String) -> Result<Self, BadKey> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains('.') {
            f.write_str(&self.0)
        } else {
            f.write_str(&self.0.replace('/', "."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_both_ways_and_nothing_else_is_one() {
        let cases = [
            ("net.ipv4.ip_forward", Some("/proc/sys/net/ipv4/ip_forward")),
            (
                "net/ipv4/conf/eth0.100/rp_filter",
                Some("/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
            ),
            ("net/ipv4/../../../etc/passwd", None),
            ("/net/ipv4/ip_forward", None),
            ("net//ipv4", None),
            ("hostname", None),
            ("net.ipv4.ip forward", None),
            ("", None),
        ];
        for (text, path) in cases {
            let key = Key::from_str(text);
            assert_eq!(key.as_ref().ok().map(Key::path), path.map(PathBuf::from), "{text}");
            if let Ok(key) = key {
                assert_eq!(key.to_string().parse(), Ok(key), "{text}: shown and read again");
            }
        }
    }
}
