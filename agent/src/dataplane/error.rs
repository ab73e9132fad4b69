//! What can go wrong with a kernel.

use std::io;

use nix::errno::Errno;

/// Why the kernel does not hold what it should. Whatever it is, the table is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The process lacks a capability.
    #[error("no right to change rules: CAP_NET_ADMIN is needed in this network namespace")]
    NotAllowed,
    /// The kernel has no nf_tables, or no NAT within it.
    #[error("this kernel cannot hold our rules (no nf_tables, or a module is missing): {0}")]
    NotSupported(Errno),
    /// Somebody else's table has our name.
    #[error("table `inet {table}` is not ours (its comment is {}); it was left alone",
        comment.as_deref().map_or_else(|| "empty".to_owned(), |it| format!("`{it}`")))]
    Foreign {
        /// The table.
        table: String,
        /// What its comment says.
        comment: Option<String>,
    },
    /// Another process owns our table.
    #[error("table `inet {table}` is owned by another living process (netlink port {port})")]
    Held {
        /// The table.
        table: String,
        /// The netlink port of the owner's socket.
        port: u32,
    },
    /// The table to be committed has another name than the one that was adopted.
    #[error("table `{0}` is not the one that is kept here")]
    WrongTable(String),
    /// The table to be committed could not be known for ours later.
    #[error("the table's comment must contain `crossfade` and be at most 120 bytes")]
    Unsigned,
    /// More than fits into one transaction.
    #[error("the table takes {0} bytes as one transaction; at most {max} fit",
        max = Self::BYTES_MAX)]
    TooLarge(usize),
    /// A rule names something that the table does not have.
    #[error("the table names `{0}`, which it does not have")]
    Dangling(String),
    /// The kernel refused a transaction.
    #[error("the kernel refused {what}: {errno}")]
    Refused {
        /// Which part of it, in words.
        what: String,
        /// The part's name in the table, as `legacy/shop/orders`.
        part: Option<String>,
        /// The kernel's word.
        errno: Errno,
    },
    /// The kernel said something that cannot be read.
    #[error("the kernel's answer cannot be read: {0}")]
    Unreadable(&'static str),
    /// The kernel did not answer in time.
    #[error("the kernel did not answer within {0} seconds")]
    Silent(u64),
    /// Others changed rules so often that no consistent state could be read.
    #[error("the rules changed while they were read, {0} times in a row")]
    Restless(u32),
    /// The socket that was handed over is no netlink socket for rules.
    #[error("the socket that was handed over is not one for rules")]
    NotASocketOfOurs,
    /// The socket failed.
    #[error("the netlink socket failed")]
    Socket(#[source] io::Error),
}

impl DataplaneError {
    /// The largest transaction: a table of [`crate::rules::compile::BYTES_MAX`] and what is taken
    /// away for it, names of chains and keys of maps.
    pub(crate) const BYTES_MAX: usize = 96 << 20;

    /// Whether it is what was to be committed that cannot be, and not the kernel that fails.
    pub const fn is_about_the_table(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::TooLarge(_) | Self::Dangling(_))
    }

    /// What an error number on `what` means.
    pub(crate) fn refused(what: impl Into<String>, errno: Errno) -> Self {
        Self::refused_part(what.into(), None, errno)
    }

    /// The same of a part of a table.
    pub(crate) fn refused_part(what: String, part: Option<String>, errno: Errno) -> Self {
        Self::general(errno).unwrap_or(Self::Refused { what, part, errno })
    }

    /// What a failed system call on the socket means.
    pub(crate) fn socket(errno: Errno) -> Self {
        Self::general(errno).unwrap_or_else(|| Self::Socket(errno.into()))
    }

    /// What means the same wherever it is said.
    fn general(errno: Errno) -> Option<Self> {
        if matches!(errno, Errno::EPERM | Errno::EACCES) {
            return Some(Self::NotAllowed);
        }
        let missing = matches!(errno, Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT);
        missing.then_some(Self::NotSupported(errno))
    }
}
