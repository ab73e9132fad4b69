//! Identities of machines: the CA, the tokens by which machines join, and who has which
//! certificate.
//!
//! | concern | where |
//! |---|---|
//! | every decision on tokens and certificates, pure | [`book`] |
//! | the CA: making it, signing with it | `ca` |
//! | reading certificates and requests, and their proofs | `proof` |
//! | what a renewal signs, good once and for a minute | `nonce` |
//! | how often one may ask | `pace` |
//! | what of it comes up from a backup | `restore` |
//! | a machine and its copy that are connected at once | `copies` |
//! | all of it over the store, with the clock and randomness | [`Authority`] |
//!
//! A certificate is good for [`LIFE`]; its machine renews it with a new key. Two renewals of one
//! certificate with different keys, or two processes that report at once, mean that its key was
//! copied: then nobody with that name is let in until an operator has looked.

pub mod book;
pub mod view;

mod authority;
mod ca;
mod copies;
mod nonce;
mod pace;
mod proof;
pub(crate) mod restore;
mod serial;
mod trust;

use std::time::Duration;

pub use self::authority::{
    Authority, ChangeError, Created, List, NewToken, OpenError, RevokeError, ServerTlsError,
    Settings, TokenError,
};
pub(crate) use self::authority::{Watched, has_key};
pub use self::ca::{CaError, SignError};
pub use self::restore::Machines;
pub use self::serial::{Serial, SerialError};
pub use self::trust::{TrustDomain, TrustDomainError};
pub use xds::join::{GRACE, SKEW_MAX};

/// How long a machine's certificate is good: a stolen one is worthless after a day.
pub const LIFE: Duration = Duration::from_secs(24 * 3_600);

/// How long a certificate is still let in after it was renewed: so long a machine may take to hear
/// of its new one and connect again.
pub const OVERLAP: Duration = Duration::from_secs(10 * 60);

/// How long a token is good unless asked otherwise.
pub const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// The longest that a token can be good: it lies in some terminal's history.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The most tokens that wait to be used: more machines than join on one day.
pub const TOKENS_MAX: usize = 1_000;

/// The most machines. With some hundred bytes each, all of them fit into a cell of the store.
pub const AGENTS_MAX: usize = 10_000;

/// The most certificates of a machine before its last two that are good at once: it has one at the
/// most where it renews at half their life. More would have to be refused to be kept.
pub const OLDER_MAX: usize = 16;

/// The most certificates that are kept of machines whose names others took: as many machines as
/// there are, within a day.
pub const ENDED_MAX: usize = AGENTS_MAX;

/// How long after its end a certificate that was taken back is still told of: whoever is shown it
/// may have a clock that is behind.
pub const TAKEN_BACK_KEPT: Duration = Duration::from_secs(3_600);

/// The most services that a token can be limited to.
pub const SERVICES_MAX: usize = 64;
