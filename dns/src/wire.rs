//! The bytes of DNS messages: queries in, answers out (RFC 1035 section 4, RFC 6891, RFC 7871).
//!
//! Nothing here knows zones or plans. Every function takes bytes from anybody and must neither
//! panic nor do more work than the length of the message allows.

#![deny(clippy::indexing_slicing)]

pub mod edns;
pub mod name;
pub mod parse;
pub mod write;

pub use edns::{Ecs, Edns};
pub use name::{Name, NameBuf, NameError};
pub use parse::{Query, Question};
pub use write::Buffer;

/// Length of the fixed header of every message.
pub const HEADER: usize = 12;

/// Largest answer over UDP to a client without EDNS (RFC 1035 section 2.3.4).
pub const UDP_PLAIN: usize = 512;

/// Largest answer over UDP whatever a client offers: fits an IPv6 packet of 1280 octets, which no
/// path fragments (RFC 9715 section 3).
pub const UDP_MAX: u16 = 1232;

/// Largest answer over TCP: the length prefix has 16 bits.
pub const TCP_MAX: usize = 65_535;

/// A response code, with the upper bits that EDNS carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcode(pub u16);

impl Rcode {
    /// No error.
    pub const NOERROR: Self = Self(0);
    /// The query is malformed.
    pub const FORMERR: Self = Self(1);
    /// The server failed.
    pub const SERVFAIL: Self = Self(2);
    /// The name does not exist.
    pub const NXDOMAIN: Self = Self(3);
    /// The opcode is not implemented.
    pub const NOTIMP: Self = Self(4);
    /// Refused by policy.
    pub const REFUSED: Self = Self(5);
    /// A DNAME substitution gave a name that is too long (RFC 6672 section 2.2).
    pub const YXDOMAIN: Self = Self(6);
    /// The EDNS version is not implemented (RFC 6891 section 9).
    pub const BADVERS: Self = Self(16);

    /// The name that `dig` prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            6 => "YXDOMAIN",
            16 => "BADVERS",
            _ => "RESERVED",
        }
    }
}

/// A record type by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rtype(pub u16);

impl Rtype {
    /// IPv4 address.
    pub const A: Self = Self(1);
    /// Name server.
    pub const NS: Self = Self(2);
    /// Alias.
    pub const CNAME: Self = Self(5);
    /// Start of authority.
    pub const SOA: Self = Self(6);
    /// Pointer.
    pub const PTR: Self = Self(12);
    /// Host information; the minimal answer to ANY (RFC 8482).
    pub const HINFO: Self = Self(13);
    /// Mail exchange.
    pub const MX: Self = Self(15);
    /// Text.
    pub const TXT: Self = Self(16);
    /// IPv6 address.
    pub const AAAA: Self = Self(28);
    /// Service location.
    pub const SRV: Self = Self(33);
    /// Alias of a subtree (RFC 6672).
    pub const DNAME: Self = Self(39);
    /// The EDNS pseudo-record.
    pub const OPT: Self = Self(41);
    /// Delegation signer.
    pub const DS: Self = Self(43);
    /// Signature.
    pub const RRSIG: Self = Self(46);
    /// Proof of absence.
    pub const NSEC: Self = Self(47);
    /// Service binding (RFC 9460).
    pub const SVCB: Self = Self(64);
    /// Service binding for HTTPS (RFC 9460).
    pub const HTTPS: Self = Self(65);
    /// Incremental transfer, a query type.
    pub const IXFR: Self = Self(251);
    /// Whole transfer, a query type.
    pub const AXFR: Self = Self(252);
    /// Any type, a query type.
    pub const ANY: Self = Self(255);
}

/// The class Internet.
pub const CLASS_IN: u16 = 1;
