//! Who is at the other end of a connection.

use std::net::IpAddr;

use plan::Actor;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// Somebody on this host, by the loopback network. Loopback says no more than that.
    Tcp(IpAddr),
    /// A user of this host, as the kernel vouches.
    Unix {
        /// The user's number.
        uid: u32,
        /// The user's name, where the host knows one.
        name: Option<String>,
    },
}

impl Peer {
    /// A user of this host. Looks its name up, which may read files or ask a directory: not on a
    /// thread that must not block.
    pub(crate) fn user(uid: u32) -> Self {
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
        Self::Unix { uid, name: user.ok().flatten().map(|user| user.name) }
    }

    /// The name that the audit keeps.
    pub(crate) fn actor(&self) -> Actor {
        Actor::new(&match self {
            Self::Tcp(address) => format!("tcp:{address}"),
            Self::Unix { uid, name: Some(name) } => format!("uid:{uid} ({name})"),
            Self::Unix { uid, name: None } => format!("uid:{uid}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_are_named_as_the_audit_keeps_them() {
        assert_eq!(Peer::Tcp(IpAddr::from([127, 0, 0, 1])).actor().as_str(), "tcp:127.0.0.1");
        assert_eq!(Peer::user(0).actor().as_str(), "uid:0 (root)");
        assert_eq!(Peer::user(4_000_000_000).actor().as_str(), "uid:4000000000");
    }
}
