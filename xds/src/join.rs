//! What an operator carries from the controller to a machine that is to join: one line of text.
//!
//! A [`Ticket`] says where the controllers are, by which CA to know them ([`Pin`]), what the
//! machine is ([`Kind`]) and is called, and the [`Secret`] that is good for one certificate.
//! Written, it is `cfj1_`
//! and, in base64 for URLs (RFC 4648 section 5, no padding), a body and the first four bytes of the
//! body's SHA-256, so that a slip of the hand is told apart from a ticket that has expired.

mod kind;
mod name;
mod read;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use plan::Digest;

pub use self::kind::Kind;
pub use self::name::{MachineName, MachineNameError};
pub use self::read::TicketError;

/// What every ticket of this version begins with.
pub const PREFIX: &str = "cfj1_";

/// The most controllers of a ticket: more than anybody runs.
pub const CONTROLLERS_MAX: usize = 8;

/// The longest address of a controller, in bytes: its length is written in one byte.
pub const CONTROLLER_BYTES_MAX: usize = 255;

/// The longest name of a gateway, in bytes: a label (RFC 1035 section 2.3.4).
const GATEWAY_BYTES_MAX: usize = 63;

/// The longest text of a ticket that is read, in bytes: one with everything at its longest is
/// shorter.
pub const TICKET_BYTES_MAX: usize = 4 << 10;

/// How many bytes of the body's digest follow it: one slip in 4 294 967 296 is not noticed.
const CHECK_BYTES: usize = 4;

/// What a renewal's signature begins with, so that it is worth nothing for anything else.
pub const RENEW_PREFIX: &[u8; 16] = b"crossfade-renew\0";

/// How long after its end a certificate can still be renewed with its key: a machine that was
/// switched off over a week's holiday comes back by itself.
pub const GRACE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How far a machine's clock may be from the controller's. A certificate begins so long before it
/// is made.
pub const SKEW_MAX: Duration = Duration::from_secs(5 * 60);

/// The DNS name that every controller of a trust domain has.
pub fn server_name(trust_domain: &str) -> String {
    format!("controller.{trust_domain}")
}

/// Everything that a machine needs to join. Printing it prints the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Where the controllers' machines' API is, `HOST:PORT` each: 1 to [`CONTROLLERS_MAX`].
    pub controllers: Vec<String>,
    /// The controllers' CA.
    pub pin: Pin,
    /// What the machine will be called; the controller decides it, not the machine.
    pub name: MachineName,
    /// What it will be certified as; the controller decides that too.
    pub kind: Kind,
    /// Good for one certificate.
    pub secret: Secret,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = read::body(self);
        let check = Digest::of(&bytes);
        bytes.extend(check.bytes().iter().take(CHECK_BYTES));
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// Reads a ticket. White space around it is left out: it was pasted.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            let version = text.strip_prefix("cfj").and_then(|rest| rest.split_once('_'));
            let is_number = |text: &str| {
                (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
            };
            return Err(match version {
                Some((version, _)) if is_number(version) => TicketError::Version,
                _ => TicketError::Foreign,
            });
        };
        if text.len() > TICKET_BYTES_MAX {
            return Err(TicketError::Altered);
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TicketError::Altered)?;
        let (body, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(TicketError::Altered)?;
        if !Digest::of(body).bytes().starts_with(check) {
            return Err(TicketError::Altered);
        }
        read::ticket(body).ok_or(TicketError::Malformed)
    }
}

/// The SHA-256 of a CA's public key (its SubjectPublicKeyInfo in DER, RFC 5280 section 4.1.2.7).
/// It stays the same when the CA's certificate is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    /// The pin of a public key, given its SubjectPublicKeyInfo in DER.
    pub fn of(public_key: &[u8]) -> Self {
        Self(*Digest::of(public_key).bytes())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", Digest::from(self.0))
    }
}

/// The text is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin is written `sha256:` and 64 hexadecimal digits")]
pub struct PinError;

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let digits = text.strip_prefix("sha256:").ok_or(PinError)?;
        let digest: Digest = digits.parse().map_err(|_| PinError)?;
        Ok(Self(*digest.bytes()))
    }
}

/// 256 random bits that prove who asks. `Debug` does not print them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// From random bytes.
    pub const fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// What is kept of it: nobody finds the secret from it, and looking it up takes no time that
    /// depends on how much of a secret was guessed.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests;
