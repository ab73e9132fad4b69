//! Which certificates an authority has taken back.
//!
//! What is in it is not looked at here: who follows has the authority to check it by.

use bytes::Bytes;
use plan::Token;
use prost::Message as _;
use proto::crossfade::v1 as wire;

use super::{REQUIRES, Reject, decode};
use crate::join::Pin;
use crate::name::{Name, Scope, TypeUrl};
use crate::table::{Change, Edit, Encoded};
use crate::version::Version;

/// The scope that followers see it in, whatever their door.
pub(crate) const REVOKED: &str = "revoked";

/// The list of one authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocations {
    /// A certificate revocation list (RFC 5280 section 5) in DER.
    pub crl: Bytes,
}

impl Revocations {
    /// What stands on the wire.
    pub fn encode(&self) -> Vec<u8> {
        wire::Revocations { requires: REQUIRES, crl: self.crl.clone() }.encode_to_vec()
    }

    /// Reads it. The list itself is not looked at.
    ///
    /// # Errors
    /// It is no message, or asks for rules that are not known here.
    pub fn decode(body: &[u8]) -> Result<Self, Reject> {
        let wire::Revocations { requires, crl } = wire::Revocations::decode(body)?;
        decode::requires(requires)?;
        Ok(Self { crl })
    }

    /// The edits that put it for its authority, whose key has this pin.
    ///
    /// The version goes by the number of the list. Every controller signs the list itself, and no
    /// two signatures are the same; it is the same list. It is of no record of the log.
    ///
    /// The table is partial from the beginning: a controller that knows of no list, since it came
    /// up from a backup, says of none that it is gone.
    pub fn edits(&self, authority: &Pin, number: u64) -> Vec<Edit> {
        let (type_url, body) = (TypeUrl::from(TypeUrl::REVOCATIONS), self.encode());
        let version = Version::Ours { since: Token::NEVER, hash: number };
        let name = Name::new(&authority.to_string());
        let encoded = Encoded::new(&type_url, name, version, &body).into();
        let put = Change::Put { encoded, plans: [].into(), needs: [].into() };
        let edit = |change| Edit { scope: Scope::new(REVOKED), type_url: type_url.clone(), change };
        [Change::Partial(true), put].map(edit).into()
    }
}
